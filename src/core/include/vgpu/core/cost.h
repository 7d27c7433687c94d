// SPDX-License-Identifier: Apache-2.0
// What a kind of work (a kernel with its grid, a graph) costs in GPU time, learned from samples.
// Charged by the mean; what is in flight is bounded by mean plus deviation, so that work of varying
// length doesn't overrun. Pure; a value that one thread at a time changes.
#pragma once

#include <algorithm>
#include <cstdint>

namespace vgpu::core {

// Until its first sample, work is taken to be of this length: about the shortest kernel there is,
// so that a burst of new kernels isn't held back; what it took is charged when it is known.
inline constexpr std::uint64_t kUnknownCostNs = 5'000;

class Cost {
 public:
  bool known() const { return samples_ != 0; }
  std::uint64_t mean_ns() const { return known() ? mean_ns_ : kUnknownCostNs; }
  // A length that few of them pass.
  std::uint64_t high_ns() const { return mean_ns() + 2 * deviation_ns_; }
  std::uint32_t samples() const { return samples_; }

  // Its length differs from launch to launch, so that a few samples say little of the mean.
  bool varies() const { return deviation_ns_ > mean_ns_ / 4; }

  // The first few samples count by their number, later ones by an eighth: old behaviour ages. Where
  // they vary, by less: the mean of 8 that differ by a factor of 16 is off by a quarter.
  void learn(std::uint64_t sample_ns) {
    const std::uint64_t part = std::min<std::uint64_t>(samples_ + 1, varies() ? 64 : 8);
    const std::uint64_t off = sample_ns > mean_ns_ ? sample_ns - mean_ns_ : mean_ns_ - sample_ns;
    if (samples_ == 0) {
      mean_ns_ = sample_ns;
    } else {
      deviation_ns_ = (deviation_ns_ * (part - 1) + off) / part;
      if (sample_ns > mean_ns_) {
        mean_ns_ += off / part;
      } else {
        mean_ns_ -= off / part;
      }
    }
    samples_ = std::min<std::uint32_t>(samples_ + 1, 1'000'000);
  }

 private:
  std::uint64_t mean_ns_ = 0;
  std::uint64_t deviation_ns_ = 0;
  std::uint32_t samples_ = 0;
};

}  // namespace vgpu::core

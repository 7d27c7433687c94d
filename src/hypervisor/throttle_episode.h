// SPDX-License-Identifier: Apache-2.0
// When to say that a GPU's clocks are held back, and when that it is over. At its power limit a
// GPU's reasons come and go from one second to the next: that is one episode, said once for each
// reason. Pure.
#pragma once

#include <cstdint>

namespace vgpu::hypervisor {

class ThrottleEpisode {
 public:
  struct News {
    std::uint64_t began = 0;  // reasons that haven't been said yet, as NVML's bits
    bool ended = false;       // none of those that were said has been there for kQuietNs
  };
  // `reasons`: those that hold clocks back now; times are monotonic.
  News look(std::uint64_t reasons, std::uint64_t now_ns) {
    if (reasons != 0) {
      seen_ns_ = now_ns;
      const std::uint64_t began = reasons & ~said_;
      said_ |= reasons;
      return {began, false};
    }
    if (said_ == 0 || now_ns < seen_ns_ + kQuietNs) return {};
    said_ = 0;
    return {0, true};
  }

  static constexpr std::uint64_t kQuietNs = 10'000'000'000;

 private:
  std::uint64_t said_ = 0;
  std::uint64_t seen_ns_ = 0;
};

}  // namespace vgpu::hypervisor

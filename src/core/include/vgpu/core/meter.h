// SPDX-License-Identifier: Apache-2.0
// Which launches of a kind of work are measured, and what of that is believed. A sample is the time
// between two timing events around a launch (a few microseconds of the GPU's time, so not every
// launch gets them), and holds what others did on the GPU meanwhile. It is clean if nobody else
// could have been there: alone on the GPU, or done before the turn ended and before the work in
// flight was predicted to be done, which is when others begin. A kernel that waits for a later one
// in another stream also lasts for as long as that one was held back; were this believed, it would
// cost more, so the next be held back for longer, and so on. The first of a kind may hold what is
// done once (its code is loaded, its memory touched): paid for, but no measure of the next. Pure;
// one thread at a time.
#pragma once

#include <algorithm>
#include <cstdint>

#include "vgpu/core/cost.h"

namespace vgpu::core {

// One launch in so many is measured, the first few, and all that are long enough not to notice.
inline constexpr std::uint64_t kSampleEvery = 64;
// Where lengths vary, more are: as many more as their mean is made from, so that it ages as fast,
// but no more than one for so much work. Two timing events take the GPU 3.3 us (H200): of 20 us
// kernels, one in eight measured are 2 percent lost, and a microsecond more or less, which is how
// exactly events tell, looks like variation of still shorter ones.
inline constexpr std::uint64_t kSampleVaryingEvery = 8;
inline constexpr std::uint64_t kWorkPerSampleNs = 1'000'000;
// A sample takes the host 3 to 4 us, as much as the launch itself; so no more than one in so many
// of all launches is measured but for work that isn't known yet, or long.
inline constexpr std::uint64_t kLeastBetweenSamples = 8;
// What is shorter is never surprising (see kWorkPerSampleNs).
inline constexpr std::uint64_t kShortNs = 20'000;
inline constexpr std::uint32_t kSampleFirst = 4;
inline constexpr std::uint64_t kSampleLongNs = 500'000;
// A sample that is off by so many times is followed by so many more soon.
inline constexpr std::uint64_t kSurprise = 2;
inline constexpr std::uint32_t kSampleAfterSurprise = 4;
// So many samples in a row that aren't clean and too long are believed nevertheless: a slice of
// somebody else falls into one launch, not into each.
inline constexpr std::uint32_t kUncleanBelieved = 3;

inline constexpr std::uint32_t kEarlySamples = 16;

class Meter {
 public:
  const Cost& cost() const { return cost_; }
  // Launches in flight while the cost isn't known (gate.h).
  std::uint32_t unmeasured() const { return cost_.known() ? 0 : unmeasured_; }
  // Whether the next launch is to be measured; a launch that nothing is known of yet also wants a
  // mark behind it. `since_sample`: launches of any kind since the last that was measured.
  bool wants_sample(std::uint64_t since_sample) const {
    if (cost_.samples() < kSampleFirst || cost_.mean_ns() >= kSampleLongNs) return true;
    if (since_sample < kLeastBetweenSamples) return false;
    // Where others are part of the samples, these vary whatever the work is like.
    const std::uint64_t every =
        clean_ && cost_.varies()
            ? std::clamp(kWorkPerSampleNs / std::max<std::uint64_t>(cost_.mean_ns(), 1),
                         kSampleVaryingEvery, kSampleEvery)
            : kSampleEvery;
    return more_ > 0 || since_sample_ >= every;
  }
  void launched(bool is_measured) {
    ++launches_;
    since_sample_ = is_measured ? 1 : since_sample_ + 1;
    if (!cost_.known()) ++unmeasured_;
    if (is_measured && more_ > 0) --more_;
  }
  // It may take another time from now on; what is known holds until the next launch is measured.
  void changed() { more_ = std::max<std::uint32_t>(more_, 1); }
  // A launch of unknown cost that no sample will come of.
  void lost() {
    if (unmeasured_ > 0) --unmeasured_;
  }
  // `held_ns`: of the sample, how long launches into other streams were held back that went in
  // before it ended. Gives the GPU time by which the launches so far were taken for too short: not
  // zero only when the cost becomes known.
  std::uint64_t sampled(std::uint64_t sample_ns, bool clean, std::uint64_t held_ns = 0) {
    const std::uint64_t without_ns = sample_ns - std::min(sample_ns, held_ns);
    if (!cost_.known()) {
      if (held_ns != 0) sample_ns = std::max(without_ns, kUnknownCostNs);
      const std::uint64_t more = sample_ns - std::min(sample_ns, kUnknownCostNs);
      cost_.learn(sample_ns);
      clean_ = clean;
      return more * launches_;
    }
    if (held_ns != 0 && sample_ns > cost_.mean_ns()) {
      if (without_ns <= kSurprise * cost_.high_ns()) return 0;  // it may have waited for them
      if (clean) cost_ = Cost();  // it is longer even so: what was believed led to too short holds
    }
    if (is_surprise(sample_ns)) more_ = kSampleAfterSurprise;
    if (!clean && clean_) {
      disbelieve(sample_ns);
      return 0;
    }
    if (clean && !clean_) cost_ = Cost();
    clean_ = clean;
    unclean_ = 0;
    if (cost_.samples() == 1 && kSurprise * sample_ns < cost_.mean_ns()) cost_ = Cost();
    // Others only make samples longer: among the first, much shorter ones are worth more.
    const bool is_short = cost_.samples() < kEarlySamples && sample_ns < cost_.mean_ns() / 10 * 9;
    for (int times = is_short ? 3 : 1; times > 0; --times) cost_.learn(sample_ns);
    return 0;
  }

 private:
  bool is_surprise(std::uint64_t sample_ns) const {
    if (std::max(sample_ns, cost_.high_ns()) < kShortNs) return false;
    return sample_ns > kSurprise * cost_.high_ns() || kSurprise * sample_ns < cost_.mean_ns();
  }
  void disbelieve(std::uint64_t sample_ns) {
    if (sample_ns <= kSurprise * cost_.high_ns()) {
      unclean_ = 0;
      return;
    }
    least_unclean_ns_ = unclean_ == 0 ? sample_ns : std::min(least_unclean_ns_, sample_ns);
    if (++unclean_ < kUncleanBelieved) return;
    cost_ = Cost();
    cost_.learn(least_unclean_ns_);
    clean_ = false;
    unclean_ = 0;
  }

  Cost cost_;
  std::uint64_t launches_ = 0;
  std::uint64_t since_sample_ = 0;  // launches from the last that was measured on
  std::uint64_t least_unclean_ns_ = 0;
  std::uint32_t unmeasured_ = 0;
  std::uint32_t more_ = 0;     // launches that are measured as soon as one may be
  std::uint32_t unclean_ = 0;  // samples in a row that weren't clean, and too long
  bool clean_ = false;         // what is known is from clean samples
};

}  // namespace vgpu::core

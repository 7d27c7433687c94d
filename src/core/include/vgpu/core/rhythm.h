// SPDX-License-Identifier: Apache-2.0
// Whether what a seat does next is due already. Who does its work at an even rate, whatever
// happens, and had to wait so long for a piece of it that another one would have come meanwhile,
// comes back at once. Told of what the seat says at each look; looks may be missed, then several
// pieces count as one. Pure; one caller at a time.
#pragma once

#include <algorithm>
#include <cstdint>

namespace vgpu::core {

class Rhythm {
 public:
  struct Said {  // by the seat: arbiter.h, SeatView
    std::uint64_t last_launch_ns = 0;
    std::uint64_t work_ns = 0;
    std::uint64_t done_ns = 0;
  };
  // Who comes back `at_once_ns` after its work or later isn't late any more.
  void observe(std::uint64_t now_ns, const Said& said, std::uint64_t at_once_ns) {
    const bool is_done = said.done_ns >= said.work_ns;
    if (said.last_launch_ns > launched_ns_) {
      if (is_done_) {
        if (said.last_launch_ns >= done_at_ns_ + at_once_ns) is_late_ = false;
        began_ns_ = said.last_launch_ns;
        work_before_ns_ = work_ns_;
      }
      launched_ns_ = said.last_launch_ns;
      is_done_ = false;
    }
    work_ns_ = std::max(work_ns_, said.work_ns);
    look_at_rate(now_ns);
    if (is_done_ || !is_done) return;
    is_done_ = true;
    done_at_ns_ = now_ns;
    const std::uint64_t took_ns =
        std::min(now_ns + at_once_ns - std::min(now_ns, began_ns_), kMostNs);
    const std::uint64_t piece_ns = std::min(work_ns_ - work_before_ns_, kMostNs);
    if (rate_ppm_ != 0 && took_ns * rate_ppm_ >= piece_ns * 1'000'000) is_late_ = true;
  }
  bool is_late() const { return is_late_; }
  std::uint64_t done_at_ns() const { return done_at_ns_; }

 private:
  static constexpr std::uint64_t kMostNs = 1'000'000'000;
  static constexpr std::uint64_t kWindowNs = 100'000'000;

  // Work submitted per time, from window to window.
  void look_at_rate(std::uint64_t now_ns) {
    if (now_ns < window_began_ns_ + kWindowNs) return;
    const std::uint64_t window_ns = now_ns - window_began_ns_;
    const std::uint64_t work_ns = std::min(work_ns_ - window_work_ns_, kMostNs);
    const bool says_something = window_began_ns_ != 0 && window_ns <= kMostNs;
    rate_ppm_ = says_something ? work_ns * 1'000'000 / window_ns : 0;
    window_began_ns_ = now_ns;
    window_work_ns_ = work_ns_;
  }

  std::uint64_t launched_ns_ = 0;     // the last launch that was seen
  std::uint64_t work_ns_ = 0;         // submitted so far
  std::uint64_t began_ns_ = 0;        // the first launch since all before was done,
  std::uint64_t work_before_ns_ = 0;  // and what had been submitted then
  std::uint64_t done_at_ns_ = 0;      // when all was seen to be done
  std::uint64_t window_began_ns_ = 0;
  std::uint64_t window_work_ns_ = 0;
  std::uint64_t rate_ppm_ = 0;  // 0: not known
  bool is_done_ = true;
  bool is_late_ = false;
};

}  // namespace vgpu::core

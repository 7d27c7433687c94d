// SPDX-License-Identifier: Apache-2.0
// Whether what a seat does next is due already. Who wants the GPU at even intervals, whatever
// happens, and had to wait for longer than one of them, comes back at once: its next piece of work
// was due while it waited. Told of what the seat says at each look; looks may be missed, then two
// pieces count as one. Pure; one caller at a time.
#pragma once

#include <algorithm>
#include <cstdint>

namespace vgpu::core {

class Rhythm {
 public:
  // `last_launch_ns`, `is_done`: the seat's last launch, and whether all its work is known to be
  // done. Who comes back `comes_at_once_ns` after its work or later wasn't late any more.
  void observe(std::uint64_t now_ns, std::uint64_t last_launch_ns, bool is_done,
               std::uint64_t comes_at_once_ns) {
    if (last_launch_ns > launched_ns_) {
      if (is_done_) begin(last_launch_ns, comes_at_once_ns);
      launched_ns_ = last_launch_ns;
      is_done_ = false;
    }
    if (is_done_ || !is_done) return;
    is_done_ = true;
    done_ns_ = now_ns;
    if (usual_ns_ != 0 && now_ns - std::min(now_ns, began_ns_) >= usual_ns_) is_late_ = true;
  }
  bool is_late() const { return is_late_; }

 private:
  static constexpr std::uint64_t kMostIntervalNs = 1'000'000'000;

  void begin(std::uint64_t launch_ns, std::uint64_t comes_at_once_ns) {
    if (began_ns_ != 0) {
      const std::uint64_t interval = std::min(launch_ns - began_ns_, kMostIntervalNs);
      usual_ns_ = usual_ns_ == 0 ? interval : (7 * usual_ns_ + interval) / 8;
    }
    if (launch_ns >= done_ns_ + comes_at_once_ns) is_late_ = false;
    began_ns_ = launch_ns;
  }

  std::uint64_t launched_ns_ = 0;  // the last launch that was seen
  std::uint64_t began_ns_ = 0;     // the first launch since all before was done
  std::uint64_t done_ns_ = 0;      // when all was seen to be done
  std::uint64_t usual_ns_ = 0;     // between two such beginnings; 0: not known
  bool is_done_ = true;
  bool is_late_ = false;
};

}  // namespace vgpu::core

// SPDX-License-Identifier: Apache-2.0
// When the work that a process has submitted to a GPU will be done. A prediction from learned
// costs, as if it had the GPU to itself, held between what the marks in its streams prove: work up
// to the last mark that is done is done, work up to the next one isn't. Positions are in
// nanoseconds of predicted work since the process began; times in nanoseconds of one clock. Pure;
// one thread at a time (a process has one per GPU, under its gate's lock).
#pragma once

#include <algorithm>
#include <cstdint>

#include "vgpu/core/gate.h"

namespace vgpu::core {

// So much predicted work goes between two marks. An event without timing costs the GPU nothing and
// the host 1 us (measured on an H200).
inline constexpr std::uint64_t kMarkEveryNs = 250'000;

// A switch of the GPU to another process whose work is done took 0.13 to 0.15 ms.
inline constexpr std::uint64_t kTurnSwitchNs = 135'000;

class InFlight {
 public:
  std::uint64_t busy_until_ns() const { return busy_until_ns_; }
  std::uint64_t work_ns() const { return work_ns_; }  // submitted so far: the position of the next
  // Of it, known to be done. Not what is predicted: that runs ahead where several share the GPU.
  std::uint64_t done_ns() const { return known_done_ns_; }
  // A launch that waits for room (gate.h) only waits: what is in flight may be waiting for it. It
  // goes in when that is overdue and nothing has been done since; each further one, later by as
  // much.
  std::uint64_t forced_at_ns() const {
    return expected_ns_ + kMostInFlightWaitNs * (1 + std::uint64_t{forced_});
  }
  void forced() { ++forced_; }
  // Something isn't done long after it was expected to be, so it may be waiting for a launch into
  // another stream.
  bool is_overdue(std::uint64_t now_ns) const {
    return known_done_ns_ < work_ns_ &&
           now_ns >= expected_ns_ + kMostIdleStreamWaitNs * (1 + std::uint64_t{forced_});
  }
  bool marks_done() const { return known_done_ns_ >= marked_ns_; }
  // Who waits for its turn marks what it launched last, so that it gets to know when all is done.
  bool ends_with_mark() const { return work_ns_ == marked_ns_; }
  bool wants_mark() const { return work_ns_ - marked_ns_ >= kMarkEveryNs; }

  // `late_ns`: the GPU comes to it so much later than to a launch on an idle GPU (the first of a
  // turn: kTurnSwitchNs).
  void launched(std::uint64_t now_ns, std::uint64_t cost_ns, std::uint64_t late_ns = 0) {
    if (late_ns != 0) busy_until_ns_ = std::max(busy_until_ns_, begins_ns_ = now_ns + late_ns);
    busy_until_ns_ = busy_after(busy_until_ns_, now_ns, cost_ns);
    expected_ns_ = std::max(expected_ns_, now_ns) + cost_ns;
    work_ns_ += cost_ns;
  }
  // A mark follows what was launched so far; gives its position.
  std::uint64_t marked() { return marked_ns_ = work_ns_; }

  // A look at the marks: the position of the last that is done (0: none yet), and of the first that
  // isn't (0: there is none).
  void looked(std::uint64_t now_ns, std::uint64_t done_ns, std::uint64_t next_ns) {
    const std::uint64_t since_look = now_ns - std::min(now_ns, looked_ns_);
    looked_ns_ = now_ns;
    const bool progressed = done_ns > known_done_ns_;
    known_done_ns_ = std::max(known_done_ns_, done_ns);
    const std::uint64_t most = work_ns_ - std::min(work_ns_, known_done_ns_);
    std::uint64_t least = 0;
    // The mark was passed since the last look, so no more than that of the rest can be done.
    if (progressed && most > since_look) least = most - since_look;
    if (next_ns != 0 && next_ns <= work_ns_) {
      least = std::max(least, work_ns_ - next_ns);
      // What is overdue will take half as long again as it is late.
      if (busy_until_ns_ <= now_ns) least = std::max(least, (now_ns - busy_until_ns_) / 2);
    }
    const std::uint64_t from = std::max(now_ns, begins_ns_);
    busy_until_ns_ = std::min(busy_until_ns_, from + std::max(least, most));
    if (least != 0) busy_until_ns_ = std::max(busy_until_ns_, now_ns + least);
    if (!progressed) return;
    expected_ns_ = std::max(busy_until_ns_, now_ns);
    forced_ = 0;
  }
  // Everything submitted is done: the program waited for it.
  void all_done(std::uint64_t now_ns) {
    if (known_done_ns_ != work_ns_ || busy_until_ns_ > now_ns) busy_until_ns_ = now_ns;
    known_done_ns_ = marked_ns_ = work_ns_;
    looked_ns_ = expected_ns_ = now_ns;
    forced_ = 0;
  }
  // Work that was taken to be shorter by so much is done; positions of marks move by it too.
  void correct(std::uint64_t more_ns) {
    work_ns_ += more_ns;
    marked_ns_ += more_ns;
    known_done_ns_ += more_ns;
  }

 private:
  std::uint64_t busy_until_ns_ = 0;
  std::uint64_t work_ns_ = 0;
  std::uint64_t marked_ns_ = 0;
  std::uint64_t known_done_ns_ = 0;
  std::uint64_t looked_ns_ = 0;
  // When all of it was expected to be done, as of the last time that something was.
  std::uint64_t expected_ns_ = 0;
  std::uint64_t begins_ns_ = 0;  // work in flight isn't begun before
  std::uint32_t forced_ = 0;     // launches that went in regardless since
};

}  // namespace vgpu::core

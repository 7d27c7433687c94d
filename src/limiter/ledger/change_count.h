// SPDX-License-Identifier: Apache-2.0
// Tells a measurement whether anything of this process was changing around it. A change is open
// from before the driver is called until what the call did is recorded. Any thread; nobody waits: a
// thread that is stopped inside a change only keeps measurements from being believed.
#pragma once

#include <atomic>
#include <cstdint>

namespace vgpu::limiter {

class ChangeCount {
 public:
  struct Moment {
    std::uint64_t begun = 0;  // changes ever begun
    bool is_quiet = false;    // none was open
  };

  // Acquire and release: who sees a count also sees what the changes before it did, and a change
  // does nothing before its own.
  void begin() { begun_.fetch_add(1, std::memory_order_acq_rel); }
  void end() { ended_.fetch_add(1, std::memory_order_acq_rel); }

  // Ended first: if it equals what had begun a little later, then nothing was open in between.
  Moment now() const {
    const std::uint64_t ended = ended_.load(std::memory_order_acquire);
    const std::uint64_t begun = begun_.load(std::memory_order_acquire);
    return {.begun = begun, .is_quiet = begun == ended};
  }
  // That moment was quiet and no change has begun since.
  bool is_still(const Moment& moment) const {
    return moment.is_quiet && begun_.load(std::memory_order_acquire) == moment.begun;
  }

  void reset_after_fork() {
    begun_.store(0, std::memory_order_relaxed);
    ended_.store(0, std::memory_order_relaxed);
  }

 private:
  std::atomic<std::uint64_t> begun_{0};
  std::atomic<std::uint64_t> ended_{0};
};

}  // namespace vgpu::limiter

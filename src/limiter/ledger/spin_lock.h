// SPDX-License-Identifier: Apache-2.0
// A lock for a few instructions on a table's shard. Never held across a driver call, an allocation
// that may call the driver, or another lock. A thread that waits gives its time slice away after a
// while, so a preempted holder on the same core gets on.
#pragma once

#include <sched.h>

#include <atomic>

namespace vgpu::limiter {

class SpinLock {
 public:
  void lock() {
    for (unsigned spins = 0; locked_.exchange(true, std::memory_order_acquire); ++spins) {
      // Relaxed: only a hint when to try again; the exchange above is what orders.
      while (locked_.load(std::memory_order_relaxed)) {
        if (++spins % 64 == 0) sched_yield();
        pause();
      }
    }
  }
  void unlock() {
    locked_.store(false, std::memory_order_release);
  }  // pairs with the exchange in lock()
  // In a forked child, whose other threads no longer exist to unlock. Acquire: what the last one of
  // them did under the lock comes before what follows.
  void reset() { locked_.exchange(false, std::memory_order_acq_rel); }

 private:
  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }
  std::atomic<bool> locked_{false};
};

class SpinGuard {
 public:
  explicit SpinGuard(SpinLock& lock) : lock_(lock) { lock_.lock(); }
  ~SpinGuard() { lock_.unlock(); }
  SpinGuard(const SpinGuard&) = delete;
  SpinGuard& operator=(const SpinGuard&) = delete;

 private:
  SpinLock& lock_;
};

}  // namespace vgpu::limiter

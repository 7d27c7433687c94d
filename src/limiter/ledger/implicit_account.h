// SPDX-License-Identifier: Apache-2.0
// Memory that the driver takes without being asked for it by name: contexts, code, globals, stacks,
// local memory, heaps. Three parts make its charge: `measured`, what NVML showed beyond the
// explicit allocations; `estimated`, what was added since that reading; `promised`, what may be
// taken at any later launch (a raised stack limit, a heap) and so is charged ahead, until a reading
// shows the jump.
//
// Not thread-safe by itself: every member takes the lock, none calls the driver. Changes of the
// charge are returned for the caller to apply at the tenant's ledger.
#pragma once

#include <cstdint>

#include "spin_lock.h"

namespace vgpu::limiter {

class ImplicitAccount {
 public:
  struct Change {
    std::uint64_t charge_bytes = 0;  // without asking: it is there already
    std::uint64_t release_bytes = 0;
  };

  // The caller has reserved it.
  void add_estimate(std::uint64_t bytes) {
    SpinGuard guard(lock_);
    estimated_bytes_ += bytes;
  }
  void add_promise(std::uint64_t bytes) {
    SpinGuard guard(lock_);
    promised_bytes_ += bytes;
  }
  // A promise was taken back (a limit lowered before anything used it): returns what to release.
  std::uint64_t withdraw_promise(std::uint64_t bytes) {
    SpinGuard guard(lock_);
    return take(bytes, promised_bytes_);
  }
  // What was charged for a context or module that is gone. A reading corrects it if it was another
  // amount.
  std::uint64_t remove(std::uint64_t bytes) {
    SpinGuard guard(lock_);
    std::uint64_t released = take(bytes, estimated_bytes_);
    released += take(bytes - released, measured_bytes_);
    return released;
  }

  // A reading that no change was in flight around: `shown` is what NVML shows beyond explicit
  // allocations.
  Change settle(std::uint64_t shown) {
    SpinGuard guard(lock_);
    const std::uint64_t before = measured_bytes_ + estimated_bytes_ + promised_bytes_;
    const std::uint64_t foreseen = measured_bytes_ + estimated_bytes_;
    // Growth that nothing else announced is what was promised; a little of it is anything.
    const std::uint64_t growth = shown > foreseen ? shown - foreseen : 0;
    if (growth >= promised_bytes_ - promised_bytes_ / 8) {
      promised_bytes_ = 0;
    } else if (growth >= kLeastFulfilment) {
      promised_bytes_ -= growth;
    }
    measured_bytes_ = shown;
    estimated_bytes_ = 0;
    const std::uint64_t after = measured_bytes_ + promised_bytes_;
    return after > before ? Change{.charge_bytes = after - before, .release_bytes = 0}
                          : Change{.charge_bytes = 0, .release_bytes = before - after};
  }

  std::uint64_t charged_bytes() {
    SpinGuard guard(lock_);
    return measured_bytes_ + estimated_bytes_ + promised_bytes_;
  }
  std::uint64_t promised_bytes() {
    SpinGuard guard(lock_);
    return promised_bytes_;
  }
  void reset_after_fork() {
    lock_.reset();
    measured_bytes_ = estimated_bytes_ = promised_bytes_ = 0;
  }

 private:
  static std::uint64_t take(std::uint64_t wanted, std::uint64_t& from) {
    const std::uint64_t taken = wanted < from ? wanted : from;
    from -= taken;
    return taken;
  }

  static constexpr std::uint64_t kLeastFulfilment = 16 << 20;

  SpinLock lock_;
  std::uint64_t measured_bytes_ = 0;
  std::uint64_t estimated_bytes_ = 0;
  std::uint64_t promised_bytes_ = 0;
};

}  // namespace vgpu::limiter

// SPDX-License-Identifier: Apache-2.0
// Memory that the driver takes without being asked for it by name: contexts, code, globals, stacks,
// local memory, heaps. What this process is charged for it on one GPU has three parts:
//   measured   what NVML showed beyond the explicit allocations, at the last reading
//   estimated  for operations since then: at least what each of them took
//   promised   ahead of time: what later launches may still take (a raised stack limit, a heap, a
//              launch that was captured), until the launch that takes it has been made
//
// Invariant: charged = measured + estimated + promised, and with the reservations of open
// operations (ChangeCount) that is never less than what the driver holds and may still take without
// a further reservation. Each step keeps it:
//   an operation  reserves before the driver is called, is open over the call, and adds what it
//                 reserved before it ends
//   a release     of what is known to be gone, no more: an operation's own size, found by a reading
//                 before and after it with nothing else between. What isn't known stays charged
//                 until a reading, where readings come at all
//   a reading     replaces measured and estimated only if no operation was open when it began and
//                 none has begun by the time that it is applied. It never touches promises: growth
//                 says that something was taken, not what for
//   a fulfilment  moves a promise to the estimates after the launch that took it
// So with no operation open a reading makes the charge exact, but for promises that nothing has
// taken yet; and an operation that is stuck in the driver keeps over-charge alive, nothing else.
//
// Thread-safe: every member takes the lock, none calls the driver. What is to be released is
// returned for the caller to apply at the tenant's ledger after the account; what is to be charged
// is charged there before.
#pragma once

#include <cstdint>

#include "change_count.h"
#include "spin_lock.h"

namespace vgpu::limiter {

class ImplicitAccount {
 public:
  // The caller has reserved it, for a change that is still open.
  void add_estimate(std::uint64_t bytes) {
    SpinGuard guard(lock_);
    estimated_bytes_ += bytes;
  }
  void add_promise(std::uint64_t bytes) {
    SpinGuard guard(lock_);
    promised_bytes_ += bytes;
  }
  // The driver has taken what was promised; the next reading shows it.
  void fulfil_promise(std::uint64_t bytes) {
    SpinGuard guard(lock_);
    estimated_bytes_ += take(bytes, promised_bytes_);
  }
  // A promise was taken back, or what it stood for is gone: returns what to release.
  std::uint64_t withdraw_promise(std::uint64_t bytes) {
    SpinGuard guard(lock_);
    return take(bytes, promised_bytes_);
  }
  // Something is gone; the change in which it went is still open. `known_bytes` of it are known,
  // `estimated_bytes` were charged, which is all there is to go by where NVML says nothing. Returns
  // what to release.
  std::uint64_t remove(std::uint64_t known_bytes, std::uint64_t estimated_bytes) {
    SpinGuard guard(lock_);
    const std::uint64_t bytes = was_read_ ? known_bytes : estimated_bytes;
    std::uint64_t released = take(bytes, estimated_bytes_);
    released += take(bytes - released, measured_bytes_);
    return released;
  }

  // A reading that was begun at `moment`: `shown` is what NVML shows beyond explicit allocations.
  // Calls charge(bytes) for what it shows beyond the charge, under the lock: nobody may release of
  // that before it is charged. `release_bytes` is the caller's to release. False: a change was open
  // or has begun, and nothing was done. Whatever begins after this looked adds to the account after
  // it, because both hold the lock.
  template <class Charge>
  bool settle(std::uint64_t shown, const ChangeCount& changes, const ChangeCount::Moment& moment,
              std::uint64_t& release_bytes, Charge charge) {
    SpinGuard guard(lock_);
    if (!changes.is_still(moment)) return false;
    const std::uint64_t before = measured_bytes_ + estimated_bytes_;
    measured_bytes_ = shown;
    estimated_bytes_ = 0;
    was_read_ = true;
    if (shown > before) charge(shown - before);
    release_bytes = before > shown ? before - shown : 0;
    return true;
  }

  std::uint64_t charged_bytes() {
    SpinGuard guard(lock_);
    return measured_bytes_ + estimated_bytes_ + promised_bytes_;
  }
  std::uint64_t promised_bytes() {
    SpinGuard guard(lock_);
    return promised_bytes_;
  }
  // Whether any reading ever came: NVML may not say anything of processes here.
  bool was_read() {
    SpinGuard guard(lock_);
    return was_read_;
  }
  void reset_after_fork() {
    lock_.reset();
    measured_bytes_ = estimated_bytes_ = promised_bytes_ = 0;
    was_read_ = false;
  }

 private:
  static std::uint64_t take(std::uint64_t wanted, std::uint64_t& from) {
    const std::uint64_t taken = wanted < from ? wanted : from;
    from -= taken;
    return taken;
  }

  SpinLock lock_;
  std::uint64_t measured_bytes_ = 0;
  std::uint64_t estimated_bytes_ = 0;
  std::uint64_t promised_bytes_ = 0;
  bool was_read_ = false;
};

}  // namespace vgpu::limiter

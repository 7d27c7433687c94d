// SPDX-License-Identifier: Apache-2.0
// What a memory pool is charged, without asking the driver at each allocation: the reservation that
// the driver last reported, plus the most that each request since can have made it grow. A
// settlement asks the driver and replaces the second part by the truth.
//
// Invariant: charged >= what the pool reserves, at every instant, because begin() comes before the
// driver's call. Requests that are still in the driver when a settlement reads are not settled by
// it.
#pragma once

#include <atomic>
#include <cstdint>

#include "spin_lock.h"
#include "vgpu/core/driver_model.h"

namespace vgpu::limiter {

class PoolAccount {
 public:
  struct Request {
    std::uint64_t bytes = 0;        // the most that it makes the pool grow by
    bool wants_settlement = false;  // the over-charge may be large: settle soon
  };
  struct Settlement {
    std::uint64_t bytes = 0;
    std::uint32_t version = 0;
  };

  // A request is about to go to the driver. Calls reserve(extra_bytes) -> bool for what the pool
  // can grow by beyond its charge; under the lock, so that no other request leans on a charge that
  // is then refused. False: refused, and nothing has changed.
  template <class Reserve>
  bool begin(std::uint64_t request_bytes, Request& request, Reserve reserve) {
    request = {.bytes = driver_model::pool_growth_bytes(request_bytes), .wants_settlement = false};
    SpinGuard guard(lock_);
    const std::uint64_t asked = driver_model::saturating_add(asked_bytes_, request.bytes);
    const std::uint64_t wanted = wanted_bytes(asked);
    if (wanted > charged_bytes_) {
      if (!reserve(wanted - charged_bytes_)) return false;
      charged_bytes_ = wanted;
    }
    asked_bytes_ = asked;
    request.wants_settlement = charged_bytes_ - reserved_bytes_ > driver_model::kPoolSlackBytes;
    return true;
  }

  // The driver refused the request, so it made nothing grow. Returns what the caller releases.
  std::uint64_t cancel(const Request& request) {
    SpinGuard guard(lock_);
    subtract(asked_bytes_, request.bytes);
    return lower_charge();
  }

  // The driver has served the request: from here on a settlement covers it. Release: pairs with
  // begin_settlement(), whose reading comes after the driver's call that this request made.
  void end(const Request& request) {
    done_bytes_.fetch_add(request.bytes, std::memory_order_release);
  }

  bool is_unsettled() {
    SpinGuard guard(lock_);
    return charged_bytes_ != reserved_bytes_;
  }

  Settlement begin_settlement() {
    SpinGuard guard(lock_);
    return {done_bytes_.load(std::memory_order_acquire), version_};
  }
  // `reserved_bytes` was read after begin_settlement. Returns what the caller releases; `missing`
  // is what it has to charge without asking, because the pool holds more than was foreseen (0 but
  // for growth behind our back).
  std::uint64_t end_settlement(const Settlement& settlement, std::uint64_t reserved_bytes,
                               std::uint64_t& missing) {
    SpinGuard guard(lock_);
    missing = 0;
    if (settlement.version != version_) return 0;  // a newer reading is in already
    ++version_;
    subtract(asked_bytes_, settlement.bytes);
    done_bytes_.fetch_sub(settlement.bytes,
                          std::memory_order_relaxed);  // other settlements hold the lock's order
    reserved_bytes_ = reserved_bytes;
    // The charge so far and the reading plus what is still in flight are both bounds: the lower one
    // holds.
    if (reserved_bytes > charged_bytes_) {
      missing = reserved_bytes - charged_bytes_;
      charged_bytes_ = reserved_bytes;
      return 0;
    }
    return lower_charge();
  }

  // The pool is gone (destroyed, or everything reset): everything is released.
  std::uint64_t end_pool() {
    SpinGuard guard(lock_);
    const std::uint64_t released = charged_bytes_;
    charged_bytes_ = reserved_bytes_ = asked_bytes_ = 0;
    done_bytes_.store(0, std::memory_order_relaxed);
    ++version_;
    return released;
  }

  std::uint64_t charged_bytes() {
    SpinGuard guard(lock_);
    return charged_bytes_;
  }
  std::uint64_t settled_bytes() {
    SpinGuard guard(lock_);
    return reserved_bytes_;
  }
  void reset_after_fork() {
    lock_.reset();
    end_pool();
  }

 private:
  std::uint64_t wanted_bytes(std::uint64_t asked) const {
    return driver_model::saturating_add(reserved_bytes_, asked);
  }
  // A pool that is destroyed during a request starts again at zero.
  static void subtract(std::uint64_t& from, std::uint64_t bytes) {
    from -= bytes < from ? bytes : from;
  }
  std::uint64_t lower_charge() {
    const std::uint64_t wanted = wanted_bytes(asked_bytes_);
    const std::uint64_t released = charged_bytes_ > wanted ? charged_bytes_ - wanted : 0;
    charged_bytes_ -= released;
    return released;
  }

  SpinLock lock_;
  std::uint64_t charged_bytes_ = 0;
  std::uint64_t reserved_bytes_ = 0;          // as last reported
  std::uint64_t asked_bytes_ = 0;             // growth of the requests since then, each at its worst
  std::atomic<std::uint64_t> done_bytes_{0};  // of that, served by the driver
  std::uint32_t version_ = 0;
};

}  // namespace vgpu::limiter

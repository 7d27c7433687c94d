// SPDX-License-Identifier: Apache-2.0
// What a memory pool is charged, without asking the driver at each allocation: the reservation that
// the driver last reported, plus the most that each request since can have made it grow. A
// settlement asks the driver and replaces the second part by the truth. Beside it, what was freed
// and is sure to serve a request without growth: by that a request may be asked for without a
// reservation, where the limit leaves no room for one.
//
// Invariant: charged >= what the pool reserves, at every instant, because begin() comes before the
// driver's call, and begin_unreserved() says yes only to what can't make the pool grow. Requests
// that are still in the driver when a settlement reads are not settled by it.
//
// A pool that is charged no more than its release threshold gives nothing back by itself. In others
// any synchronisation may take away what is unused, so there only an exact reading vouches for what
// was freed.
#pragma once

#include <atomic>
#include <cstdint>

#include "freed_ranges.h"
#include "spin_lock.h"
#include "vgpu/core/driver_model.h"

namespace vgpu::limiter {

class PoolAccount {
 public:
  struct Request {
    std::uint64_t bytes = 0;         // as asked for
    std::uint64_t growth_bytes = 0;  // the most that it makes the pool grow by
    bool is_reserved = true;
    bool wants_settlement = false;  // much may be charged that wasn't taken: settle soon
  };
  // For whoever reads what this process holds from elsewhere: two equal and quiet moments around
  // two equal readings mean that the pool neither grew nor shrank and grew again in between.
  struct Moment {
    std::uint64_t begun = 0;  // requests and trims
    bool is_quiet = false;    // none is in the driver
  };
  struct Settlement {
    std::uint64_t bytes = 0;
    std::uint32_t version = 0;
  };
  // What a settlement leaves to its caller.
  struct Settled {
    std::uint64_t released_bytes = 0;
    // To be charged without asking, because the pool holds more than was foreseen (0 but for growth
    // behind our back).
    std::uint64_t missing_bytes = 0;
    bool is_done = false;  // else it was out of date, and said nothing
  };
  // Where an allocation came to lie.
  enum class Landing : std::uint8_t {
    in_freed,   // in what was known to be free: nothing grew
    elsewhere,  // the pool may have grown, or have lent that address the memory of empty steps
  };

  // A request is about to go to the driver. Calls reserve(extra_bytes) -> bool for what the pool
  // can grow by beyond its charge; under the lock, so that no other request leans on a charge that
  // is then refused. False: refused, and nothing has changed.
  template <class Reserve>
  bool begin(std::uint64_t request_bytes, Request& request, Reserve reserve) {
    request = {.bytes = request_bytes,
               .growth_bytes = driver_model::pool_growth_bytes(request_bytes)};
    SpinGuard guard(lock_);
    const std::uint64_t asked = driver_model::saturating_add(asked_bytes_, request.growth_bytes);
    // What is asked for without a reservation leans on a range that this request may be given.
    const std::uint64_t wanted =
        driver_model::saturating_add(wanted_bytes(asked), unreserved_bytes_);
    if (wanted > charged_bytes_) {
      if (!reserve(wanted - charged_bytes_)) return false;
      set_charged(wanted);
    }
    asked_bytes_ = asked;
    enter();
    return true;
  }

  // The same without a reservation. True only where a freed range is sure to serve the request, and
  // nobody else is in the driver who could be given it. Whoever asks saw to it that nothing is
  // trimmed meanwhile.
  bool begin_unreserved(std::uint64_t request_bytes, std::uint64_t stream, Request& request) {
    SpinGuard guard(lock_);
    if (in_driver_ != 0 || may_be_trimmed() || !freed_.serves(request_bytes, stream)) return false;
    request = {.bytes = request_bytes,
               .growth_bytes = driver_model::pool_growth_bytes(request_bytes),
               .is_reserved = false};
    unreserved_bytes_ = request.growth_bytes;
    enter();
    return true;
  }

  // The driver refused the request, so it made nothing grow, but may have looked for memory in what
  // this pool has unused. Returns what the caller releases.
  std::uint64_t cancel(const Request& request) {
    SpinGuard guard(lock_);
    freed_.doubt();
    leave(request);
    if (request.is_reserved) subtract(asked_bytes_, request.growth_bytes);
    return lower_charge();
  }

  // The driver has served the request without an address (graphs): from here on a settlement covers
  // it.
  void end(const Request& request) {
    SpinGuard guard(lock_);
    finish_elsewhere(request);
  }
  // The driver has served the request. `born`: since when the allocation lies there, for
  // FreedRanges::Doubtful.
  Landing end(Request& request, std::uint64_t address, std::uint64_t& born) {
    SpinGuard guard(lock_);
    // What else is in the driver may have been given what seems to be there, or taken it away.
    const bool is_certain =
        (keeps() || !request.is_reserved) && in_driver_ == 1 && !may_be_trimmed();
    const bool in_freed = freed_.place(address, request.bytes, is_certain) && !may_be_trimmed();
    born = freed_.sequence();
    if (in_freed && request.is_reserved) subtract(asked_bytes_, request.growth_bytes);
    request.wants_settlement = is_inexact();
    if (in_freed) {
      leave(request);
      // In a pool that gives back, the step under it may have gone and come again: no more than the
      // last reading says, but perhaps more than one that is under way.
      if (!keeps()) ++version_;
      return Landing::in_freed;
    }
    freed_.doubt();
    finish_elsewhere(request);
    return Landing::elsewhere;
  }

  Moment moment() {
    SpinGuard guard(lock_);
    return {begun_, in_driver_ == 0 && trims_in_driver_ == 0};
  }
  bool is_unsettled() {
    SpinGuard guard(lock_);
    return charged_bytes_ != reserved_bytes_;
  }
  bool is_in_driver() {
    SpinGuard guard(lock_);
    return in_driver_ != 0;
  }
  // Whether frees are worth a reading first, to vouch for them.
  bool wants_reading() {
    SpinGuard guard(lock_);
    return !keeps() && asked_bytes_ != 0;
  }

  Settlement begin_settlement() {
    SpinGuard guard(lock_);
    return {done_bytes_, version_};
  }
  // `reserved_bytes` was read after begin_settlement. Up to `spare_bytes` stay charged for requests
  // to come.
  Settled end_settlement(const Settlement& settlement, std::uint64_t reserved_bytes,
                         std::uint64_t spare_bytes = 0) {
    SpinGuard guard(lock_);
    if (settlement.version != version_) return {};
    ++version_;
    if (!is_foreseen(reserved_bytes)) freed_.doubt();
    if (reserved_bytes == 0) freed_.clear();
    is_trimmed_ = false;
    subtract(asked_bytes_, settlement.bytes);
    subtract(done_bytes_, settlement.bytes);
    reserved_bytes_ = reserved_bytes;
    // The charge so far and the reading plus what is still in flight are both bounds: the lower one
    // holds.
    if (reserved_bytes > charged_bytes_) {
      const std::uint64_t missing = reserved_bytes - charged_bytes_;
      set_charged(reserved_bytes);
      return {.missing_bytes = missing, .is_done = true};
    }
    return {.released_bytes = lower_charge(spare_bytes), .is_done = true};
  }

  // Around the driver's call that gives back what the pool has unused. The next reading that begins
  // after it says whether something went; until then what was freed vouches for nothing.
  void begin_trim() {
    SpinGuard guard(lock_);
    ++trims_in_driver_;
    ++begun_;
  }
  void end_trim() {
    SpinGuard guard(lock_);
    trims_in_driver_ -= trims_in_driver_ != 0 ? 1 : 0;
    is_trimmed_ = true;
    ++version_;
  }

  // The pool is gone (destroyed, or everything reset): everything is released.
  std::uint64_t end_pool() {
    SpinGuard guard(lock_);
    const std::uint64_t released = charged_bytes_;
    charged_bytes_ = reserved_bytes_ = asked_bytes_ = done_bytes_ = 0;
    freed_.clear();
    ++version_;
    return released;
  }

  // An allocation goes back, see FreedRanges. Around the driver's call.
  std::uint64_t begin_free(std::uint64_t address, std::uint64_t bytes) {
    SpinGuard guard(lock_);
    return freed_.begin_free(address, bytes, keeps() || asked_bytes_ == 0);
  }
  void end_free(std::uint64_t address, std::uint64_t bytes, std::uint64_t ticket,
                std::uint64_t stream, std::uint64_t epoch) {
    SpinGuard guard(lock_);
    freed_.end_free(address, bytes, ticket, stream, epoch);
  }
  void undo_free(std::uint64_t address, std::uint64_t bytes) {
    SpinGuard guard(lock_);
    freed_.undo_free(address, bytes);
  }
  void order(std::uint64_t stream, std::uint64_t epoch) {
    SpinGuard guard(lock_);
    if (crosses_streams_) freed_.order(stream, epoch);
  }
  bool has_unordered() {
    SpinGuard guard(lock_);
    return crosses_streams_ && freed_.has_unordered();
  }
  // Something was freed that is large enough. Whether it serves is for begin_unreserved() to say.
  bool has_freed(std::uint64_t bytes) {
    SpinGuard guard(lock_);
    return freed_.has(bytes);
  }
  // How often something was freed here: a trim gives no more than the last one until it goes on.
  std::uint64_t free_count() {
    SpinGuard guard(lock_);
    return freed_.free_count();
  }
  void list_doubtful(FreedRanges::Doubtful& list) {
    SpinGuard guard(lock_);
    freed_.list_doubtful(list);
  }
  void resolve(FreedRanges::Doubtful& list) {
    SpinGuard guard(lock_);
    freed_.resolve(list);
  }
  void forget_freed() {
    SpinGuard guard(lock_);
    freed_.clear();
  }

  bool has_storage() {
    SpinGuard guard(lock_);
    return freed_.has_storage();
  }
  FreedRanges::Storage* lend(FreedRanges::Storage* storage) {
    SpinGuard guard(lock_);
    return freed_.lend(storage);
  }
  FreedRanges::Storage* take_storage() {
    SpinGuard guard(lock_);
    return freed_.take_storage();
  }

  // What the program set of its pool.
  void set_threshold(std::uint64_t bytes) {
    SpinGuard guard(lock_);
    const bool kept = keeps();
    threshold_bytes_ = bytes;
    if (kept != keeps()) freed_.doubt();
  }
  // False: memory that one stream freed serves another only by events or not at all.
  void set_crosses_streams(bool crosses) {
    SpinGuard guard(lock_);
    crosses_streams_ = crosses;
    if (!crosses) freed_.clear();
  }
  // Whether nothing leaves the pool without being asked to.
  bool keeps_all() {
    SpinGuard guard(lock_);
    return keeps();
  }

  std::uint64_t charged_bytes() {
    SpinGuard guard(lock_);
    return charged_bytes_;
  }
  std::uint64_t settled_bytes() {
    SpinGuard guard(lock_);
    return reserved_bytes_;
  }

 private:
  bool keeps() const { return threshold_bytes_ >= charged_bytes_; }

  bool may_be_trimmed() const { return is_trimmed_ || trims_in_driver_ != 0; }

  void set_charged(std::uint64_t bytes) {
    const bool kept = keeps();
    charged_bytes_ = bytes;
    if (kept && !keeps()) freed_.doubt();
  }
  void enter() {
    ++in_driver_;
    ++begun_;
  }
  void leave(const Request& request) {
    in_driver_ -= in_driver_ != 0 ? 1 : 0;
    if (!request.is_reserved) unreserved_bytes_ = 0;
  }
  void finish_elsewhere(const Request& request) {
    leave(request);
    done_bytes_ += request.growth_bytes;
    if (!request.is_reserved)
      asked_bytes_ = driver_model::saturating_add(asked_bytes_, request.growth_bytes);
  }

  // Much of what is charged was perhaps not taken, or isn't needed any more.
  bool is_inexact() const {
    const std::uint64_t spare =
        driver_model::saturating_add(wanted_bytes(asked_bytes_), driver_model::kPoolSlackBytes);
    return asked_bytes_ >= driver_model::kPoolSlackBytes || charged_bytes_ > spare;
  }

  // Growth that was charged for explains a larger reading, where nothing can have gone unnoticed
  // beside it; where something can, growth may also hide it.
  bool is_foreseen(std::uint64_t reserved_bytes) const {
    if (may_be_trimmed() || !keeps()) return reserved_bytes == reserved_bytes_ && asked_bytes_ == 0;
    return reserved_bytes >= reserved_bytes_ && reserved_bytes - reserved_bytes_ <= asked_bytes_;
  }

  std::uint64_t wanted_bytes(std::uint64_t asked) const {
    return driver_model::saturating_add(reserved_bytes_, asked);
  }
  // A pool that is destroyed during a request starts again at zero.
  static void subtract(std::uint64_t& from, std::uint64_t bytes) {
    from -= bytes < from ? bytes : from;
  }
  std::uint64_t lower_charge(std::uint64_t spare_bytes = 0) {
    const std::uint64_t wanted = driver_model::saturating_add(
        wanted_bytes(asked_bytes_), driver_model::saturating_add(unreserved_bytes_, spare_bytes));
    const std::uint64_t released = charged_bytes_ > wanted ? charged_bytes_ - wanted : 0;
    charged_bytes_ -= released;
    return released;
  }

  SpinLock lock_;
  std::uint64_t charged_bytes_ = 0;
  std::uint64_t reserved_bytes_ = 0;    // as last reported
  std::uint64_t asked_bytes_ = 0;       // growth of the requests since then, each at its worst
  std::uint64_t done_bytes_ = 0;        // of that, served by the driver
  std::uint64_t unreserved_bytes_ = 0;  // growth of a request without a reservation, at its worst
  std::uint64_t threshold_bytes_ = 0;   // the driver's default
  std::uint64_t begun_ = 0;             // requests and trims, ever
  std::uint32_t in_driver_ = 0;         // requests
  std::uint32_t trims_in_driver_ = 0;
  std::uint32_t version_ = 0;
  bool is_trimmed_ = false;  // since the last reading
  bool crosses_streams_ = true;
  FreedRanges freed_;
};

}  // namespace vgpu::limiter

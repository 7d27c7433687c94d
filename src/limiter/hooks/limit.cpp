// SPDX-License-Identifier: Apache-2.0
// cuCtxSetLimit: a larger stack is taken for every thread of the device when it is set, so it is
// charged before; the malloc heap and the printf buffer are taken when a kernel first uses them. So
// each is promised, until a reading or a launch shows that it was taken. Lowering gives back.
//
// Threads may change one limit of one context at the same time, in an order that only the driver
// knows. So a change claims what it may need before the driver's call, and the last one of several
// asks the driver what the limit is now and brings the charge to that.
#include <algorithm>
#include <optional>

#include "../hooks.h"
#include "context.h"
#include "settle.h"
#include "vgpu/core/driver_model.h"

namespace vgpu::hooks {

using namespace limiter;

namespace {

// How one limit is charged to a context. What its value stands for is charged, and a part of that
// promised: what the driver isn't known to have taken.
struct StackLimit {
  static constexpr CUlimit kLimit = CU_LIMIT_STACK_SIZE;
  static LimitChanges& changes(Context& context) { return context.stack_changes; }
  static std::uint64_t charged(const Context& context) { return context.local_charged_bytes; }
  static std::uint64_t promised(const Context& context) { return context.local_promised_bytes; }
  static std::uint64_t wanted(const Context& context, std::uint64_t bytes_per_thread) {
    return local_memory_beyond_default(static_cast<int>(context.gpu),
                                       std::max(bytes_per_thread, context.local_bytes));
  }
  // From here on launches may rely on it; those that come need the larger stack.
  static void claim(Context& context, std::uint64_t bytes, std::uint64_t bytes_per_thread) {
    context.local_charged_bytes += bytes;
    context.stack_bytes = std::max(context.stack_bytes, bytes_per_thread);
  }
  static void promise(const Place& place, std::uint64_t bytes) {
    add_local_promise(place.context, place.gpu, bytes);
  }
  static void lower(Context& context, std::uint64_t bytes, std::uint64_t of_promises) {
    context.local_charged_bytes -= bytes;
    context.local_promised_bytes -= of_promises;
    context.local_taken_bytes = std::min(context.local_taken_bytes, context.local_charged_bytes);
  }
  static void take_promise(Context& context, std::uint64_t bytes) {
    context.local_promised_bytes -= bytes;
  }
  static void reach(Context& context, std::uint64_t bytes_per_thread) {
    context.stack_bytes = bytes_per_thread;
  }
};

// A buffer is promised until it is found taken, and charged as long as it is promised.
template <CUlimit kWhich, std::uint64_t Context::*kPromised, LimitChanges Context::*kChanges,
          std::uint64_t kDefaultBytes>
struct BufferLimit {
  static constexpr CUlimit kLimit = kWhich;
  static LimitChanges& changes(Context& context) { return context.*kChanges; }
  static std::uint64_t charged(const Context& context) { return context.*kPromised; }
  static std::uint64_t promised(const Context& context) { return context.*kPromised; }
  // What a default buffer takes is small and left to measurement.
  static std::uint64_t wanted(const Context&, std::uint64_t bytes) {
    if (bytes <= kDefaultBytes) return 0;
    return driver_model::saturating_add(driver_model::linear_bytes(bytes),
                                        driver_model::kPageBytes);
  }
  static void claim(Context&, std::uint64_t, std::uint64_t) {}
  static void promise(const Place& place, std::uint64_t bytes) {
    ledger().contexts.edit(place.context, [&](Context& each) { each.*kPromised += bytes; });
  }
  static void lower(Context& context, std::uint64_t bytes, std::uint64_t) {
    context.*kPromised -= bytes;
  }
  static void take_promise(Context& context, std::uint64_t bytes) { context.*kPromised -= bytes; }
  static void reach(Context&, std::uint64_t) {}
};
using HeapLimit = BufferLimit<CU_LIMIT_MALLOC_HEAP_SIZE, &Context::heap_promised_bytes,
                              &Context::heap_changes, driver_model::kDefaultHeapBytes>;
using PrintfLimit = BufferLimit<CU_LIMIT_PRINTF_FIFO_SIZE, &Context::printf_promised_bytes,
                                &Context::printf_changes, driver_model::kDefaultPrintfBytes>;

// One change of a limit of the current context, from before the driver's call until after it.
template <class Limit>
class LimitChange {
 public:
  LimitChange(const Place& place, std::uint64_t value) : place_(place), value_(value) {
    // Again if another thread gave back meanwhile what this one counted on.
    Context context;
    while (!is_begun_ && ledger().contexts.find(place_.context, context)) {
      const std::uint64_t missing = missing_bytes(context);
      reservation_.emplace(place_.gpu, missing, Charge::promised);
      if (reservation_->refused()) return;
      begin(missing);
      if (!is_begun_) reservation_.reset();
    }
    if (!is_begun_) return;
    // The account first, so that nobody finds a promise in the context which isn't there yet.
    reservation_->keep(claimed_bytes_);
    Limit::promise(place_, claimed_bytes_);
  }

  bool refused() const { return reservation_ && reservation_->refused(); }
  std::uint64_t claimed_bytes() const { return claimed_bytes_; }

  // After the driver's call; ends the change.
  void end(bool succeeded) {
    while (is_begun_) {
      Context context;
      if (!ledger().contexts.find(place_.context, context)) break;
      size_t value = value_;
      if (real().cuCtxGetLimit(&value, Limit::kLimit) != CUDA_SUCCESS) value = value_;
      reconcile(succeeded, value, Limit::changes(context));
    }
    reservation_.reset();
  }

 private:
  std::uint64_t missing_bytes(const Context& context) const {
    const std::uint64_t wanted = Limit::wanted(context, value_);
    return wanted > Limit::charged(context) ? wanted - Limit::charged(context) : 0;
  }

  void begin(std::uint64_t reserved_bytes) {
    ledger().contexts.edit(place_.context, [&](Context& each) {
      const std::uint64_t missing = missing_bytes(each);
      is_begun_ = missing <= reserved_bytes;
      if (!is_begun_) return;
      claimed_bytes_ = missing;
      LimitChanges& changes = Limit::changes(each);
      ++changes.open;
      number_ = ++changes.begun;
      Limit::claim(each, missing, value_);
    });
  }

  // `value` was read at `moment` or later. If other changes are open, the last of them does this;
  // if one was or has begun since, it may have changed the value after that was read, which has to
  // be read again.
  void reconcile(bool succeeded, std::uint64_t value, const LimitChanges& moment) {
    std::uint64_t surplus = 0;
    std::uint64_t of_promises = 0;
    ledger().contexts.edit(place_.context, [&](Context& each) {
      LimitChanges& changes = Limit::changes(each);
      const bool is_last = changes.open == 1;
      const bool was_alone = moment.open == 1 && changes.begun == moment.begun;
      if (is_last && !was_alone) return;
      --changes.open;
      is_begun_ = false;
      if (!is_last) return;
      const std::uint64_t charged = Limit::charged(each);
      // The driver said no and nobody else said anything: it is as before.
      const std::uint64_t wanted = !succeeded && changes.begun == number_
                                       ? charged - std::min(charged, claimed_bytes_)
                                       : Limit::wanted(each, value);
      surplus = charged - std::min(charged, wanted);
      of_promises = std::min(surplus, Limit::promised(each));
      Limit::lower(each, surplus, of_promises);
      Limit::reach(each, value);
    });
    withdraw_promise(place_.gpu, of_promises);
    if (surplus != of_promises) release_implicit(place_.gpu, 0, surplus - of_promises);
  }

  Place place_;
  std::uint64_t value_;
  std::uint64_t claimed_bytes_ = 0;
  std::uint32_t number_ = 0;
  bool is_begun_ = false;
  std::optional<Reservation> reservation_;
};

// What was promised was taken at once, and is measured: the promise of it would be the same again.
// Unless somebody else may have changed what is promised.
template <class Limit>
void note_taken(const Place& place, std::uint64_t bytes, const Growth& growth) {
  std::uint64_t taken = 0;
  ledger().contexts.edit(place.context, [&](Context& each) {
    if (!growth.is_recent()) return;
    taken = std::min(bytes, Limit::promised(each));
    Limit::take_promise(each, taken);
  });
  withdraw_promise(place.gpu, taken);
}

template <class Limit, class Call>
CUresult set_limit(const Place& place, std::uint64_t value, Call call) {
  local_memory_beyond_default(place.gpu, 0);  // asks the driver, before any lock
  Growth growth(place.gpu);
  LimitChange<Limit> change(place, value);
  if (change.refused()) return CUDA_ERROR_OUT_OF_MEMORY;
  const CUresult result = call();
  change.end(result == CUDA_SUCCESS);
  ledger().code.forget_launches();
  note_implicit_change(place.gpu);
  std::uint64_t grown = 0;
  const std::uint64_t claimed = change.claimed_bytes();
  const bool is_known = growth.find(grown);
  if (is_known && result == CUDA_SUCCESS && claimed != 0 && grown >= claimed - claimed / 8)
    note_taken<Limit>(place, claimed, growth);
  return result;
}

}  // namespace

CUresult cuCtxSetLimit(CUlimit limit, size_t value) {
  const auto call = [&] { return real().cuCtxSetLimit(limit, value); };
  const Place place = current_place();
  if (place.gpu == kNoGpu) return call();
  switch (static_cast<unsigned int>(limit)) {
    case CU_LIMIT_STACK_SIZE:
      // More than a thread can have: the driver says so, whatever is left.
      return value > driver_model::kMaxLocalBytes ? call()
                                                  : set_limit<StackLimit>(place, value, call);
    case CU_LIMIT_MALLOC_HEAP_SIZE:
      return set_limit<HeapLimit>(place, value, call);
    case CU_LIMIT_PRINTF_FIFO_SIZE:
      return set_limit<PrintfLimit>(place, value, call);
    default:
      return call();
  }
}

}  // namespace vgpu::hooks

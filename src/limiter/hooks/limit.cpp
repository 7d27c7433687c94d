// SPDX-License-Identifier: Apache-2.0
// cuCtxSetLimit: a larger stack is taken for every thread of the device when it is set, so it is
// charged before; the malloc heap and the printf buffer are taken when a kernel first uses them, so
// they are promised. Lowering gives back.
#include "../hooks.h"
#include "context.h"
#include "settle.h"
#include "vgpu/core/driver_model.h"

namespace vgpu::hooks {

using namespace limiter;

namespace {

// Brings one of a context's charges to `wanted`: more is promised before the call, less given back
// after it. When the driver takes it (at once, or at the next launch) differs between versions: a
// measurement finds out, and one before keeps promises apart.
template <class Call>
CUresult set_charged(const Place& place, std::uint64_t Context::*charged, std::uint64_t wanted,
                     Call call) {
  Context context;
  if (!ledger().contexts.find(place.context, context)) return call();
  const std::uint64_t held = context.*charged;
  measure(place.gpu);
  {
    Reservation reservation(place.gpu, wanted > held ? wanted - held : 0, Charge::promised);
    if (reservation.refused()) return CUDA_ERROR_OUT_OF_MEMORY;
    const CUresult result = call();
    if (result != CUDA_SUCCESS) return result;
    ledger().contexts.edit(place.context, [&](Context& each) { each.*charged = wanted; });
    if (wanted > held) reservation.keep();
  }
  ledger().code.forget_launches();
  std::uint64_t surplus = wanted < held ? held - wanted : 0;
  surplus -= withdraw_promise(place.gpu, surplus);
  note_implicit_change(place.gpu);
  if (!measure(place.gpu)) release(place.gpu, surplus, Charge::implicit);
  return CUDA_SUCCESS;
}

template <class Call>
CUresult set_stack(const Place& place, std::uint64_t bytes_per_thread, Call call) {
  Context context;
  ledger().contexts.find(place.context, context);
  const std::uint64_t per_thread =
      bytes_per_thread > context.local_bytes ? bytes_per_thread : context.local_bytes;
  const CUresult result = set_charged(place, &Context::local_charged_bytes,
                                      local_memory_beyond_default(place.gpu, per_thread), call);
  if (result == CUDA_SUCCESS) {
    ledger().contexts.edit(place.context,
                           [&](Context& each) { each.stack_bytes = bytes_per_thread; });
  }
  return result;
}

// What a default buffer takes is small and left to measurement.
std::uint64_t promised(std::uint64_t bytes, std::uint64_t default_bytes) {
  if (bytes <= default_bytes) return 0;
  return driver_model::saturating_add(driver_model::linear_bytes(bytes), driver_model::kPageBytes);
}

}  // namespace

CUresult cuCtxSetLimit(CUlimit limit, size_t value) {
  const auto call = [&] { return real().cuCtxSetLimit(limit, value); };
  const Place place = current_place();
  if (place.gpu == kNoGpu) return call();
  switch (static_cast<unsigned int>(limit)) {
    case CU_LIMIT_STACK_SIZE:
      // More than a thread can have: the driver says so, whatever is left.
      return value > driver_model::kMaxLocalBytes ? call() : set_stack(place, value, call);
    case CU_LIMIT_MALLOC_HEAP_SIZE:
      return set_charged(place, &Context::heap_charged_bytes,
                         promised(value, driver_model::kDefaultHeapBytes), call);
    case CU_LIMIT_PRINTF_FIFO_SIZE:
      return set_charged(place, &Context::printf_charged_bytes,
                         promised(value, driver_model::kDefaultPrintfBytes), call);
    default:
      return call();
  }
}

}  // namespace vgpu::hooks

// SPDX-License-Identifier: Apache-2.0
// Streams: a context holds pages for them, several streams to a page, and keeps those when a stream
// is destroyed. Whether a new one needs a page is seen only after. So a page is reserved and kept
// until a measurement; at the limit it comes out of the room that is left to attempts, and the
// stream goes back unless it is known to have needed none.
#include "../hooks.h"
#include "charge.h"
#include "settle.h"
#include "vgpu/core/driver_model.h"

namespace vgpu::hooks {

using namespace limiter;

namespace {

// The page that it took, or may have taken, stays with the context.
template <class Call>
CUresult create_in_charged_page(CUstream* stream, int gpu, Call call) {
  Growth growth(gpu);
  CUstream created = nullptr;
  {
    Reservation attempt(gpu, driver_model::kAttemptBytes, Charge::implicit, Room::attempt);
    if (attempt.refused()) return CUDA_ERROR_OUT_OF_MEMORY;
    const CUresult result = call(&created);
    if (result != CUDA_SUCCESS) return result;
    attempt.keep();
  }
  note_inexact_charge(gpu);
  std::uint64_t grown = 0;
  if (growth.find(grown) && grown == 0) {
    *stream = created;
    return CUDA_SUCCESS;
  }
  real().cuStreamDestroy_v2(created);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

template <class Call>
CUresult create(CUstream* stream, const Place& place, Call call) {
  if (place.gpu == kNoGpu || stream == nullptr) return call(stream);
  {
    Reservation reservation(place.gpu, driver_model::kPageBytes, Charge::implicit);
    if (reservation.refused()) return create_in_charged_page(stream, place.gpu, call);
    const CUresult result = call(stream);
    if (result != CUDA_SUCCESS) return result;
    // Where no reading ever comes nothing would end the charge.
    if (ledger().gpus[place.gpu].implicit.was_read()) reservation.keep();
  }
  note_inexact_charge(place.gpu);
  measure(place.gpu);
  return CUDA_SUCCESS;
}

}  // namespace

CUresult cuStreamCreate(CUstream* stream, unsigned int flags) {
  return create(stream, current_place(),
                [&](CUstream* out) { return real().cuStreamCreate(out, flags); });
}

CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned int flags, int priority) {
  return create(stream, current_place(), [&](CUstream* out) {
    return real().cuStreamCreateWithPriority(out, flags, priority);
  });
}

CUresult cuGreenCtxStreamCreate(CUstream* stream, CUgreenCtx green_ctx, unsigned int flags,
                                int priority) {
  return create(stream, place_of(reinterpret_cast<CUcontext>(green_ctx)), [&](CUstream* out) {
    return real().cuGreenCtxStreamCreate(out, green_ctx, flags, priority);
  });
}

}  // namespace vgpu::hooks

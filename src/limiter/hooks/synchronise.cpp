// SPDX-License-Identifier: Apache-2.0
// Synchronising calls: inside them pools give freed memory back to the device, so this is where the
// tenant's other processes can have it again. Without frees since the last one this costs one load.
// It is also a moment to measure what was loaded lazily: the program waits anyway.
#include "../hooks.h"
#include "charge.h"
#include "settle.h"

namespace vgpu::hooks {

using namespace limiter;

namespace {

CUresult settled(CUresult result) {
  settle_pools_after_frees();
  if (!any_measurement_wanted()) return result;
  const int gpu = current_place().gpu;
  if (gpu != kNoGpu) measure_at_beat(gpu);
  return result;
}

}  // namespace

CUresult cuCtxSynchronize() { return settled(real().cuCtxSynchronize()); }

CUresult cuCtxSynchronize_v2(CUcontext context) {
  return settled(real().cuCtxSynchronize_v2(context));
}

CUresult cuEventSynchronize(CUevent event) { return settled(real().cuEventSynchronize(event)); }

CUresult cuStreamSynchronize(CUstream stream) {
  return settled(real().cuStreamSynchronize(stream));
}

CUresult cuStreamSynchronize_ptsz(CUstream stream) {
  return settled(real().cuStreamSynchronize_ptsz(stream));
}

}  // namespace vgpu::hooks

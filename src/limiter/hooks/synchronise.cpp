// SPDX-License-Identifier: Apache-2.0
// Synchronising calls: inside them pools give freed memory back to the device, so this is where the
// tenant's other processes can have it again. Without frees since the last one this costs one load.
// What was freed by then in the streams that were waited for is every stream's afterwards. It is
// also a moment to measure what was loaded lazily: the program waits anyway.
#include "synchronise.h"

#include "../compute/submit.h"
#include "../hooks.h"
#include "free.h"
#include "settle.h"

namespace vgpu::hooks {

using namespace limiter;

namespace {

CUresult settled(CUresult result) {
  settle_changed_pools();
  if (!any_measurement_wanted()) return result;
  const int gpu = current_place().gpu;
  if (gpu != kNoGpu) measure_at_beat(gpu);
  return result;
}

// `wait`: what the call's return proves of work in flight. `waited_for()`: the number of the stream
// that the call waits for, kEveryStream, or kNoStream where that isn't known.
template <class Call, class WaitedFor>
CUresult synchronise(ProgramWait wait, Call call, WaitedFor waited_for) {
  PoolTable& pools = ledger().pools;
  const bool orders = pools.has_unordered();
  const std::uint64_t epoch = orders ? pools.begin_epoch() : 0;
  CUresult result = CUDA_SUCCESS;
  {
    const SynchronisationScope scope;
    result = call();
  }
  wait.ended(result);
  if (orders && result == CUDA_SUCCESS) {
    const std::uint64_t stream = waited_for();
    if (stream != FreedRanges::kNoStream) pools.order(stream, epoch);
  }
  return settled(result);
}

// A context that is waited for is all there is only where there is no other.
std::uint64_t streams_of_context() {
  return ledger().contexts.size() == 1 ? FreedRanges::kEveryStream : FreedRanges::kNoStream;
}

}  // namespace

CUresult cuCtxSynchronize() {
  return synchronise(
      ProgramWait(), [] { return real().cuCtxSynchronize(); }, streams_of_context);
}

CUresult cuCtxSynchronize_v2(CUcontext context) {
  return synchronise(
      ProgramWait(ProgramWait::kSomething), [&] { return real().cuCtxSynchronize_v2(context); },
      streams_of_context);
}

// What an event stands for isn't known here.
CUresult cuEventSynchronize(CUevent event) {
  return synchronise(
      ProgramWait(ProgramWait::kSomething), [&] { return real().cuEventSynchronize(event); },
      [] { return FreedRanges::kNoStream; });
}

CUresult cuStreamSynchronize(CUstream stream) {
  return synchronise(
      ProgramWait(stream, false), [&] { return real().cuStreamSynchronize(stream); },
      [&] { return stream_number(stream, false); });
}

CUresult cuStreamSynchronize_ptsz(CUstream stream) {
  return synchronise(
      ProgramWait(stream, true), [&] { return real().cuStreamSynchronize_ptsz(stream); },
      [&] { return stream_number(stream, true); });
}

}  // namespace vgpu::hooks

// SPDX-License-Identifier: Apache-2.0
// Contexts: about half a GiB each, charged by what the last one took (an estimate before the
// first), then by measurement. What lives in a context (linear memory, arrays, code, green
// contexts) is released with it; physical memory and pools are not its.
#include "context.h"

#include <algorithm>

#include "../compute/submit.h"
#include "../enter.h"
#include "../hooks.h"
#include "settle.h"
#include "vgpu/core/driver_model.h"

namespace vgpu::limiter {

std::uint64_t local_memory_beyond_default(int gpu, std::uint64_t bytes_per_thread) {
  std::atomic<std::uint64_t>& known = ledger().gpus[gpu].resident_threads;
  std::uint64_t threads = known.load(std::memory_order_relaxed);
  if (threads == 0) {
    int multiprocessors = 0;
    int per_multiprocessor = 0;
    const CUdevice device = Limiter::active()->device_of(gpu);
    real().cuDeviceGetAttribute(&multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device);
    real().cuDeviceGetAttribute(&per_multiprocessor,
                                CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, device);
    threads = static_cast<std::uint64_t>(multiprocessors) *
              static_cast<std::uint64_t>(per_multiprocessor);
    known.store(threads, std::memory_order_relaxed);
  }
  const std::uint64_t wanted = driver_model::local_memory_bytes(bytes_per_thread, threads);
  const std::uint64_t held =
      driver_model::local_memory_bytes(driver_model::kDefaultStackBytes, threads);
  return wanted > held ? wanted - held : 0;
}

// The account has it first, so that nobody finds a promise in the context which isn't there yet.
void add_local_promise(std::uint64_t context, int gpu, std::uint64_t bytes) {
  ledger().contexts.edit(context, [&](Context& each) { each.local_promised_bytes += bytes; });
  fulfil_local_promise(context, gpu, 0);  // a launch may have taken some of it meanwhile
}

// What is charged beyond what was taken is for calls that others are in, and for promises.
void fulfil_local_promise(std::uint64_t context, int gpu, std::uint64_t bytes) {
  std::uint64_t fulfilled = 0;
  ledger().contexts.edit(context, [&](Context& each) {
    each.local_taken_bytes = std::max(each.local_taken_bytes, bytes);
    const std::uint64_t beyond =
        each.local_charged_bytes - std::min(each.local_charged_bytes, each.local_taken_bytes);
    fulfilled = each.local_promised_bytes - std::min(each.local_promised_bytes, beyond);
    each.local_promised_bytes -= fulfilled;
  });
  if (fulfilled == 0) return;
  ledger().gpus[gpu].implicit.fulfil_promise(fulfilled);
  note_inexact_charge(gpu);
}

}  // namespace vgpu::limiter

namespace vgpu::hooks {

using namespace limiter;

namespace {

std::uint64_t handle_of(CUcontext context) { return reinterpret_cast<std::uint64_t>(context); }
std::uint64_t handle_of(CUgreenCtx context) { return reinterpret_cast<std::uint64_t>(context); }

std::uint64_t expected_bytes(int gpu) {
  GpuAccount& account = ledger().gpus[gpu];
  const std::uint64_t measured = account.most_context_bytes.load(std::memory_order_relaxed);
  if (measured == 0) return driver_model::kContextBytes;
  const bool is_first = account.implicit.charged_bytes() == 0;
  return measured + (is_first ? driver_model::kUnshownProcessBytes : 0);
}

// Relaxed: statistics, each of them a true measurement.
void note_context_bytes(int gpu, std::uint64_t bytes) {
  GpuAccount& account = ledger().gpus[gpu];
  std::uint64_t most = account.most_context_bytes.load(std::memory_order_relaxed);
  while (bytes > most && !account.most_context_bytes.compare_exchange_weak(
                             most, bytes, std::memory_order_relaxed)) {
  }
  std::uint64_t least = account.least_context_bytes.load(std::memory_order_relaxed);
  while ((least == 0 || bytes < least) && !account.least_context_bytes.compare_exchange_weak(
                                              least, bytes, std::memory_order_relaxed)) {
  }
}

// Charges `bytes` for the context that `call` makes, and corrects it by what the driver really
// took.
template <class Call>
CUresult create_context(CUcontext* context, int gpu, std::uint64_t bytes, ContextKind kind,
                        Call call) {
  if (gpu == kNoGpu || context == nullptr) return call();
  Growth growth(gpu);
  const auto position = static_cast<std::uint32_t>(gpu);
  {
    Reservation reservation(gpu, bytes, Charge::implicit);
    if (reservation.refused()) return CUDA_ERROR_OUT_OF_MEMORY;
    OwnPidSearch search(gpu);
    const CUresult result = call();
    if (result != CUDA_SUCCESS) return result;
    search.finish();
    // The primary context may have been recorded by another thread meanwhile.
    if (!ledger().contexts.add(handle_of(*context),
                               {.charged_bytes = bytes, .gpu = position, .kind = kind}))
      return result;
    if (kind == ContextKind::primary) ledger().contexts.set_primary(position, handle_of(*context));
    reservation.keep();
  }
  std::uint64_t taken = 0;
  if (!growth.find(taken) || taken == 0) return CUDA_SUCCESS;
  note_context_bytes(gpu, taken);
  ledger().contexts.edit(handle_of(*context), [&](Context& each) { each.known_bytes = taken; });
  return CUDA_SUCCESS;
}

template <class Call>
CUresult create_on(CUcontext* context, CUdevice device, Call call) {
  const int gpu = gpu_of(device);
  return create_context(context, gpu, gpu == kNoGpu ? 0 : expected_bytes(gpu), ContextKind::created,
                        call);
}

// The last context of a GPU takes with it what lies in its pools, and each context its streams.
void forget_pools(std::uint32_t gpu) {
  ledger().allocations.drop_in_pools(gpu);
  ledger().pools.for_each([&](Pool& pool) {
    if (pool.gpu == gpu) pool.account.forget_freed();
  });
}

// Everything that was in a context which the driver has ended, within the change that it ended in.
void release_context(const Context& context) {
  const int gpu = static_cast<int>(context.gpu);
  ledger().allocations.drop_context(context.owner, [](const Freed& freed) { release(freed); });
  forget_pools(context.gpu);
  ledger().code.drop_context(context.owner, [](const LoadedCode& code) {
    release_implicit(static_cast<int>(code.gpu), code.known_bytes, code.bytes);
  });
  ledger().contexts.drop_inside(context.owner);
  withdraw_promise(gpu, context.local_promised_bytes + context.heap_promised_bytes +
                            context.printf_promised_bytes);
  // Contexts are all alike: one that others were measured to be smaller than isn't expected.
  const std::uint64_t least =
      ledger().gpus[gpu].least_context_bytes.load(std::memory_order_relaxed);
  release_implicit(
      gpu, context.known_bytes != 0 ? context.known_bytes : std::min(least, context.charged_bytes),
      context.charged_bytes + context.local_charged_bytes - context.local_promised_bytes);
}

// The record goes before the driver is called, and what its functions' handles meant: they may be
// others' right after.
template <class Call>
CUresult destroy_context(std::uint64_t handle, Call call) {
  Context taken;
  if (!ledger().contexts.take(handle, taken)) return call();
  ledger().code.forget_launches();
  ContextEnd end(static_cast<int>(taken.gpu), handle);
  {
    ChangeScope change;
    const CUresult result = call();
    if (result != CUDA_SUCCESS) {
      ledger().contexts.add(handle, taken);
      return result;
    }
    end.finish(true);
    release_context(taken);
  }
  settle(static_cast<int>(taken.gpu));
  return CUDA_SUCCESS;
}

bool is_primary_active(CUdevice device) {
  unsigned int flags = 0;
  int active = 0;
  return real().cuDevicePrimaryCtxGetState(device, &flags, &active) == CUDA_SUCCESS && active != 0;
}

// The primary context after a call that may have ended it, which is the driver's to say. False: it
// is still there, or nobody knew it.
bool release_ended_primary(CUdevice device, int gpu) {
  if (is_primary_active(device)) return false;
  const std::uint64_t handle = ledger().contexts.primary(static_cast<std::uint32_t>(gpu));
  Context taken;
  if (!ledger().contexts.take(handle, taken)) return false;
  ledger().code.forget_launches();
  release_context(taken);
  // Another thread may have retained it again and found it charged.
  if (is_primary_active(device) &&
      ledger().contexts.add(
          handle,
          {.charged_bytes = taken.charged_bytes, .gpu = taken.gpu, .kind = ContextKind::primary})) {
    charge(gpu, taken.charged_bytes, Charge::implicit);
  }
  return true;
}

// A release or reset of the primary context.
template <class Call>
CUresult end_primary(CUdevice device, Call call) {
  const int gpu = gpu_of(device);
  if (gpu == kNoGpu) return call();
  bool ended = false;
  {
    ContextEnd end(gpu, ledger().contexts.primary(static_cast<std::uint32_t>(gpu)));
    ChangeScope change;
    const CUresult result = call();
    if (result != CUDA_SUCCESS) return result;
    ended = release_ended_primary(device, gpu);
    end.finish(ended);
  }
  if (ended) settle(gpu);
  return CUDA_SUCCESS;
}

template <class Call>
CUresult detach(CUcontext context, Call call) {
  bool last = true;
  ledger().contexts.edit(handle_of(context), [&](Context& each) { last = each.refs == 1; });
  if (last) return destroy_context(handle_of(context), call);
  const CUresult result = call();
  if (result == CUDA_SUCCESS)
    ledger().contexts.edit(handle_of(context), [](Context& each) { --each.refs; });
  return result;
}

}  // namespace

CUresult cuCtxCreate(CUcontext* context, unsigned int flags, CUdevice device) {
  return create_on(context, device, [&] { return real().cuCtxCreate(context, flags, device); });
}

CUresult cuCtxCreate_v2(CUcontext* context, unsigned int flags, CUdevice device) {
  return create_on(context, device, [&] { return real().cuCtxCreate_v2(context, flags, device); });
}

CUresult cuCtxCreate_v3(CUcontext* context, CUexecAffinityParam* params_array, int num_params,
                        unsigned int flags, CUdevice device) {
  return create_on(context, device, [&] {
    return real().cuCtxCreate_v3(context, params_array, num_params, flags, device);
  });
}

CUresult cuCtxCreate_v4(CUcontext* context, CUctxCreateParams* create_params, unsigned int flags,
                        CUdevice device) {
  return create_on(context, device,
                   [&] { return real().cuCtxCreate_v4(context, create_params, flags, device); });
}

CUresult cuGLCtxCreate(CUcontext* context, unsigned int flags, CUdevice device) {
  return create_on(context, device, [&] { return real().cuGLCtxCreate(context, flags, device); });
}

CUresult cuGLCtxCreate_v2(CUcontext* context, unsigned int flags, CUdevice device) {
  return create_on(context, device,
                   [&] { return real().cuGLCtxCreate_v2(context, flags, device); });
}

CUresult cuVDPAUCtxCreate(CUcontext* context, unsigned int flags, CUdevice device,
                          cuuint32_t vdp_device, void* vdp_get_proc_address) {
  return create_on(context, device, [&] {
    return real().cuVDPAUCtxCreate(context, flags, device, vdp_device, vdp_get_proc_address);
  });
}

CUresult cuVDPAUCtxCreate_v2(CUcontext* context, unsigned int flags, CUdevice device,
                             cuuint32_t vdp_device, void* vdp_get_proc_address) {
  return create_on(context, device, [&] {
    return real().cuVDPAUCtxCreate_v2(context, flags, device, vdp_device, vdp_get_proc_address);
  });
}

CUresult cuCtxDestroy(CUcontext context) {
  return destroy_context(handle_of(context), [&] { return real().cuCtxDestroy(context); });
}

CUresult cuCtxDestroy_v2(CUcontext context) {
  return destroy_context(handle_of(context), [&] { return real().cuCtxDestroy_v2(context); });
}

CUresult cuCtxAttach(CUcontext* context, unsigned int flags) {
  const CUresult result = real().cuCtxAttach(context, flags);
  if (result == CUDA_SUCCESS)
    ledger().contexts.edit(handle_of(*context), [](Context& each) { ++each.refs; });
  return result;
}

CUresult cuCtxDetach(CUcontext context) {
  return detach(context, [&] { return real().cuCtxDetach(context); });
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  const int gpu = gpu_of(device);
  const auto call = [&] { return real().cuDevicePrimaryCtxRetain(context, device); };
  if (gpu == kNoGpu) return call();
  Context known;
  const std::uint64_t handle = ledger().contexts.primary(static_cast<std::uint32_t>(gpu));
  if (ledger().contexts.find(handle, known) && is_primary_active(device)) return call();
  return create_context(context, gpu, expected_bytes(gpu), ContextKind::primary, call);
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
  return end_primary(device, [&] { return real().cuDevicePrimaryCtxRelease(device); });
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  return end_primary(device, [&] { return real().cuDevicePrimaryCtxRelease_v2(device); });
}

CUresult cuDevicePrimaryCtxReset(CUdevice device) {
  return end_primary(device, [&] { return real().cuDevicePrimaryCtxReset(device); });
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
  return end_primary(device, [&] { return real().cuDevicePrimaryCtxReset_v2(device); });
}

CUresult cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned int flags) {
  return real().cuDevicePrimaryCtxSetFlags(device, flags);
}

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned int flags) {
  return real().cuDevicePrimaryCtxSetFlags_v2(device, flags);
}

// A green context lies in the primary one and makes that if it isn't there.
CUresult cuGreenCtxCreate(CUgreenCtx* context, CUdevResourceDesc desc, CUdevice device,
                          unsigned int flags) {
  const int gpu = gpu_of(device);
  if (gpu == kNoGpu || context == nullptr)
    return real().cuGreenCtxCreate(context, desc, device, flags);
  const auto position = static_cast<std::uint32_t>(gpu);
  const std::uint64_t bytes =
      driver_model::kGreenContextBytes + (is_primary_active(device) ? 0 : expected_bytes(gpu));
  {
    Reservation reservation(gpu, bytes, Charge::implicit);
    if (reservation.refused()) return CUDA_ERROR_OUT_OF_MEMORY;
    const CUresult result = real().cuGreenCtxCreate(context, desc, device, flags);
    if (result != CUDA_SUCCESS) return result;
    Context primary;
    ledger().contexts.find(ledger().contexts.primary(position), primary);
    ledger().contexts.add(handle_of(*context),
                          {.owner = primary.owner, .gpu = position, .kind = ContextKind::green});
    reservation.keep();
  }
  measure(gpu);
  return CUDA_SUCCESS;
}

// What it held stays with the primary context; a measurement tells.
CUresult cuGreenCtxDestroy(CUgreenCtx context) {
  Context taken;
  const bool known = ledger().contexts.take(handle_of(context), taken);
  ContextEnd end(known ? static_cast<int>(taken.gpu) : kNoGpu, handle_of(context));
  ChangeScope change;
  const CUresult result = real().cuGreenCtxDestroy(context);
  end.finish(result == CUDA_SUCCESS);
  if (known && result != CUDA_SUCCESS) ledger().contexts.add(handle_of(context), taken);
  if (known && result == CUDA_SUCCESS) note_implicit_change(static_cast<int>(taken.gpu));
  return result;
}

CUresult cuCtxFromGreenCtx(CUcontext* context, CUgreenCtx green_ctx) {
  const CUresult result = real().cuCtxFromGreenCtx(context, green_ctx);
  Context green;
  if (result == CUDA_SUCCESS && ledger().contexts.find(handle_of(green_ctx), green)) {
    ledger().contexts.add(handle_of(*context),
                          {.owner = green.owner, .gpu = green.gpu, .kind = ContextKind::green});
  }
  return result;
}

}  // namespace vgpu::hooks

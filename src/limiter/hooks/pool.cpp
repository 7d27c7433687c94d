// SPDX-License-Identifier: Apache-2.0
// Stream-ordered allocation. A pool is charged for what it reserves, not for each pointer: an
// allocation adds what it can make the pool grow by at worst (no driver call), and the RESERVED
// attribute settles it once that over-charge is large, at a refusal, and after frees. During
// capture an allocation becomes a graph node and the pool doesn't grow; the next settlement gives
// it back.
#include <climits>

#include "../enter.h"
#include "../hooks.h"
#include "free.h"
#include "settle.h"
#include "share_key.h"
#include "vgpu/core/driver_model.h"

namespace vgpu::hooks {

using namespace limiter;

namespace {

std::uint64_t handle_of(CUmemoryPool pool) { return reinterpret_cast<std::uint64_t>(pool); }
shm::Tenant& tenant() { return Limiter::active()->tenant(); }

constexpr int kSeveralGpus = -2;

// The GPU of a process that sees one, found once; kSeveralGpus else.
int only_gpu() {
  static std::atomic<int> known{INT_MIN};
  const int gpu = known.load(std::memory_order_relaxed);  // the value is all there is
  if (gpu != INT_MIN) return gpu;
  int count = 0;
  if (real().cuDeviceGetCount(&count) != CUDA_SUCCESS) return kSeveralGpus;
  const int found = count == 1 ? gpu_of(0) : kSeveralGpus;
  known.store(found, std::memory_order_relaxed);
  return found;
}

// Stream-ordered memory comes from the pool of the stream's device. The default streams are the
// current context's.
int gpu_of_stream(CUstream stream) {
  const int only = only_gpu();
  if (only != kSeveralGpus) return only;
  CUdevice device = 0;
  const bool has_own_device =
      reinterpret_cast<std::uintptr_t>(stream) > 2 && real().cuStreamGetDevice != nullptr;
  const CUresult result =
      has_own_device ? real().cuStreamGetDevice(stream, &device) : real().cuCtxGetDevice(&device);
  return result == CUDA_SUCCESS ? gpu_of(device) : kNoGpu;
}

Pool* current_pool(CUstream stream) {
  const int gpu = gpu_of_stream(stream);
  if (gpu == kNoGpu) return nullptr;
  const auto position = static_cast<std::uint32_t>(gpu);
  Pool* pool = ledger().pools.current(position);
  if (pool != nullptr) return pool;
  CUmemoryPool handle = nullptr;
  if (real().cuDeviceGetMemPool(&handle, Limiter::active()->device_of(gpu)) != CUDA_SUCCESS)
    return nullptr;
  pool = ledger().pools.find_or_add(handle_of(handle), position);
  ledger().pools.set_current(position, pool);
  return pool;
}

// A pool that no hook has seen yet (another library's) counts for the stream's device.
Pool* pool_of(CUmemoryPool handle, CUstream stream) {
  if (handle == nullptr) return nullptr;
  Pool* pool = ledger().pools.find(handle_of(handle));
  const int gpu = pool == nullptr ? gpu_of_stream(stream) : kNoGpu;
  return gpu == kNoGpu
             ? pool
             : ledger().pools.find_or_add(handle_of(handle), static_cast<std::uint32_t>(gpu));
}

bool begin(Pool& pool, std::uint64_t bytes, PoolAccount::Request& request) {
  return pool.account.begin(bytes, request, [&](std::uint64_t extra) {
    return limiter::reserve(static_cast<int>(pool.gpu), extra);
  });
}

template <class Call>
CUresult serve(Pool& pool, const PoolAccount::Request& request, CUdeviceptr* ptr, Call call) {
  const CUresult result = call(ptr);
  if (result != CUDA_SUCCESS) {
    tenant().release(pool.gpu, pool.account.cancel(request));
    return result;
  }
  pool.account.end(request);
  if (request.wants_settlement) settle_pool(pool);
  return result;
}

bool is_capturing(CUstream stream, bool per_thread) {
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  const auto query = per_thread ? real().cuStreamIsCapturing_ptsz : real().cuStreamIsCapturing;
  return query != nullptr && query(stream, &status) == CUDA_SUCCESS &&
         status == CU_STREAM_CAPTURE_STATUS_ACTIVE;
}

std::uint64_t unused_bytes(const Pool& pool) {
  const auto handle = reinterpret_cast<CUmemoryPool>(pool.handle.load(std::memory_order_relaxed));
  cuuint64_t reserved = 0;
  cuuint64_t used = 0;
  RelaxedCapture relaxed;
  real().cuMemPoolGetAttribute(handle, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &reserved);
  real().cuMemPoolGetAttribute(handle, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used);
  return reserved > used ? reserved - used : 0;
}

bool is_past_limit(const Pool& pool) {
  return tenant().charged_bytes(pool.gpu) > tenant().memory_limit_bytes(pool.gpu);
}

// Asks the pool to keep no more than `kept_bytes` of what nothing lies in.
void trim(Pool& pool, std::uint64_t kept_bytes) {
  RelaxedCapture relaxed;
  real().cuMemPoolTrimTo(
      reinterpret_cast<CUmemoryPool>(pool.handle.load(std::memory_order_relaxed)), kept_bytes);
  settle_pool(pool);
}

// The pool has unused memory that the request may fit into. Whether it does is the driver's to say:
// if the pool had to grow past the limit for it, the allocation is taken back. Everybody else's
// growth is reserved, so a charge past the limit is this attempt's doing. Only for the holder of
// pool.attempt.
template <class Call>
CUresult serve_from_unused(Pool& pool, CUdeviceptr* ptr, CUstream stream, Call call) {
  // An earlier attempt's growth is still on its way back.
  if (is_past_limit(pool)) return CUDA_ERROR_OUT_OF_MEMORY;
  const std::uint64_t before = pool.account.settled_bytes();
  CUdeviceptr placed = 0;
  const CUresult result = call(&placed);
  if (result != CUDA_SUCCESS) return result;
  settle_pool(pool);
  if (!is_past_limit(pool)) {
    *ptr = placed;
    return result;
  }
  real().cuMemFreeAsync(placed, stream);
  trim(pool, before);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

// Nothing may be added any more. What the pool has unused may serve the request, or, given back to
// the driver, make room for it.
template <class Call>
CUresult allocate_at_limit(Pool& pool, CUdeviceptr* ptr, std::uint64_t bytes, CUstream stream,
                           Call call) {
  PoolAccount::Request request;
  Patience patience;
  do {
    if (unused_bytes(pool) < bytes) return CUDA_ERROR_OUT_OF_MEMORY;
    if (const Turn turn(pool.attempt); turn.is_mine()) {
      const CUresult result = serve_from_unused(pool, ptr, stream, call);
      if (result != CUDA_ERROR_OUT_OF_MEMORY) return result;
      const std::uint64_t reserved = pool.account.settled_bytes();
      const std::uint64_t needed = driver_model::pool_growth_bytes(bytes);
      trim(pool, reserved > needed ? reserved - needed : 0);
      return begin(pool, bytes, request) ? serve(pool, request, ptr, call) : result;
    }
    settle_pool(pool);
    if (begin(pool, bytes, request)) return serve(pool, request, ptr, call);
  } while (patience.wait());
  return CUDA_ERROR_OUT_OF_MEMORY;
}

template <class Call>
CUresult allocate_async(Pool* pool, CUdeviceptr* ptr, std::uint64_t bytes, CUstream stream,
                        bool per_thread, Call call) {
  ledger().graphs.note_possible();
  if (pool == nullptr || !pool->charged || ptr == nullptr) return call(ptr);
  PoolAccount::Request request;
  if (begin(*pool, bytes, request)) return serve(*pool, request, ptr, call);
  if (is_capturing(stream, per_thread)) return call(ptr);
  settle(static_cast<int>(pool->gpu));
  if (begin(*pool, bytes, request)) return serve(*pool, request, ptr, call);
  return allocate_at_limit(*pool, ptr, bytes, stream, call);
}

// Learns of a pool that the program got hold of.
void remember(CUmemoryPool handle, CUdevice device) {
  const int gpu = gpu_of(device);
  if (gpu != kNoGpu) ledger().pools.find_or_add(handle_of(handle), static_cast<std::uint32_t>(gpu));
}

void make_current(CUmemoryPool handle, CUdevice device) {
  const int gpu = gpu_of(device);
  if (gpu == kNoGpu) return;
  const auto position = static_cast<std::uint32_t>(gpu);
  ledger().pools.set_current(position, ledger().pools.find_or_add(handle_of(handle), position));
}

// Managed pools without a device of their own are charged where they are made.
void remember_at(CUmemoryPool handle, const CUmemLocation& location, CUmemAllocationType type) {
  const bool managed = type == CU_MEM_ALLOCATION_TYPE_MANAGED;
  int gpu = kNoGpu;
  if (location.type == CU_MEM_LOCATION_TYPE_DEVICE) {
    gpu = gpu_of(location.id);
  } else if (managed) {
    gpu = current_place().gpu;
  }
  const bool charged = gpu != kNoGpu;
  ledger().pools.find_or_add(handle_of(handle), charged ? static_cast<std::uint32_t>(gpu) : 0,
                             charged, managed);
}

bool is_used(CUmemoryPool handle) {
  cuuint64_t used = 0;
  RelaxedCapture relaxed;
  return real().cuMemPoolGetAttribute(handle, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used) !=
             CUDA_SUCCESS ||
         used != 0;
}

}  // namespace

CUresult cuMemAllocAsync(CUdeviceptr* ptr, size_t bytes, CUstream stream) {
  return allocate_async(current_pool(stream), ptr, bytes, stream, false, [&](CUdeviceptr* out) {
    return real().cuMemAllocAsync(out, bytes, stream);
  });
}

CUresult cuMemAllocAsync_ptsz(CUdeviceptr* ptr, size_t bytes, CUstream stream) {
  return allocate_async(current_pool(stream), ptr, bytes, stream, true, [&](CUdeviceptr* out) {
    return real().cuMemAllocAsync_ptsz(out, bytes, stream);
  });
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr* ptr, size_t bytes, CUmemoryPool pool,
                                 CUstream stream) {
  return allocate_async(pool_of(pool, stream), ptr, bytes, stream, false, [&](CUdeviceptr* out) {
    return real().cuMemAllocFromPoolAsync(out, bytes, pool, stream);
  });
}

CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr* ptr, size_t bytes, CUmemoryPool pool,
                                      CUstream stream) {
  return allocate_async(pool_of(pool, stream), ptr, bytes, stream, true, [&](CUdeviceptr* out) {
    return real().cuMemAllocFromPoolAsync_ptsz(out, bytes, pool, stream);
  });
}

CUresult cuMemFreeAsync(CUdeviceptr ptr, CUstream stream) {
  return free_known_in_stream_order(ptr, [&] { return real().cuMemFreeAsync(ptr, stream); });
}

CUresult cuMemFreeAsync_ptsz(CUdeviceptr ptr, CUstream stream) {
  return free_known_in_stream_order(ptr, [&] { return real().cuMemFreeAsync_ptsz(ptr, stream); });
}

CUresult cuMemPoolCreate(CUmemoryPool* pool, const CUmemPoolProps* pool_props) {
  const CUresult result = real().cuMemPoolCreate(pool, pool_props);
  if (result == CUDA_SUCCESS) remember_at(*pool, pool_props->location, pool_props->allocType);
  return result;
}

// Allocations outlive their pool's handle: what still holds some is charged until a measurement no
// longer shows it.
CUresult cuMemPoolDestroy(CUmemoryPool pool) {
  Pool* known = ledger().pools.find(handle_of(pool));
  if (known == nullptr) return real().cuMemPoolDestroy(pool);
  settle_pool(*known);
  const bool used = known->charged && is_used(pool);
  ChangeScope change;
  ledger().pools.remove(handle_of(pool));
  const CUresult result = real().cuMemPoolDestroy(pool);
  if (result != CUDA_SUCCESS) {
    ledger().pools.restore(known, handle_of(pool));
    return result;
  }
  const std::uint64_t charged = known->account.end_pool();
  if (used) {
    charge(static_cast<int>(known->gpu), charged, Charge::implicit);
    ledger().gpus[known->gpu].has_orphans.store(true, std::memory_order_relaxed);
    note_inexact_charge(static_cast<int>(known->gpu));
  }
  if (charged != 0) tenant().release(known->gpu, charged);
  return result;
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t min_bytes_to_keep) {
  const CUresult result = real().cuMemPoolTrimTo(pool, min_bytes_to_keep);
  Pool* known = ledger().pools.find(handle_of(pool));
  if (result == CUDA_SUCCESS && known != nullptr) settle_pool(*known);
  return result;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void* value) {
  return real().cuMemPoolSetAttribute(pool, attr, value);
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* pool_out, CUdevice device) {
  const CUresult result = real().cuDeviceGetDefaultMemPool(pool_out, device);
  if (result == CUDA_SUCCESS) remember(*pool_out, device);
  return result;
}

CUresult cuDeviceGetMemPool(CUmemoryPool* pool, CUdevice device) {
  const CUresult result = real().cuDeviceGetMemPool(pool, device);
  if (result == CUDA_SUCCESS) remember(*pool, device);
  return result;
}

CUresult cuDeviceSetMemPool(CUdevice device, CUmemoryPool pool) {
  const CUresult result = real().cuDeviceSetMemPool(device, pool);
  if (result == CUDA_SUCCESS) make_current(pool, device);
  return result;
}

CUresult cuMemGetDefaultMemPool(CUmemoryPool* pool_out, CUmemLocation* location,
                                CUmemAllocationType type) {
  const CUresult result = real().cuMemGetDefaultMemPool(pool_out, location, type);
  if (result == CUDA_SUCCESS) remember_at(*pool_out, *location, type);
  return result;
}

CUresult cuMemGetMemPool(CUmemoryPool* pool, CUmemLocation* location, CUmemAllocationType type) {
  const CUresult result = real().cuMemGetMemPool(pool, location, type);
  if (result == CUDA_SUCCESS) remember_at(*pool, *location, type);
  return result;
}

CUresult cuMemSetMemPool(CUmemLocation* location, CUmemAllocationType type, CUmemoryPool pool) {
  const CUresult result = real().cuMemSetMemPool(location, type, pool);
  const bool is_current = result == CUDA_SUCCESS && location->type == CU_MEM_LOCATION_TYPE_DEVICE &&
                          type == CU_MEM_ALLOCATION_TYPE_PINNED;
  if (is_current) make_current(pool, location->id);
  return result;
}

CUresult cuMemPoolExportToShareableHandle(void* handle_out, CUmemoryPool pool,
                                          CUmemAllocationHandleType handle_type,
                                          unsigned long long flags) {
  return real().cuMemPoolExportToShareableHandle(handle_out, pool, handle_type, flags);
}

// The exporter's pool is charged to the exporter.
CUresult cuMemPoolImportFromShareableHandle(CUmemoryPool* pool_out, void* handle,
                                            CUmemAllocationHandleType handle_type,
                                            unsigned long long flags) {
  const CUresult result =
      real().cuMemPoolImportFromShareableHandle(pool_out, handle, handle_type, flags);
  if (result == CUDA_SUCCESS) ledger().pools.find_or_add(handle_of(*pool_out), 0, false);
  return result;
}

// Names the pointer within the tenant, so that an importer of the same tenant isn't charged for it
// again. The bytes stay with the pool.
CUresult cuMemPoolExportPointer(CUmemPoolPtrExportData* share_data_out, CUdeviceptr ptr) {
  const CUresult result = real().cuMemPoolExportPointer(share_data_out, ptr);
  if (result != CUDA_SUCCESS) return result;
  const int gpu = current_place().gpu;
  const ShareKey key = key_of(share_data_out->reserved, sizeof share_data_out->reserved);
  if (gpu != kNoGpu) (void)tenant().share(key.high, key.low, static_cast<std::uint32_t>(gpu), 0);
  return result;
}

CUresult cuMemPoolImportPointer(CUdeviceptr* ptr_out, CUmemoryPool pool,
                                CUmemPoolPtrExportData* share_data) {
  const Place place = current_place();
  if (ptr_out == nullptr || place.gpu == kNoGpu)
    return real().cuMemPoolImportPointer(ptr_out, pool, share_data);
  CUdeviceptr imported = 0;
  const CUresult result = real().cuMemPoolImportPointer(&imported, pool, share_data);
  if (result != CUDA_SUCCESS) return result;
  const auto gpu = static_cast<std::uint32_t>(place.gpu);
  const ShareKey key = key_of(share_data->reserved, sizeof share_data->reserved);
  std::uint64_t held_bytes = 0;
  if (tenant().hold_shared(key.high, key.low, held_bytes) == shm::Status::ok) {
    ledger().allocations.add(imported, {.key = key, .gpu = gpu, .kind = AllocationKind::held});
    *ptr_out = imported;
    return result;
  }
  const std::uint64_t bytes = driver_model::linear_bytes(mapped_size(imported));
  Reservation reservation(place.gpu, bytes, Charge::unseen);
  if (reservation.refused()) {
    real().cuMemFree_v2(imported);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  ledger().allocations.add(imported,
                           {.bytes = bytes, .gpu = gpu, .kind = AllocationKind::imported});
  reservation.keep();
  *ptr_out = imported;
  return result;
}

}  // namespace vgpu::hooks

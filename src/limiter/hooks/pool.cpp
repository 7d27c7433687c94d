// SPDX-License-Identifier: Apache-2.0
// Stream-ordered allocation. A pool is charged for what it reserves, not for each pointer: an
// allocation adds what it can make the pool grow by at worst (no driver call), and the RESERVED
// attribute settles it once that over-charge is large, at a refusal, and after frees. Where nothing
// may be added any more, a request is asked for only if something that was freed is sure to serve
// it, or after the pool gave back what makes room for it (decision 0008). During capture an
// allocation becomes a graph node and the pool has no part in it.
#include <climits>

#include "../enter.h"
#include "../hooks.h"
#include "capture.h"
#include "free.h"
#include "settle.h"
#include "share_key.h"
#include "vgpu/core/driver_model.h"

namespace vgpu::hooks {

using namespace limiter;

namespace {

std::uint64_t handle_of(CUmemoryPool pool) { return reinterpret_cast<std::uint64_t>(pool); }

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

// What an allocation asks of a pool, in which stream, by which entry of the driver.
template <class Call>
struct Ask {
  Pool& pool;
  CUdeviceptr* ptr;
  std::uint64_t bytes;
  CUstream stream;
  bool per_thread;
  Call call;
};

bool begin(Pool& pool, std::uint64_t bytes, PoolAccount::Request& request) {
  return pool.account.begin(bytes, request, [&](std::uint64_t extra) {
    return limiter::reserve(static_cast<int>(pool.gpu), extra);
  });
}

struct Served {
  CUresult result;
  bool may_have_grown;
};

// Asks the driver for what began.
template <class Call>
Served serve(const Ask<Call>& ask, PoolAccount::Request& request) {
  Pool& pool = ask.pool;
  const CUresult result = ask.call(ask.ptr);
  if (result != CUDA_SUCCESS) {
    tenant().release(pool.gpu, pool.account.cancel(request));
    return {result, false};
  }
  const CUdeviceptr placed = *ask.ptr;
  std::uint64_t born = 0;
  const auto landing = pool.account.end(request, placed, born);
  ledger().allocations.add(placed, {.bytes = ask.bytes,
                                    .gpu = pool.gpu,
                                    .kind = AllocationKind::in_pool,
                                    .pool = &pool,
                                    .born = born});
  const bool may_have_grown = landing != PoolAccount::Landing::in_freed;
  if (may_have_grown) ledger().pools.note_change();
  if (request.wants_settlement) settle_pool(pool, driver_model::kPoolSlackBytes);
  return {result, may_have_grown};
}

CUmemoryPool driver_pool(const Pool& pool) {
  return reinterpret_cast<CUmemoryPool>(pool.handle.load(std::memory_order_relaxed));
}

std::uint64_t unused_bytes(const Pool& pool) {
  cuuint64_t reserved = 0;
  cuuint64_t used = 0;
  RelaxedCapture relaxed;
  real().cuMemPoolGetAttribute(driver_pool(pool), CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &reserved);
  real().cuMemPoolGetAttribute(driver_pool(pool), CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used);
  return reserved > used ? reserved - used : 0;
}

bool is_past_limit(const Pool& pool) {
  return tenant().charged_bytes(pool.gpu) > tenant().memory_limit_bytes(pool.gpu);
}

// What the tenant could still reserve.
std::uint64_t room_bytes(const Pool& pool) {
  const std::uint64_t taken =
      driver_model::saturating_add(tenant().charged_bytes(pool.gpu), driver_model::kAttemptBytes);
  const std::uint64_t limit = tenant().memory_limit_bytes(pool.gpu);
  return limit > taken ? limit - taken : 0;
}

// A growth of the pool may have taken memory out of steps that nothing lies in. Freed ranges that
// can't lie in such a step are good again. That looks at every allocation, so where there are many
// it isn't done for each request: what stays in doubt serves nobody meanwhile. Only for the holder
// of pool.attempt.
void resolve_doubt(Pool& pool) {
  constexpr std::size_t kLooksPerRequest = 1024;
  if (pool.requests_in_doubt != 0) {
    --pool.requests_in_doubt;
    return;
  }
  FreedRanges::Doubtful doubtful;
  pool.account.list_doubtful(doubtful);
  if (!doubtful.any()) return;
  ledger().allocations.for_each_in(pool, [&](std::uint64_t address, const Allocation& each) {
    doubtful.note_live(address, each.bytes, each.born);
  });
  pool.requests_in_doubt = ledger().allocations.size() / kLooksPerRequest;
  pool.account.resolve(doubtful);
}

// A request without a reservation, for as long as it is in the driver.
class UnreservedScope {
 public:
  UnreservedScope() { ledger().pools.trim_gate().enter_request(); }
  ~UnreservedScope() { ledger().pools.trim_gate().leave_request(); }
  UnreservedScope(const UnreservedScope&) = delete;
  UnreservedScope& operator=(const UnreservedScope&) = delete;
};

// Gives back so much of what the pool has unused, in steps.
void trim(Pool& pool, std::uint64_t bytes) {
  settle_pool(pool);
  const std::uint64_t reserved = pool.account.settled_bytes();
  pool.account.begin_trim();
  {
    RelaxedCapture relaxed;
    real().cuMemPoolTrimTo(driver_pool(pool), reserved > bytes ? reserved - bytes : 0);
  }
  pool.account.end_trim();
  settle_pool(pool);
}

// For a driver that isn't as it was measured: what a request without a reservation grew the pool by
// doesn't stay, where it passed the limit. Only for the holder of pool.attempt.
template <class Call>
CUresult take_back(const Ask<Call>& ask) {
  const auto free = ask.per_thread ? real().cuMemFreeAsync_ptsz : real().cuMemFreeAsync;
  const CUdeviceptr placed = *ask.ptr;
  const CUresult result = free_known_in_stream_order(placed, ask.stream, ask.per_thread,
                                                     [&] { return free(placed, ask.stream); });
  if (result != CUDA_SUCCESS) return CUDA_SUCCESS;
  trim(ask.pool, driver_model::pool_growth_bytes(ask.bytes));
  return CUDA_ERROR_OUT_OF_MEMORY;
}

// Another's reading may be older than the last synchronisation. False: others kept coming in
// between.
bool settle_by_own_reading(Pool& pool) {
  constexpr int kTries = 8;
  for (int i = 0; i < kTries; ++i) {
    if (settle_pool(pool)) return true;
  }
  return false;
}

// Asks for what something that was freed is sure to serve. False: nothing is, or not now.
template <class Call>
bool serve_from_freed(const Ask<Call>& ask, CUresult& result) {
  Pool& pool = ask.pool;
  if (!pool.account.has_freed(ask.bytes)) return false;
  const Turn turn(pool.attempt);
  if (!turn.is_mine()) return false;
  const UnreservedScope scope;
  const bool may_be_trimmed = ledger().pools.trim_gate().has_synchronisation();
  if (may_be_trimmed && !pool.account.keeps_all()) return false;
  if (!settle_by_own_reading(pool)) return false;
  resolve_doubt(pool);
  PoolAccount::Request request;
  const std::uint64_t stream = stream_number(ask.stream, ask.per_thread);
  if (!pool.account.begin_unreserved(ask.bytes, stream, request)) return false;
  const bool was_past_limit = is_past_limit(pool);
  const Served served = serve(ask, request);
  result = served.result;
  if (!served.may_have_grown) return true;
  settle_by_own_reading(pool);
  if (!was_past_limit && is_past_limit(pool)) result = take_back(ask);
  return true;
}

// Has the pool give back as much as is missing, if it has so much unused: what the driver does by
// itself before it says that memory is out. `trimmed_at`: when this refusal last did.
void make_room(Pool& pool, std::uint64_t bytes, std::uint64_t& trimmed_at) {
  const std::uint64_t now = pool.account.free_count();
  if (trimmed_at == now) return;
  const std::uint64_t growth = driver_model::pool_growth_bytes(bytes);
  const std::uint64_t room = room_bytes(pool);
  if (growth <= room) return;
  const std::uint64_t missing = driver_model::pool_growth_bytes(growth - room);
  if (unused_bytes(pool) < missing) return;
  const Turn turn(pool.attempt);
  if (!turn.is_mine()) return;
  trimmed_at = now;
  trim(pool, missing);
}

bool is_busy(Pool& pool) {
  return pool.account.is_in_driver() || pool.attempt.load(std::memory_order_relaxed);
}

// Nothing may be added any more. Others who are in the driver, or have the turn, leave what this
// request may be served from: it waits for them a little.
template <class Call>
CUresult allocate_at_limit(const Ask<Call>& ask) {
  PoolAccount::Request request;
  std::uint64_t trimmed_at = UINT64_MAX;
  Patience patience;
  do {
    CUresult result = CUDA_SUCCESS;
    if (serve_from_freed(ask, result)) return result;
    make_room(ask.pool, ask.bytes, trimmed_at);
    if (begin(ask.pool, ask.bytes, request)) {
      result = serve(ask, request).result;
      settle_pool(ask.pool);
      return result;
    }
  } while (is_busy(ask.pool) && patience.wait());
  return CUDA_ERROR_OUT_OF_MEMORY;
}

template <class Call>
CUresult allocate_async(Pool* pool, CUdeviceptr* ptr, std::uint64_t bytes, CUstream stream,
                        bool per_thread, Call call) {
  ledger().graphs.note_possible();
  const bool is_charged = pool != nullptr && pool->charged && ptr != nullptr && bytes != 0;
  if (!is_charged || capture_of(stream, per_thread) == Capture::active) return call(ptr);
  const Ask<Call> ask{*pool, ptr, bytes, stream, per_thread, call};
  PoolAccount::Request request;
  if (begin(*pool, bytes, request)) return serve(ask, request).result;
  CUresult result = CUDA_SUCCESS;
  if (serve_from_freed(ask, result)) return result;
  settle(static_cast<int>(pool->gpu));
  if (begin(*pool, bytes, request)) return serve(ask, request).result;
  return allocate_at_limit(ask);
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
  return free_known_in_stream_order(ptr, stream, false,
                                    [&] { return real().cuMemFreeAsync(ptr, stream); });
}

CUresult cuMemFreeAsync_ptsz(CUdeviceptr ptr, CUstream stream) {
  return free_known_in_stream_order(ptr, stream, true,
                                    [&] { return real().cuMemFreeAsync_ptsz(ptr, stream); });
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
  const std::uint64_t charged = ledger().pools.end(*known);
  if (used) {
    charge(static_cast<int>(known->gpu), charged, Charge::implicit);
    ledger().gpus[known->gpu].has_orphans.store(true, std::memory_order_relaxed);
    note_inexact_charge(static_cast<int>(known->gpu));
  }
  if (charged != 0) tenant().release(known->gpu, charged);
  return result;
}

// What a request without a reservation relies on mustn't go: the trim waits for it.
CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t min_bytes_to_keep) {
  Pool* known = ledger().pools.find(handle_of(pool));
  if (known == nullptr) return real().cuMemPoolTrimTo(pool, min_bytes_to_keep);
  Turn turn(known->attempt);
  for (Patience patience; !turn.is_mine() && patience.wait();) turn.try_again();
  settle_pool(*known);
  known->account.begin_trim();
  const CUresult result = real().cuMemPoolTrimTo(pool, min_bytes_to_keep);
  known->account.end_trim();
  settle_pool(*known);
  return result;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void* value) {
  const CUresult result = real().cuMemPoolSetAttribute(pool, attr, value);
  Pool* known = ledger().pools.find(handle_of(pool));
  if (result != CUDA_SUCCESS || known == nullptr) return result;
  if (attr == CU_MEMPOOL_ATTR_RELEASE_THRESHOLD)
    known->account.set_threshold(*static_cast<const cuuint64_t*>(value));
  if (attr == CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC)
    known->account.set_crosses_streams(*static_cast<const int*>(value) != 0);
  return result;
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

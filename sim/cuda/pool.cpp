// SPDX-License-Identifier: Apache-2.0
// Stream-ordered memory: default and explicit pools. A pool takes whole steps of 32 MiB from the
// device and gives them back, beyond its release threshold, when somebody synchronises.
#include "pool.h"

#include <algorithm>
#include <cstring>

#include "capture.h"
#include "engine.h"
#include "stream.h"

using namespace vgpu::sim;

namespace vgpu::sim {
namespace {

std::set<CUmemoryPool>& pools() {
  static auto* set = new std::set<CUmemoryPool>;
  return *set;
}

Arena& host_arena() {
  static auto* arena = new Arena;
  return *arena;
}

constexpr std::uint64_t kPlaceAlign = 512;

std::uint64_t place_bytes(std::uint64_t bytes) { return round_up(bytes, kPlaceAlign); }

// What a stream freed up to `number` is free for everybody.
void settle_pending(CUmemoryPool pool, Lane* lane, std::uint64_t number) {
  const auto of_lane = pool->pending.find(lane);
  if (of_lane == pool->pending.end()) return;
  auto& ranges = of_lane->second;
  for (auto at = ranges.begin(); at != ranges.end();) {
    if (at->second.ticket > number) {
      ++at;
      continue;
    }
    pool->free.give(at->first, at->second.bytes);
    at = ranges.erase(at);
  }
  if (ranges.empty()) pool->pending.erase(of_lane);
}

void destroy_if_unused(CUmemoryPool pool) {
  if (!pool->destroyed || pool->allocations > 0 || !pool->pending.empty()) return;
  pool_trim(pool, 0);
  pools().erase(pool);
  delete pool;
}

std::optional<std::uint64_t> take_pending(CUmemoryPool pool, Lane* lane, std::uint64_t size) {
  const auto of_lane = pool->pending.find(lane);
  if (of_lane == pool->pending.end()) return std::nullopt;
  for (auto at = of_lane->second.begin(); at != of_lane->second.end(); ++at) {
    if (at->second.bytes < size) continue;
    const std::uint64_t address = at->first;
    const CUmemPoolHandle_st::Pending rest{at->second.bytes - size, at->second.ticket};
    of_lane->second.erase(at);
    if (rest.bytes > 0) of_lane->second.emplace(address + size, rest);
    return address;
  }
  return std::nullopt;
}

Arena& arena_of(CUmemoryPool pool) {
  return pool->device == nullptr ? host_arena() : pool->device->arena;
}

// The steps of the pool that nothing lies in.
std::vector<std::uint64_t> empty_steps(CUmemoryPool pool) {
  std::vector<std::uint64_t> steps;
  for (const auto& [start, size] : pool->free.ranges()) {
    for (std::uint64_t at = round_up(start, pool->growth); at + pool->growth <= start + size;
         at += pool->growth)
      steps.push_back(at);
  }
  return steps;
}

// Takes an empty step's memory away from its address. What it cost stays with the pool.
void unmap_step(CUmemoryPool pool, std::uint64_t at) {
  pool->free.cut(at, pool->growth);
  if (pool->written.erase(at) > 0 || pool->device == nullptr)
    arena_of(pool).forget(at, pool->growth);
  if (at + pool->growth == pool->next) {
    pool->next = at;
  } else {
    pool->holes.give(at, pool->growth);
  }
}

bool new_window(CUmemoryPool pool, std::uint64_t size) {
  const std::uint64_t bytes = round_up(std::max(size, kPoolWindowBytes), pool->growth);
  const auto place = arena_of(pool).take(bytes, pool->growth);
  if (!place) return false;
  pool->windows.emplace_back(*place, bytes);
  pool->window = *place;
  pool->next = *place;
  pool->window_end = *place + bytes;
  return true;
}

// Makes room for `size` bytes in a row behind what the pool has, in whole steps. Steps of the pool
// that are empty lend their memory first: only their addresses are in the way.
CUresult grow(CUmemoryPool pool, std::uint64_t size) {
  std::uint64_t tail = 0;  // free bytes right before the end
  if (pool->next > pool->window) {
    if (const auto last = pool->free.range_at(pool->next - 1)) tail = pool->next - last->first;
  }
  const auto hole = pool->holes.take(round_up(size, pool->growth), pool->growth);
  std::uint64_t needed = round_up(hole ? size : size - std::min(tail, size), pool->growth);
  const std::uint64_t kept_from = hole ? ~std::uint64_t{0} : pool->next - std::min(tail, size);
  std::vector<std::uint64_t> lenders;
  for (const std::uint64_t at : empty_steps(pool)) {
    if (lenders.size() * pool->growth < needed && (at < kept_from || hole)) lenders.push_back(at);
  }
  const std::uint64_t more = needed - lenders.size() * pool->growth;
  CUresult result = CUDA_SUCCESS;
  if (pool->props.maxSize != 0 &&
      pool->reserved + more > round_up(pool->props.maxSize, pool->growth))
    result = CUDA_ERROR_OUT_OF_MEMORY;
  if (result == CUDA_SUCCESS && !hole &&
      (pool->window == 0 || pool->next + needed > pool->window_end)) {
    needed = round_up(size, pool->growth);
    if (!new_window(pool, needed)) result = CUDA_ERROR_OUT_OF_MEMORY;
    lenders.clear();
    return result == CUDA_SUCCESS ? grow(pool, size) : result;
  }
  if (result == CUDA_SUCCESS && pool->device != nullptr && !charge(*pool->device, more)) {
    // What other pools hold without using it makes room before an allocation fails.
    for (const CUmemoryPool other : pools()) {
      if (other != pool && other->device == pool->device) pool_trim(other, 0);
    }
    if (!charge(*pool->device, more)) result = CUDA_ERROR_OUT_OF_MEMORY;
  }
  if (result != CUDA_SUCCESS) {
    if (hole) pool->holes.give(*hole, round_up(size, pool->growth));
    return result;
  }
  pool->reserved += more;
  pool->reserved_high = std::max(pool->reserved_high, pool->reserved);
  if (hole) {
    pool->free.give(*hole, needed);
  } else {
    pool->free.give(pool->next, needed);
    pool->next += needed;
  }
  for (const std::uint64_t at : lenders) unmap_step(pool, at);
  return CUDA_SUCCESS;
}

}  // namespace

CUmemoryPool make_pool(Device* device, const CUmemPoolProps& props) {
  auto* pool = new CUmemPoolHandle_st;
  pool->device = device;
  pool->props = props;
  pools().insert(pool);
  return pool;
}

CUmemoryPool default_pool(Device& device) {
  if (device.default_pool == nullptr) {
    CUmemPoolProps props{};
    props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    props.location = {CU_MEM_LOCATION_TYPE_DEVICE, device.ordinal};
    device.default_pool = make_pool(&device, props);
    device.current_pool = device.default_pool;
  }
  return device.default_pool;
}

CUresult pool_take(CUmemoryPool pool, std::uint64_t bytes, Lane* lane, std::uint64_t& address) {
  const std::uint64_t size = place_bytes(bytes);
  auto place = pool->free.take(size, kPlaceAlign);
  if (!place) place = take_pending(pool, lane, size);
  if (!place) {
    const CUresult result = grow(pool, size);
    if (result != CUDA_SUCCESS) return result;
    place = pool->free.take(size, kPlaceAlign);
  }
  pool->used += size;
  pool->used_high = std::max(pool->used_high, pool->used);
  address = *place;
  return CUDA_SUCCESS;
}

void pool_give(CUmemoryPool pool, std::uint64_t address, std::uint64_t bytes) {
  pool->free.give(address, place_bytes(bytes));
}

void pool_trim(CUmemoryPool pool, std::uint64_t keep) {
  if (pool->reserved <= keep) return;
  const std::vector<std::uint64_t> steps = empty_steps(pool);
  for (auto at = steps.rbegin(); at != steps.rend() && pool->reserved >= keep + pool->growth;
       ++at) {
    unmap_step(pool, *at);
    if (pool->device != nullptr) discharge(*pool->device, pool->growth);
    pool->reserved -= pool->growth;
  }
  if (pool->reserved > 0) return;
  // Empty: it starts from the beginning again.
  pool->holes = RangeHeap{};
  for (const auto& [start, bytes] : pool->windows) arena_of(pool).give(start, bytes, false);
  pool->windows.clear();
  pool->window = pool->window_end = pool->next = 0;
}

void settle_pools() {
  std::vector<CUmemoryPool> over;
  for (const CUmemoryPool pool : pools()) {
    if (pool->reserved > pool->threshold || pool->destroyed) over.push_back(pool);
  }
  for (const CUmemoryPool pool : over) {
    pool_trim(pool, pool->threshold);
    destroy_if_unused(pool);
  }
}

void note_pool_write(Allocation& allocation) {
  if (allocation.pool == nullptr) return;
  const std::uint64_t step = allocation.pool->growth;
  for (std::uint64_t at = allocation.base / step * step; at < allocation.base + allocation.bytes;
       at += step)
    allocation.pool->written[at] = step;
}

// A free that waited for everything: the memory is anybody's at once.
void free_pool_allocation(Allocation& allocation) {
  CUmemoryPool pool = allocation.pool;
  pool_give(pool, allocation.base, allocation.bytes);
  pool->used -= place_bytes(allocation.bytes);
  --pool->allocations;
  Driver::get().allocations.erase(allocation.base);
  destroy_if_unused(pool);
}

void drop_pools(Device& device) {
  Driver& driver = Driver::get();
  for (auto at = driver.allocations.begin(); at != driver.allocations.end();) {
    Allocation& allocation = (at++)->second;
    if (allocation.kind == Kind::pool && allocation.pool != nullptr &&
        allocation.pool->device == &device)
      free_pool_allocation(allocation);
  }
  std::vector<CUmemoryPool> mine;
  for (const CUmemoryPool pool : pools()) {
    if (pool->device == &device) mine.push_back(pool);
  }
  for (const CUmemoryPool pool : mine) {
    while (!pool->pending.empty())
      settle_pending(pool, pool->pending.begin()->first, ~std::uint64_t{0});
    pool_trim(pool, 0);
  }
}

}  // namespace vgpu::sim

namespace {

std::uint64_t next_free_number() {
  static std::uint64_t number = 0;
  return ++number;
}

CUresult allocate_async(CUdeviceptr* ptr, size_t bytes, CUmemoryPool pool, bool explicit_pool,
                        CUstream handle, bool per_thread) {
  Call call;
  if (!call) return call.result;
  if (ptr == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const CUstream stream = find_stream(call, handle, per_thread);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (bytes == 0) {
    *ptr = 0;
    return CUDA_SUCCESS;
  }
  Device& device = *stream->context->device;
  if (!explicit_pool) {
    default_pool(device);
    pool = device.current_pool;
  }
  if (!valid(pool) || pool->destroyed || pool->imported) return CUDA_ERROR_INVALID_VALUE;
  bool captured = false;
  const CUresult routed = route(call, stream, captured);
  if (routed != CUDA_SUCCESS) return routed;
  if (captured) {
    NodeBody body;
    body.type = CU_GRAPH_NODE_TYPE_MEM_ALLOC;
    body.alloc.poolProps = pool->props;
    body.alloc.bytesize = bytes;
    body.context = stream->context;
    const CUresult added = add_graph_allocation(stream->capture->graph, body);
    if (added != CUDA_SUCCESS) return added;
    const CUdeviceptr address = body.alloc.dptr;
    const CUresult result = capture_node(stream, std::move(body));
    if (result == CUDA_SUCCESS) *ptr = address;
    return result;
  }
  if (const CUresult refused = refuse_unsafe_in_capture(call); refused != CUDA_SUCCESS)
    return refused;
  std::uint64_t address = 0;
  if (bytes > (std::uint64_t{1} << 40)) return CUDA_ERROR_OUT_OF_MEMORY;
  // Frees that other streams have reached by now make room before the pool grows.
  if (!pool->pending.empty()) Engine::get().advance(call.lock);
  const CUresult result = pool_take(pool, bytes, stream->lane, address);
  if (result != CUDA_SUCCESS) return result;
  Allocation& made = record_allocation(address, bytes, Kind::pool, stream->context, &device);
  made.pool = pool;
  ++pool->allocations;
  *ptr = address;
  return CUDA_SUCCESS;
}

CUresult free_async(CUdeviceptr ptr, CUstream handle, bool per_thread) {
  Call call;
  if (!call) return call.result;
  const CUstream stream = find_stream(call, handle, per_thread);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (ptr == 0) return CUDA_SUCCESS;
  const auto at = call.driver.allocations.find(ptr);
  if (at == call.driver.allocations.end()) return CUDA_ERROR_INVALID_VALUE;
  const Kind kind = at->second.kind;
  const bool plain = kind == Kind::plain || kind == Kind::pitch || kind == Kind::managed;
  if (kind != Kind::pool && kind != Kind::graph && !plain) return CUDA_ERROR_INVALID_VALUE;
  bool captured = false;
  const CUresult routed = route(call, stream, captured);
  if (routed != CUDA_SUCCESS) return routed;
  if (captured) {
    if (at->second.kind != Kind::graph) {
      stream->capture->invalidated = true;
      return CUDA_ERROR_INVALID_VALUE;
    }
    NodeBody body;
    body.type = CU_GRAPH_NODE_TYPE_MEM_FREE;
    body.free_ptr = ptr;
    return capture_node(stream, std::move(body));
  }
  if (const CUresult refused = refuse_unsafe_in_capture(call); refused != CUDA_SUCCESS)
    return refused;
  if (plain) {  // goes in the stream's order as well
    const std::uint64_t id = at->second.id;
    Op op;
    op.type = Op::Type::marker;
    op.work = [ptr, id] {
      const auto there = Driver::get().allocations.find(ptr);
      if (there != Driver::get().allocations.end() && there->second.id == id)
        release(there->second);
    };
    enqueue(call, stream, std::move(op));
    return CUDA_SUCCESS;
  }
  if (at->second.kind == Kind::graph) {
    if (!graph_allocation_live(ptr)) return CUDA_ERROR_INVALID_VALUE;
    Op op;
    op.type = Op::Type::marker;
    op.work = [ptr] { end_graph_allocation(ptr); };
    enqueue(call, stream, std::move(op));
    return CUDA_SUCCESS;
  }
  Allocation allocation = at->second;
  CUmemoryPool pool = allocation.pool;
  if (pool->imported) {
    call.driver.allocations.erase(ptr);
    return CUDA_SUCCESS;
  }
  const std::uint64_t size = place_bytes(allocation.bytes);
  pool->used -= size;
  call.driver.allocations.erase(ptr);
  --pool->allocations;
  const std::uint64_t number = next_free_number();
  Lane* lane = stream->lane;
  pool->pending[lane].emplace(ptr, CUmemPoolHandle_st::Pending{size, number});
  Op op;
  op.type = Op::Type::marker;
  op.work = [pool, lane, number] { settle_pending(pool, lane, number); };
  if (lane->idle()) {
    bool before = false;  // work of the legacy stream's order
    for (const CUstream other : stream->context->streams) before = before || !other->lane->idle();
    if (!before) {
      op.work();
      destroy_if_unused(pool);
      return CUDA_SUCCESS;
    }
  }
  enqueue(call, stream, std::move(op));
  return CUDA_SUCCESS;
}

CUresult pool_for(Call& call, const CUmemLocation& location, Device*& device) {
  switch (location.type) {
    case CU_MEM_LOCATION_TYPE_DEVICE:
      device = call.driver.device(location.id);
      return device == nullptr ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
    case CU_MEM_LOCATION_TYPE_HOST:
    case CU_MEM_LOCATION_TYPE_HOST_NUMA:
    case CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT:
      device = nullptr;
      return CUDA_SUCCESS;
    case CU_MEM_LOCATION_TYPE_INVALID:
      break;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult device_pool(CUmemoryPool* out, CUdevice ordinal, bool current) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Device* device = call.driver.device(ordinal);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  default_pool(*device);
  *out = current ? device->current_pool : device->default_pool;
  return CUDA_SUCCESS;
}

CUresult located_pool(CUmemoryPool* out, const CUmemLocation* location, CUmemAllocationType type,
                      bool current) {
  if (out == nullptr || location == nullptr || type != CU_MEM_ALLOCATION_TYPE_PINNED)
    return CUDA_ERROR_INVALID_VALUE;
  if (location->type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_NOT_SUPPORTED;
  return device_pool(out, location->id, current);
}

CUresult set_device_pool(CUdevice ordinal, CUmemoryPool pool) {
  Call call(Call::kInit);
  if (!call) return call.result;
  Device* device = call.driver.device(ordinal);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (!valid(pool) || pool->destroyed || pool->device != device) return CUDA_ERROR_INVALID_VALUE;
  default_pool(*device);
  device->current_pool = pool;
  return CUDA_SUCCESS;
}

}  // namespace

CUresult sim_cuMemAllocAsync(CUdeviceptr* ptr, size_t bytes, CUstream stream) {
  return allocate_async(ptr, bytes, nullptr, false, stream, false);
}
CUresult sim_cuMemAllocAsync_ptsz(CUdeviceptr* ptr, size_t bytes, CUstream stream) {
  return allocate_async(ptr, bytes, nullptr, false, stream, true);
}
CUresult sim_cuMemAllocFromPoolAsync(CUdeviceptr* ptr, size_t bytes, CUmemoryPool pool,
                                     CUstream stream) {
  return allocate_async(ptr, bytes, pool, true, stream, false);
}
CUresult sim_cuMemAllocFromPoolAsync_ptsz(CUdeviceptr* ptr, size_t bytes, CUmemoryPool pool,
                                          CUstream stream) {
  return allocate_async(ptr, bytes, pool, true, stream, true);
}
CUresult sim_cuMemFreeAsync(CUdeviceptr ptr, CUstream stream) {
  return free_async(ptr, stream, false);
}
CUresult sim_cuMemFreeAsync_ptsz(CUdeviceptr ptr, CUstream stream) {
  return free_async(ptr, stream, true);
}

CUresult sim_cuMemPoolCreate(CUmemoryPool* pool, const CUmemPoolProps* pool_props) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (pool == nullptr || pool_props == nullptr ||
      pool_props->allocType != CU_MEM_ALLOCATION_TYPE_PINNED)
    return CUDA_ERROR_INVALID_VALUE;
  if ((pool_props->handleTypes & ~unsigned{CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR}) != 0) {
    return pool_props->handleTypes == CU_MEM_HANDLE_TYPE_FABRIC ? CUDA_ERROR_NOT_SUPPORTED
                                                                : CUDA_ERROR_INVALID_VALUE;
  }
  Device* device = nullptr;
  const CUresult result = pool_for(call, pool_props->location, device);
  if (result != CUDA_SUCCESS) return result;
  *pool = make_pool(device, *pool_props);
  return CUDA_SUCCESS;
}
CUresult sim_cuMemPoolDestroy(CUmemoryPool pool) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(pool) || pool->destroyed) return CUDA_ERROR_INVALID_VALUE;
  if (pool->device != nullptr && pool == pool->device->default_pool)
    return CUDA_ERROR_INVALID_VALUE;
  if (pool->device != nullptr && pool->device->current_pool == pool)
    pool->device->current_pool = pool->device->default_pool;
  if (!pool->pending.empty()) Engine::get().advance(call.lock);
  if (!valid(pool)) return CUDA_SUCCESS;
  pool->destroyed = true;
  pool->threshold = 0;
  destroy_if_unused(pool);
  return CUDA_SUCCESS;
}
CUresult sim_cuMemPoolTrimTo(CUmemoryPool pool, size_t min_bytes_to_keep) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (const CUresult refused = refuse_unsafe_in_capture(call); refused != CUDA_SUCCESS)
    return refused;
  if (!valid(pool)) return CUDA_ERROR_INVALID_VALUE;
  Engine::get().advance(call.lock);
  pool_trim(pool, min_bytes_to_keep);
  return CUDA_SUCCESS;
}
CUresult sim_cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void* value) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (const CUresult refused = refuse_unsafe_in_capture(call); refused != CUDA_SUCCESS)
    return refused;
  if (!valid(pool) || value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  auto* wide = static_cast<cuuint64_t*>(value);
  switch (attr) {
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
      *static_cast<int*>(value) = pool->reuse[attr];
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
      *wide = pool->threshold;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
      *wide = pool->reserved;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
      *wide = pool->reserved_high;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
      *wide = pool->used;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
      *wide = pool->used_high;
      return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_VALUE;
}
CUresult sim_cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void* value) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (const CUresult refused = refuse_unsafe_in_capture(call); refused != CUDA_SUCCESS)
    return refused;
  if (!valid(pool) || value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto* wide = static_cast<const cuuint64_t*>(value);
  switch (attr) {
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
      pool->reuse[attr] = *static_cast<const int*>(value);
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
      pool->threshold = *wide;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
      if (*wide != 0) return CUDA_ERROR_INVALID_VALUE;
      (attr == CU_MEMPOOL_ATTR_USED_MEM_HIGH ? pool->used_high : pool->reserved_high) =
          attr == CU_MEMPOOL_ATTR_USED_MEM_HIGH ? pool->used : pool->reserved;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
      break;
  }
  return CUDA_ERROR_INVALID_VALUE;
}
CUresult sim_cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc* map, size_t count) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(pool) || map == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; ++i) {
    if (map[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE) continue;
    const Device* device = call.driver.device(map[i].location.id);
    if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    if (pool->device == device && map[i].flags == CU_MEM_ACCESS_FLAGS_PROT_NONE)
      return CUDA_ERROR_INVALID_VALUE;
    pool->access[device->ordinal] = map[i].flags;
  }
  return CUDA_SUCCESS;
}
CUresult sim_cuMemPoolGetAccess(CUmemAccess_flags* flags, CUmemoryPool pool,
                                CUmemLocation* location) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (flags == nullptr || !valid(pool) || location == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const Device* device = call.driver.device(location->id);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  const auto at = pool->access.find(device->ordinal);
  *flags = at != pool->access.end() ? at->second
                                    : (pool->device == device ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE
                                                              : CU_MEM_ACCESS_FLAGS_PROT_NONE);
  return CUDA_SUCCESS;
}
CUresult sim_cuDeviceGetDefaultMemPool(CUmemoryPool* pool_out, CUdevice device) {
  return device_pool(pool_out, device, false);
}
CUresult sim_cuDeviceGetMemPool(CUmemoryPool* pool, CUdevice device) {
  return device_pool(pool, device, true);
}
CUresult sim_cuDeviceSetMemPool(CUdevice device, CUmemoryPool pool) {
  return set_device_pool(device, pool);
}
CUresult sim_cuMemGetDefaultMemPool(CUmemoryPool* pool_out, CUmemLocation* location,
                                    CUmemAllocationType type) {
  return located_pool(pool_out, location, type, false);
}
CUresult sim_cuMemGetMemPool(CUmemoryPool* pool, CUmemLocation* location,
                             CUmemAllocationType type) {
  return located_pool(pool, location, type, true);
}
CUresult sim_cuMemSetMemPool(CUmemLocation* location, CUmemAllocationType type, CUmemoryPool pool) {
  if (location == nullptr || type != CU_MEM_ALLOCATION_TYPE_PINNED) return CUDA_ERROR_INVALID_VALUE;
  if (location->type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_NOT_SUPPORTED;
  return set_device_pool(location->id, pool);
}

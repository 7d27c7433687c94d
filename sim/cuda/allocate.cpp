// SPDX-License-Identifier: Apache-2.0
// Memory of a context: plain, pitched, managed, and host memory that the driver knows about. The
// device hands out pages of 2 MiB; requests above 1 MiB have their own, smaller ones share pages of
// their context.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "capture.h"
#include "driver.h"
#include "engine.h"
#include "pool.h"
#include "share.h"

using namespace vgpu::sim;

namespace vgpu::sim {

bool charge(Device& device, std::uint64_t bytes) {
  DeviceState& state = *Driver::get().state;
  if (state.take(device.index(), bytes)) return true;
  return reap_exported() && state.take(device.index(), bytes);
}

bool takes_legacy(const Call& call) { return call.context->api_version < 3020; }

void discharge(Device& device, std::uint64_t bytes) {
  if (bytes > 0) Driver::get().state->give(device.index(), bytes);
}

CUresult take_pages(Device& device, std::uint64_t bytes, std::uint64_t align, bool low,
                    std::uint64_t& address) {
  if (!charge(device, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  const auto place = (low ? device.low_arena : device.arena).take(bytes, align);
  if (!place) {
    discharge(device, bytes);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  address = *place;
  return CUDA_SUCCESS;
}

void give_pages(Device& device, std::uint64_t address, std::uint64_t bytes, bool low,
                bool written) {
  (low ? device.low_arena : device.arena).give(address, bytes, written);
  discharge(device, bytes);
}

Allocation& record_allocation(std::uint64_t base, std::uint64_t bytes, Kind kind, CUcontext context,
                              Device* device) {
  Driver& driver = Driver::get();
  Allocation& allocation = driver.allocations[base];
  allocation = Allocation{};
  allocation.base = base;
  allocation.bytes = bytes;
  allocation.id = driver.next_id++;
  allocation.device = device;
  allocation.context = context;
  allocation.kind = kind;
  return allocation;
}

CUresult allocate(CUcontext context, std::uint64_t bytes, Kind kind, bool low, Allocation*& out) {
  Device& device = *context->device;
  if (bytes > device.info->cuda_total_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
  if (bytes > kSmallLimitBytes || low) {
    const std::uint64_t extent = round_up(bytes, kPageBytes);
    std::uint64_t address = 0;
    const CUresult result = take_pages(device, extent, kPageBytes, low, address);
    if (result != CUDA_SUCCESS) return result;
    out = &record_allocation(address, bytes, kind, context, &device);
    out->extent = extent;
    out->charged = extent;
    out->low = low;
    return CUDA_SUCCESS;
  }
  // Arrays don't share pages with plain memory.
  RangeHeap& heap = kind == Kind::array ? context->small_arrays : context->small;
  const std::uint64_t align = kind == Kind::array ? kArrayAlignBytes : kSmallAlignBytes;
  const std::uint64_t extent = round_up(bytes, align);
  auto place = heap.take(extent, align);
  if (!place) {
    std::uint64_t page = 0;
    const CUresult result = take_pages(device, kPageBytes, kPageBytes, false, page);
    if (result != CUDA_SUCCESS) return result;
    heap.give(page, kPageBytes);
    place = heap.take(extent, align);
  }
  context->small_pages[*place / kPageBytes * kPageBytes].used += extent;
  out = &record_allocation(*place, bytes, kind, context, &device);
  out->extent = extent;
  out->small = true;
  return CUDA_SUCCESS;
}

void release(Allocation& allocation) {
  Driver& driver = Driver::get();
  Device& device = *allocation.device;
  const std::uint64_t base = allocation.base;
  if (allocation.small) {
    CUcontext context = allocation.context;
    const std::uint64_t page = base / kPageBytes * kPageBytes;
    RangeHeap& heap = allocation.kind == Kind::array ? context->small_arrays : context->small;
    heap.give(base, allocation.extent);
    const auto at = context->small_pages.find(page);
    at->second.used -= allocation.extent;
    at->second.written = at->second.written || allocation.written;
    if (at->second.used == 0) {
      heap.cut(page, kPageBytes);
      give_pages(device, page, kPageBytes, false, at->second.written);
      context->small_pages.erase(at);
    }
  } else if (allocation.kind == Kind::managed) {
    lose_residence(allocation, allocation.resident);
    device.arena.give(base, allocation.extent, true);
  } else if (end_export(base, device.index())) {
    give_pages(device, base, allocation.charged, allocation.low, allocation.written);
  }
  driver.allocations.erase(base);
}

void note_write(std::uint64_t address) {
  Allocation* allocation = Driver::get().find(address);
  if (allocation == nullptr) return;
  allocation->written = true;
  if (allocation->kind == Kind::managed) make_resident(*allocation, allocation->extent);
  if (allocation->kind == Kind::pool || allocation->kind == Kind::graph)
    note_pool_write(*allocation);
}

void make_resident(Allocation& allocation, std::uint64_t bytes) {
  if (allocation.kind != Kind::managed || bytes <= allocation.resident) return;
  Device& device = *allocation.device;
  const std::uint64_t used = device.managed_used + bytes - allocation.resident;
  std::uint64_t got = bytes - allocation.resident;
  if (used > device.managed_held) {
    const std::uint64_t short_of = used + kManagedSlackBytes - device.managed_held;
    device.managed_held += Driver::get().state->take_hidden(device.index(), short_of);
    if (used > device.managed_held) got -= std::min(got, used - device.managed_held);
  }
  device.managed_used += got;
  allocation.resident += got;
}

void lose_residence(Allocation& allocation, std::uint64_t bytes) {
  Device& device = *allocation.device;
  allocation.resident -= bytes;
  device.managed_used -= bytes;
  const std::uint64_t keep = device.managed_used + kManagedSlackBytes;
  if (device.managed_held <= keep) return;
  Driver::get().state->give_hidden(device.index(), device.managed_held - keep);
  device.managed_held = keep;
}

bool take_object_bytes(CUcontext context, std::uint64_t bytes) {
  const std::uint64_t needed = round_up(context->object_bytes + bytes, kPageBytes);
  if (needed > context->object_charged) {
    if (!charge(*context->device, needed - context->object_charged)) return false;
    context->object_charged = needed;
  }
  context->object_bytes += bytes;
  return true;
}

void give_object_bytes(CUcontext context, std::uint64_t bytes) {
  context->object_bytes -= bytes;
  const std::uint64_t needed = round_up(context->object_bytes, kPageBytes);
  discharge(*context->device, context->object_charged - needed);
  context->object_charged = needed;
}

void release_all(CUcontext context) {
  Driver& driver = Driver::get();
  std::vector<std::uint64_t> bases;
  for (const auto& [base, allocation] : driver.allocations) {
    if (allocation.context != context) continue;
    switch (allocation.kind) {
      case Kind::plain:
      case Kind::pitch:
      case Kind::managed:
      case Kind::global:
      case Kind::array:
        bases.push_back(base);
        break;
      case Kind::host:
      case Kind::registered:
      case Kind::pool:
      case Kind::mapping:
      case Kind::ipc:
      case Kind::graph:
      case Kind::external:
        break;
    }
  }
  for (const std::uint64_t base : bases) release(driver.allocations.at(base));
}

}  // namespace vgpu::sim

namespace {

template <class Pointer, class Size>
CUresult plain(Pointer* ptr, Size bytes) {
  Call call;
  if (!call) return call.result;
  if (ptr == nullptr || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult refused = refuse_unsafe_in_capture(call); refused != CUDA_SUCCESS)
    return refused;
  if (sizeof(Pointer) == 4 && !takes_legacy(call)) return CUDA_ERROR_INVALID_CONTEXT;
  Allocation* made = nullptr;
  const CUresult result = allocate(call.context, bytes, Kind::plain, sizeof(Pointer) == 4, made);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) *ptr = 0;
  if (result != CUDA_SUCCESS) return result;
  *ptr = static_cast<Pointer>(made->base);
  return CUDA_SUCCESS;
}

template <class Pointer, class Size>
CUresult pitched(Pointer* ptr, Size* pitch, Size width, Size height, unsigned element_bytes) {
  Call call;
  if (!call) return call.result;
  if (ptr == nullptr || pitch == nullptr || width == 0 || height == 0)
    return CUDA_ERROR_INVALID_VALUE;
  if (element_bytes != 4 && element_bytes != 8 && element_bytes != 16)
    return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult refused = refuse_unsafe_in_capture(call); refused != CUDA_SUCCESS)
    return refused;
  if (sizeof(Pointer) == 4 && !takes_legacy(call)) return CUDA_ERROR_INVALID_CONTEXT;
  const std::uint64_t row = round_up(width, kPitchBytes);
  std::uint64_t bytes = 0;
  if (__builtin_mul_overflow(row, static_cast<std::uint64_t>(height), &bytes))
    return CUDA_ERROR_OUT_OF_MEMORY;
  Allocation* made = nullptr;
  const CUresult result = allocate(call.context, bytes, Kind::pitch, sizeof(Pointer) == 4, made);
  if (result != CUDA_SUCCESS) return result;
  *ptr = static_cast<Pointer>(made->base);
  *pitch = static_cast<Size>(row);
  return CUDA_SUCCESS;
}

CUresult free_memory(CUdeviceptr ptr, bool legacy) {
  Call call;
  if (!call) return call.result;
  if (legacy && !takes_legacy(call)) return CUDA_ERROR_INVALID_CONTEXT;
  if (ptr == 0) return CUDA_SUCCESS;
  if (const CUresult refused = refuse_unsafe_in_capture(call); refused != CUDA_SUCCESS)
    return refused;
  const auto at = call.driver.allocations.find(ptr);
  if (at == call.driver.allocations.end()) return CUDA_ERROR_INVALID_VALUE;
  switch (at->second.kind) {
    case Kind::plain:
    case Kind::pitch:
    case Kind::managed:
    case Kind::external:
      break;
    case Kind::pool:
      if (at->second.freed_in_order) return CUDA_ERROR_INVALID_VALUE;
      break;
    case Kind::graph:
      break;
    case Kind::global:
    case Kind::array:
    case Kind::host:
    case Kind::registered:
    case Kind::mapping:
    case Kind::ipc:
      return CUDA_ERROR_INVALID_VALUE;
  }
  const Kind kind = at->second.kind;
  CUcontext owner = at->second.context;
  // What is still in flight may use it.
  if (valid(owner) && owner->active) Engine::get().drain(call.lock, owner);
  if (owner != call.context) Engine::get().drain(call.lock, call.context);
  Allocation* allocation = call.driver.find(ptr);
  if (allocation == nullptr || allocation->base != ptr) return CUDA_ERROR_INVALID_VALUE;
  if (kind == Kind::external) {
    call.driver.allocations.erase(ptr);
  } else if (kind == Kind::pool) {
    free_pool_allocation(*allocation);
    settle_pools();
  } else if (kind == Kind::graph) {
    return free_graph_allocation(*allocation);
  } else {
    release(*allocation);
  }
  return CUDA_SUCCESS;
}

template <class Size>
CUresult memory_info(Size* free_bytes, Size* total_bytes) {
  Call call;
  if (!call) return call.result;
  if (sizeof(Size) == 4 && !takes_legacy(call)) {
    if (free_bytes != nullptr) *free_bytes = 0;
    if (total_bytes != nullptr) *total_bytes = 0;
    return CUDA_ERROR_INVALID_CONTEXT;
  }
  reap_exported();
  const std::uint64_t total = call.device->info->cuda_total_bytes;
  const std::uint64_t used = call.driver.state->used_bytes(call.device->index());
  constexpr std::uint64_t kMost = static_cast<Size>(~Size{0});
  if (free_bytes != nullptr)
    *free_bytes = static_cast<Size>(std::min(kMost, total - std::min(total, used)));
  if (total_bytes != nullptr) *total_bytes = static_cast<Size>(std::min(kMost, total));
  return CUDA_SUCCESS;
}

CUresult host_allocate(void** out, std::uint64_t bytes, unsigned flags) {
  Call call;
  if (!call) return call.result;
  if (out == nullptr || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  if ((flags & ~(CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP |
                 CU_MEMHOSTALLOC_WRITECOMBINED)) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (const CUresult refused = refuse_unsafe_in_capture(call); refused != CUDA_SUCCESS)
    return refused;
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  if (bytes > (std::uint64_t{1} << 46)) return CUDA_ERROR_OUT_OF_MEMORY;
  const std::uint64_t extent = round_up(bytes, page);
  void* place = mmap(nullptr, extent, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (place == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  Allocation& made = record_allocation(reinterpret_cast<std::uint64_t>(place), bytes, Kind::host,
                                       call.context, call.device);
  made.extent = extent;
  made.flags = flags;
  *out = place;
  return CUDA_SUCCESS;
}

CUresult host_register(void* p, size_t bytes, unsigned flags) {
  Call call;
  if (!call) return call.result;
  if (p == nullptr || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  const auto base = reinterpret_cast<std::uint64_t>(p);
  const auto after = call.driver.allocations.upper_bound(base);
  if (call.driver.find(base) != nullptr ||
      (after != call.driver.allocations.end() && after->first < base + bytes)) {
    return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
  }
  Allocation& made = record_allocation(base, bytes, Kind::registered, call.context, call.device);
  made.extent = bytes;
  made.flags = flags;
  return CUDA_SUCCESS;
}

template <class Pointer>
CUresult host_device_pointer(Pointer* ptr, void* p, unsigned flags) {
  Call call;
  if (!call) return call.result;
  if (ptr == nullptr || p == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  const auto address = reinterpret_cast<std::uint64_t>(p);
  const Allocation* allocation = call.driver.find(address);
  if (allocation == nullptr ||
      (allocation->kind != Kind::host && allocation->kind != Kind::registered)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (sizeof(Pointer) == 4 && !takes_legacy(call)) return CUDA_ERROR_INVALID_CONTEXT;
  if (sizeof(Pointer) == 4 && address >> 32 != 0) return CUDA_ERROR_INVALID_VALUE;
  *ptr = static_cast<Pointer>(address);
  return CUDA_SUCCESS;
}

template <class Pointer, class Size>
CUresult address_range(Pointer* pbase, Size* psize, std::uint64_t ptr) {
  Call call;
  if (!call) return call.result;
  if (sizeof(Pointer) == 4 && !takes_legacy(call)) return CUDA_ERROR_INVALID_CONTEXT;
  const Allocation* allocation = call.driver.find(ptr);
  if (allocation == nullptr) return CUDA_ERROR_NOT_FOUND;
  if (pbase != nullptr) *pbase = static_cast<Pointer>(allocation->base);
  if (psize != nullptr) *psize = static_cast<Size>(allocation->bytes);
  return CUDA_SUCCESS;
}

}  // namespace

CUresult sim_cuMemAlloc(CUdeviceptr_v1* ptr, unsigned int bytes) { return plain(ptr, bytes); }
CUresult sim_cuMemAlloc_v2(CUdeviceptr* ptr, size_t bytes) { return plain(ptr, bytes); }
CUresult sim_cuMemAllocPitch(CUdeviceptr_v1* ptr, unsigned int* pitch, unsigned int width_in_bytes,
                             unsigned int height, unsigned int element_size_bytes) {
  return pitched(ptr, pitch, width_in_bytes, height, element_size_bytes);
}
CUresult sim_cuMemAllocPitch_v2(CUdeviceptr* ptr, size_t* pitch, size_t width_in_bytes,
                                size_t height, unsigned int element_size_bytes) {
  return pitched(ptr, pitch, width_in_bytes, height, element_size_bytes);
}
CUresult sim_cuMemAllocManaged(CUdeviceptr* ptr, size_t bytes, unsigned int flags) {
  Call call;
  if (!call) return call.result;
  if (ptr == nullptr || bytes == 0 ||
      (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST))
    return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult refused = refuse_unsafe_in_capture(call); refused != CUDA_SUCCESS)
    return refused;
  if (bytes > (std::uint64_t{1} << 46)) return CUDA_ERROR_OUT_OF_MEMORY;
  const std::uint64_t extent = round_up(bytes, kPageBytes);
  const auto place = call.device->arena.take(extent, kPageBytes);
  if (!place) return CUDA_ERROR_OUT_OF_MEMORY;
  Allocation& made = record_allocation(*place, bytes, Kind::managed, call.context, call.device);
  made.extent = extent;
  made.flags = flags;
  *ptr = *place;
  return CUDA_SUCCESS;
}
CUresult sim_cuMemFree(CUdeviceptr_v1 ptr) { return free_memory(ptr, true); }
CUresult sim_cuMemFree_v2(CUdeviceptr ptr) { return free_memory(ptr, false); }
CUresult sim_cuMemGetInfo(unsigned int* free_bytes, unsigned int* total) {
  return memory_info(free_bytes, total);
}
CUresult sim_cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
  return memory_info(free_bytes, total);
}
CUresult sim_cuMemGetAddressRange(CUdeviceptr_v1* pbase, unsigned int* psize, CUdeviceptr_v1 ptr) {
  return address_range(pbase, psize, ptr);
}
CUresult sim_cuMemGetAddressRange_v2(CUdeviceptr* pbase, size_t* psize, CUdeviceptr ptr) {
  return address_range(pbase, psize, ptr);
}

CUresult sim_cuMemAllocHost(void** pp, unsigned int bytes) { return host_allocate(pp, bytes, 0); }
CUresult sim_cuMemAllocHost_v2(void** pp, size_t bytes) { return host_allocate(pp, bytes, 0); }
CUresult sim_cuMemHostAlloc(void** pp, size_t bytes, unsigned int flags) {
  return host_allocate(pp, bytes, flags);
}
CUresult sim_cuMemFreeHost(void* p) {
  Call call;
  if (!call) return call.result;
  const auto at = call.driver.allocations.find(reinterpret_cast<std::uint64_t>(p));
  if (at == call.driver.allocations.end() || at->second.kind != Kind::host)
    return CUDA_ERROR_INVALID_VALUE;
  Engine::get().drain(call.lock, call.context);
  const auto again = call.driver.allocations.find(reinterpret_cast<std::uint64_t>(p));
  if (again == call.driver.allocations.end()) return CUDA_ERROR_INVALID_VALUE;
  munmap(p, again->second.extent);
  call.driver.allocations.erase(again);
  return CUDA_SUCCESS;
}
CUresult sim_cuMemHostRegister(void* p, size_t bytes, unsigned int flags) {
  return host_register(p, bytes, flags);
}
CUresult sim_cuMemHostRegister_v2(void* p, size_t bytes, unsigned int flags) {
  return host_register(p, bytes, flags);
}
CUresult sim_cuMemHostUnregister(void* p) {
  Call call;
  if (!call) return call.result;
  if (p == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto at = call.driver.allocations.find(reinterpret_cast<std::uint64_t>(p));
  if (at == call.driver.allocations.end() || at->second.kind != Kind::registered)
    return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
  call.driver.allocations.erase(at);
  return CUDA_SUCCESS;
}
CUresult sim_cuMemHostGetDevicePointer(CUdeviceptr_v1* ptr, void* p, unsigned int flags) {
  return host_device_pointer(ptr, p, flags);
}
CUresult sim_cuMemHostGetDevicePointer_v2(CUdeviceptr* ptr, void* p, unsigned int flags) {
  return host_device_pointer(ptr, p, flags);
}
CUresult sim_cuMemHostGetFlags(unsigned int* flags, void* p) {
  Call call;
  if (!call) return call.result;
  if (flags == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const Allocation* allocation = call.driver.find(reinterpret_cast<std::uint64_t>(p));
  if (allocation == nullptr || allocation->kind != Kind::host) return CUDA_ERROR_INVALID_VALUE;
  *flags = allocation->flags | CU_MEMHOSTALLOC_DEVICEMAP;
  return CUDA_SUCCESS;
}

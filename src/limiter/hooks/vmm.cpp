// SPDX-License-Identifier: Apache-2.0
// Physical memory of the VMM API: charged where prop.location says (host memory isn't), from
// cuMemCreate until the last handle, mapping, bind and sparse array lets go of it. Memory that was
// exported by descriptor can live on behind one that no hook sees closed: its end is left to a
// measurement.
#include "vmm.h"

#include <time.h>
#include <unistd.h>

#include "../enter.h"
#include "../hooks.h"
#include "share_key.h"

namespace vgpu::hooks {

using namespace limiter;

namespace {

// A descriptor carries no bytes to hash: its memory is named by who made it, and found by its size.
ShareKey fresh_key(std::uint64_t id) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  const std::uint64_t name[] = {static_cast<std::uint64_t>(getpid()), id,
                                static_cast<std::uint64_t>(now.tv_sec),
                                static_cast<std::uint64_t>(now.tv_nsec)};
  return key_of(name, sizeof name);
}

// From now on the tenant's object carries the charge, for as long as any process of it holds the
// memory.
void share_memory(std::uint64_t id, const ShareKey& key, bool by_descriptor) {
  PhysicalMemory memory;
  if (!ledger().physical.find(id, memory)) return;
  if (by_descriptor) ledger().physical.edit(id, [](PhysicalMemory& each) { each.exported = true; });
  if (memory.key.is_set() || memory.bytes == 0 || memory.kind == AllocationKind::imported) return;
  if (tenant().share(key.high, key.low, memory.gpu, memory.bytes) != shm::Status::ok) return;
  bool was_first = false;
  ledger().physical.edit(id, [&](PhysicalMemory& each) {
    was_first = !each.key.is_set();
    if (was_first) each.key = key;
  });
  // Another thread exported it meanwhile and moved the charge; undo this move.
  if (!was_first)
    tenant().charge(memory.gpu, memory.bytes), tenant().release_shared(key.high, key.low);
}

bool hold(PhysicalMemory& memory, const ShareKey& key) {
  std::uint64_t bytes = 0;
  if (tenant().hold_shared(key.high, key.low, bytes) != shm::Status::ok) return false;
  memory.key = key;
  memory.bytes = bytes;
  memory.kind = AllocationKind::held;
  memory.unsized = false;
  return true;
}

// An import shows its size when it is first mapped. Memory of that size which the tenant shares is
// taken for the same; what isn't known in the tenant comes from outside and is charged in full.
// False: it doesn't fit.
bool size_import(std::uint64_t id, std::uint64_t bytes) {
  PhysicalMemory memory;
  if (!ledger().physical.find(id, memory) || !memory.unsized) return true;
  ShareKey key;
  if (tenant().find_shared_by_size(memory.gpu, bytes, key.high, key.low) && hold(memory, key)) {
    ledger().physical.edit(id, [&](PhysicalMemory& each) {
      each.key = memory.key, each.bytes = memory.bytes, each.kind = memory.kind,
      each.unsized = false;
    });
    return true;
  }
  Reservation reservation(static_cast<int>(memory.gpu), bytes, Charge::unseen);
  if (reservation.refused()) return false;
  reservation.keep();
  ledger().physical.edit(id,
                         [&](PhysicalMemory& each) { each.bytes = bytes, each.unsized = false; });
  return true;
}

std::uint64_t hash_of_tile(const CUarrayMapInfo& info) {
  return key_of(&info.subresource, sizeof info.subresource).low;
}

std::uint64_t array_of(const CUarrayMapInfo& info) {
  return info.resourceType == CU_RESOURCE_TYPE_MIPMAPPED_ARRAY
             ? reinterpret_cast<std::uint64_t>(info.resource.mipmap)
             : reinterpret_cast<std::uint64_t>(info.resource.array);
}

// Memory behind the tiles of sparse arrays is held by them.
void record_tiles(const CUarrayMapInfo* infos, unsigned int count) {
  for (unsigned int i = 0; i < count; ++i) {
    const CUarrayMapInfo& info = infos[i];
    const std::uint64_t array = bind_owner_of(array_of(info));
    if (info.memOperationType == CU_MEM_OPERATION_TYPE_UNMAP) {
      ledger().physical.remove_binds(array, 0, hash_of_tile(info), 1, release_memory);
      continue;
    }
    const std::uint64_t id = ledger().physical.id_of(info.memHandle.memHandle);
    if (id != 0) ledger().physical.add_bind(array, id, 0, hash_of_tile(info), 1);
  }
}

}  // namespace

CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, size_t size,
                     const CUmemAllocationProp* properties, unsigned long long flags) {
  const bool on_device =
      properties != nullptr && properties->location.type == CU_MEM_LOCATION_TYPE_DEVICE;
  const int gpu = on_device ? gpu_of(properties->location.id) : kNoGpu;
  if (gpu == kNoGpu) return real().cuMemCreate(handle, size, properties, flags);
  const bool managed = properties->type == CU_MEM_ALLOCATION_TYPE_MANAGED;
  const std::uint64_t bytes = driver_model::linear_bytes(size);
  Reservation reservation(gpu, bytes, managed ? Charge::unseen : Charge::explicit_memory);
  if (reservation.refused()) return CUDA_ERROR_OUT_OF_MEMORY;
  const CUresult result = real().cuMemCreate(handle, size, properties, flags);
  if (result != CUDA_SUCCESS) return result;
  ledger().physical.add(*handle,
                        {.bytes = bytes,
                         .gpu = static_cast<std::uint32_t>(gpu),
                         .kind = managed ? AllocationKind::managed : AllocationKind::linear});
  reservation.keep();
  return result;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  const std::uint64_t id = ledger().physical.begin_release(handle);
  if (id == 0) return real().cuMemRelease(handle);
  ChangeScope change;
  const CUresult result = real().cuMemRelease(handle);
  if (result != CUDA_SUCCESS) {
    ledger().physical.undo_release(handle, id);
  } else {
    ledger().physical.end_release(id, release_memory);
  }
  return result;
}

CUresult cuMemMap(CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
  const std::uint64_t id = ledger().physical.id_of(handle);
  if (!ledger().physical.pin(id)) return real().cuMemMap(ptr, size, offset, handle, flags);
  CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
  if (size_import(id, size)) {
    result = real().cuMemMap(ptr, size, offset, handle, flags);
    if (result == CUDA_SUCCESS) ledger().physical.add_mapping(ptr, size, id);
  }
  ledger().physical.unpin(id, release_memory);
  return result;
}

CUresult cuMemUnmap(CUdeviceptr ptr, size_t size) {
  ChangeScope change;
  const CUresult result = real().cuMemUnmap(ptr, size);
  if (result == CUDA_SUCCESS) ledger().physical.remove_mappings(ptr, size, release_memory);
  return result;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* handle, void* addr) {
  const CUresult result = real().cuMemRetainAllocationHandle(handle, addr);
  if (result == CUDA_SUCCESS)
    ledger().physical.retain(*handle, reinterpret_cast<std::uint64_t>(addr));
  return result;
}

CUresult cuMemExportToShareableHandle(void* shareable_handle, CUmemGenericAllocationHandle handle,
                                      CUmemAllocationHandleType handle_type,
                                      unsigned long long flags) {
  const CUresult result =
      real().cuMemExportToShareableHandle(shareable_handle, handle, handle_type, flags);
  const std::uint64_t id = ledger().physical.id_of(handle);
  if (result != CUDA_SUCCESS || id == 0) return result;
  const bool is_fabric = handle_type == CU_MEM_HANDLE_TYPE_FABRIC;
  share_memory(id, is_fabric ? key_of(shareable_handle, sizeof(CUmemFabricHandle)) : fresh_key(id),
               !is_fabric);
  return result;
}

CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle* handle, void* os_handle,
                                        CUmemAllocationHandleType sh_handle_type) {
  const CUresult result = real().cuMemImportFromShareableHandle(handle, os_handle, sh_handle_type);
  if (result != CUDA_SUCCESS || ledger().physical.add_handle_ref(*handle)) return result;
  CUmemAllocationProp properties{};
  const bool known =
      real().cuMemGetAllocationPropertiesFromHandle(&properties, *handle) == CUDA_SUCCESS;
  const bool on_device = known && properties.location.type == CU_MEM_LOCATION_TYPE_DEVICE;
  const int gpu = on_device ? gpu_of(properties.location.id) : kNoGpu;
  if (gpu == kNoGpu) return result;
  PhysicalMemory memory{
      .gpu = static_cast<std::uint32_t>(gpu), .kind = AllocationKind::imported, .unsized = true};
  memory.exported = sh_handle_type != CU_MEM_HANDLE_TYPE_FABRIC;
  if (sh_handle_type == CU_MEM_HANDLE_TYPE_FABRIC)
    hold(memory, key_of(os_handle, sizeof(CUmemFabricHandle)));
  ledger().physical.add(*handle, memory);
  return result;
}

CUresult cuMemMapArrayAsync(CUarrayMapInfo* map_info_list, unsigned int count, CUstream stream) {
  const CUresult result = real().cuMemMapArrayAsync(map_info_list, count, stream);
  if (result == CUDA_SUCCESS) record_tiles(map_info_list, count);
  return result;
}

CUresult cuMemMapArrayAsync_ptsz(CUarrayMapInfo* map_info_list, unsigned int count,
                                 CUstream stream) {
  const CUresult result = real().cuMemMapArrayAsync_ptsz(map_info_list, count, stream);
  if (result == CUDA_SUCCESS) record_tiles(map_info_list, count);
  return result;
}

}  // namespace vgpu::hooks

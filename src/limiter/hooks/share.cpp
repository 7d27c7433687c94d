// SPDX-License-Identifier: Apache-2.0
// Memory between processes. What is exported by an IPC handle becomes an object of the tenant,
// charged once while any process of it holds the memory, whoever frees first. What is imported from
// outside the tenant is charged in full.
#include "../hooks.h"
#include "free.h"
#include "share_key.h"

namespace vgpu::hooks {

using namespace limiter;

namespace {

// The address of the allocation that `ptr` lies in; the driver exports whole ones.
std::uint64_t allocation_of(CUdeviceptr ptr) {
  Allocation found;
  if (ledger().allocations.find(ptr, found)) return ptr;
  CUdeviceptr base = 0;
  size_t size = 0;
  return real().cuMemGetAddressRange_v2(&base, &size, ptr) == CUDA_SUCCESS ? base : 0;
}

// Moves an allocation's charge into the tenant's object of this name. A further handle into memory
// that is shared already (another part of a shared block) is one more name for it, without bytes.
void share_allocation(std::uint64_t address, const ShareKey& key) {
  Allocation found;
  const bool is_own = ledger().allocations.find(address, found) &&
                      found.kind != AllocationKind::held && found.kind != AllocationKind::in_pool;
  if (!is_own) return;
  ShareKey existing;
  std::uint32_t gpu = 0;
  const std::uint64_t bytes = ledger().allocations.mark_shared(address, key, existing, gpu);
  if (existing.is_set() && existing.high == key.high && existing.low == key.low) return;
  if (tenant().share(key.high, key.low, gpu, bytes) == shm::Status::ok) return;
  if (!existing.is_set()) ledger().allocations.unmark_shared(address);
}

template <class Call>
CUresult open_handle(CUdeviceptr* ptr, const CUipcMemHandle& handle, Call call) {
  CUdeviceptr opened = 0;
  const CUresult result = ptr == nullptr ? call(ptr) : call(&opened);
  if (result != CUDA_SUCCESS) return result;
  const Place place = current_place();
  if (place.gpu == kNoGpu || ledger().allocations.add_ref(opened)) {
    *ptr = opened;
    return result;
  }
  Allocation import{.context = place.owner,
                    .gpu = static_cast<std::uint32_t>(place.gpu),
                    .kind = AllocationKind::held};
  import.key = key_of(handle.reserved, sizeof handle.reserved);
  if (tenant().hold_shared(import.key.high, import.key.low, import.bytes) == shm::Status::ok) {
    ledger().allocations.add(opened, import);
    *ptr = opened;
    return result;
  }
  import.key = {};
  import.bytes = driver_model::linear_bytes(mapped_size(opened));
  import.kind = AllocationKind::imported;
  Reservation reservation(place.gpu, import.bytes, Charge::unseen);
  if (reservation.refused()) {
    real().cuIpcCloseMemHandle(opened);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  ledger().allocations.add(opened, import);
  reservation.keep();
  *ptr = opened;
  return result;
}

}  // namespace

CUresult cuIpcGetMemHandle(CUipcMemHandle* handle, CUdeviceptr ptr) {
  const CUresult result = real().cuIpcGetMemHandle(handle, ptr);
  if (result == CUDA_SUCCESS)
    share_allocation(allocation_of(ptr), key_of(handle->reserved, sizeof handle->reserved));
  return result;
}

CUresult cuIpcOpenMemHandle(CUdeviceptr* ptr, CUipcMemHandle handle, unsigned int flags) {
  return open_handle(
      ptr, handle, [&](CUdeviceptr* out) { return real().cuIpcOpenMemHandle(out, handle, flags); });
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr* ptr, CUipcMemHandle handle, unsigned int flags) {
  return open_handle(ptr, handle, [&](CUdeviceptr* out) {
    return real().cuIpcOpenMemHandle_v2(out, handle, flags);
  });
}

CUresult cuIpcCloseMemHandle(CUdeviceptr ptr) {
  Allocation import;
  bool last = false;
  if (!ledger().allocations.drop_ref(ptr, import, last)) return real().cuIpcCloseMemHandle(ptr);
  ChangeScope change;
  const CUresult result = real().cuIpcCloseMemHandle(ptr);
  if (result != CUDA_SUCCESS) {
    last ? ledger().allocations.undo_free(ptr, import) : void(ledger().allocations.add_ref(ptr));
    return result;
  }
  if (last) release(ledger().allocations.end_free(ptr, import));
  return result;
}

// Another API's memory, or another vendor's: its size is what the importer says.
CUresult cuImportExternalMemory(CUexternalMemory* ext_mem_out,
                                const CUDA_EXTERNAL_MEMORY_HANDLE_DESC* mem_handle_desc) {
  const Place place = current_place();
  const std::uint64_t bytes =
      mem_handle_desc == nullptr ? 0 : driver_model::linear_bytes(mem_handle_desc->size);
  Reservation reservation(place.gpu, bytes, Charge::unseen);
  if (reservation.refused()) return CUDA_ERROR_OUT_OF_MEMORY;
  const CUresult result = real().cuImportExternalMemory(ext_mem_out, mem_handle_desc);
  if (result != CUDA_SUCCESS || place.gpu == kNoGpu) return result;
  ledger().allocations.add(reinterpret_cast<std::uint64_t>(*ext_mem_out),
                           {.bytes = bytes,
                            .context = place.owner,
                            .gpu = static_cast<std::uint32_t>(place.gpu),
                            .kind = AllocationKind::imported});
  reservation.keep();
  return result;
}

CUresult cuDestroyExternalMemory(CUexternalMemory ext_mem) {
  return free_known(reinterpret_cast<std::uint64_t>(ext_mem),
                    [&] { return real().cuDestroyExternalMemory(ext_mem); });
}

}  // namespace vgpu::hooks

// SPDX-License-Identifier: Apache-2.0
// Multicast objects hold no memory themselves: they keep alive what is bound to them, until it is
// unbound or the object ends (its last handle and mapping).
#include "../hooks.h"
#include "vmm.h"

namespace vgpu::hooks {

using namespace limiter;

CUresult cuMulticastCreate(CUmemGenericAllocationHandle* mc_handle,
                           const CUmulticastObjectProp* properties) {
  const CUresult result = real().cuMulticastCreate(mc_handle, properties);
  if (result == CUDA_SUCCESS) ledger().physical.add(*mc_handle, {.multicast = true});
  return result;
}

CUresult cuMulticastAddDevice(CUmemGenericAllocationHandle mc_handle, CUdevice device) {
  return real().cuMulticastAddDevice(mc_handle, device);
}

CUresult cuMulticastBindMem(CUmemGenericAllocationHandle mc_handle, size_t mc_offset,
                            CUmemGenericAllocationHandle mem_handle, size_t mem_offset, size_t size,
                            unsigned long long flags) {
  const std::uint64_t id = ledger().physical.id_of(mem_handle);
  const bool pinned = ledger().physical.pin(id);
  const CUresult result =
      real().cuMulticastBindMem(mc_handle, mc_offset, mem_handle, mem_offset, size, flags);
  if (!pinned) return result;
  PhysicalMemory memory;
  const std::uint64_t multicast = ledger().physical.id_of(mc_handle);
  if (result == CUDA_SUCCESS && multicast != 0 && ledger().physical.find(id, memory)) {
    ledger().physical.add_bind(multicast, id, memory.gpu, mc_offset, size);
  }
  ledger().physical.unpin(id, release_memory);
  return result;
}

CUresult cuMulticastBindAddr(CUmemGenericAllocationHandle mc_handle, size_t mc_offset,
                             CUdeviceptr memptr, size_t size, unsigned long long flags) {
  const CUresult result = real().cuMulticastBindAddr(mc_handle, mc_offset, memptr, size, flags);
  const std::uint64_t multicast = ledger().physical.id_of(mc_handle);
  if (result != CUDA_SUCCESS || multicast == 0) return result;
  std::uint64_t offset = mc_offset;
  ledger().physical.for_each_mapped(memptr, size, [&](std::uint64_t id, std::uint64_t bytes) {
    PhysicalMemory memory;
    if (ledger().physical.find(id, memory))
      ledger().physical.add_bind(multicast, id, memory.gpu, offset, bytes);
    offset += bytes;
  });
  return result;
}

CUresult cuMulticastUnbind(CUmemGenericAllocationHandle mc_handle, CUdevice device,
                           size_t mc_offset, size_t size) {
  ChangeScope change;
  const CUresult result = real().cuMulticastUnbind(mc_handle, device, mc_offset, size);
  const std::uint64_t multicast = ledger().physical.id_of(mc_handle);
  const int gpu = gpu_of(device);
  if (result == CUDA_SUCCESS && multicast != 0 && gpu != kNoGpu) {
    ledger().physical.remove_binds(multicast, static_cast<std::uint32_t>(gpu), mc_offset, size,
                                   release_memory);
  }
  return result;
}

}  // namespace vgpu::hooks

// SPDX-License-Identifier: Apache-2.0
// Frees of linear memory and of arrays. cuMemFree also takes pointers of pools, which only their
// pool's reservation accounts for; it may have pools give unused memory back, as a synchronisation.
#include "free.h"

#include "../hooks.h"
#include "synchronise.h"
#include "vmm.h"

namespace vgpu::limiter {

std::uint64_t stream_number(CUstream stream, bool per_thread) {
  const auto get = per_thread ? real().cuStreamGetId_ptsz : real().cuStreamGetId;
  unsigned long long id = 0;
  if (get == nullptr || get(stream, &id) != CUDA_SUCCESS) return FreedRanges::kNoStream;
  return id + 1;
}

}  // namespace vgpu::limiter

namespace vgpu::hooks {

using namespace limiter;

CUresult cuMemFree(CUdeviceptr_v1 ptr) {
  return free_known(ptr, [&] {
    const SynchronisationScope scope;
    return real().cuMemFree(ptr);
  });
}

CUresult cuMemFree_v2(CUdeviceptr ptr) {
  return free_known(ptr, [&] {
    const SynchronisationScope scope;
    return real().cuMemFree_v2(ptr);
  });
}

// A sparse array holds no memory of its own, but what was mapped to its tiles.
CUresult cuArrayDestroy(CUarray array) {
  const auto handle = reinterpret_cast<std::uint64_t>(array);
  const CUresult result = free_known(handle, [&] { return real().cuArrayDestroy(array); });
  if (result == CUDA_SUCCESS)
    ledger().physical.remove_all_binds(bind_owner_of(handle), release_memory);
  return result;
}

CUresult cuMipmappedArrayDestroy(CUmipmappedArray mipmapped_array) {
  const auto handle = reinterpret_cast<std::uint64_t>(mipmapped_array);
  const CUresult result =
      free_known(handle, [&] { return real().cuMipmappedArrayDestroy(mipmapped_array); });
  if (result == CUDA_SUCCESS)
    ledger().physical.remove_all_binds(bind_owner_of(handle), release_memory);
  return result;
}

}  // namespace vgpu::hooks

// SPDX-License-Identifier: Apache-2.0
// Frees of linear memory and of arrays. cuMemFree also takes pointers of pools, which only their pool's reservation
// accounts for.
#include "free.h"

#include "../hooks.h"

namespace vgpu::hooks {

using namespace limiter;

CUresult cuMemFree(CUdeviceptr_v1 ptr) {
  return free_known(ptr, [&] { return real().cuMemFree(ptr); });
}

CUresult cuMemFree_v2(CUdeviceptr ptr) {
  return free_known(ptr, [&] { return real().cuMemFree_v2(ptr); });
}

CUresult cuArrayDestroy(CUarray array) {
  return free_known(reinterpret_cast<std::uint64_t>(array), [&] { return real().cuArrayDestroy(array); });
}

CUresult cuMipmappedArrayDestroy(CUmipmappedArray mipmapped_array) {
  return free_known(reinterpret_cast<std::uint64_t>(mipmapped_array),
                    [&] { return real().cuMipmappedArrayDestroy(mipmapped_array); });
}

}  // namespace vgpu::hooks

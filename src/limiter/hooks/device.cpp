// SPDX-License-Identifier: Apache-2.0
// Device count and ordinals: CUDA_VISIBLE_DEVICES, which `vgpu run --gpu` sets, already makes the
// driver show exactly the tenant's GPUs in CUDA's order, so its answers stand.
#include "../hooks.h"
#include "vgpu/driver/dispatch.h"

namespace vgpu::hooks {

CUresult cuDeviceGetCount(int* count) { return real().cuDeviceGetCount(count); }

CUresult cuDeviceGet(CUdevice* device, int ordinal) { return real().cuDeviceGet(device, ordinal); }

}  // namespace vgpu::hooks

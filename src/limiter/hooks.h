// SPDX-License-Identifier: Apache-2.0
// The bodies of the hooks, one function a row of the tables; hooks/<family>.cpp define them. They
// run only in a limited process (Limiter::active() isn't null), at depth 1, with their own entry of
// the driver present, and may call real() without being hooked again.
#pragma once

#include "vgpu/api/cuda_abi.h"
#include "vgpu/api/nvml_abi.h"

namespace vgpu::hooks {

#define VGPU_HOOK(symbol, family, since, params, args) CUresult symbol params;
#include "vgpu/api/driver_hooks.def"
#undef VGPU_HOOK

#define VGPU_NVML_HOOK(symbol, family, params, args) nvmlReturn_t symbol params;
#include "vgpu/api/nvml_hooks.def"
#undef VGPU_NVML_HOOK

}  // namespace vgpu::hooks

// SPDX-License-Identifier: Apache-2.0
// The exported functions, as the limiter itself refers to them: vgpu_export_cuInit is the symbol
// behind cuInit. In the shared library the API's names are versions of these that the dynamic
// linker binds references to but that dlsym doesn't find (see exports.map.in); in an instrumented
// test program they have the API's names directly.
#pragma once

#include "vgpu/api/cuda_abi.h"
#include "vgpu/api/nvml_abi.h"

#ifdef VGPU_PLAIN_EXPORTS
#define VGPU_EXPORTED(symbol) symbol
#else
#define VGPU_EXPORTED(symbol) vgpu_export_##symbol
#endif

extern "C" {
#define VGPU_HOOK(symbol, family, since, params, args) CUresult VGPU_EXPORTED(symbol) params;
#include "vgpu/api/driver_hooks.def"
#undef VGPU_HOOK
#define VGPU_NVML_HOOK(symbol, family, params, args) nvmlReturn_t VGPU_EXPORTED(symbol) params;
#include "vgpu/api/nvml_hooks.def"
#undef VGPU_NVML_HOOK
}

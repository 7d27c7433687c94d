// SPDX-License-Identifier: Apache-2.0
// Every name that the real libnvidia-ml.so.1 exports, answering "not supported". Weak: a definition
// in another file of this library takes its place, so a name can't be forgotten. Arguments don't
// matter to a function that reads none.
#include "vgpu/api/nvml_abi.h"

extern "C" {
#define VGPU_NVML_PASSTHROUGH(symbol, reason)                              \
  __attribute__((weak, visibility("default"))) nvmlReturn_t symbol(void) { \
    return NVML_ERROR_NOT_SUPPORTED;                                       \
  }
#define VGPU_NVML_HOOK(symbol, family, params, args) VGPU_NVML_PASSTHROUGH(symbol, family)
#include "vgpu/api/nvml_hooks.def"
#include "vgpu/api/nvml_passthrough.def"
#undef VGPU_NVML_HOOK
#undef VGPU_NVML_PASSTHROUGH
}

// SPDX-License-Identifier: Apache-2.0
// The body of a row that hooks/<family>.cpp doesn't define: the real call. Weak, so a definition
// anywhere wins.
#include "hooks.h"
#include "vgpu/driver/dispatch.h"

namespace vgpu::hooks {

#define VGPU_HOOK(symbol, family, since, params, args) \
  __attribute__((weak)) CUresult symbol params { return real().symbol args; }
#include "vgpu/api/driver_hooks.def"
#undef VGPU_HOOK

#define VGPU_NVML_HOOK(symbol, family, params, args) \
  __attribute__((weak)) nvmlReturn_t symbol params { return real_nvml().symbol args; }
#include "vgpu/api/nvml_hooks.def"
#undef VGPU_NVML_HOOK

}  // namespace vgpu::hooks

// SPDX-License-Identifier: Apache-2.0
// Each declaration and each row of NVML's table against <nvml.h>, where a toolkit has it; as
// cuda_toolkit_test.cpp.
#include <cstddef>
#include <cstdint>

namespace ours {
#include "vgpu/api/nvml_abi.h"
// After it: the names of ours.
#include "toolkit_constants.h"
}  // namespace ours

// Ours are macros too: without this, one that <nvml.h> lacks would be compared with itself.
#define VGPU_ABI_FORGET_MACROS
#include VGPU_ABI_CHECKS

// Shows NVML's own names: without it <nvml.h> renames nvmlInit to nvmlInit_v2.
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <nvml.h>

// What NVML has without a declaration: an entry that it doesn't document, and numbers without
// names.
extern "C" nvmlReturn_t nvmlInternalGetExportTable(const void**, const void*);
enum { NVML_PROCESS_MODE_COMPUTE = 0, NVML_PROCESS_MODE_GRAPHICS = 1, NVML_PROCESS_MODE_MPS = 2 };

#include "toolkit_compare.h"

namespace ours::rows {
#define VGPU_NVML_HOOK(symbol, family, params, args) using symbol = nvmlReturn_t params;
#include "vgpu/api/nvml_hooks.def"
#undef VGPU_NVML_HOOK
}  // namespace ours::rows

#define VGPU_NVML_HOOK(symbol, family, params, args) \
  static_assert(std::is_same_v<namesake<ours::rows::symbol>, decltype(::symbol)>, #symbol);
#include "vgpu/api/nvml_hooks.def"
#undef VGPU_NVML_HOOK

int main() { return different_pointers(); }

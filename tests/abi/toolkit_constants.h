// SPDX-License-Identifier: Apache-2.0
// Included in namespace `ours` after our declarations: names our constants a second time, because
// a toolkit's header has macros of the same names.
#define VGPU_ABI_VALUE(name) inline constexpr long long our_##name = name;
#define VGPU_ABI_CONSTANT(name) inline constexpr long long our_##name = name;
#define VGPU_ABI_POINTER(name) inline const void* const our_##name = name;
#include VGPU_ABI_CHECKS

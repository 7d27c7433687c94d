// SPDX-License-Identifier: Apache-2.0
// The exported functions, one a row of the tables: through the gate to the hook or straight to the
// driver. They are exported as versions of the API's names, see exports.map.in.
#include "enter.h"
#include "exports.h"
#include "hooks.h"

namespace vgpu::limiter {
namespace {

constexpr bool same(const char* a, const char* b) {
  for (; *a != '\0' && *a == *b; ++a, ++b) {
  }
  return *a == *b;
}

// By the family of a row.
constexpr Gate gate_for(const char* name) {
  if (same(name, "lookup")) return Gate::lookup;
  return same(name, "lifecycle") ? Gate::lifecycle : Gate::other;
}

}  // namespace
}  // namespace vgpu::limiter

#ifdef VGPU_PLAIN_EXPORTS
#define VGPU_EXPORT_AS(symbol)
#else
#define VGPU_EXPORT_AS(symbol) __asm__(".symver vgpu_export_" #symbol ", " #symbol "@VGPU_HOOKS");
#endif

#define VGPU_TRAMPOLINE(Result, table, symbol, family, params, args)                      \
  VGPU_EXPORT_AS(symbol)                                                                  \
  extern "C" __attribute__((visibility("default"))) Result VGPU_EXPORTED(symbol) params { \
    const auto call = table().symbol;                                                     \
    return vgpu::limiter::enter<vgpu::limiter::gate_for(#family), Result>(                \
        call, [&] { return vgpu::hooks::symbol args; }, [&] { return call args; });       \
  }

#define VGPU_HOOK(symbol, family, since, params, args) \
  VGPU_TRAMPOLINE(CUresult, vgpu::real, symbol, family, params, args)
#include "vgpu/api/driver_hooks.def"
#undef VGPU_HOOK

#define VGPU_NVML_HOOK(symbol, family, params, args) \
  VGPU_TRAMPOLINE(nvmlReturn_t, vgpu::real_nvml, symbol, family, params, args)
#include "vgpu/api/nvml_hooks.def"
#undef VGPU_NVML_HOOK

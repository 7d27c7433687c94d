// SPDX-License-Identifier: Apache-2.0
// The real driver and the real NVML, one typed pointer a row of the tables in src/api. Whoever
// calls through these pointers passes by every hook. Loaded once per process, on the first use of
// the GPU, never unloaded; a library that is already in the process is taken before one is opened.
// Any thread; after the first call one load each. A name that this driver doesn't have is a null
// pointer: test it before you call it.
#pragma once

#include <atomic>

#include "vgpu/api/cuda_abi.h"
#include "vgpu/api/nvml_abi.h"

namespace vgpu::driver {

// Every entry whose signature is known, hooked or not.
struct DriverDispatch {
#define VGPU_DRIVER_FUNCTION(symbol, params, args) CUresult(*symbol) params = nullptr;
#include "vgpu/api/driver_functions.def"
#undef VGPU_DRIVER_FUNCTION
};

// The hooked entries, and those that the limiter calls for itself (nvml_calls.def).
struct NvmlDispatch {
#define VGPU_NVML_HOOK(symbol, family, params, args) nvmlReturn_t(*symbol) params = nullptr;
#include "vgpu/api/nvml_hooks.def"
#undef VGPU_NVML_HOOK
#define VGPU_NVML_CALL(symbol, params) nvmlReturn_t(*symbol) params = nullptr;
#include "vgpu/driver/nvml_calls.def"
#undef VGPU_NVML_CALL
};

namespace internal {
extern std::atomic<const DriverDispatch*> g_driver;
extern std::atomic<const NvmlDispatch*> g_nvml;
const DriverDispatch& load_driver();
const NvmlDispatch& load_nvml();
}  // namespace internal

// Every pointer is null when there is no such library on this machine. The loads pair with the
// publication in dispatch.cpp.
inline const DriverDispatch& real() {
  const DriverDispatch* table = internal::g_driver.load(std::memory_order_acquire);
  return table != nullptr ? *table : internal::load_driver();
}
inline const NvmlDispatch& real_nvml() {
  const NvmlDispatch* table = internal::g_nvml.load(std::memory_order_acquire);
  return table != nullptr ? *table : internal::load_nvml();
}

// Whether the library was found; loads it like real() does.
bool has_driver();
bool has_nvml();

}  // namespace vgpu::driver

namespace vgpu {
using driver::real;
using driver::real_nvml;
}  // namespace vgpu

// SPDX-License-Identifier: Apache-2.0
// How the programs of this folder reach the driver: dlopen and dlsym, our own declarations, nothing
// linked but libc, so that one binary runs on any machine, with or without the limiter.
#pragma once

#include <dlfcn.h>

#include <cstdio>

#include "vgpu/api/cuda_abi.h"

namespace gpu_client {

struct Driver {
#define VGPU_DRIVER_FUNCTION(symbol, params, args) CUresult(*symbol) params = nullptr;
#include "vgpu/api/driver_functions.def"
#undef VGPU_DRIVER_FUNCTION
};
inline Driver cu;

inline bool load_driver() {
  void* library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == nullptr) return false;
#define VGPU_DRIVER_FUNCTION(symbol, params, args) \
  cu.symbol = reinterpret_cast<decltype(cu.symbol)>(dlsym(library, #symbol));
#include "vgpu/api/driver_functions.def"
#undef VGPU_DRIVER_FUNCTION
  return cu.cuInit != nullptr;
}

inline int no_driver() {
  std::fprintf(stderr, "skipped: there is no NVIDIA driver here (%s)\n", dlerror());
  return 77;
}

// The primary context of GPU `ordinal`, current on this thread; false, and the reason on stderr,
// when there is none.
inline bool use_device(int ordinal) {
  CUdevice device = 0;
  CUcontext context = nullptr;
  CUresult code = cu.cuInit(0);
  if (code == CUDA_SUCCESS) code = cu.cuDeviceGet(&device, ordinal);
  if (code == CUDA_SUCCESS) code = cu.cuDevicePrimaryCtxRetain(&context, device);
  if (code == CUDA_SUCCESS) code = cu.cuCtxSetCurrent(context);
  if (code != CUDA_SUCCESS)
    std::fprintf(stderr, "no usable GPU: CUDA error %d\n", static_cast<int>(code));
  return code == CUDA_SUCCESS;
}

}  // namespace gpu_client

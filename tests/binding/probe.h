// SPDX-License-Identifier: Apache-2.0
// What every probe program does with the driver once it has reached it: takes a context, allocates
// a little, asks for more than the limit. 0 as exit status: the little was given, the rest refused
// with "out of memory".
#pragma once

#include <cstdio>

#include "vgpu/api/cuda_abi.h"

namespace vgpu::probe {

inline constexpr std::size_t kWithinBytes = std::size_t{64} << 20;
inline constexpr std::size_t kOverBytes = std::size_t{3}
                                          << 30;  // the tests' limit is 2 GiB; the GPUs are larger

struct Calls {
  CUresult (*init)(unsigned int) = nullptr;
  CUresult (*device_get)(CUdevice*, int) = nullptr;
  CUresult (*retain)(CUcontext*, CUdevice) = nullptr;
  CUresult (*set_current)(CUcontext) = nullptr;
  CUresult (*allocate)(CUdeviceptr*, std::size_t) = nullptr;
  CUresult (*release)(CUdeviceptr) = nullptr;
};

template <class Lookup>  // void*(const char* symbol)
Calls calls_by(Lookup&& lookup) {
  Calls calls;
  calls.init = reinterpret_cast<decltype(calls.init)>(lookup("cuInit"));
  calls.device_get = reinterpret_cast<decltype(calls.device_get)>(lookup("cuDeviceGet"));
  calls.retain = reinterpret_cast<decltype(calls.retain)>(lookup("cuDevicePrimaryCtxRetain"));
  calls.set_current = reinterpret_cast<decltype(calls.set_current)>(lookup("cuCtxSetCurrent"));
  calls.allocate = reinterpret_cast<decltype(calls.allocate)>(lookup("cuMemAlloc_v2"));
  calls.release = reinterpret_cast<decltype(calls.release)>(lookup("cuMemFree_v2"));
  return calls;
}

inline int check_limit(const Calls& calls) {
  const auto failed = [](const char* what, int result) {
    std::fprintf(stderr, "probe: %s: %d\n", what, result);
    return 1;
  };
  if (calls.init == nullptr || calls.device_get == nullptr || calls.retain == nullptr ||
      calls.set_current == nullptr || calls.allocate == nullptr || calls.release == nullptr) {
    return failed("a function is missing", 0);
  }
  CUdevice device = -1;
  CUcontext context = nullptr;
  CUdeviceptr within = 0;
  CUdeviceptr over = 0;
  CUresult result = calls.init(0);
  if (result != CUDA_SUCCESS) return failed("cuInit", result);
  if (result = calls.device_get(&device, 0); result != CUDA_SUCCESS)
    return failed("cuDeviceGet", result);
  if (result = calls.retain(&context, device); result != CUDA_SUCCESS)
    return failed("retain", result);
  if (result = calls.set_current(context); result != CUDA_SUCCESS)
    return failed("cuCtxSetCurrent", result);
  if (result = calls.allocate(&within, kWithinBytes); result != CUDA_SUCCESS)
    return failed("within", result);
  result = calls.allocate(&over, kOverBytes);
  if (result != CUDA_ERROR_OUT_OF_MEMORY) return failed("over the limit", result);
  if (result = calls.release(within); result != CUDA_SUCCESS) return failed("release", result);
  return 0;
}

}  // namespace vgpu::probe

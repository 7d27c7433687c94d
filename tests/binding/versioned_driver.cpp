// SPDX-License-Identifier: Apache-2.0
// A library with the driver's soname whose exports carry a symbol version, so that dlvsym finds
// them.
#include "vgpu/api/cuda_abi.h"

extern "C" {
__attribute__((visibility("default"))) CUresult cuInit(unsigned int) {
  return CUDA_ERROR_NO_DEVICE;
}
__attribute__((visibility("default"))) CUresult cuMemAlloc_v2(CUdeviceptr*, std::size_t) {
  return CUDA_ERROR_NOT_INITIALIZED;
}
__attribute__((visibility("default"))) CUresult cuDriverGetVersion(int*) {
  return CUDA_ERROR_NOT_INITIALIZED;
}
}

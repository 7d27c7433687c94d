// SPDX-License-Identifier: Apache-2.0
// A preloaded tracer of driver calls: wraps an entry and forwards to the next one by RTLD_NEXT,
// wherever it stands in LD_PRELOAD. Its wrapper has to be passed once, and the limit to hold behind
// it.
#include <dlfcn.h>

#include <cstdio>

#include "vgpu/api/cuda_abi.h"

extern "C" __attribute__((visibility("default"))) CUresult cuMemAlloc_v2(CUdeviceptr* pointer,
                                                                         std::size_t bytes) {
  static int depth = 0;
  if (++depth > 1) {
    std::fprintf(stderr, "wrapper: reached itself\n");
    return CUDA_ERROR_UNKNOWN;
  }
  auto* next =
      reinterpret_cast<CUresult (*)(CUdeviceptr*, std::size_t)>(dlsym(RTLD_NEXT, "cuMemAlloc_v2"));
  const CUresult result = next == nullptr ? CUDA_ERROR_NOT_FOUND : next(pointer, bytes);
  --depth;
  return result;
}

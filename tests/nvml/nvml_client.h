// SPDX-License-Identifier: Apache-2.0
// How the programs of this folder reach NVML and CUDA: dlopen by soname, dlsym by name, nothing
// linked. A function that isn't there stops the program.
#pragma once

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>

#include "vgpu/api/nvml_abi.h"

namespace nvml_client {

inline void* open_library(const char* soname) {
  void* library = dlopen(soname, RTLD_NOW);
  if (library != nullptr) return library;
  std::fprintf(stderr, "%s\n", dlerror());
  std::exit(77);
}

template <class Function>
void look_up(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function != nullptr) return;
  std::fprintf(stderr, "%s\n", dlerror());
  std::exit(78);
}

struct Functions {
#define VGPU_NVML_HOOK(symbol, family, params, args) nvmlReturn_t(*symbol) params = nullptr;
#include "vgpu/api/nvml_hooks.def"
#undef VGPU_NVML_HOOK
  nvmlReturn_t (*nvmlDeviceGetUUID)(nvmlDevice_t, char*, unsigned int) = nullptr;
  nvmlReturn_t (*nvmlDeviceGetSerial)(nvmlDevice_t, char*, unsigned int) = nullptr;
  nvmlReturn_t (*nvmlDeviceGetPciInfo_v3)(nvmlDevice_t, nvmlPciInfo_t*) = nullptr;
};

inline Functions load() {
  void* library = open_library("libnvidia-ml.so.1");
  Functions functions;
#define VGPU_NVML_HOOK(symbol, family, params, args) look_up(library, #symbol, functions.symbol);
#include "vgpu/api/nvml_hooks.def"
#undef VGPU_NVML_HOOK
  look_up(library, "nvmlDeviceGetUUID", functions.nvmlDeviceGetUUID);
  look_up(library, "nvmlDeviceGetSerial", functions.nvmlDeviceGetSerial);
  look_up(library, "nvmlDeviceGetPciInfo_v3", functions.nvmlDeviceGetPciInfo_v3);
  return functions;
}

// A context on the first device and `bytes` of memory in it; false where that can't be.
inline bool use_gpu(int ordinal, unsigned long long bytes) {
  void* library = open_library("libcuda.so.1");
  int (*init)(unsigned) = nullptr;
  int (*create)(void**, unsigned, int) = nullptr;
  int (*allocate)(unsigned long long*, unsigned long long) = nullptr;
  look_up(library, "cuInit", init);
  look_up(library, "cuCtxCreate_v2", create);
  look_up(library, "cuMemAlloc_v2", allocate);
  void* context = nullptr;
  unsigned long long memory = 0;
  return init(0) == 0 && create(&context, 0, ordinal) == 0 &&
         (bytes == 0 || allocate(&memory, bytes) == 0);
}

// What cuMemGetInfo says in the current context.
inline bool cuda_memory(unsigned long long& free_bytes, unsigned long long& total_bytes) {
  int (*get_info)(unsigned long long*, unsigned long long*) = nullptr;
  look_up(open_library("libcuda.so.1"), "cuMemGetInfo_v2", get_info);
  return get_info(&free_bytes, &total_bytes) == 0;
}

}  // namespace nvml_client

// SPDX-License-Identifier: Apache-2.0
#include "paths.h"

#include <dlfcn.h>

#include <atomic>
#include <cstring>

#include "gpu_client.h"

using namespace gpu_client;

namespace bench {
namespace {

constexpr char kEmptyKernel[] =
    ".version 7.0\n.target sm_70\n.address_size 64\n// vgpu-sim: spin_ns=0\n"
    ".visible .entry empty()\n{\nret;\n}\n";

std::atomic<unsigned> g_count{0};
CUcontext g_context = nullptr;
CUstream g_stream = nullptr;
CUfunction g_empty = nullptr;
CUdeviceptr g_pointer = 0;
std::size_t g_bytes = 0;
std::size_t g_more_bytes = 0;
void* volatile g_address = nullptr;

void drain() { cu.cuStreamSynchronize(g_stream); }

void allocate(std::size_t bytes) {
  cu.cuMemAlloc_v2(&g_pointer, bytes);
  cu.cuMemFree_v2(g_pointer);
}

}  // namespace

bool prepare() {
  CUmodule module = nullptr;
  CUdeviceptr keeps_block = 0;
  if (!load_driver()) {
    no_driver();
    return false;
  }
  if (!use_device(0)) return false;
  cu.cuCtxGetCurrent(&g_context);
  const bool ready = cu.cuModuleLoadData(&module, kEmptyKernel) == CUDA_SUCCESS &&
                     cu.cuModuleGetFunction(&g_empty, module, "empty") == CUDA_SUCCESS &&
                     cu.cuStreamCreate(&g_stream, CU_STREAM_NON_BLOCKING) == CUDA_SUCCESS &&
                     cu.cuMemAlloc_v2(&keeps_block, 1024) == CUDA_SUCCESS;
  if (!ready) std::fprintf(stderr, "hot_paths: the device can't be used\n");
  return ready;
}

void use_context() { cu.cuCtxSetCurrent(g_context); }

std::vector<Path> paths() {
  return {
      {kReference, [] { g_count.fetch_add(1, std::memory_order_seq_cst); }, nullptr},
      {"cuLaunchKernel",
       [] { cu.cuLaunchKernel(g_empty, 1, 1, 1, 1, 1, 1, 0, g_stream, nullptr, nullptr); }, drain},
      {"cuMemAlloc 1 KiB", [] { allocate(1024); }, nullptr},
      {"cuMemAlloc 4 MiB", [] { allocate(4u << 20); }, nullptr},
      {"cuMemAllocAsync 1 MiB",
       [] {
         cu.cuMemAllocAsync(&g_pointer, 1u << 20, g_stream);
         cu.cuMemFreeAsync(g_pointer, g_stream);
       },
       drain},
      {"cuMemGetInfo", [] { cu.cuMemGetInfo_v2(&g_bytes, &g_more_bytes); }, nullptr},
      {"cuDeviceTotalMem", [] { cu.cuDeviceTotalMem_v2(&g_bytes, 0); }, nullptr},
      {"dlsym cuMemAlloc",
       [library = dlopen("libcuda.so.1", RTLD_NOW)] {
         g_address = dlsym(library, "cuMemAlloc_v2");
       },
       nullptr},
      {"dlsym strlen", [] { g_address = dlsym(RTLD_DEFAULT, "strlen"); }, nullptr},
      {"cuGetProcAddress",
       [] {
         void* entry = nullptr;
         CUdriverProcAddressQueryResult status{};
         cu.cuGetProcAddress_v2("cuLaunchKernel", &entry, 12000, 0, &status);
         g_address = entry;
       },
       nullptr},
  };
}

}  // namespace bench

// SPDX-License-Identifier: Apache-2.0
// Small objects that nobody asks bytes for (streams, events, modules, little arrays), and the
// 32-bit entries of old.
#include <cstring>
#include <string>
#include <vector>

#include "conformance.h"

namespace conformance {
namespace {

CUarray array_of(std::size_t bytes) {
  CUDA_ARRAY3D_DESCRIPTOR d{};
  d.Format = CU_AD_FORMAT_UNSIGNED_INT8;
  d.NumChannels = 1;
  d.Width = 1024;
  d.Height = bytes / 1024;
  CUarray array = nullptr;
  cu.cuArray3DCreate_v2(&array, &d);
  return array;
}

}  // namespace

// How little arrays are packed: with one another, with plain allocations, and when a block comes
// back.
void section_packing() {
  use_device();
  for (const std::size_t bytes : {64 * kKiB, 128 * kKiB, 192 * kKiB, 512 * kKiB, 576 * kKiB,
                                  704 * kKiB, kMiB, kMiB + 64 * kKiB, 2 * kMiB}) {
    const std::string key = std::to_string(bytes / kKiB) + "KiB";
    std::vector<CUarray> held(24);
    answer("packing.24_arrays_growth_kib." + key, growth_kib([&] {
             for (auto& a : held) a = array_of(bytes);
           }));
    answer("packing.every_other_freed_kib." + key, -growth_kib([&] {
             for (std::size_t i = 0; i < held.size(); i += 2) cu.cuArrayDestroy(held[i]);
           }));
    answer("packing.refill_growth_kib." + key, growth_kib([&] {
             for (std::size_t i = 0; i < held.size(); i += 2) held[i] = array_of(bytes);
           }));
    answer("packing.freed_kib." + key, -growth_kib([&] {
             for (const auto a : held) cu.cuArrayDestroy(a);
           }));
  }
  CUdeviceptr p = 0;
  CUarray a = nullptr, b = nullptr;
  answer("packing.plain_first_growth_kib", growth_kib([&] { cu.cuMemAlloc_v2(&p, 64 * kKiB); }));
  answer("packing.then_array_growth_kib", growth_kib([&] { a = array_of(64 * kKiB); }));
  answer("packing.then_bigger_array_growth_kib", growth_kib([&] { b = array_of(512 * kKiB); }));
  answer("packing.plain_freed_kib", -growth_kib([&] { cu.cuMemFree_v2(p); }));
  answer("packing.array_freed_kib", -growth_kib([&] { cu.cuArrayDestroy(a); }));
  answer("packing.bigger_array_freed_kib", -growth_kib([&] { cu.cuArrayDestroy(b); }));
  CUDA_ARRAY3D_DESCRIPTOR d{};
  d.Format = CU_AD_FORMAT_FLOAT;
  d.NumChannels = 1;
  d.Width = 64;
  d.Height = 64;
  std::vector<CUmipmappedArray> mips(24);
  answer("packing.24_little_mipmapped_growth_kib", growth_kib([&] {
           for (auto& m : mips) cu.cuMipmappedArrayCreate(&m, &d, 7);
         }));
  answer("packing.24_little_mipmapped_freed_kib", -growth_kib([&] {
           for (const auto m : mips) cu.cuMipmappedArrayDestroy(m);
         }));
}

void section_objects() {
  use_device();
  std::vector<CUstream> streams(128);
  answer("~objects.128_streams_growth_kib", growth_kib([&] {
           for (auto& s : streams) cu.cuStreamCreate(&s, CU_STREAM_NON_BLOCKING);
         }));
  std::vector<CUevent> events(4096);
  answer("~objects.4096_events_growth_kib", growth_kib([&] {
           for (auto& e : events) cu.cuEventCreate(&e, CU_EVENT_DEFAULT);
         }));
  CUmodule module = nullptr;
  answer("~objects.first_module_growth_kib",
         growth_kib([&] { module = load_ptx(spin_ptx("spin")); }));
  std::vector<CUmodule> modules(200);
  answer("~objects.200_modules_growth_kib", growth_kib([&] {
           for (std::size_t i = 0; i < modules.size(); ++i)
             modules[i] = load_ptx(spin_ptx("m" + std::to_string(i)));
         }));
  answer("~objects.200_modules_4KiB_global_growth_kib", growth_kib([&] {
           for (std::size_t i = 0; i < modules.size(); ++i) {
             load_ptx(
                 spin_ptx("g" + std::to_string(i), ".visible .global .align 4 .b8 table[4096];\n"));
           }
         }));
  CUfunction spin = nullptr;
  cu.cuModuleGetFunction(&spin, module, "spin");
  unsigned long long ns = 1000;
  void* params[] = {&ns};
  answer("~objects.launch_in_128_streams_growth_kib", growth_kib([&] {
           for (const auto s : streams)
             cu.cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, s, params, nullptr);
           cu.cuCtxSynchronize();
         }));
  CUgraph graph = nullptr;
  cu.cuGraphCreate(&graph, 0);
  CUDA_KERNEL_NODE_PARAMS_v2 node{};
  node.func = spin;
  node.gridDimX = node.gridDimY = node.gridDimZ = node.blockDimX = node.blockDimY = node.blockDimZ =
      1;
  node.kernelParams = params;
  CUgraphNode last = nullptr;
  for (int i = 0; i < 200; ++i) {
    CUgraphNode added = nullptr;
    cu.cuGraphAddKernelNode_v2(&added, graph, last != nullptr ? &last : nullptr,
                               last != nullptr ? 1 : 0, &node);
    last = added;
  }
  std::vector<CUgraphExec> execs(20);
  answer("~objects.20_graphs_of_200_kernels_growth_kib", growth_kib([&] {
           for (auto& e : execs) {
             cu.cuGraphInstantiateWithFlags(&e, graph, 0);
             cu.cuGraphLaunch(e, streams[0]);
           }
           cu.cuCtxSynchronize();
         }));
  void* host = nullptr;
  answer("objects.host_alloc_growth_kib",
         growth_kib([&] { cu.cuMemHostAlloc(&host, 64 * kMiB, 0); }));
}

void section_legacy() {
  use_device();
  struct {
    unsigned value = 0xdeadbeef, guard = 0xfeedface;
  } a, b;
  answer_code("legacy.total_mem", cu.cuDeviceTotalMem(&a.value, device()));
  answer("legacy.total_mem_value", a.value);
  answer("legacy.total_mem_guard_kept", a.guard == 0xfeedface);
  answer_code("legacy.mem_info", cu.cuMemGetInfo(&a.value, &b.value));
  answer("~legacy.mem_info_free", a.value);
  answer("legacy.mem_info_total", b.value);
  answer("legacy.mem_info_guard_kept", a.guard == 0xfeedface && b.guard == 0xfeedface);
  CUdeviceptr_v1 p = 0;
  answer("legacy.alloc_growth_kib",
         growth_kib([&] { answer_code("legacy.alloc", cu.cuMemAlloc(&p, 8 * kMiB)); }));
  answer("legacy.pointer_below_4GiB", p != 0);
  answer("legacy.freed_kib", -growth_kib([&] { answer_code("legacy.free", cu.cuMemFree(p)); }));
  unsigned pitch = 0;
  answer_code("legacy.pitch", cu.cuMemAllocPitch(&p, &pitch, 5000, 1000, 4));
  answer("legacy.pitch_bytes", pitch);
  CUDA_ARRAY_DESCRIPTOR_v1 d{};
  d.Format = CU_AD_FORMAT_FLOAT;
  d.NumChannels = 1;
  d.Width = 1024;
  d.Height = 1024;
  CUarray array = nullptr;
  answer("legacy.array_growth_kib",
         growth_kib([&] { answer_code("legacy.array", cu.cuArrayCreate(&array, &d)); }));
  CUDA_ARRAY3D_DESCRIPTOR_v1 d3{};
  d3.Format = CU_AD_FORMAT_FLOAT;
  d3.NumChannels = 1;
  d3.Width = 128;
  d3.Height = 128;
  d3.Depth = 128;
  answer("legacy.array3d_growth_kib",
         growth_kib([&] { answer_code("legacy.array3d", cu.cuArray3DCreate(&array, &d3)); }));
  CUcontext context = nullptr;
  answer_code("legacy.ctx_create", cu.cuCtxCreate(&context, 0, device()));
  answer_code("legacy.ctx_destroy", cu.cuCtxDestroy(context));
}

}  // namespace conformance

// SPDX-License-Identifier: Apache-2.0
#include "kernel.h"

#include <time.h>

#include <algorithm>

namespace workload {
namespace {

using gpu_client::cu;

// `out` is never written: no multiply-add of these constants gets to infinity, which only the
// compiler doesn't know.
constexpr char kText[] = R"(.version 7.0
.target sm_70
.address_size 64
// vgpu-sim: spin_ns=param0
.visible .entry work(.param .u64 steps, .param .u64 out)
{
  .reg .u64 %n;
  .reg .u64 %to;
  .reg .u32 %id;
  .reg .f32 %a;
  .reg .pred %p;
  ld.param.u64 %n, [steps];
  ld.param.u64 %to, [out];
  mov.u32 %id, %tid.x;
  cvt.rn.f32.u32 %a, %id;
  setp.eq.u64 %p, %n, 0;
  @%p bra DONE;
STEP:
  fma.rn.f32 %a, %a, 0f3F7FFF00, 0f3A83126F;
  fma.rn.f32 %a, %a, 0f3F7FFE00, 0f3A83126F;
  fma.rn.f32 %a, %a, 0f3F7FFD00, 0f3A83126F;
  fma.rn.f32 %a, %a, 0f3F7FFC00, 0f3A83126F;
  sub.u64 %n, %n, 1;
  setp.ne.u64 %p, %n, 0;
  @%p bra STEP;
DONE:
  setp.eq.f32 %p, %a, 0f7F800000;
  @%p st.global.f32 [%to], %a;
  ret;
}
)";

constexpr unsigned kBlockThreads = 512;  // divides what a multiprocessor holds, on every GPU
constexpr unsigned kFewBlocks = 8;

unsigned blocks_that_fill(CUdevice device) {
  int processors = 0;
  int threads = 0;
  cu.cuDeviceGetAttribute(&processors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device);
  cu.cuDeviceGetAttribute(&threads, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, device);
  return static_cast<unsigned>(processors) * static_cast<unsigned>(threads) / kBlockThreads;
}

// How long a kernel of so many steps takes from launch to synchronised; 0 when a call failed.
Nanos duration_ns(const Kernel& kernel, CUstream stream, std::uint64_t steps) {
  const Nanos begin = now_ns();
  if (kernel.launch(stream, steps) != CUDA_SUCCESS) return 0;
  if (cu.cuStreamSynchronize(stream) != CUDA_SUCCESS) return 0;
  return std::max<Nanos>(now_ns() - begin, 1);
}

}  // namespace

Nanos now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return Nanos{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

bool Kernel::load(bool few_blocks) {
  CUmodule module = nullptr;
  CUdevice device = 0;
  CUresult code = cu.cuCtxGetDevice(&device);
  if (code == CUDA_SUCCESS) code = cu.cuModuleLoadData(&module, kText);
  if (code == CUDA_SUCCESS) code = cu.cuModuleGetFunction(&function_, module, "work");
  if (code != CUDA_SUCCESS) {
    std::fprintf(stderr, "workload: no kernel: CUDA error %d\n", static_cast<int>(code));
    return false;
  }
  blocks_ = few_blocks ? kFewBlocks : blocks_that_fill(device);
  return true;
}

CUresult Kernel::launch(CUstream stream, std::uint64_t steps) const {
  std::uint64_t out = 0;
  void* params[] = {&steps, &out};
  return cu.cuLaunchKernel(function_, blocks_, 1, 1, kBlockThreads, 1, 1, 0, stream, params,
                           nullptr);
}

CUgraphExec Kernel::graph(CUstream stream, std::uint64_t steps, unsigned kernels) const {
  CUgraph graph = nullptr;
  CUgraphExec exec = nullptr;
  if (cu.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) != CUDA_SUCCESS)
    return nullptr;
  CUresult code = CUDA_SUCCESS;
  for (unsigned i = 0; i < kernels && code == CUDA_SUCCESS; ++i) code = launch(stream, steps);
  if (cu.cuStreamEndCapture(stream, &graph) != CUDA_SUCCESS || code != CUDA_SUCCESS) return nullptr;
  if (cu.cuGraphInstantiateWithFlags(&exec, graph, 0) != CUDA_SUCCESS) return nullptr;
  cu.cuGraphDestroy(graph);
  return exec;
}

double step_ns(const Kernel& kernel, CUstream stream) {
  constexpr Nanos kWarmUp = 300'000'000;  // until clocks have risen
  constexpr Nanos kLong = 10'000'000;
  constexpr int kTries = 7;
  std::uint64_t steps = 1'000;
  const Nanos begin = now_ns();
  for (Nanos took = 0; took < kLong || now_ns() - begin < kWarmUp;) {
    took = duration_ns(kernel, stream, steps);
    if (took == 0) return 0;
    if (took < kLong) steps *= 2;
  }
  Nanos once = INT64_MAX;
  Nanos twice = INT64_MAX;
  for (int i = 0; i < kTries; ++i) {
    const Nanos a = duration_ns(kernel, stream, steps);
    const Nanos b = duration_ns(kernel, stream, 2 * steps);
    if (a == 0 || b == 0) return 0;
    once = std::min(once, a);
    twice = std::min(twice, b);
  }
  return static_cast<double>(twice - once) / static_cast<double>(steps);
}

}  // namespace workload

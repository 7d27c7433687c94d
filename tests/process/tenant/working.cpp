// SPDX-License-Identifier: Apache-2.0
#include "working.h"

#include <chrono>
#include <functional>

#include "taking.h"

namespace vgpu::test {
namespace {

using gpu_client::cu;

constexpr char kLongKernel[] =
    ".version 7.0\n.target sm_70\n.address_size 64\n"
    "// vgpu-sim: spin_ns=500000\n.visible .entry work()\n{\nret;\n}\n";
constexpr std::size_t kBytes = 16 * 1024 * 1024;

struct Tools {
  CUfunction function = nullptr;
  CUstream stream = nullptr;
  CUgraphExec graph = nullptr;
  CUdeviceptr from = 0;
  CUdeviceptr to = 0;
};

CUresult launch(const Tools& tools) {
  return cu.cuLaunchKernel(tools.function, 1, 1, 1, 32, 1, 1, 0, tools.stream, nullptr, nullptr);
}

CUresult make(Tools& tools) {
  CUmodule module = nullptr;
  CUgraph graph = nullptr;
  CUresult code = cu.cuModuleLoadData(&module, kLongKernel);
  if (code == CUDA_SUCCESS) code = cu.cuModuleGetFunction(&tools.function, module, "work");
  if (code == CUDA_SUCCESS) code = cu.cuStreamCreate(&tools.stream, CU_STREAM_NON_BLOCKING);
  if (code == CUDA_SUCCESS) code = cu.cuMemAlloc_v2(&tools.from, kBytes);
  if (code == CUDA_SUCCESS) code = cu.cuMemAlloc_v2(&tools.to, kBytes);
  if (code == CUDA_SUCCESS)
    code = cu.cuStreamBeginCapture_v2(tools.stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
  for (int i = 0; i < 2 && code == CUDA_SUCCESS; ++i) code = launch(tools);
  if (code == CUDA_SUCCESS) code = cu.cuStreamEndCapture(tools.stream, &graph);
  if (code == CUDA_SUCCESS) code = cu.cuGraphInstantiateWithFlags(&tools.graph, graph, 0);
  return code;
}

}  // namespace

CUresult work_for(const std::string& kind, unsigned milliseconds, long& done) {
  Tools tools;
  CUresult code = make(tools);
  const std::function<CUresult()> submit = [&] {
    if (kind == "graph") return cu.cuGraphLaunch(tools.graph, tools.stream);
    if (kind == "fill") return cu.cuMemsetD8Async(tools.to, 7, kBytes, tools.stream);
    if (kind == "copy") return cu.cuMemcpyDtoDAsync_v2(tools.to, tools.from, kBytes, tools.stream);
    return launch(tools);
  };
  const auto once = [&] {
    const CUresult submitted = submit();
    return submitted == CUDA_SUCCESS ? cu.cuStreamSynchronize(tools.stream) : submitted;
  };
  // The first ones touch memory that nobody has touched, take longer, and have to be paid for.
  for (int i = 0; i < 12 && code == CUDA_SUCCESS; ++i) code = once();
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
  for (done = 0; code == CUDA_SUCCESS && std::chrono::steady_clock::now() < until; ++done)
    code = once();
  return code;
}

}  // namespace vgpu::test

// SPDX-License-Identifier: Apache-2.0
#include "capturing.h"

#include <atomic>
#include <thread>

#include "taking.h"

namespace vgpu::test {
namespace {

using gpu_client::cu;

constexpr char kShortKernel[] =
    ".version 7.0\n.target sm_70\n.address_size 64\n"
    "// vgpu-sim: spin_ns=20000\n.visible .entry work()\n{\nret;\n}\n";

CUresult launch(CUfunction function, CUstream stream) {
  return cu.cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, stream, nullptr, nullptr);
}

// Keeps the first failure of a chain of calls.
class Chain {
 public:
  bool goes_on() const { return code_ == CUDA_SUCCESS; }
  void then(CUresult code) {
    if (goes_on()) code_ = code;
  }
  CUresult code() const { return code_; }

 private:
  CUresult code_ = CUDA_SUCCESS;
};

// By the entry of that name; the first forms know one mode, and the last two add to a graph.
CUresult begin_capture(const std::string& entry, CUstream stream, CUstreamCaptureMode mode) {
  if (entry == "v1") return cu.cuStreamBeginCapture(stream);
  if (entry == "v1_ptsz") return cu.cuStreamBeginCapture_ptsz(stream);
  if (entry == "v2") return cu.cuStreamBeginCapture_v2(stream, mode);
  if (entry == "v2_ptsz") return cu.cuStreamBeginCapture_v2_ptsz(stream, mode);
  CUgraph graph = nullptr;
  if (const CUresult code = cu.cuGraphCreate(&graph, 0); code != CUDA_SUCCESS) return code;
  if (entry == "graph")
    return cu.cuStreamBeginCaptureToGraph(stream, graph, nullptr, nullptr, 0, mode);
  if (entry == "graph_ptsz")
    return cu.cuStreamBeginCaptureToGraph_ptsz(stream, graph, nullptr, nullptr, 0, mode);
  return CUDA_ERROR_NOT_FOUND;
}

}  // namespace

CUresult capture_beside_work(const std::string& entry, CUstreamCaptureMode mode, unsigned launches,
                             std::size_t& nodes) {
  Chain chain;
  CUmodule module = nullptr;
  CUfunction function = nullptr;
  CUcontext context = nullptr;
  CUstream captured = nullptr;
  CUstream other = nullptr;
  chain.then(cu.cuCtxGetCurrent(&context));
  chain.then(cu.cuModuleLoadData(&module, kShortKernel));
  chain.then(cu.cuModuleGetFunction(&function, module, "work"));
  chain.then(cu.cuStreamCreate(&captured, CU_STREAM_NON_BLOCKING));
  chain.then(cu.cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
  if (!chain.goes_on()) return chain.code();

  std::atomic<bool> over{false};
  CUresult beside = CUDA_SUCCESS;
  std::thread worker([&] {
    beside = cu.cuCtxSetCurrent(context);
    while (!over && beside == CUDA_SUCCESS) beside = launch(function, other);
  });
  CUgraph graph = nullptr;
  CUgraphExec exec = nullptr;
  chain.then(begin_capture(entry, captured, mode));
  for (unsigned i = 0; i < launches; ++i) {
    chain.then(launch(function, captured));
    std::this_thread::yield();
  }
  chain.then(cu.cuStreamEndCapture(captured, &graph));
  over = true;
  worker.join();
  chain.then(beside);
  if (chain.goes_on()) chain.then(cu.cuGraphGetNodes(graph, nullptr, &nodes));
  if (chain.goes_on()) chain.then(cu.cuGraphInstantiateWithFlags(&exec, graph, 0));
  if (chain.goes_on()) chain.then(cu.cuGraphLaunch(exec, captured));
  if (chain.goes_on()) chain.then(cu.cuGraphLaunch(exec, captured));
  chain.then(cu.cuCtxSynchronize());
  if (exec != nullptr) chain.then(cu.cuGraphExecDestroy(exec));
  if (graph != nullptr) chain.then(cu.cuGraphDestroy(graph));
  chain.then(cu.cuStreamDestroy_v2(captured));
  chain.then(cu.cuStreamDestroy_v2(other));
  chain.then(cu.cuModuleUnload(module));
  return chain.code();
}

}  // namespace vgpu::test

// SPDX-License-Identifier: Apache-2.0
// Graph memory: nodes that allocate (added, or captured from cuMemAllocAsync) take memory when
// their graph is uploaded or launched, from one pool a device, which keeps it until a trim. Each
// launch reserves the worst case (every node in steps of its own) and settles by the RESERVED
// attribute right after. What kernels of a graph take at their first launch is charged when it is
// instantiated or changed.
#include <sys/mman.h>

#include <algorithm>

#include "../compute/submit.h"
#include "../enter.h"
#include "../hooks.h"
#include "capture.h"
#include "code.h"
#include "context.h"
#include "settle.h"
#include "vgpu/core/driver_model.h"

namespace vgpu::hooks {

using namespace limiter;

namespace {

constexpr unsigned kMostNesting = 8;

std::uint64_t handle_of(CUgraphExec exec) { return reinterpret_cast<std::uint64_t>(exec); }

// The nodes of a graph, in pages of our own: the program's malloc may be anything.
class GraphNodes {
 public:
  explicit GraphNodes(CUgraph graph) {
    size_t count = 0;
    if (graph == nullptr || real().cuGraphGetNodes(graph, nullptr, &count) != CUDA_SUCCESS ||
        count == 0)
      return;
    bytes_ = count * sizeof(CUgraphNode);
    void* pages = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return;
    nodes_ = static_cast<CUgraphNode*>(pages);
    if (real().cuGraphGetNodes(graph, nodes_, &count) == CUDA_SUCCESS) count_ = count;
  }
  ~GraphNodes() {
    if (nodes_ != nullptr) munmap(nodes_, bytes_);
  }
  GraphNodes(const GraphNodes&) = delete;
  GraphNodes& operator=(const GraphNodes&) = delete;

  const CUgraphNode* begin() const { return nodes_; }
  const CUgraphNode* end() const { return nodes_ + count_; }

 private:
  CUgraphNode* nodes_ = nullptr;
  std::size_t bytes_ = 0;
  std::size_t count_ = 0;
};

void add_allocation(CUgraphNode node, GraphMemory& memory) {
  CUDA_MEM_ALLOC_NODE_PARAMS params{};
  if (real().cuGraphMemAllocNodeGetParams(node, &params) != CUDA_SUCCESS) return;
  if (params.poolProps.location.type != CU_MEM_LOCATION_TYPE_DEVICE) return;
  const int gpu = gpu_of(params.poolProps.location.id);
  if (gpu != kNoGpu) memory.bytes[gpu] += driver_model::graph_node_bytes(params.bytesize);
}

// Promises what a function needs at a launch of the graph. False: it doesn't fit.
bool promise_kernel(CUfunction function, GraphMemory& memory) {
  FirstLaunch first(function);
  if (first.refused()) return false;
  first.captured();
  memory.local_context = first.context();
  memory.local_bytes = std::max(memory.local_bytes, first.local_bytes());
  return true;
}

bool prepare_kernel(CUgraphNode node, GraphMemory& memory) {
  CUDA_KERNEL_NODE_PARAMS params{};
  if (real().cuGraphKernelNodeGetParams_v2 == nullptr ||
      real().cuGraphKernelNodeGetParams_v2(node, &params) != CUDA_SUCCESS) {
    return true;
  }
  const CUfunction function =
      params.func != nullptr ? params.func : reinterpret_cast<CUfunction>(params.kern);
  return promise_kernel(function, memory);
}

// What one launch of this graph can take, into `memory`. False: a kernel's local memory doesn't
// fit.
bool examine(CUgraph graph, GraphMemory& memory, unsigned nesting) {
  for (const CUgraphNode node : GraphNodes(graph)) {
    CUgraphNodeType type = CU_GRAPH_NODE_TYPE_EMPTY;
    if (real().cuGraphNodeGetType(node, &type) != CUDA_SUCCESS) continue;
    if (type == CU_GRAPH_NODE_TYPE_MEM_ALLOC) {
      add_allocation(node, memory);
    } else if (type == CU_GRAPH_NODE_TYPE_KERNEL) {
      if (!prepare_kernel(node, memory)) return false;
    } else if (type == CU_GRAPH_NODE_TYPE_GRAPH && nesting < kMostNesting) {
      CUgraph child = nullptr;
      if (real().cuGraphChildGraphNodeGetGraph(node, &child) != CUDA_SUCCESS) continue;
      if (!examine(child, memory, nesting + 1)) return false;
    }
  }
  return true;
}

// Whether a launch of the graph can be the first to take what its kernels need.
bool has_local_promise(const GraphMemory& memory) {
  Context context;
  return memory.local_bytes != 0 && ledger().contexts.find(memory.local_context, context) &&
         context.local_promised_bytes != 0;
}

Pool* graph_pool(int gpu) {
  const CUdevice device = Limiter::active()->device_of(gpu);
  return device < 0 ? nullptr
                    : ledger().pools.graph_pool(static_cast<std::uint32_t>(gpu),
                                                static_cast<std::uint64_t>(device));
}

// The reservations of one launch on all GPUs that its nodes allocate on.
class LaunchReservation {
 public:
  // False: refused; nothing stays reserved.
  bool reserve(const GraphMemory& memory) {
    for (std::uint32_t gpu = 0; gpu < shm::kMaxGpus; ++gpu) {
      if (memory.bytes[gpu] == 0) continue;
      Pool* pool = graph_pool(static_cast<int>(gpu));
      if (pool == nullptr) continue;
      if (!begin(*pool, memory.bytes[gpu])) {
        settle(static_cast<int>(gpu));
        if (!begin(*pool, memory.bytes[gpu])) return false;
      }
      pools_[gpu] = pool;
    }
    return true;
  }
  ~LaunchReservation() {
    for (std::uint32_t gpu = 0; gpu < shm::kMaxGpus; ++gpu) {
      if (pools_[gpu] == nullptr) continue;
      pools_[gpu]->account.end(requests_[gpu]);
      settle_pool(*pools_[gpu]);
    }
  }
  LaunchReservation() = default;
  LaunchReservation(const LaunchReservation&) = delete;
  LaunchReservation& operator=(const LaunchReservation&) = delete;

 private:
  bool begin(Pool& pool, std::uint64_t bytes) {
    return pool.account.begin(bytes, requests_[pool.gpu], [&](std::uint64_t extra) {
      return limiter::reserve(static_cast<int>(pool.gpu), extra);
    });
  }

  Pool* pools_[shm::kMaxGpus] = {};
  PoolAccount::Request requests_[shm::kMaxGpus];
};

void settle_graph_pools(const GraphMemory& memory) {
  for (std::uint32_t gpu = 0; gpu < shm::kMaxGpus; ++gpu) {
    Pool* pool = memory.bytes[gpu] == 0 ? nullptr : graph_pool(static_cast<int>(gpu));
    if (pool != nullptr) settle_pool(*pool);
  }
}

// An exec that ran before usually finds its memory still there; then the worst case must not refuse
// it.
template <class Call>
CUresult run_with_memory(CUgraphExec exec, const GraphMemory& memory, Call call) {
  CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
  LaunchReservation reservation;
  if (reservation.reserve(memory)) {
    result = call();
  } else if (ledger().graphs.may_be_resident(memory)) {
    result = call();
    settle_graph_pools(memory);
  }
  if (result == CUDA_SUCCESS) ledger().graphs.note_launch(handle_of(exec));
  return result;
}

// This launch takes what its kernels were promised.
template <class Call>
CUresult run_first(CUgraphExec exec, const GraphMemory& memory, Call call) {
  Context context;
  const bool is_known = ledger().contexts.find(memory.local_context, context);
  const int gpu = is_known ? static_cast<int>(context.gpu) : kNoGpu;
  const CUresult result = run_with_memory(exec, memory, [&] {
    ChangeScope change;
    const CUresult launched = call();
    if (launched == CUDA_SUCCESS && is_known)
      fulfil_local_promise(memory.local_context, gpu, memory.local_bytes);
    return launched;
  });
  if (result != CUDA_SUCCESS) return result;
  ledger().graphs.note_local_taken(handle_of(exec));
  if (is_known) measure(gpu);
  return CUDA_SUCCESS;
}

// Takes the memory of an upload or launch.
template <class Call>
CUresult run(CUgraphExec exec, CUstream stream, bool per_thread, Call call) {
  GraphMemory memory;
  if (!ledger().graphs.find(handle_of(exec), memory)) return call();
  const bool is_first = memory.local_bytes != 0 && capture_of(stream, per_thread) == Capture::none;
  return is_first ? run_first(exec, memory, call) : run_with_memory(exec, memory, call);
}

template <class Call>
CUresult instantiate(CUgraphExec* exec, CUgraph graph, bool uploads, Call call) {
  RelaxedCapture relaxed;
  GraphMemory memory;
  if (!examine(graph, memory, 0)) return CUDA_ERROR_OUT_OF_MEMORY;
  if (!has_local_promise(memory)) memory.local_context = memory.local_bytes = 0;
  const bool is_known =
      memory.local_bytes != 0 || (ledger().graphs.is_possible() && memory.takes_any());
  LaunchReservation reservation;
  if (is_known && uploads && !reservation.reserve(memory)) return CUDA_ERROR_OUT_OF_MEMORY;
  ChangeScope change;  // execs take a little for their kernels
  const CUresult result = call();
  if (result == CUDA_SUCCESS && is_known) ledger().graphs.add(handle_of(*exec), memory);
  return result;
}

template <class Call>
CUresult instantiate_with_params(CUgraphExec* exec, CUgraph graph,
                                 const CUDA_GRAPH_INSTANTIATE_PARAMS* params, Call call) {
  const bool uploads =
      params != nullptr && (params->flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD) != 0;
  return instantiate(exec, graph, uploads, call);
}

// A change of an exec may bring other kernels, or (an update) nodes that allocate more.
template <class Call>
CUresult update(CUgraphExec exec, CUgraph graph, Call call) {
  RelaxedCapture relaxed;
  GraphMemory memory;
  if (!examine(graph, memory, 0)) return CUDA_ERROR_OUT_OF_MEMORY;
  const CUresult result = call();
  if (result == CUDA_SUCCESS && (memory.takes_any() || has_local_promise(memory)))
    ledger().graphs.add(handle_of(exec), memory);
  measure_again(graph_work(exec));
  return result;
}

template <class Call>
CUresult change_kernel(CUgraphExec exec, CUfunction function, Call call) {
  GraphMemory memory;
  if (!promise_kernel(function, memory)) return CUDA_ERROR_OUT_OF_MEMORY;
  const CUresult result = call();
  if (result == CUDA_SUCCESS && has_local_promise(memory))
    ledger().graphs.add_local(handle_of(exec), memory.local_context, memory.local_bytes);
  measure_again(graph_work(exec));
  return result;
}

void note_node(const CUgraphNodeParams* params) {
  if (params != nullptr && params->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC)
    ledger().graphs.note_possible();
}

}  // namespace

CUresult cuGraphAddMemAllocNode(CUgraphNode* graph_node, CUgraph graph,
                                const CUgraphNode* dependencies, size_t num_dependencies,
                                CUDA_MEM_ALLOC_NODE_PARAMS* node_params) {
  ledger().graphs.note_possible();
  return real().cuGraphAddMemAllocNode(graph_node, graph, dependencies, num_dependencies,
                                       node_params);
}

CUresult cuGraphAddNode(CUgraphNode* graph_node, CUgraph graph, const CUgraphNode* dependencies,
                        size_t num_dependencies, CUgraphNodeParams* node_params) {
  note_node(node_params);
  return real().cuGraphAddNode(graph_node, graph, dependencies, num_dependencies, node_params);
}

CUresult cuGraphAddNode_v2(CUgraphNode* graph_node, CUgraph graph, const CUgraphNode* dependencies,
                           const CUgraphEdgeData* dependency_data, size_t num_dependencies,
                           CUgraphNodeParams* node_params) {
  note_node(node_params);
  return real().cuGraphAddNode_v2(graph_node, graph, dependencies, dependency_data,
                                  num_dependencies, node_params);
}

// A graph holds no memory; its execs do.
CUresult cuGraphDestroy(CUgraph graph) { return real().cuGraphDestroy(graph); }

CUresult cuGraphInstantiate(CUgraphExec* graph_exec, CUgraph graph, CUgraphNode* error_node,
                            char* log_buffer, size_t buffer_size) {
  return instantiate(graph_exec, graph, false, [&] {
    return real().cuGraphInstantiate(graph_exec, graph, error_node, log_buffer, buffer_size);
  });
}

CUresult cuGraphInstantiate_v2(CUgraphExec* graph_exec, CUgraph graph, CUgraphNode* error_node,
                               char* log_buffer, size_t buffer_size) {
  return instantiate(graph_exec, graph, false, [&] {
    return real().cuGraphInstantiate_v2(graph_exec, graph, error_node, log_buffer, buffer_size);
  });
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec* graph_exec, CUgraph graph,
                                     unsigned long long flags) {
  const bool uploads = (flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD) != 0;
  return instantiate(graph_exec, graph, uploads,
                     [&] { return real().cuGraphInstantiateWithFlags(graph_exec, graph, flags); });
}

CUresult cuGraphInstantiateWithParams(CUgraphExec* graph_exec, CUgraph graph,
                                      CUDA_GRAPH_INSTANTIATE_PARAMS* instantiate_params) {
  return instantiate_with_params(graph_exec, graph, instantiate_params, [&] {
    return real().cuGraphInstantiateWithParams(graph_exec, graph, instantiate_params);
  });
}

CUresult cuGraphInstantiateWithParams_ptsz(CUgraphExec* graph_exec, CUgraph graph,
                                           CUDA_GRAPH_INSTANTIATE_PARAMS* instantiate_params) {
  return instantiate_with_params(graph_exec, graph, instantiate_params, [&] {
    return real().cuGraphInstantiateWithParams_ptsz(graph_exec, graph, instantiate_params);
  });
}

CUresult cuGraphUpload(CUgraphExec graph, CUstream stream) {
  return run(graph, stream, false, [&] { return real().cuGraphUpload(graph, stream); });
}

CUresult cuGraphUpload_ptsz(CUgraphExec graph_exec, CUstream stream) {
  return run(graph_exec, stream, true,
             [&] { return real().cuGraphUpload_ptsz(graph_exec, stream); });
}

CUresult cuGraphLaunch(CUgraphExec graph, CUstream stream) {
  return submit([&] { return graph_work(graph); }, stream, false,
                [&] {
                  return run(graph, stream, false,
                             [&] { return real().cuGraphLaunch(graph, stream); });
                });
}

CUresult cuGraphLaunch_ptsz(CUgraphExec graph_exec, CUstream stream) {
  return submit([&] { return graph_work(graph_exec); }, stream, true,
                [&] {
                  return run(graph_exec, stream, true,
                             [&] { return real().cuGraphLaunch_ptsz(graph_exec, stream); });
                });
}

CUresult cuGraphExecUpdate(CUgraphExec graph_exec, CUgraph graph, CUgraphNode* error_node_out,
                           CUgraphExecUpdateResult* update_result_out) {
  return update(graph_exec, graph, [&] {
    return real().cuGraphExecUpdate(graph_exec, graph, error_node_out, update_result_out);
  });
}

CUresult cuGraphExecUpdate_v2(CUgraphExec graph_exec, CUgraph graph,
                              CUgraphExecUpdateResultInfo* result_info) {
  return update(graph_exec, graph,
                [&] { return real().cuGraphExecUpdate_v2(graph_exec, graph, result_info); });
}

CUresult cuGraphExecKernelNodeSetParams(CUgraphExec graph_exec, CUgraphNode node,
                                        const CUDA_KERNEL_NODE_PARAMS_v1* node_params) {
  return change_kernel(graph_exec, node_params == nullptr ? nullptr : node_params->func, [&] {
    return real().cuGraphExecKernelNodeSetParams(graph_exec, node, node_params);
  });
}

CUresult cuGraphExecKernelNodeSetParams_v2(CUgraphExec graph_exec, CUgraphNode node,
                                           const CUDA_KERNEL_NODE_PARAMS* node_params) {
  return change_kernel(graph_exec, node_params == nullptr ? nullptr : node_params->func, [&] {
    return real().cuGraphExecKernelNodeSetParams_v2(graph_exec, node, node_params);
  });
}

CUresult cuGraphExecNodeSetParams(CUgraphExec graph_exec, CUgraphNode node,
                                  CUgraphNodeParams* node_params) {
  const bool is_kernel = node_params != nullptr && node_params->type == CU_GRAPH_NODE_TYPE_KERNEL;
  return change_kernel(graph_exec, is_kernel ? node_params->kernel.func : nullptr, [&] {
    return real().cuGraphExecNodeSetParams(graph_exec, node, node_params);
  });
}

CUresult cuGraphExecChildGraphNodeSetParams(CUgraphExec graph_exec, CUgraphNode node,
                                            CUgraph child_graph) {
  RelaxedCapture relaxed;
  GraphMemory memory;
  if (!examine(child_graph, memory, 0)) return CUDA_ERROR_OUT_OF_MEMORY;
  const CUresult result = real().cuGraphExecChildGraphNodeSetParams(graph_exec, node, child_graph);
  measure_again(graph_work(graph_exec));
  return result;
}

// The device's graph pool keeps what the exec held, until a trim.
CUresult cuGraphExecDestroy(CUgraphExec graph_exec) {
  GraphMemory memory;
  const bool known = ledger().graphs.find(handle_of(graph_exec), memory);
  ledger().graphs.remove(handle_of(graph_exec));
  forget_work(handle_of(graph_exec));
  ChangeScope change;
  const CUresult result = real().cuGraphExecDestroy(graph_exec);
  if (known && result != CUDA_SUCCESS) ledger().graphs.add(handle_of(graph_exec), memory);
  return result;
}

CUresult cuDeviceGraphMemTrim(CUdevice device) {
  const CUresult result = real().cuDeviceGraphMemTrim(device);
  const int gpu = gpu_of(device);
  Pool* pool = gpu == kNoGpu ? nullptr : graph_pool(gpu);
  if (result != CUDA_SUCCESS || pool == nullptr) return result;
  ledger().graphs.note_trim();
  settle_pool(*pool);
  return result;
}

CUresult cuDeviceSetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attr, void* value) {
  return real().cuDeviceSetGraphMemAttribute(device, attr, value);
}

}  // namespace vgpu::hooks

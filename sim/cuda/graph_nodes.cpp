// SPDX-License-Identifier: Apache-2.0
// Nodes of graphs: adding them in every form, reading and changing their parameters.
#include <algorithm>
#include <cstring>

#include "capture.h"
#include "copy.h"
#include "graph.h"
#include "launch.h"
#include "module.h"
#include "pool.h"
#include "stream.h"

using namespace vgpu::sim;

namespace vgpu::sim {

CUresult kernel_body(Call&, const CUDA_KERNEL_NODE_PARAMS_v2& params, NodeBody& body) {
  CUcontext context = params.ctx != nullptr ? params.ctx : current_context();
  if (!valid(context) || !context->active) return CUDA_ERROR_INVALID_CONTEXT;
  CUfunction handle =
      params.func != nullptr ? params.func : reinterpret_cast<CUfunction>(params.kern);
  // A function brings its own context.
  if (valid(handle)) context = handle->module->context;
  CUresult result = CUDA_SUCCESS;
  const CUfunction function = launchable(context, handle, result);
  if (function == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const LaunchShape shape{{params.gridDimX, params.gridDimY, params.gridDimZ},
                          {params.blockDimX, params.blockDimY, params.blockDimZ},
                          params.sharedMemBytes};
  result = check_shape(*context->device, function, shape);
  if (result != CUDA_SUCCESS) return result;
  if (params.kernelParams != nullptr && params.extra != nullptr) return CUDA_ERROR_INVALID_VALUE;
  body.type = CU_GRAPH_NODE_TYPE_KERNEL;
  body.kernel = params;
  body.kernel.func = function;
  body.context = context;
  return copy_arguments(function, params.kernelParams, params.extra, body.arguments);
}

CUresult memset_body(const CUDA_MEMSET_NODE_PARAMS& params, CUcontext context, NodeBody& body) {
  if (params.elementSize != 1 && params.elementSize != 2 && params.elementSize != 4)
    return CUDA_ERROR_INVALID_VALUE;
  const CUresult checked = check_fill({params.dst, params.pitch, params.value, params.elementSize,
                                       params.width, std::max<std::size_t>(1, params.height)});
  if (checked != CUDA_SUCCESS) return checked;
  body.type = CU_GRAPH_NODE_TYPE_MEMSET;
  body.set = params;
  body.set.height = std::max<std::size_t>(1, params.height);
  body.context = context;
  return CUDA_SUCCESS;
}

CUresult memcpy_body(const CUDA_MEMCPY3D& params, CUcontext context, NodeBody& body) {
  Box box;
  const CUresult made = make_box(params, box);
  if (made != CUDA_SUCCESS) return made;
  body.type = CU_GRAPH_NODE_TYPE_MEMCPY;
  body.copy = params;
  body.context = context;
  return CUDA_SUCCESS;
}

// The general form of all nodes. Allocation nodes report their address in `params`.
CUresult general_body(Call& call, CUgraph graph, CUgraphNodeParams& params, NodeBody& body) {
  body.type = params.type;
  const auto context_or_current = [](CUcontext context) {
    return context != nullptr ? context : current_context();
  };
  switch (params.type) {
    case CU_GRAPH_NODE_TYPE_KERNEL: {
      CUDA_KERNEL_NODE_PARAMS_v2 kernel{};
      static_assert(sizeof kernel == sizeof params.kernel);
      std::memcpy(&kernel, &params.kernel, sizeof kernel);
      return kernel_body(call, kernel, body);
    }
    case CU_GRAPH_NODE_TYPE_MEMCPY:
      return memcpy_body(params.memcpy.copyParams, context_or_current(params.memcpy.copyCtx), body);
    case CU_GRAPH_NODE_TYPE_MEMSET: {
      const auto& set = params.memset;
      return memset_body({set.dst, set.pitch, set.value, set.elementSize, set.width, set.height},
                         context_or_current(set.ctx), body);
    }
    case CU_GRAPH_NODE_TYPE_HOST:
      if (params.host.fn == nullptr) return CUDA_ERROR_INVALID_VALUE;
      body.host = {params.host.fn, params.host.userData};
      return CUDA_SUCCESS;
    case CU_GRAPH_NODE_TYPE_GRAPH:
      if (!valid(params.graph.graph) || params.graph.graph == graph)
        return CUDA_ERROR_INVALID_VALUE;
      if (params.graph.ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE &&
          params.graph.graph->has_memory_nodes)
        return CUDA_ERROR_NOT_SUPPORTED;
      body.child = params.graph.ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE
                       ? params.graph.graph
                       : copy_graph(params.graph.graph);
      body.child->parent = graph;
      return CUDA_SUCCESS;
    case CU_GRAPH_NODE_TYPE_EMPTY:
      return CUDA_SUCCESS;
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
      body.event = params.type == CU_GRAPH_NODE_TYPE_WAIT_EVENT ? params.eventWait.event
                                                                : params.eventRecord.event;
      return valid(body.event) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    case CU_GRAPH_NODE_TYPE_MEM_ALLOC: {
      auto& alloc = params.alloc;
      body.alloc = {alloc.poolProps, nullptr, 0, alloc.bytesize, 0};
      body.context = current_context();
      const CUresult result = add_graph_allocation(graph, body);
      if (result == CUDA_SUCCESS) alloc.dptr = body.alloc.dptr;
      return result;
    }
    case CU_GRAPH_NODE_TYPE_MEM_FREE: {
      const Allocation* allocation = call.driver.find(params.free.dptr);
      if (allocation == nullptr || allocation->kind != Kind::graph ||
          allocation->base != params.free.dptr)
        return CUDA_ERROR_INVALID_VALUE;
      body.free_ptr = params.free.dptr;
      return CUDA_SUCCESS;
    }
    case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
      if (params.memOp.paramArray == nullptr || params.memOp.count == 0)
        return CUDA_ERROR_INVALID_VALUE;
      body.memory_ops.assign(params.memOp.paramArray, params.memOp.paramArray + params.memOp.count);
      return CUDA_SUCCESS;
    case CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL:
    case CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT:
    case CU_GRAPH_NODE_TYPE_CONDITIONAL:
      return CUDA_ERROR_NOT_SUPPORTED;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

}  // namespace vgpu::sim

namespace {

CUDA_KERNEL_NODE_PARAMS_v2 widen(const CUDA_KERNEL_NODE_PARAMS_v1& p) {
  return {p.func,      p.gridDimX,       p.gridDimY,     p.gridDimZ, p.blockDimX, p.blockDimY,
          p.blockDimZ, p.sharedMemBytes, p.kernelParams, p.extra,    nullptr,     nullptr};
}
const CUDA_KERNEL_NODE_PARAMS_v2& widen(const CUDA_KERNEL_NODE_PARAMS_v2& p) { return p; }

// Adds a node whose body `make` fills in.
template <class Make>
CUresult add(CUgraphNode* out, CUgraph graph, const CUgraphNode* dependencies, size_t count,
             Make make) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (out == nullptr || !valid(graph)) return CUDA_ERROR_INVALID_VALUE;
  NodeBody body;
  CUresult result = make(call, body);
  if (result != CUDA_SUCCESS) return result;
  CUgraphNode node = nullptr;
  hold_graph_allocation(body);  // so that a failure below takes the address back
  const NodeBody kept = body;
  result = add_node(graph, dependencies, count, std::move(body), node);
  forget_graph_allocation(kept);
  if (result == CUDA_SUCCESS) *out = node;
  return result;
}

// Replaces the parameters of a node of one type.
template <class Make>
CUresult change(CUgraphNode node, CUgraphNodeType type, Make make) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(node) || node->body.type != type) return CUDA_ERROR_INVALID_VALUE;
  NodeBody body = node->body;
  const CUresult result = make(call, body);
  if (result == CUDA_SUCCESS) node->body = std::move(body);
  return result;
}

template <class Read>
CUresult inspect(CUgraphNode node, CUgraphNodeType type, bool arguments_good, Read read) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(node) || node->body.type != type || !arguments_good) return CUDA_ERROR_INVALID_VALUE;
  read(node->body);
  return CUDA_SUCCESS;
}

template <class Params>
CUresult get_kernel(CUgraphNode node, Params* out) {
  return inspect(node, CU_GRAPH_NODE_TYPE_KERNEL, out != nullptr, [&](const NodeBody& body) {
    out->func = body.kernel.func;
    out->gridDimX = body.kernel.gridDimX;
    out->gridDimY = body.kernel.gridDimY;
    out->gridDimZ = body.kernel.gridDimZ;
    out->blockDimX = body.kernel.blockDimX;
    out->blockDimY = body.kernel.blockDimY;
    out->blockDimZ = body.kernel.blockDimZ;
    out->sharedMemBytes = body.kernel.sharedMemBytes;
    out->kernelParams = body.arguments->pointers.data();
    out->extra = nullptr;
    if constexpr (requires { out->kern; }) {
      out->kern = body.kernel.func->kernel;
      out->ctx = body.context;
    }
  });
}

template <class Params>
CUresult add_kernel(CUgraphNode* out, CUgraph graph, const CUgraphNode* dependencies, size_t count,
                    const Params* params) {
  if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return add(out, graph, dependencies, count,
             [&](Call& call, NodeBody& body) { return kernel_body(call, widen(*params), body); });
}

template <class Params>
CUresult set_kernel(CUgraphNode node, const Params* params) {
  if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return change(node, CU_GRAPH_NODE_TYPE_KERNEL, [&](Call& call, NodeBody& body) {
    return kernel_body(call, widen(*params), body);
  });
}

CUresult add_event(CUgraphNode* out, CUgraph graph, const CUgraphNode* dependencies, size_t count,
                   CUevent event, CUgraphNodeType type) {
  return add(out, graph, dependencies, count, [&](Call&, NodeBody& body) {
    body.type = type;
    body.event = event;
    return valid(event) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

CUresult get_event(CUgraphNode node, CUevent* event, CUgraphNodeType type) {
  return inspect(node, type, event != nullptr, [&](const NodeBody& body) { *event = body.event; });
}

CUresult set_event(CUgraphNode node, CUevent event, CUgraphNodeType type) {
  return change(node, type, [&](Call&, NodeBody& body) {
    body.event = event;
    return valid(event) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

CUresult add_general(CUgraphNode* out, CUgraph graph, const CUgraphNode* dependencies, size_t count,
                     CUgraphNodeParams* params) {
  if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return add(out, graph, dependencies, count,
             [&](Call& call, NodeBody& body) { return general_body(call, graph, *params, body); });
}

}  // namespace

CUresult sim_cuGraphAddNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* dependencies,
                            size_t count, CUgraphNodeParams* params) {
  return add_general(out, graph, dependencies, count, params);
}
CUresult sim_cuGraphAddNode_v2(CUgraphNode* out, CUgraph graph, const CUgraphNode* dependencies,
                               const CUgraphEdgeData*, size_t count, CUgraphNodeParams* params) {
  return add_general(out, graph, dependencies, count, params);
}
CUresult sim_cuGraphNodeSetParams(CUgraphNode node, CUgraphNodeParams* params) {
  if (params == nullptr || params->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC ||
      params->type == CU_GRAPH_NODE_TYPE_GRAPH)
    return CUDA_ERROR_INVALID_VALUE;
  return change(node, params->type, [&](Call& call, NodeBody& body) {
    return general_body(call, node->graph, *params, body);
  });
}
CUresult sim_cuGraphAddKernelNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* dependencies,
                                  size_t count, const CUDA_KERNEL_NODE_PARAMS_v1* params) {
  return add_kernel(out, graph, dependencies, count, params);
}
CUresult sim_cuGraphAddKernelNode_v2(CUgraphNode* out, CUgraph graph,
                                     const CUgraphNode* dependencies, size_t count,
                                     const CUDA_KERNEL_NODE_PARAMS* params) {
  return add_kernel(out, graph, dependencies, count, params);
}
CUresult sim_cuGraphKernelNodeGetParams(CUgraphNode node, CUDA_KERNEL_NODE_PARAMS_v1* params) {
  return get_kernel(node, params);
}
CUresult sim_cuGraphKernelNodeGetParams_v2(CUgraphNode node, CUDA_KERNEL_NODE_PARAMS* params) {
  return get_kernel(node, params);
}
CUresult sim_cuGraphKernelNodeSetParams(CUgraphNode node,
                                        const CUDA_KERNEL_NODE_PARAMS_v1* params) {
  return set_kernel(node, params);
}
CUresult sim_cuGraphKernelNodeSetParams_v2(CUgraphNode node,
                                           const CUDA_KERNEL_NODE_PARAMS* params) {
  return set_kernel(node, params);
}
CUresult sim_cuGraphKernelNodeGetAttribute(CUgraphNode node, CUkernelNodeAttrID attr,
                                           CUkernelNodeAttrValue* value_out) {
  return inspect(node, CU_GRAPH_NODE_TYPE_KERNEL, value_out != nullptr, [&](const NodeBody&) {
    const auto at = node->attributes.find(static_cast<int>(attr));
    *value_out = at == node->attributes.end() ? CUkernelNodeAttrValue{} : at->second;
  });
}
CUresult sim_cuGraphKernelNodeSetAttribute(CUgraphNode node, CUkernelNodeAttrID attr,
                                           const CUkernelNodeAttrValue* value) {
  return inspect(node, CU_GRAPH_NODE_TYPE_KERNEL, value != nullptr,
                 [&](const NodeBody&) { node->attributes[static_cast<int>(attr)] = *value; });
}
CUresult sim_cuGraphKernelNodeCopyAttributes(CUgraphNode dst, CUgraphNode src) {
  return inspect(dst, CU_GRAPH_NODE_TYPE_KERNEL, valid(src),
                 [&](const NodeBody&) { dst->attributes = src->attributes; });
}

CUresult sim_cuGraphAddMemcpyNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* dependencies,
                                  size_t count, const CUDA_MEMCPY3D* params, CUcontext context) {
  if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return add(out, graph, dependencies, count,
             [&](Call&, NodeBody& body) { return memcpy_body(*params, context, body); });
}
CUresult sim_cuGraphMemcpyNodeGetParams(CUgraphNode node, CUDA_MEMCPY3D* params) {
  return inspect(node, CU_GRAPH_NODE_TYPE_MEMCPY, params != nullptr,
                 [&](const NodeBody& body) { *params = body.copy; });
}
CUresult sim_cuGraphMemcpyNodeSetParams(CUgraphNode node, const CUDA_MEMCPY3D* params) {
  if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return change(node, CU_GRAPH_NODE_TYPE_MEMCPY,
                [&](Call&, NodeBody& body) { return memcpy_body(*params, body.context, body); });
}
CUresult sim_cuGraphAddMemsetNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* dependencies,
                                  size_t count, const CUDA_MEMSET_NODE_PARAMS* params,
                                  CUcontext context) {
  if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return add(out, graph, dependencies, count,
             [&](Call&, NodeBody& body) { return memset_body(*params, context, body); });
}
CUresult sim_cuGraphMemsetNodeGetParams(CUgraphNode node, CUDA_MEMSET_NODE_PARAMS* params) {
  return inspect(node, CU_GRAPH_NODE_TYPE_MEMSET, params != nullptr,
                 [&](const NodeBody& body) { *params = body.set; });
}
CUresult sim_cuGraphMemsetNodeSetParams(CUgraphNode node, const CUDA_MEMSET_NODE_PARAMS* params) {
  if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return change(node, CU_GRAPH_NODE_TYPE_MEMSET,
                [&](Call&, NodeBody& body) { return memset_body(*params, body.context, body); });
}
CUresult sim_cuGraphAddHostNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* dependencies,
                                size_t count, const CUDA_HOST_NODE_PARAMS* params) {
  if (params == nullptr || params->fn == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return add(out, graph, dependencies, count, [&](Call&, NodeBody& body) {
    body.type = CU_GRAPH_NODE_TYPE_HOST;
    body.host = *params;
    return CUDA_SUCCESS;
  });
}
CUresult sim_cuGraphHostNodeGetParams(CUgraphNode node, CUDA_HOST_NODE_PARAMS* params) {
  return inspect(node, CU_GRAPH_NODE_TYPE_HOST, params != nullptr,
                 [&](const NodeBody& body) { *params = body.host; });
}
CUresult sim_cuGraphHostNodeSetParams(CUgraphNode node, const CUDA_HOST_NODE_PARAMS* params) {
  if (params == nullptr || params->fn == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return change(node, CU_GRAPH_NODE_TYPE_HOST, [&](Call&, NodeBody& body) {
    body.host = *params;
    return CUDA_SUCCESS;
  });
}
CUresult sim_cuGraphAddChildGraphNode(CUgraphNode* out, CUgraph graph,
                                      const CUgraphNode* dependencies, size_t count,
                                      CUgraph child_graph) {
  CUgraphNodeParams params{};
  params.type = CU_GRAPH_NODE_TYPE_GRAPH;
  params.graph = {child_graph, CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE};
  return add_general(out, graph, dependencies, count, &params);
}
CUresult sim_cuGraphChildGraphNodeGetGraph(CUgraphNode node, CUgraph* graph) {
  return inspect(node, CU_GRAPH_NODE_TYPE_GRAPH, graph != nullptr,
                 [&](const NodeBody& body) { *graph = body.child; });
}
CUresult sim_cuGraphAddEmptyNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* dependencies,
                                 size_t count) {
  return add(out, graph, dependencies, count, [](Call&, NodeBody&) { return CUDA_SUCCESS; });
}
CUresult sim_cuGraphAddEventRecordNode(CUgraphNode* out, CUgraph graph,
                                       const CUgraphNode* dependencies, size_t count,
                                       CUevent event) {
  return add_event(out, graph, dependencies, count, event, CU_GRAPH_NODE_TYPE_EVENT_RECORD);
}
CUresult sim_cuGraphAddEventWaitNode(CUgraphNode* out, CUgraph graph,
                                     const CUgraphNode* dependencies, size_t count, CUevent event) {
  return add_event(out, graph, dependencies, count, event, CU_GRAPH_NODE_TYPE_WAIT_EVENT);
}
CUresult sim_cuGraphEventRecordNodeGetEvent(CUgraphNode node, CUevent* event) {
  return get_event(node, event, CU_GRAPH_NODE_TYPE_EVENT_RECORD);
}
CUresult sim_cuGraphEventRecordNodeSetEvent(CUgraphNode node, CUevent event) {
  return set_event(node, event, CU_GRAPH_NODE_TYPE_EVENT_RECORD);
}
CUresult sim_cuGraphEventWaitNodeGetEvent(CUgraphNode node, CUevent* event) {
  return get_event(node, event, CU_GRAPH_NODE_TYPE_WAIT_EVENT);
}
CUresult sim_cuGraphEventWaitNodeSetEvent(CUgraphNode node, CUevent event) {
  return set_event(node, event, CU_GRAPH_NODE_TYPE_WAIT_EVENT);
}
CUresult sim_cuGraphAddMemAllocNode(CUgraphNode* out, CUgraph graph,
                                    const CUgraphNode* dependencies, size_t count,
                                    CUDA_MEM_ALLOC_NODE_PARAMS* params) {
  if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  CUgraphNodeParams general{};
  general.type = CU_GRAPH_NODE_TYPE_MEM_ALLOC;
  general.alloc.poolProps = params->poolProps;
  general.alloc.bytesize = params->bytesize;
  const CUresult result = add_general(out, graph, dependencies, count, &general);
  if (result == CUDA_SUCCESS) params->dptr = general.alloc.dptr;
  return result;
}
CUresult sim_cuGraphMemAllocNodeGetParams(CUgraphNode node, CUDA_MEM_ALLOC_NODE_PARAMS* params) {
  return inspect(node, CU_GRAPH_NODE_TYPE_MEM_ALLOC, params != nullptr,
                 [&](const NodeBody& body) { *params = body.alloc; });
}
CUresult sim_cuGraphAddMemFreeNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* dependencies,
                                   size_t count, CUdeviceptr ptr) {
  CUgraphNodeParams params{};
  params.type = CU_GRAPH_NODE_TYPE_MEM_FREE;
  params.free.dptr = ptr;
  return add_general(out, graph, dependencies, count, &params);
}
CUresult sim_cuGraphMemFreeNodeGetParams(CUgraphNode node, CUdeviceptr* ptr) {
  return inspect(node, CU_GRAPH_NODE_TYPE_MEM_FREE, ptr != nullptr,
                 [&](const NodeBody& body) { *ptr = body.free_ptr; });
}
CUresult sim_cuGraphAddBatchMemOpNode(CUgraphNode* out, CUgraph graph,
                                      const CUgraphNode* dependencies, size_t count,
                                      const CUDA_BATCH_MEM_OP_NODE_PARAMS* params) {
  if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  CUgraphNodeParams general{};
  general.type = CU_GRAPH_NODE_TYPE_BATCH_MEM_OP;
  general.memOp = {params->ctx, params->count, params->paramArray, params->flags};
  return add_general(out, graph, dependencies, count, &general);
}
CUresult sim_cuGraphBatchMemOpNodeGetParams(CUgraphNode node,
                                            CUDA_BATCH_MEM_OP_NODE_PARAMS* params) {
  return inspect(node, CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, params != nullptr,
                 [&](const NodeBody& body) {
                   *params = {body.context, static_cast<unsigned>(body.memory_ops.size()),
                              const_cast<CUstreamBatchMemOpParams*>(body.memory_ops.data()), 0};
                 });
}
CUresult sim_cuGraphBatchMemOpNodeSetParams(CUgraphNode node,
                                            const CUDA_BATCH_MEM_OP_NODE_PARAMS* params) {
  if (params == nullptr || params->paramArray == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return change(node, CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, [&](Call&, NodeBody& body) {
    body.memory_ops.assign(params->paramArray, params->paramArray + params->count);
    return CUDA_SUCCESS;
  });
}

// SPDX-License-Identifier: Apache-2.0
// Instantiated graphs: made from a graph in each form of the API, updated, launched into a stream.
// A launch reserves the memory its allocation nodes need before anything runs, so that it can still
// be refused.
#include <algorithm>
#include <cstring>

#include "capture.h"
#include "copy.h"
#include "graph.h"
#include "launch.h"
#include "module.h"
#include "stream.h"

using namespace vgpu::sim;

namespace {

// Nodes in an order that respects every edge, child graphs in place of their nodes.
bool flatten(CUgraph graph, std::vector<CUgraphExec_st::Item>& items) {
  std::map<CUgraphNode, std::size_t> open;
  std::vector<CUgraphNode> ready;
  for (const CUgraphNode node : graph->nodes) {
    open[node] = node->from.size();
    if (node->from.empty()) ready.push_back(node);
  }
  std::size_t done = 0;
  for (std::size_t at = 0; at < ready.size(); ++at) {
    const CUgraphNode node = ready[at];
    ++done;
    if (node->body.type == CU_GRAPH_NODE_TYPE_GRAPH) {
      if (!flatten(node->body.child, items)) return false;
    } else {
      items.push_back({node, node->body, true});
    }
    for (const CUgraphNode next : node->to) {
      if (--open[next] == 0) ready.push_back(next);
    }
  }
  return done == graph->nodes.size();
}

void hold_items(CUgraphExec exec) {
  for (const auto& item : exec->items) hold_graph_allocation(item.body);
}

void forget_items(CUgraphExec exec) {
  for (const auto& item : exec->items) forget_graph_allocation(item.body);
}

CUresult instantiate(CUgraphExec* out, CUgraph graph, std::uint64_t flags,
                     CUgraphInstantiateResult* why) {
  if (out == nullptr || !valid(graph)) return CUDA_ERROR_INVALID_VALUE;
  constexpr std::uint64_t kKnown =
      CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH | CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD |
      CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH | CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;
  if ((flags & ~kKnown) != 0) return CUDA_ERROR_INVALID_VALUE;
  if (graph->has_memory_nodes && graph->exec != nullptr) return CUDA_ERROR_NOT_SUPPORTED;
  if (why != nullptr) *why = CUDA_GRAPH_INSTANTIATE_SUCCESS;
  auto* exec = new CUgraphExec_st;
  exec->source = graph;
  exec->flags = flags;
  exec->context = current_context();
  if (!flatten(graph, exec->items)) {
    if (why != nullptr) *why = CUDA_GRAPH_INSTANTIATE_INVALID_STRUCTURE;
    delete exec;
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (const auto& item : exec->items) {  // code is resident before the first launch
    if (item.body.type != CU_GRAPH_NODE_TYPE_KERNEL) continue;
    const CUresult result = load_code(item.body.kernel.func);
    if (result != CUDA_SUCCESS) {
      delete exec;
      return result;
    }
  }
  const auto kernels = static_cast<std::uint64_t>(
      std::count_if(exec->items.begin(), exec->items.end(),
                    [](const auto& item) { return item.body.type == CU_GRAPH_NODE_TYPE_KERNEL; }));
  if (kernels > 0 && exec->context == nullptr) exec->context = exec->items.front().body.context;
  if (kernels > 0 && valid(exec->context)) {
    if (!take_object_bytes(exec->context, kernels * kGraphKernelBytes)) {
      delete exec;
      return CUDA_ERROR_OUT_OF_MEMORY;
    }
    exec->object_bytes = kernels * kGraphKernelBytes;
  }
  hold_items(exec);
  if (graph->has_memory_nodes) graph->exec = exec;
  for (const auto& [object, count] : graph->user_objects) {
    object->references += count;
    exec->user_objects.emplace(object, count);
  }
  *out = exec;
  return CUDA_SUCCESS;
}

// The operations of one launch. The first waits for what the legacy stream's rules demand.
void enqueue_item(Call& call, CUstream stream, const CUgraphExec_st::Item& item) {
  const NodeBody& body = item.body;
  switch (body.type) {
    case CU_GRAPH_NODE_TYPE_KERNEL: {
      const CUDA_KERNEL_NODE_PARAMS_v2& p = body.kernel;
      const LaunchShape shape{{p.gridDimX, p.gridDimY, p.gridDimZ},
                              {p.blockDimX, p.blockDimY, p.blockDimZ},
                              p.sharedMemBytes};
      auto pointers = body.arguments->pointers;
      enqueue(call, stream,
              kernel_op(*stream->context->device, stream_sms(stream), shape,
                        stated_effects(p.func, pointers.data(), nullptr)));
      return;
    }
    case CU_GRAPH_NODE_TYPE_MEMCPY: {
      Box box;
      if (make_box(body.copy, box) == CUDA_SUCCESS && box.bytes() > 0)
        enqueue(call, stream, copy_op(box));
      return;
    }
    case CU_GRAPH_NODE_TYPE_MEMSET: {
      const Fill fill{body.set.dst,         body.set.pitch, body.set.value,
                      body.set.elementSize, body.set.width, body.set.height};
      if (fill.bytes() > 0 && check_fill(fill) == CUDA_SUCCESS)
        enqueue(call, stream, fill_op(fill));
      return;
    }
    case CU_GRAPH_NODE_TYPE_HOST: {
      Op op;
      op.type = Op::Type::host;
      op.prompt = true;
      const CUDA_HOST_NODE_PARAMS host = body.host;
      op.work = [host] { host.fn(host.userData); };
      enqueue(call, stream, std::move(op));
      return;
    }
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
      if (valid(body.event)) enqueue(call, stream, record_op(body.event));
      return;
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
      if (valid(body.event)) enqueue(call, stream, wait_op(body.event));
      return;
    case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
      for (const CUstreamBatchMemOpParams& params : body.memory_ops) {
        if (params.operation != CU_STREAM_MEM_OP_BARRIER) enqueue(call, stream, memory_op(params));
      }
      return;
    case CU_GRAPH_NODE_TYPE_EMPTY:
    case CU_GRAPH_NODE_TYPE_GRAPH:
    case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
    case CU_GRAPH_NODE_TYPE_MEM_FREE:
    case CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL:
    case CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT:
    case CU_GRAPH_NODE_TYPE_CONDITIONAL:
      return;
  }
}

CUresult launch(CUgraphExec exec, CUstream handle, bool per_thread) {
  Call call;
  if (!call) return call.result;
  if (!valid(exec)) return CUDA_ERROR_INVALID_VALUE;
  const CUstream stream = find_stream(call, handle, per_thread);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  bool captured = false;
  CUresult result = route(call, stream, captured);
  if (result != CUDA_SUCCESS) return result;
  if (captured) {
    if (!valid(exec->source)) return CUDA_ERROR_INVALID_VALUE;
    NodeBody body;
    body.type = CU_GRAPH_NODE_TYPE_GRAPH;
    body.child = copy_graph(exec->source);
    body.child->parent = stream->capture->graph;
    return capture_node(stream, std::move(body));
  }
  for (const auto& item : exec->items) {
    if (!item.enabled || item.body.type != CU_GRAPH_NODE_TYPE_KERNEL) continue;
    result = prepare_launch(item.body.context, item.body.kernel.func);
    if (result != CUDA_SUCCESS) return result;
  }
  result = begin_graph_launch(exec, false);
  if (result != CUDA_SUCCESS) return result;
  // Launches of one exec follow each other, whatever their streams.
  Op first;
  if (exec->last_lane != nullptr && exec->last_lane != stream->lane &&
      exec->last_lane->completed < exec->last_ticket) {
    first.after.push_back({exec->last_lane, exec->last_ticket});
    enqueue(call, stream, std::move(first));
  }
  for (const auto& item : exec->items) {
    if (item.enabled) enqueue_item(call, stream, item);
  }
  exec->last_lane = stream->lane;
  exec->last_ticket = stream->lane->submitted;
  return CUDA_SUCCESS;
}

CUresult upload(CUgraphExec exec, CUstream handle, bool per_thread) {
  Call call;
  if (!call) return call.result;
  if (!valid(exec)) return CUDA_ERROR_INVALID_VALUE;
  const CUstream stream = find_stream(call, handle, per_thread);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (const CUresult refused = refuse_if_capturing(stream); refused != CUDA_SUCCESS) return refused;
  return begin_graph_launch(exec, true);
}

CUresult with_params(CUgraphExec* out, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS* params) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  params->hErrNode_out = nullptr;
  params->result_out = CUDA_GRAPH_INSTANTIATE_ERROR;
  CUgraphExec made = nullptr;
  CUresult result = instantiate(&made, graph, params->flags, &params->result_out);
  if (result == CUDA_SUCCESS && (params->flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD) != 0)
    result = begin_graph_launch(made, true);
  if (result == CUDA_SUCCESS) *out = made;
  return result;
}

CUresult with_log(CUgraphExec* out, CUgraph graph, CUgraphNode* error_node, char* log,
                  size_t size) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (error_node != nullptr) *error_node = nullptr;
  if (log != nullptr && size > 0) log[0] = 0;
  return instantiate(out, graph, 0, nullptr);
}

// Which difference forbids an update, if any.
CUgraphExecUpdateResult compare(const std::vector<CUgraphExec_st::Item>& now,
                                const std::vector<CUgraphExec_st::Item>& next, CUgraphNode& at) {
  if (now.size() != next.size()) return CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
  for (std::size_t i = 0; i < now.size(); ++i) {
    at = next[i].node;
    const NodeBody& a = now[i].body;
    const NodeBody& b = next[i].body;
    if (a.type != b.type) return CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED;
    if (a.type == CU_GRAPH_NODE_TYPE_MEM_ALLOC && a.alloc.bytesize != b.alloc.bytesize)
      return CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
    if (a.type == CU_GRAPH_NODE_TYPE_KERNEL && a.context != b.context)
      return CU_GRAPH_EXEC_UPDATE_ERROR_UNSUPPORTED_FUNCTION_CHANGE;
  }
  at = nullptr;
  return CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

CUresult update(CUgraphExec exec, CUgraph graph, CUgraphNode& error_node,
                CUgraphExecUpdateResult& why) {
  Call call(Call::kInit);
  if (!call) return call.result;
  why = CU_GRAPH_EXEC_UPDATE_ERROR;
  if (!valid(exec) || !valid(graph)) return CUDA_ERROR_INVALID_VALUE;
  std::vector<CUgraphExec_st::Item> items;
  if (!flatten(graph, items)) return CUDA_ERROR_INVALID_VALUE;
  why = compare(exec->items, items, error_node);
  if (why != CU_GRAPH_EXEC_UPDATE_SUCCESS) return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
  for (const auto& item : items) hold_graph_allocation(item.body);
  forget_items(exec);
  for (std::size_t i = 0; i < items.size(); ++i) items[i].enabled = exec->items[i].enabled;
  exec->items = std::move(items);
  exec->source = graph;
  return CUDA_SUCCESS;
}

// Changes one node of an exec.
template <class Make>
CUresult change(CUgraphExec exec, CUgraphNode node, CUgraphNodeType type, Make make) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(exec) || !valid(node) || node->body.type != type) return CUDA_ERROR_INVALID_VALUE;
  const auto item = std::find_if(exec->items.begin(), exec->items.end(),
                                 [&](const auto& candidate) { return candidate.node == node; });
  if (item == exec->items.end()) return CUDA_ERROR_INVALID_VALUE;
  NodeBody body = item->body;
  const CUresult result = make(call, body);
  if (result == CUDA_SUCCESS) item->body = std::move(body);
  return result;
}

CUDA_KERNEL_NODE_PARAMS_v2 widened(const CUDA_KERNEL_NODE_PARAMS_v1& p) {
  return {p.func,      p.gridDimX,       p.gridDimY,     p.gridDimZ, p.blockDimX, p.blockDimY,
          p.blockDimZ, p.sharedMemBytes, p.kernelParams, p.extra,    nullptr,     nullptr};
}

CUresult set_event(CUgraphExec exec, CUgraphNode node, CUevent event, CUgraphNodeType type) {
  return change(exec, node, type, [&](Call&, NodeBody& body) {
    body.event = event;
    return valid(event) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

}  // namespace

CUresult sim_cuGraphInstantiate(CUgraphExec* exec, CUgraph graph, CUgraphNode* error_node,
                                char* log_buffer, size_t buffer_size) {
  return with_log(exec, graph, error_node, log_buffer, buffer_size);
}
CUresult sim_cuGraphInstantiate_v2(CUgraphExec* exec, CUgraph graph, CUgraphNode* error_node,
                                   char* log_buffer, size_t buffer_size) {
  return with_log(exec, graph, error_node, log_buffer, buffer_size);
}
CUresult sim_cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph graph,
                                         unsigned long long flags) {
  Call call(Call::kInit);
  if (!call) return call.result;
  return instantiate(exec, graph, flags, nullptr);
}
CUresult sim_cuGraphInstantiateWithParams(CUgraphExec* exec, CUgraph graph,
                                          CUDA_GRAPH_INSTANTIATE_PARAMS* params) {
  return with_params(exec, graph, params);
}
CUresult sim_cuGraphInstantiateWithParams_ptsz(CUgraphExec* exec, CUgraph graph,
                                               CUDA_GRAPH_INSTANTIATE_PARAMS* params) {
  return with_params(exec, graph, params);
}
CUresult sim_cuGraphExecDestroy(CUgraphExec exec) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(exec)) return CUDA_ERROR_INVALID_VALUE;
  end_graph_holds(exec);
  forget_items(exec);
  if (exec->object_bytes > 0 && valid(exec->context) && exec->context->active)
    give_object_bytes(exec->context, exec->object_bytes);
  if (valid(exec->source) && exec->source->exec == exec) exec->source->exec = nullptr;
  release_user_objects(exec->user_objects);
  delete exec;
  return CUDA_SUCCESS;
}
CUresult sim_cuGraphExecGetFlags(CUgraphExec exec, cuuint64_t* flags) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(exec) || flags == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *flags = exec->flags;
  return CUDA_SUCCESS;
}
CUresult sim_cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  return launch(exec, stream, false);
}
CUresult sim_cuGraphLaunch_ptsz(CUgraphExec exec, CUstream stream) {
  return launch(exec, stream, true);
}
CUresult sim_cuGraphUpload(CUgraphExec exec, CUstream stream) {
  return upload(exec, stream, false);
}
CUresult sim_cuGraphUpload_ptsz(CUgraphExec exec, CUstream stream) {
  return upload(exec, stream, true);
}
CUresult sim_cuGraphExecUpdate(CUgraphExec exec, CUgraph graph, CUgraphNode* error_node_out,
                               CUgraphExecUpdateResult* update_result_out) {
  CUgraphNode node = nullptr;
  CUgraphExecUpdateResult why = CU_GRAPH_EXEC_UPDATE_ERROR;
  const CUresult result = update(exec, graph, node, why);
  if (error_node_out != nullptr) *error_node_out = node;
  if (update_result_out != nullptr) *update_result_out = why;
  return result;
}
CUresult sim_cuGraphExecUpdate_v2(CUgraphExec exec, CUgraph graph,
                                  CUgraphExecUpdateResultInfo* result_info) {
  CUgraphNode node = nullptr;
  CUgraphExecUpdateResult why = CU_GRAPH_EXEC_UPDATE_ERROR;
  const CUresult result = update(exec, graph, node, why);
  if (result_info != nullptr) *result_info = {why, node, nullptr};
  return result;
}
CUresult sim_cuGraphNodeSetEnabled(CUgraphExec exec, CUgraphNode node, unsigned int is_enabled) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(exec) || !valid(node)) return CUDA_ERROR_INVALID_VALUE;
  const CUgraphNodeType type = node->body.type;
  if (type != CU_GRAPH_NODE_TYPE_KERNEL && type != CU_GRAPH_NODE_TYPE_MEMCPY &&
      type != CU_GRAPH_NODE_TYPE_MEMSET)
    return CUDA_ERROR_INVALID_VALUE;
  for (auto& item : exec->items) {
    if (item.node == node) item.enabled = is_enabled != 0;
  }
  return CUDA_SUCCESS;
}
CUresult sim_cuGraphNodeGetEnabled(CUgraphExec exec, CUgraphNode node, unsigned int* is_enabled) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(exec) || !valid(node) || is_enabled == nullptr) return CUDA_ERROR_INVALID_VALUE;
  for (const auto& item : exec->items) {
    if (item.node != node) continue;
    *is_enabled = item.enabled ? 1 : 0;
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_VALUE;
}
CUresult sim_cuGraphExecKernelNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                            const CUDA_KERNEL_NODE_PARAMS_v1* params) {
  if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return change(exec, node, CU_GRAPH_NODE_TYPE_KERNEL, [&](Call& call, NodeBody& body) {
    return kernel_body(call, widened(*params), body);
  });
}
CUresult sim_cuGraphExecKernelNodeSetParams_v2(CUgraphExec exec, CUgraphNode node,
                                               const CUDA_KERNEL_NODE_PARAMS* params) {
  if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return change(exec, node, CU_GRAPH_NODE_TYPE_KERNEL,
                [&](Call& call, NodeBody& body) { return kernel_body(call, *params, body); });
}
CUresult sim_cuGraphExecMemcpyNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                            const CUDA_MEMCPY3D* params, CUcontext context) {
  if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return change(exec, node, CU_GRAPH_NODE_TYPE_MEMCPY,
                [&](Call&, NodeBody& body) { return memcpy_body(*params, context, body); });
}
CUresult sim_cuGraphExecMemsetNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                            const CUDA_MEMSET_NODE_PARAMS* params,
                                            CUcontext context) {
  if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return change(exec, node, CU_GRAPH_NODE_TYPE_MEMSET,
                [&](Call&, NodeBody& body) { return memset_body(*params, context, body); });
}
CUresult sim_cuGraphExecHostNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                          const CUDA_HOST_NODE_PARAMS* params) {
  if (params == nullptr || params->fn == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return change(exec, node, CU_GRAPH_NODE_TYPE_HOST, [&](Call&, NodeBody& body) {
    body.host = *params;
    return CUDA_SUCCESS;
  });
}
CUresult sim_cuGraphExecBatchMemOpNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                                const CUDA_BATCH_MEM_OP_NODE_PARAMS* params) {
  if (params == nullptr || params->paramArray == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return change(exec, node, CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, [&](Call&, NodeBody& body) {
    body.memory_ops.assign(params->paramArray, params->paramArray + params->count);
    return CUDA_SUCCESS;
  });
}
CUresult sim_cuGraphExecEventRecordNodeSetEvent(CUgraphExec exec, CUgraphNode node, CUevent event) {
  return set_event(exec, node, event, CU_GRAPH_NODE_TYPE_EVENT_RECORD);
}
CUresult sim_cuGraphExecEventWaitNodeSetEvent(CUgraphExec exec, CUgraphNode node, CUevent event) {
  return set_event(exec, node, event, CU_GRAPH_NODE_TYPE_WAIT_EVENT);
}
CUresult sim_cuGraphExecChildGraphNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                                CUgraph child_graph) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(exec) || !valid(node) || !valid(child_graph) ||
      node->body.type != CU_GRAPH_NODE_TYPE_GRAPH)
    return CUDA_ERROR_INVALID_VALUE;
  std::vector<CUgraphExec_st::Item> now;
  std::vector<CUgraphExec_st::Item> next;
  if (!flatten(node->body.child, now) || !flatten(child_graph, next))
    return CUDA_ERROR_INVALID_VALUE;
  CUgraphNode at = nullptr;
  if (compare(now, next, at) != CU_GRAPH_EXEC_UPDATE_SUCCESS)
    return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
  for (std::size_t i = 0; i < now.size(); ++i) {
    for (auto& item : exec->items) {
      if (item.node == now[i].node) item.body = next[i].body;
    }
  }
  return CUDA_SUCCESS;
}
CUresult sim_cuGraphExecNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                      CUgraphNodeParams* params) {
  if (params == nullptr || params->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC ||
      params->type == CU_GRAPH_NODE_TYPE_MEM_FREE)
    return CUDA_ERROR_INVALID_VALUE;
  if (params->type == CU_GRAPH_NODE_TYPE_GRAPH)
    return sim_cuGraphExecChildGraphNodeSetParams(exec, node, params->graph.graph);
  return change(exec, node, params->type, [&](Call& call, NodeBody& body) {
    return general_body(call, node->graph, *params, body);
  });
}

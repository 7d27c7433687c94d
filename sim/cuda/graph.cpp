// SPDX-License-Identifier: Apache-2.0
// Graphs as structures: nodes, edges, clones, user objects. Running them is graph_exec.cpp's
// business.
#include "graph.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "capture.h"
#include "module.h"

using namespace vgpu::sim;

namespace vgpu::sim {

CUgraph new_graph() { return new CUgraph_st; }

namespace {

void unlink(CUgraphNode node) {
  for (const CUgraphNode from : node->from) std::erase(from->to, node);
  for (const CUgraphNode to : node->to) std::erase(to->from, node);
}

void destroy_node(CUgraphNode node) {
  forget_graph_allocation(node->body);
  if (node->body.type == CU_GRAPH_NODE_TYPE_GRAPH && node->body.child != nullptr)
    destroy_graph(node->body.child);
  delete node;
}

}  // namespace

void release_object(CUuserObject object, std::uint64_t count) {
  object->references -= std::min(object->references, count);
  if (object->references > 0) return;
  if (object->destroy != nullptr) object->destroy(object->pointer);
  delete object;
}

CUgraph copy_graph(CUgraph graph) {
  CUgraph copy = new_graph();
  copy->original = graph;
  copy->has_memory_nodes = graph->has_memory_nodes;
  std::map<CUgraphNode, CUgraphNode> made;
  for (const CUgraphNode node : graph->nodes) {
    auto* twin = new CUgraphNode_st;
    twin->graph = copy;
    twin->original = node;
    twin->body = node->body;
    twin->attributes = node->attributes;
    hold_graph_allocation(twin->body);
    if (twin->body.type == CU_GRAPH_NODE_TYPE_GRAPH) {
      twin->body.child = copy_graph(node->body.child);
      twin->body.child->parent = copy;
    }
    made.emplace(node, twin);
    copy->nodes.push_back(twin);
  }
  for (const CUgraphNode node : graph->nodes) {
    for (const CUgraphNode from : node->from) made[node]->from.push_back(made[from]);
    for (const CUgraphNode to : node->to) made[node]->to.push_back(made[to]);
  }
  for (const auto& [object, count] : graph->user_objects) {
    object->references += count;
    copy->user_objects.emplace(object, count);
  }
  return copy;
}

namespace {

bool reaches(CUgraphNode from, CUgraphNode target) {
  if (from == target) return true;
  return std::any_of(from->to.begin(), from->to.end(),
                     [&](CUgraphNode next) { return reaches(next, target); });
}

}  // namespace

void release_user_objects(std::map<CUuserObject, std::uint64_t>& objects) {
  for (const auto& [object, count] : objects) release_object(object, count);
  objects.clear();
}

void destroy_graph(CUgraph graph) {
  for (const CUgraphNode node : graph->nodes) destroy_node(node);
  release_user_objects(graph->user_objects);
  delete graph;
}

CUresult add_node(CUgraph graph, const CUgraphNode* dependencies, std::size_t count,
                  NodeBody&& body, CUgraphNode& out) {
  if (count > 0 && dependencies == nullptr) return CUDA_ERROR_INVALID_VALUE;
  for (std::size_t i = 0; i < count; ++i) {
    if (!valid(dependencies[i]) || dependencies[i]->graph != graph) return CUDA_ERROR_INVALID_VALUE;
    for (std::size_t j = 0; j < i; ++j) {
      if (dependencies[j] == dependencies[i]) return CUDA_ERROR_INVALID_VALUE;
    }
  }
  auto* node = new CUgraphNode_st;
  node->graph = graph;
  node->body = std::move(body);
  hold_graph_allocation(node->body);
  if (node->body.type == CU_GRAPH_NODE_TYPE_MEM_ALLOC ||
      node->body.type == CU_GRAPH_NODE_TYPE_MEM_FREE)
    graph->has_memory_nodes = true;
  for (std::size_t i = 0; i < count; ++i) {
    node->from.push_back(dependencies[i]);
    dependencies[i]->to.push_back(node);
  }
  graph->nodes.push_back(node);
  out = node;
  return CUDA_SUCCESS;
}

CUresult copy_arguments(CUfunction function, void** params, void** extra,
                        std::shared_ptr<KernelArguments>& out) {
  const KernelText& text = *function->text;
  auto copy = std::make_shared<KernelArguments>();
  copy->bytes.resize(std::max<std::size_t>(text.param_bytes, 8));
  if (params != nullptr) {
    for (std::size_t i = 0; i < text.param_offsets.size(); ++i) {
      if (params[i] == nullptr) return CUDA_ERROR_INVALID_VALUE;
      std::memcpy(copy->bytes.data() + text.param_offsets[i], params[i], text.param_sizes[i]);
    }
  } else if (extra != nullptr) {
    for (void** at = extra; *at != CU_LAUNCH_PARAM_END; at += 2) {
      if (at[0] != CU_LAUNCH_PARAM_BUFFER_POINTER) continue;
      std::memcpy(copy->bytes.data(), at[1], text.param_bytes);
    }
  } else if (!text.param_offsets.empty()) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (const std::uint64_t offset : text.param_offsets)
    copy->pointers.push_back(copy->bytes.data() + offset);
  out = std::move(copy);
  return CUDA_SUCCESS;
}

}  // namespace vgpu::sim

namespace {

// A call on a graph or node: the driver's mutex and a handle that is one.
struct OnGraph {
  explicit OnGraph(CUgraph graph) : call(Call::kInit), result(call.result) {
    if (result == CUDA_SUCCESS && !valid(graph)) result = CUDA_ERROR_INVALID_VALUE;
  }
  explicit OnGraph(CUgraphNode node) : call(Call::kInit), result(call.result) {
    if (result == CUDA_SUCCESS && !valid(node)) result = CUDA_ERROR_INVALID_VALUE;
  }
  explicit operator bool() const { return result == CUDA_SUCCESS; }
  Call call;
  CUresult result;
};

// Lists of handles: all of them, their number, or as many as the caller has room for (the rest is
// cleared).
CUresult list(const std::vector<CUgraphNode>& nodes, CUgraphNode* out, size_t* count) {
  if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (out == nullptr) {
    *count = nodes.size();
    return CUDA_SUCCESS;
  }
  for (size_t i = 0; i < *count; ++i) out[i] = i < nodes.size() ? nodes[i] : nullptr;
  *count = std::min(*count, nodes.size());
  return CUDA_SUCCESS;
}

CUresult edges(CUgraph graph, CUgraphNode* from, CUgraphNode* to, CUgraphEdgeData* data,
               size_t* count) {
  const OnGraph on(graph);
  if (!on) return on.result;
  if (count == nullptr || (from == nullptr) != (to == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  std::vector<std::pair<CUgraphNode, CUgraphNode>> found;
  for (const CUgraphNode node : graph->nodes) {
    for (const CUgraphNode next : node->to) found.emplace_back(node, next);
  }
  if (from == nullptr) {
    *count = found.size();
    return CUDA_SUCCESS;
  }
  for (size_t i = 0; i < *count; ++i) {
    from[i] = i < found.size() ? found[i].first : nullptr;
    to[i] = i < found.size() ? found[i].second : nullptr;
    if (data != nullptr) data[i] = {};
  }
  *count = std::min(*count, found.size());
  return CUDA_SUCCESS;
}

CUresult neighbours(CUgraphNode node, bool dependencies, CUgraphNode* out, CUgraphEdgeData* data,
                    size_t* count) {
  const OnGraph on(node);
  if (!on) return on.result;
  const CUresult result = list(dependencies ? node->from : node->to, out, count);
  if (result == CUDA_SUCCESS && out != nullptr && data != nullptr)
    std::fill(data, data + *count, CUgraphEdgeData{});
  return result;
}

CUresult add_edges(CUgraph graph, const CUgraphNode* from, const CUgraphNode* to, size_t count) {
  const OnGraph on(graph);
  if (!on) return on.result;
  if (count > 0 && (from == nullptr || to == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; ++i) {
    if (!valid(from[i]) || !valid(to[i]) || from[i]->graph != graph || to[i]->graph != graph ||
        reaches(to[i], from[i]))
      return CUDA_ERROR_INVALID_VALUE;
    if (std::find(from[i]->to.begin(), from[i]->to.end(), to[i]) != from[i]->to.end())
      return CUDA_ERROR_INVALID_VALUE;
    from[i]->to.push_back(to[i]);
    to[i]->from.push_back(from[i]);
  }
  return CUDA_SUCCESS;
}

CUresult remove_edges(CUgraph graph, const CUgraphNode* from, const CUgraphNode* to, size_t count) {
  const OnGraph on(graph);
  if (!on) return on.result;
  if (count > 0 && (from == nullptr || to == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  if (graph->has_memory_nodes) return CUDA_ERROR_NOT_SUPPORTED;
  for (size_t i = 0; i < count; ++i) {
    if (!valid(from[i]) || !valid(to[i]) || std::erase(from[i]->to, to[i]) == 0)
      return CUDA_ERROR_INVALID_VALUE;
    std::erase(to[i]->from, from[i]);
  }
  return CUDA_SUCCESS;
}

}  // namespace

CUresult sim_cuGraphCreate(CUgraph* graph, unsigned int flags) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  if (graph == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  *graph = new_graph();
  return CUDA_SUCCESS;
}
CUresult sim_cuGraphDestroy(CUgraph graph) {
  const OnGraph on(graph);
  if (!on) return on.result;
  if (graph->parent != nullptr || graph->capturing) return CUDA_ERROR_INVALID_VALUE;
  destroy_graph(graph);
  return CUDA_SUCCESS;
}
CUresult sim_cuGraphClone(CUgraph* graph_clone, CUgraph original_graph) {
  const OnGraph on(original_graph);
  if (!on) return on.result;
  if (graph_clone == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (original_graph->has_memory_nodes) return CUDA_ERROR_NOT_SUPPORTED;
  *graph_clone = vgpu::sim::copy_graph(original_graph);
  return CUDA_SUCCESS;
}
CUresult sim_cuGraphGetNodes(CUgraph graph, CUgraphNode* nodes, size_t* num_nodes) {
  const OnGraph on(graph);
  return on ? list(graph->nodes, nodes, num_nodes) : on.result;
}
CUresult sim_cuGraphGetRootNodes(CUgraph graph, CUgraphNode* root_nodes, size_t* num_root_nodes) {
  const OnGraph on(graph);
  if (!on) return on.result;
  std::vector<CUgraphNode> roots;
  std::copy_if(graph->nodes.begin(), graph->nodes.end(), std::back_inserter(roots),
               [](CUgraphNode node) { return node->from.empty(); });
  return list(roots, root_nodes, num_root_nodes);
}
CUresult sim_cuGraphGetEdges(CUgraph graph, CUgraphNode* from, CUgraphNode* to, size_t* num_edges) {
  return edges(graph, from, to, nullptr, num_edges);
}
CUresult sim_cuGraphGetEdges_v2(CUgraph graph, CUgraphNode* from, CUgraphNode* to,
                                CUgraphEdgeData* edge_data, size_t* num_edges) {
  return edges(graph, from, to, edge_data, num_edges);
}
CUresult sim_cuGraphNodeGetDependencies(CUgraphNode node, CUgraphNode* dependencies,
                                        size_t* num_dependencies) {
  return neighbours(node, true, dependencies, nullptr, num_dependencies);
}
CUresult sim_cuGraphNodeGetDependencies_v2(CUgraphNode node, CUgraphNode* dependencies,
                                           CUgraphEdgeData* edge_data, size_t* num_dependencies) {
  return neighbours(node, true, dependencies, edge_data, num_dependencies);
}
CUresult sim_cuGraphNodeGetDependentNodes(CUgraphNode node, CUgraphNode* dependent_nodes,
                                          size_t* num_dependent_nodes) {
  return neighbours(node, false, dependent_nodes, nullptr, num_dependent_nodes);
}
CUresult sim_cuGraphNodeGetDependentNodes_v2(CUgraphNode node, CUgraphNode* dependent_nodes,
                                             CUgraphEdgeData* edge_data,
                                             size_t* num_dependent_nodes) {
  return neighbours(node, false, dependent_nodes, edge_data, num_dependent_nodes);
}
CUresult sim_cuGraphAddDependencies(CUgraph graph, const CUgraphNode* from, const CUgraphNode* to,
                                    size_t count) {
  return add_edges(graph, from, to, count);
}
CUresult sim_cuGraphAddDependencies_v2(CUgraph graph, const CUgraphNode* from,
                                       const CUgraphNode* to, const CUgraphEdgeData*,
                                       size_t count) {
  return add_edges(graph, from, to, count);
}
CUresult sim_cuGraphRemoveDependencies(CUgraph graph, const CUgraphNode* from,
                                       const CUgraphNode* to, size_t count) {
  return remove_edges(graph, from, to, count);
}
CUresult sim_cuGraphRemoveDependencies_v2(CUgraph graph, const CUgraphNode* from,
                                          const CUgraphNode* to, const CUgraphEdgeData*,
                                          size_t count) {
  return remove_edges(graph, from, to, count);
}
CUresult sim_cuGraphDestroyNode(CUgraphNode node) {
  const OnGraph on(node);
  if (!on) return on.result;
  if (node->body.type == CU_GRAPH_NODE_TYPE_MEM_ALLOC ||
      node->body.type == CU_GRAPH_NODE_TYPE_MEM_FREE)
    return CUDA_ERROR_NOT_SUPPORTED;
  unlink(node);
  std::erase(node->graph->nodes, node);
  destroy_node(node);
  return CUDA_SUCCESS;
}
CUresult sim_cuGraphNodeGetType(CUgraphNode node, CUgraphNodeType* type) {
  const OnGraph on(node);
  if (!on) return on.result;
  if (type == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *type = node->body.type;
  return CUDA_SUCCESS;
}
CUresult sim_cuGraphNodeFindInClone(CUgraphNode* node, CUgraphNode original_node,
                                    CUgraph cloned_graph) {
  const OnGraph on(cloned_graph);
  if (!on) return on.result;
  if (node == nullptr || !valid(original_node)) return CUDA_ERROR_INVALID_VALUE;
  for (const CUgraphNode candidate : cloned_graph->nodes) {
    if (candidate->original != original_node) continue;
    *node = candidate;
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_VALUE;
}
CUresult sim_cuGraphDebugDotPrint(CUgraph graph, const char* path, unsigned int) {
  const OnGraph on(graph);
  if (!on) return on.result;
  if (path == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::FILE* file = std::fopen(path, "we");
  if (file == nullptr) return CUDA_ERROR_OPERATING_SYSTEM;
  std::fputs("digraph dot {\n", file);
  std::map<CUgraphNode, std::size_t> numbers;
  for (const CUgraphNode node : graph->nodes) {
    const std::size_t number = numbers.size();
    numbers.emplace(node, number);
    std::fprintf(file, "  node_%zu [label=\"type %u\"];\n", number,
                 static_cast<unsigned>(node->body.type));
  }
  for (const CUgraphNode node : graph->nodes) {
    for (const CUgraphNode next : node->to)
      std::fprintf(file, "  node_%zu -> node_%zu;\n", numbers[node], numbers[next]);
  }
  std::fputs("}\n", file);
  std::fclose(file);
  return CUDA_SUCCESS;
}

CUresult sim_cuUserObjectCreate(CUuserObject* object_out, void* ptr, CUhostFn destroy,
                                unsigned int initial_refcount, unsigned int flags) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  if (object_out == nullptr || destroy == nullptr || initial_refcount == 0 ||
      flags != CU_USER_OBJECT_NO_DESTRUCTOR_SYNC)
    return CUDA_ERROR_INVALID_VALUE;
  auto* object = new CUuserObject_st;
  object->references = initial_refcount;
  object->pointer = ptr;
  object->destroy = destroy;
  *object_out = object;
  return CUDA_SUCCESS;
}
CUresult sim_cuUserObjectRetain(CUuserObject object, unsigned int count) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(object) || count == 0) return CUDA_ERROR_INVALID_VALUE;
  object->references += count;
  return CUDA_SUCCESS;
}
CUresult sim_cuUserObjectRelease(CUuserObject object, unsigned int count) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(object) || count == 0 || count > object->references) return CUDA_ERROR_INVALID_VALUE;
  vgpu::sim::release_object(object, count);
  return CUDA_SUCCESS;
}
CUresult sim_cuGraphRetainUserObject(CUgraph graph, CUuserObject object, unsigned int count,
                                     unsigned int flags) {
  const OnGraph on(graph);
  if (!on) return on.result;
  if (!valid(object) || count == 0 || (flags & ~unsigned{CU_GRAPH_USER_OBJECT_MOVE}) != 0)
    return CUDA_ERROR_INVALID_VALUE;
  if (flags != CU_GRAPH_USER_OBJECT_MOVE) object->references += count;
  graph->user_objects[object] += count;
  return CUDA_SUCCESS;
}
CUresult sim_cuGraphReleaseUserObject(CUgraph graph, CUuserObject object, unsigned int count) {
  const OnGraph on(graph);
  if (!on) return on.result;
  if (!valid(object) || count == 0) return CUDA_ERROR_INVALID_VALUE;
  const auto at = graph->user_objects.find(object);
  if (at == graph->user_objects.end() || at->second < count) return CUDA_ERROR_INVALID_VALUE;
  at->second -= count;
  if (at->second == 0) graph->user_objects.erase(at);
  vgpu::sim::release_object(object, count);
  return CUDA_SUCCESS;
}

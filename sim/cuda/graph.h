// SPDX-License-Identifier: Apache-2.0
// Graphs: nodes with their parameters copied, and what an instantiated graph puts into a stream. A
// launch puts the nodes into the stream one after the other in topological order. Memory nodes have
// their addresses from the moment they are added and hold device memory from launch to free
// (graph_memory.cpp).
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "driver.h"

namespace vgpu::sim {

// The launch parameters of a kernel, deep: pointers into the caller's memory would not outlive the
// call.
struct KernelArguments {
  std::vector<unsigned char> bytes;  // laid out as the kernel takes them
  std::vector<void*> pointers;       // one into `bytes` for each parameter
};

struct NodeBody {
  CUgraphNodeType type = CU_GRAPH_NODE_TYPE_EMPTY;
  CUDA_KERNEL_NODE_PARAMS_v2 kernel{};
  std::shared_ptr<KernelArguments> arguments;
  CUDA_MEMCPY3D copy{};
  CUDA_MEMSET_NODE_PARAMS set{};
  CUDA_HOST_NODE_PARAMS host{};
  CUgraph child = nullptr;
  CUevent event = nullptr;
  CUDA_MEM_ALLOC_NODE_PARAMS alloc{};
  CUdeviceptr free_ptr = 0;
  std::vector<CUstreamBatchMemOpParams> memory_ops;
  CUcontext context = nullptr;
};

// Device memory that an instantiated graph holds, or what it left allocated when it went.
struct GraphHold {
  Device* device;
  std::uint64_t bytes;
  int live;  // allocations that live in it
  bool exec_alive;
};

}  // namespace vgpu::sim

struct CUgraphNode_st : vgpu::sim::Handle<CUgraphNode_st> {
  static constexpr std::uint32_t kMagic = 0x4e4f4431;
  CUgraph graph = nullptr;
  CUgraphNode original = nullptr;  // in a clone: what it was made from
  vgpu::sim::NodeBody body;
  std::vector<CUgraphNode> from;
  std::vector<CUgraphNode> to;
  std::map<int, CUkernelNodeAttrValue> attributes;
};

struct CUuserObject_st : vgpu::sim::Handle<CUuserObject_st> {
  static constexpr std::uint32_t kMagic = 0x55534f31;
  std::uint64_t references = 0;
  void* pointer = nullptr;
  CUhostFn destroy = nullptr;
};

struct CUgraph_st : vgpu::sim::Handle<CUgraph_st> {
  static constexpr std::uint32_t kMagic = 0x47524831;
  std::vector<CUgraphNode> nodes;  // in order of creation
  CUgraph parent = nullptr;        // a child graph belongs to its node's graph
  CUgraph original = nullptr;
  bool capturing = false;
  bool has_memory_nodes = false;
  CUgraphExec exec = nullptr;  // a graph with memory nodes may have one at a time
  std::map<CUuserObject, std::uint64_t> user_objects;
};

struct CUgraphExec_st : vgpu::sim::Handle<CUgraphExec_st> {
  static constexpr std::uint32_t kMagic = 0x47455831;
  struct Item {
    CUgraphNode node;  // as in the graph it was made from
    vgpu::sim::NodeBody body;
    bool enabled = true;
  };
  CUgraph graph = nullptr;  // its own copy
  CUgraph source = nullptr;
  CUcontext context = nullptr;
  std::uint64_t flags = 0;
  std::vector<Item> items;  // in the order of execution, child graphs flattened
  std::map<CUuserObject, std::uint64_t> user_objects;
  std::map<vgpu::sim::Device*, std::shared_ptr<vgpu::sim::GraphHold>> holds;
  std::uint64_t object_bytes = 0;  // charged to its context
  vgpu::sim::Lane* last_lane = nullptr;
  std::uint64_t last_ticket = 0;
};

namespace vgpu::sim {

CUgraph new_graph();
void destroy_graph(CUgraph graph);
CUgraph copy_graph(CUgraph graph);
void release_object(CUuserObject object, std::uint64_t count);
void release_user_objects(std::map<CUuserObject, std::uint64_t>& objects);
CUresult add_node(CUgraph graph, const CUgraphNode* dependencies, std::size_t count,
                  NodeBody&& body, CUgraphNode& out);
// Copies what a kernel's parameters point at. INVALID_VALUE if they don't fit the kernel.
CUresult copy_arguments(CUfunction function, void** params, void** extra,
                        std::shared_ptr<KernelArguments>& out);

// Checked parameters as a node keeps them (graph_nodes.cpp).
CUresult kernel_body(Call& call, const CUDA_KERNEL_NODE_PARAMS_v2& params, NodeBody& body);
CUresult memset_body(const CUDA_MEMSET_NODE_PARAMS& params, CUcontext context, NodeBody& body);
CUresult memcpy_body(const CUDA_MEMCPY3D& params, CUcontext context, NodeBody& body);
CUresult general_body(Call& call, CUgraph graph, CUgraphNodeParams& params, NodeBody& body);

// Graph memory (graph_memory.cpp).
CUresult add_graph_allocation(CUgraph graph, NodeBody& body);
// A node or an instantiated item begins and ceases to name an allocation.
void hold_graph_allocation(const NodeBody& body);
void forget_graph_allocation(const NodeBody& body);
CUresult begin_graph_launch(CUgraphExec exec, bool only_reserve);
void end_graph_holds(CUgraphExec exec);
// Freed outside of a graph.
void end_graph_allocation(CUdeviceptr address);
bool graph_allocation_live(CUdeviceptr address);
// The device's last context is gone.
void drop_graph_memory(Device& device);

}  // namespace vgpu::sim

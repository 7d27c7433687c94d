// SPDX-License-Identifier: Apache-2.0
// Memory of graphs. An allocation node has its address from the moment it is added; device memory
// stands behind it from a launch until it is freed, by a node, by the user or by the next launch.
// The device keeps what graphs needed at their peak, in steps of 32 MiB, until it is trimmed.
#include <algorithm>

#include "capture.h"
#include "graph.h"
#include "pool.h"

using namespace vgpu::sim;

namespace vgpu::sim {
namespace {

struct GraphAllocation {
  Device* device = nullptr;
  std::uint64_t bytes = 0;  // in pages
  int references = 0;       // nodes and instantiated items that name it
  bool live = false;
  std::shared_ptr<GraphHold> hold;  // of the launch that it lives from
};

std::map<CUdeviceptr, GraphAllocation>& allocations() {
  static auto* map = new std::map<CUdeviceptr, GraphAllocation>;
  return *map;
}

struct Totals {
  std::uint64_t used = 0;  // what instantiated graphs, or what they left allocated, hold
  std::uint64_t used_high = 0;
  std::uint64_t reserved = 0;
  std::uint64_t reserved_high = 0;
};

Totals& totals(const Device& device) {
  static auto* all = new std::map<int, Totals>;
  return (*all)[device.index()];
}

// A graph's own part of the device's graph memory, in whole steps. Reserved memory that nobody
// holds is used first.
CUresult hold(GraphHold& part, std::uint64_t peak) {
  const std::uint64_t needed = round_up(peak, kGraphGrowthBytes);
  if (needed <= part.bytes) return CUDA_SUCCESS;
  Totals& sums = totals(*part.device);
  const std::uint64_t used = sums.used + needed - part.bytes;
  if (used > sums.reserved) {
    if (!charge(*part.device, used - sums.reserved)) return CUDA_ERROR_OUT_OF_MEMORY;
    sums.reserved = used;
    sums.reserved_high = std::max(sums.reserved_high, used);
  }
  sums.used = used;
  sums.used_high = std::max(sums.used_high, used);
  part.bytes = needed;
  return CUDA_SUCCESS;
}

void drop_if_unused(const std::shared_ptr<GraphHold>& part) {
  if (part == nullptr || part->exec_alive || part->live > 0) return;
  totals(*part->device).used -= part->bytes;
  part->bytes = 0;
}

void set_live(GraphAllocation& allocation, bool live, const std::shared_ptr<GraphHold>& part) {
  if (allocation.live == live) return;
  allocation.live = live;
  if (live) {
    allocation.hold = part;
    ++part->live;
  } else if (allocation.hold != nullptr) {
    --allocation.hold->live;
    drop_if_unused(allocation.hold);
    allocation.hold = nullptr;
  }
}

void drop_if_unused(CUdeviceptr address) {
  const auto at = allocations().find(address);
  if (at == allocations().end() || at->second.references > 0 || at->second.live) return;
  Driver::get().allocations.erase(address);
  at->second.device->arena.give(address, at->second.bytes, true);
  allocations().erase(at);
}

}  // namespace

CUresult add_graph_allocation(CUgraph, NodeBody& body) {
  Driver& driver = Driver::get();
  const CUmemPoolProps& props = body.alloc.poolProps;
  if (props.location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
      props.allocType != CU_MEM_ALLOCATION_TYPE_PINNED)
    return CUDA_ERROR_INVALID_VALUE;
  Device* device = driver.device(props.location.id);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (body.alloc.bytesize == 0) return CUDA_ERROR_INVALID_VALUE;
  if (body.alloc.bytesize > device->info->cuda_total_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
  const std::uint64_t bytes = round_up(body.alloc.bytesize, kPageBytes);
  const auto place = device->arena.take(bytes, kPageBytes);
  if (!place) return CUDA_ERROR_OUT_OF_MEMORY;
  record_allocation(*place, body.alloc.bytesize, Kind::graph, body.context, device);
  allocations()[*place] = {device, bytes, 0, false, nullptr};
  body.alloc.dptr = *place;
  return CUDA_SUCCESS;
}

void hold_graph_allocation(const NodeBody& body) {
  if (body.type != CU_GRAPH_NODE_TYPE_MEM_ALLOC) return;
  const auto at = allocations().find(body.alloc.dptr);
  if (at != allocations().end()) ++at->second.references;
}

void forget_graph_allocation(const NodeBody& body) {
  if (body.type != CU_GRAPH_NODE_TYPE_MEM_ALLOC) return;
  const auto at = allocations().find(body.alloc.dptr);
  if (at == allocations().end()) return;
  --at->second.references;
  drop_if_unused(body.alloc.dptr);
}

bool graph_allocation_live(CUdeviceptr address) {
  const auto at = allocations().find(address);
  return at != allocations().end() && at->second.live;
}

void end_graph_allocation(CUdeviceptr address) {
  const auto at = allocations().find(address);
  if (at == allocations().end()) return;
  set_live(at->second, false, nullptr);
  drop_if_unused(address);
}

CUresult free_graph_allocation(Allocation& allocation) {
  if (!graph_allocation_live(allocation.base)) return CUDA_ERROR_INVALID_VALUE;
  end_graph_allocation(allocation.base);
  return CUDA_SUCCESS;
}

// A launch, in the order of its nodes: what has to be there at the peak, and what stays allocated
// afterwards. The whole is refused before anything has changed.
CUresult begin_graph_launch(CUgraphExec exec, bool only_reserve) {
  std::map<Device*, std::uint64_t> now;
  std::map<Device*, std::uint64_t> peak;
  std::set<CUdeviceptr> mine;
  const bool frees_first = (exec->flags & CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH) != 0;
  for (const auto& item : exec->items) {
    if (item.body.type == CU_GRAPH_NODE_TYPE_MEM_ALLOC) {
      const GraphAllocation& allocation = allocations().at(item.body.alloc.dptr);
      if (allocation.live && !only_reserve && !frees_first) return CUDA_ERROR_INVALID_VALUE;
      std::uint64_t& used = now[allocation.device];
      used += allocation.bytes;
      peak[allocation.device] = std::max(peak[allocation.device], used);
      mine.insert(item.body.alloc.dptr);
    } else if (item.body.type == CU_GRAPH_NODE_TYPE_MEM_FREE &&
               mine.count(item.body.free_ptr) > 0) {
      const GraphAllocation& allocation = allocations().at(item.body.free_ptr);
      now[allocation.device] -= allocation.bytes;
    }
  }
  for (const auto& [device, bytes] : peak) {
    auto& part = exec->holds[device];
    if (part == nullptr) part = std::make_shared<GraphHold>(GraphHold{device, 0, 0, true});
    const CUresult result = hold(*part, bytes);
    if (result != CUDA_SUCCESS) return result;
  }
  if (only_reserve) return CUDA_SUCCESS;
  for (const auto& item : exec->items) {
    if (item.body.type == CU_GRAPH_NODE_TYPE_MEM_ALLOC) {
      GraphAllocation& allocation = allocations().at(item.body.alloc.dptr);
      set_live(allocation, true, exec->holds[allocation.device]);
    } else if (item.body.type == CU_GRAPH_NODE_TYPE_MEM_FREE) {
      end_graph_allocation(item.body.free_ptr);
    }
  }
  return CUDA_SUCCESS;
}

void end_graph_holds(CUgraphExec exec) {
  for (const auto& [device, part] : exec->holds) {
    part->exec_alive = false;
    drop_if_unused(part);
  }
  exec->holds.clear();
}

void drop_graph_memory(Device& device) {
  Totals& sums = totals(device);
  discharge(device, sums.reserved);
  for (auto& [address, allocation] : allocations()) {
    if (allocation.device != &device) continue;
    allocation.live = false;
    if (allocation.hold != nullptr) allocation.hold->bytes = 0;
    allocation.hold = nullptr;
  }
  sums = {};
}

}  // namespace vgpu::sim

CUresult sim_cuDeviceGraphMemTrim(CUdevice ordinal) {
  Call call(Call::kInit);
  if (!call) return call.result;
  Device* device = call.driver.device(ordinal);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  Totals& sums = totals(*device);
  discharge(*device, sums.reserved - sums.used);
  sums.reserved = sums.used;
  return CUDA_SUCCESS;
}

CUresult sim_cuDeviceGetGraphMemAttribute(CUdevice ordinal, CUgraphMem_attribute attr,
                                          void* value) {
  Call call(Call::kInit);
  if (!call) return call.result;
  const Device* device = call.driver.device(ordinal);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const Totals& sums = totals(*device);
  auto* out = static_cast<cuuint64_t*>(value);
  switch (attr) {
    case CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT:
      *out = sums.used;
      return CUDA_SUCCESS;
    case CU_GRAPH_MEM_ATTR_USED_MEM_HIGH:
      *out = sums.used_high;
      return CUDA_SUCCESS;
    case CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT:
      *out = sums.reserved;
      return CUDA_SUCCESS;
    case CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH:
      *out = sums.reserved_high;
      return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuDeviceSetGraphMemAttribute(CUdevice ordinal, CUgraphMem_attribute attr,
                                          void* value) {
  Call call(Call::kInit);
  if (!call) return call.result;
  const Device* device = call.driver.device(ordinal);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (value == nullptr || *static_cast<const cuuint64_t*>(value) != 0)
    return CUDA_ERROR_INVALID_VALUE;
  Totals& sums = totals(*device);
  switch (attr) {
    case CU_GRAPH_MEM_ATTR_USED_MEM_HIGH:
      sums.used_high = sums.used;
      return CUDA_SUCCESS;
    case CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH:
      sums.reserved_high = sums.reserved;
      return CUDA_SUCCESS;
    case CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT:
    case CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT:
      break;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

// SPDX-License-Identifier: Apache-2.0
// Memory pools: what they hold of the device (in steps of 32 MiB), what is handed out, what streams
// have yet to free.
#pragma once

#include <map>
#include <vector>

#include "driver.h"
#include "memory.h"

struct CUmemPoolHandle_st : vgpu::sim::Handle<CUmemPoolHandle_st> {
  static constexpr std::uint32_t kMagic = 0x504f4f4c;
  vgpu::sim::Device* device = nullptr;  // null: host memory
  CUmemPoolProps props{};
  bool destroyed = false;  // goes when the last allocation does
  bool imported = false;
  std::uint64_t threshold = 0;
  std::uint64_t reserved = 0;
  std::uint64_t reserved_high = 0;
  std::uint64_t used = 0;
  std::uint64_t used_high = 0;
  int reuse[4] = {1, 1, 1, 1};
  std::uint64_t growth = vgpu::sim::kPoolGrowthBytes;
  std::uint64_t allocations = 0;
  // Addresses: windows that the pool fills from their beginnings; holes are steps that went back to
  // the device.
  std::uint64_t window = 0;
  std::uint64_t window_end = 0;
  std::uint64_t next = 0;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> windows;
  vgpu::sim::RangeHeap holes;
  vgpu::sim::RangeHeap free;
  // Freed in a stream's order, not reached yet: that stream may have it again at once.
  struct Pending {
    std::uint64_t bytes;
    std::uint64_t ticket;
  };
  std::map<vgpu::sim::Lane*, std::map<std::uint64_t, Pending>> pending;
  std::map<std::uint64_t, std::uint64_t> written;  // segments that were written to (start -> bytes)
  std::map<int, CUmemAccess_flags> access;         // device ordinal -> rights
};

namespace vgpu::sim {

CUmemoryPool make_pool(Device* device, const CUmemPoolProps& props);
CUmemoryPool default_pool(Device& device);
// The streams' work was waited for: gives back what is above the release threshold.
void settle_pools();
// The last context on the device is gone, and with it what its pools held.
void drop_pools(Device& device);
CUresult pool_take(CUmemoryPool pool, std::uint64_t bytes, Lane* lane, std::uint64_t& address);
void pool_give(CUmemoryPool pool, std::uint64_t address, std::uint64_t bytes);
void pool_trim(CUmemoryPool pool, std::uint64_t keep);
void free_pool_allocation(Allocation& allocation);
void note_pool_write(Allocation& allocation);
CUresult free_graph_allocation(Allocation& allocation);

}  // namespace vgpu::sim

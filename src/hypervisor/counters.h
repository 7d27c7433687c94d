// SPDX-License-Identifier: Apache-2.0
// What tenants did since the daemon began, as numbers that only grow: seats come and go with their
// processes, so what each adds is added once. What a process did in its last second before it died
// may be missing. Pure; one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "node_state.h"
#include "vgpu/shm/node.h"

namespace vgpu::hypervisor {

class Counters {
 public:
  // All live seats as of `now_ns` (CLOCK_MONOTONIC). `busy_percent`: what NVML says of a GPU, for
  // who is alone on it and counts nothing.
  void add(std::uint64_t now_ns, const std::vector<shm::SeatFacts>& seats,
           const std::function<std::optional<unsigned>(const GpuUuid&)>& busy_percent);
  // Refusals that the tenant's segment counts; another `segment` begins at 0.
  void set_denied(const std::string& tenant, const GpuUuid& gpu, std::uint64_t segment,
                  std::uint64_t denied);
  TenantCounters of(const std::string& tenant, const GpuUuid& gpu) const;
  void forget(const std::string& tenant);

 private:
  using Key = std::pair<std::string, GpuUuid>;
  struct Denied {
    std::uint64_t segment = 0;
    std::uint64_t before = 0;  // of earlier segments
    std::uint64_t now = 0;
  };
  struct Entry {
    TenantCounters counters;
    Denied denied;
  };
  struct SeatBook {
    std::uint64_t work_ns = 0;
    std::uint64_t next_second = 0;  // the first that isn't counted yet
    bool seen = false;
  };
  // A seat's tenancy: seat, pid, start time, tenant.
  using SeatKey = std::tuple<std::uint32_t, std::int32_t, std::uint64_t, std::string>;

  std::map<Key, Entry> entries_;
  std::map<SeatKey, SeatBook> seats_;
  std::uint64_t last_ns_ = 0;  // 0: nothing was added yet
};

}  // namespace vgpu::hypervisor

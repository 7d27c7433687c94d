// SPDX-License-Identifier: Apache-2.0
// A tenant as its files tell it, for who only looks: they are opened for reading and copied, so
// nothing is changed, no lock taken, no slot given back, and whatever is written or cut meanwhile
// harms nobody. What is in them is believed as far as it can be true. Nothing throws or allocates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "vgpu/shm/tenant.h"

namespace vgpu::shm {

struct TenantView {
  TenantSpec spec;  // with the quotas that hold
  std::uint64_t charged_bytes[kMaxGpus] = {};
  std::uint64_t denied[kMaxGpus] = {};
  std::uint64_t anomalies = 0;  // releases of more than was charged, and the like
  // Of those that are alive there may be more than fit.
  std::size_t processes = 0;
  // Slots of processes that are gone: they count until somebody reaps them.
  std::uint32_t gone = 0;
  // By GPU: its quota's words are none that vgpu writes.
  bool has_odd_quota[kMaxGpus] = {};
};

// `processes`: the first of those that are alive.
Status view_tenant(const StateDir& dir, std::string_view id, TenantView& out,
                   std::span<ProcessView> processes);

// The arbiter's host, as it looks to a tenant's processes.
struct HostView {
  std::optional<std::uint64_t> late_ns;  // past its deadline; nullopt: nobody hosts
  std::uint64_t waited_ns = 0;           // the longest that one of their launches waits by now
  // It is missed: somebody waits, and it hasn't answered within that time.
  bool is_missed(std::uint64_t patience_ns) const {
    return waited_ns > patience_ns && (!late_ns || *late_ns > patience_ns);
  }
};

// not_found: no process has used a GPU in that directory yet.
Status view_host(const StateDir& dir, std::string_view tenant, std::uint64_t now_ns, HostView& out);

}  // namespace vgpu::shm

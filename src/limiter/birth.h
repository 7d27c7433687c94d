// SPDX-License-Identifier: Apache-2.0
// How a process finds its tenant: which environment speaks, which GPUs there are, what the settings
// make of both. Runs once, inside Limiter::start(), in one thread.
#pragma once

#include <optional>

#include "limiter.h"
#include "pod.h"

namespace vgpu::limiter {

// What NVML says of the machine's GPUs, quotas left at none.
struct GpuInventory {
  FixedVector<shm::TenantGpu, shm::kMaxGpus> gpus;  // in NVML's order
  FixedString<400> why;                             // why they can't be listed; empty: they are
  // What the process's pod says; empty where none speaks.
  std::optional<PodFindings> pod;
};

// Opens NVML, which waits for whoever is opening a library, and asks the pod's daemon: nobody may
// wait for the caller.
GpuInventory take_inventory();

struct Birth {
  // Opens or makes the tenant of this process in `limiter`. limited, unlimited, or refused with the
  // reasons on stderr; unstarted where the tenant has to be made and `inventory` is null.
  // `tries`: how often it may be made anew when others remove it, empty, before this process is in
  // it.
  static Phase of(Limiter& limiter, const GpuInventory* inventory, int tries = 8);
};

// Longest "VGPU_TENANT=<id>" with its terminator.
inline constexpr std::size_t kTenantEntryBytes = 12 + shm::kMaxName + 1;

// The id that a tenant by bare variables gets: the container's if its first process carries a
// limit, else a random one.
FixedString<shm::kMaxName> bare_tenant_id();
// The same for one by its pod's limits, where the pod has no name.
FixedString<shm::kMaxName> pod_tenant_id();

}  // namespace vgpu::limiter

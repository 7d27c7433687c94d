// SPDX-License-Identifier: Apache-2.0
// How a process finds its tenant: which environment speaks, which GPUs there are, what the settings
// make of both. Runs once, inside Limiter::start(), in one thread.
#pragma once

#include "limiter.h"

namespace vgpu::limiter {

struct Birth {
  // Opens or makes the tenant of this process in `limiter`. limited, unlimited, or refused with the
  // reasons on stderr.
  // `tries`: how often it may be made anew when others remove it, empty, before this process is in
  // it.
  static Phase of(Limiter& limiter, int tries = 8);
};

// Longest "VGPU_TENANT=<id>" with its terminator.
inline constexpr std::size_t kTenantEntryBytes = 12 + shm::kMaxName + 1;

// The id that a tenant by bare variables gets: the container's if its first process carries a
// limit, else a random one.
FixedString<shm::kMaxName> bare_tenant_id();

// The GPUs of NVML, in its order, with quotas of the environment left at none. False with a reason.
bool list_gpus(FixedVector<shm::TenantGpu, shm::kMaxGpus>& gpus, FixedString<400>& why);

}  // namespace vgpu::limiter

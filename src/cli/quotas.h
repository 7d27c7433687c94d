// SPDX-License-Identifier: Apache-2.0
// From flags, variables and GPUs to what a new tenant gets. The parser is the limiter's own
// (settings/): flags are handed to it under the names of the variables that they mirror, and win
// over them for each GPU and each quantity.
#pragma once

#include <string>
#include <vector>

#include "gpus.h"
#include "options.h"
#include "vgpu/settings/settings.h"
#include "vgpu/shm/tenant.h"

namespace vgpu::cli {

class ProcessEnvironment final : public settings::Environment {
 public:
  const char* get(const char* name) const override;
};

struct PlannedTenant {
  shm::TenantSpec spec;
  std::vector<std::string> notices;  // understood but not enforced, said once
};

// Throws Problem with the first error of the settings.
PlannedTenant plan_tenant(const RunOptions& options, const Driver& driver,
                          const settings::Environment& environment);

// "GPU 0 (NVIDIA H200): 4 GiB of 140 GiB, compute 30 % (not enforced yet)" for each GPU of the set,
// in one line.
std::string quota_line(const shm::TenantSpec& spec, const Driver& driver);

// The set's GPUs for CUDA_VISIBLE_DEVICES: full UUIDs in CUDA's order, with commas.
std::string visible_devices_value(const shm::TenantSpec& spec,
                                  const std::vector<GpuUuid>& cuda_order);

std::string_view source_name(Source source);
std::string_view policy_name(Policy policy);
std::string_view priority_name(Priority priority);

}  // namespace vgpu::cli

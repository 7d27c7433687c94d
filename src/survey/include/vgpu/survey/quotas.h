// SPDX-License-Identifier: Apache-2.0
// From flags, variables and GPUs to what a new tenant gets. The parser is the limiter's own
// (settings/): flags are handed to it under the names of the variables that they mirror, and win
// over them for each GPU and each quantity.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "vgpu/settings/settings.h"
#include "vgpu/shm/tenant.h"
#include "vgpu/survey/gpus.h"

namespace vgpu::survey {

// The flags that make a quota, as typed; empty: not given.
struct QuotaFlags {
  std::string memory;
  std::string compute;
  std::string compute_limit;
  std::string policy;
  std::string priority;
};

// What a new tenant is asked for with.
struct TenantRequest : QuotaFlags {
  std::string gpus;  // as typed, empty: not given
  std::string name;
  std::string program;  // names the tenant where `name` is empty
};

class ProcessEnvironment final : public settings::Environment {
 public:
  const char* get(const char* name) const override;
};

struct PlannedTenant {
  shm::TenantSpec spec;
  std::vector<std::string> notices;  // what settings ignore, and why; said once
};

// What can't be read whatever GPUs there are: throws Problem with the first such value of the
// variables, then of the flags. For before a driver is asked for.
void refuse_unreadable(const QuotaFlags& flags, const settings::Environment& environment);

// Throws Problem with the first error of the settings. `by`: who set what the request says.
PlannedTenant plan_tenant(const TenantRequest& request, const Driver& driver,
                          const settings::Environment& environment, Source by = Source::run);

// The quota that every GPU of the set has, memory as it was asked and not as it is held to what a
// smaller GPU has; nullopt: they differ.
std::optional<Quota> common_quota(const shm::TenantSpec& spec);

// Letters, digits, dots, dashes and underscores. Throws Problem.
std::string checked_name(const std::string& name);

// What flags make of a running tenant's quota on one of its GPUs.
struct QuotaChange {
  std::uint32_t gpu = 0;  // place in the spec
  Quota before;
  Quota after;
  bool memory_is_lowered() const { return after.memory_limit_bytes < before.memory_limit_bytes; }
};

// One for each GPU of the tenant's set, or of `gpus` where that is given. Quantities without a flag
// stay; `fixed` makes the limit the share. Throws Problem with the first error.
std::vector<QuotaChange> plan_change(const QuotaFlags& flags, const std::string& gpus,
                                     const shm::TenantSpec& spec, Source by = Source::run);

// "share 30 %, limit 60 %, elastic, priority high"; empty: nothing of it was asked for.
std::string compute_text(const Quota& quota);

// "GPU 0 (NVIDIA H200): 4 GiB of 140 GiB, share 30 %, limit none, elastic, priority normal" for
// each GPU of the set, in one line.
std::string quota_line(const shm::TenantSpec& spec, const Driver& driver);

// For each GPU of the set in MIG mode, a line that says what its quotas mean there.
std::vector<std::string> mig_notices(const shm::TenantSpec& spec, const Driver& driver);

// The set's GPUs for CUDA_VISIBLE_DEVICES: full UUIDs in CUDA's order, with commas.
std::string visible_devices_value(const shm::TenantSpec& spec,
                                  const std::vector<GpuUuid>& cuda_order);

std::string_view source_name(Source source);
std::string_view policy_name(Policy policy);
std::string_view priority_name(Priority priority);

}  // namespace vgpu::survey

// SPDX-License-Identifier: Apache-2.0
// The predecessor's scheduling settings (TF_HYPERVISOR_SCHEDULING_CONFIG): what of them steers the
// tokens of files kept for its limiters, and what is understood but has no effect. Pure.
#pragma once

#include <string>
#include <vector>

#include "token_supply.h"

namespace vgpu::hypervisor {

struct Scheduling {
  SupplyTerms supply;                // its target isn't among the settings
  std::vector<std::string> notices;  // what has no effect and why, a line each; to be said once
};

struct SchedulingError {
  std::string what;  // one line: the field, what stands there, what is right
};

// "" and "null" are the defaults. Throws SchedulingError.
Scheduling parse_scheduling(const std::string& json);

}  // namespace vgpu::hypervisor

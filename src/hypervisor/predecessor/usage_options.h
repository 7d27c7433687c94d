// SPDX-License-Identifier: Apache-2.0
// What the usage log is told (usage_service.h).
#pragma once

#include <string>
#include <vector>

#include "usage_lines.h"

namespace vgpu::hypervisor {

// Which pod a tenant is.
struct UsagePod {
  std::string tenant;  // its name
  std::string name_space;
  std::string name;
  std::string workload;  // empty: not known
};

struct UsageOptions {
  std::string path;  // as UsageLog takes it
  UsageFormat format = UsageFormat::influx;
  unsigned batch_samples = 10;
  std::string pool;  // a tag; empty: none
  std::vector<UsagePod> pods;
};

}  // namespace vgpu::hypervisor

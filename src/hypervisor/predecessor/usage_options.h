// SPDX-License-Identifier: Apache-2.0
// What the usage log is told (usage_service.h).
#pragma once

#include <string>

#include "usage_lines.h"

namespace vgpu::hypervisor {

struct UsageOptions {
  std::string path;  // as UsageLog takes it
  UsageFormat format = UsageFormat::influx;
  unsigned batch_samples = 10;
  std::string pool;  // a tag; empty: none
};

}  // namespace vgpu::hypervisor

// SPDX-License-Identifier: Apache-2.0
// What the usage log is told (usage_service.h).
#pragma once

#include <string>

#include "gpu_capacity.h"
#include "usage_lines.h"

namespace vgpu::hypervisor {

struct UsageOptions {
  std::string path;  // as UsageLog takes it
  UsageFormat format = UsageFormat::influx;
  unsigned batch_samples = 10;
  std::string pool;      // a tag; empty: none
  GpuCapacity capacity;  // of no model: then there are no TFLOPS
};

}  // namespace vgpu::hypervisor

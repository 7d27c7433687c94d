// SPDX-License-Identifier: Apache-2.0
// What is said of a pod's GPUs, by whichever way it was learned. Plain values.
#pragma once

#include <cstdint>

#include "vgpu/base/fixed_string.h"
#include "vgpu/base/gpu_uuid.h"
#include "vgpu/base/quota.h"

namespace vgpu::pod {

inline constexpr std::size_t kMostGpus = 32;

// Why there are no limits, for people.
using Why = FixedString<200>;

struct GpuLimits {
  GpuUuid uuid;
  Quota quota;
};

struct Limits {
  FixedVector<GpuLimits, kMostGpus> gpus;  // each once; at least one
  // False: nothing was said of compute, and the quotas' shares and limits mean nothing.
  bool has_compute = true;
  // A limit in TFLOPS was said, which nobody can keep who doesn't know the GPU's.
  bool has_tflops = false;
};

// nullptr: nothing is said of that GPU.
inline const GpuLimits* find(const Limits& limits, const GpuUuid& uuid) {
  for (const GpuLimits& gpu : limits.gpus) {
    if (gpu.uuid == uuid) return &gpu;
  }
  return nullptr;
}

}  // namespace vgpu::pod

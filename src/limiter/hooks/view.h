// SPDX-License-Identifier: Apache-2.0
// How much memory a GPU of the tenant shows: one computation for CUDA, NVML and whatever reads
// them, so that they agree to the byte. Any thread; may settle this process's pools, at a slow beat
// its implicit memory too.
#pragma once

#include <cstdint>

namespace vgpu::limiter {

struct MemoryView {
  std::uint64_t free_bytes = 0;
  std::uint64_t total_bytes = 0;
  // What the tenant is charged, up to the limit. Free, used and reserved are less than total where
  // the GPU itself is full.
  std::uint64_t used_bytes = 0;
  // Neither used nor free: what is left to attempts (decision 0006), and less than a page beside
  // it.
  std::uint64_t reserved_bytes = 0;
  bool limited = false;  // false: the device's own figures, nobody set a limit here
};

// The device's own figures.
MemoryView unlimited_view(std::uint64_t free_bytes, std::uint64_t total_bytes);
// `gpu`: a position in the tenant. `free_bytes` and `total_bytes`: what CUDA would show of the
// whole device.
MemoryView view_of(int gpu, std::uint64_t free_bytes, std::uint64_t total_bytes);

}  // namespace vgpu::limiter

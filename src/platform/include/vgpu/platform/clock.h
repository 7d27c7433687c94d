// SPDX-License-Identifier: Apache-2.0
// The only place that reads a clock; everything else is given the time. Any thread.
#pragma once

#include <time.h>

#include <cstdint>

namespace vgpu::platform {

inline std::uint64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace vgpu::platform

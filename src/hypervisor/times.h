// SPDX-License-Identifier: Apache-2.0
// Units of time, and the clock that events and samples are dated by.
#pragma once

#include <cstdint>
#include <ctime>

namespace vgpu::hypervisor {

inline constexpr std::uint64_t kMsNs = 1'000'000;
inline constexpr std::uint64_t kSecondNs = 1'000'000'000;

// Since 1970; it may jump when the clock is set. Thread-safe.
inline std::uint64_t realtime_ns() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * kSecondNs +
         static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace vgpu::hypervisor

// SPDX-License-Identifier: Apache-2.0
// Where clocks are read; what decides is given the time. Any thread.
#pragma once

#include <time.h>

#include <cstdint>

namespace vgpu::platform {

inline std::uint64_t clock_ns(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

inline std::uint64_t monotonic_ns() { return clock_ns(CLOCK_MONOTONIC); }
// Since 1970; it may jump when the clock is set.
inline std::uint64_t realtime_ns() { return clock_ns(CLOCK_REALTIME); }
// What the calling thread has used of the processor.
inline std::uint64_t thread_cpu_ns() { return clock_ns(CLOCK_THREAD_CPUTIME_ID); }

}  // namespace vgpu::platform

// SPDX-License-Identifier: Apache-2.0
// Units of time, and the clock that events and samples are dated by.
#pragma once

#include <cstdint>

#include "vgpu/platform/clock.h"

namespace vgpu::hypervisor {

inline constexpr std::uint64_t kMsNs = 1'000'000;
inline constexpr std::uint64_t kSecondNs = 1'000'000'000;

using platform::realtime_ns;

}  // namespace vgpu::hypervisor

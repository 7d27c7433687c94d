// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace vgpu::limiter {

inline constexpr std::uint64_t kMiB = 1 << 20;
inline constexpr std::uint64_t kPage = 2 * kMiB;  // what the driver takes memory in

}  // namespace vgpu::limiter

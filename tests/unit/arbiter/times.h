// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace vgpu::core {

// In nanoseconds.
inline constexpr std::uint64_t kUs = 1'000;
inline constexpr std::uint64_t kMs = 1'000'000;
inline constexpr std::uint64_t kS = 1'000'000'000;

}  // namespace vgpu::core

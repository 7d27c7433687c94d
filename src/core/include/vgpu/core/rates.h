// SPDX-License-Identifier: Apache-2.0
// Who is owed how much of a GPU while these tenants want it. GaiaGPU's elastic allocation, stated
// as water-filling: each gets its share first, what the others leave goes to the highest priority
// that can use it, by share, up to each one's compute limit. Pure; any thread.
#pragma once

#include <cstdint>
#include <span>

#include "vgpu/base/quota.h"

namespace vgpu::core {

// A rate is a part of a GPU's time, in millionths.
using Rate = std::uint32_t;
inline constexpr Rate kWholeGpu = 1'000'000;
constexpr Rate rate_of_percent(std::uint32_t percent) { return percent * (kWholeGpu / 100); }

struct Claim {
  std::uint8_t share_percent = 0;  // 0: without a share
  std::uint8_t limit_percent = 0;  // 0: no limit
  Priority priority = Priority::normal;
  bool wants = true;  // false: present, which counts for what tenants without a share split
  Rate rate = 0;      // out: owed while it wants the GPU
  Rate entitled = 0;  // out: its share as a rate, wanting or not
};

// Fills in `rate` and `entitled`. Tenants without a share split what the shares of all that are
// present leave, one percent each at the least; shares that add up to more than the GPU are scaled
// down together. The rates add up to the GPU unless limits forbid it; who doesn't want has none.
void share_out(std::span<Claim> claims);

}  // namespace vgpu::core

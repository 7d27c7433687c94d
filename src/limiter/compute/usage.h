// SPDX-License-Identifier: Apache-2.0
// How busy this tenant's processes keep a GPU, for the views of NVML: the GPU time that each has
// submitted in the last whole second. Who is alone on its GPU counts nothing (it pays one load a
// launch): the whole GPU's figure is its own. Works in a process that uses NVML only. Any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace vgpu::limiter {

struct ProcessUse {
  std::int32_t pid = 0;  // in its own PID namespace
  std::uint64_t pid_namespace = 0;
  std::uint64_t start_time_ticks = 0;
  unsigned percent = 0;
  bool is_alone = false;  // `percent` isn't known: ask NVML for the GPU
};

struct TenantUse {
  bool is_known = false;       // false: nobody counts here
  std::uint64_t until_us = 0;  // the end of that second, since 1970
  std::size_t count = 0;       // live processes of the tenant that have used the GPU
  std::size_t listed = 0;      // of them, in `out`
};

// `position`: of the GPU in the tenant.
TenantUse tenant_use(int position, std::span<ProcessUse> out);

}  // namespace vgpu::limiter

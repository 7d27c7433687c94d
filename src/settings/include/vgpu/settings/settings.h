// SPDX-License-Identifier: Apache-2.0
// From environment variables to quotas. Pure: the environment and the list of GPUs come in, quotas and messages go
// out; nothing is read, printed or allocated. Used by the limiter (inside a user's process), `vgpu` and the tests.
// The variables themselves are one table: settings.def.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "vgpu/base/fixed_string.h"
#include "vgpu/base/gpu_uuid.h"
#include "vgpu/base/quota.h"

namespace vgpu::settings {

inline constexpr std::size_t kMaxGpus = 32;

// Where variables come from: the real environment, /proc/1/environ, or a test's table.
class Environment {
 public:
  virtual const char* get(const char* name) const = 0;  // nullptr: unset

 protected:
  ~Environment() = default;
};

struct GpuIdentity {
  GpuUuid uuid;
  std::uint32_t nvml_index = 0;
  std::uint64_t total_bytes = 0;  // 0: unknown, limits are then not checked against it
};

using Line = FixedString<400>;
struct Messages {
  FixedVector<Line, 16> errors;   // refuse: each names the variable, the text, the place in it and what would be right
  FixedVector<Line, 16> notices;  // said once: understood but not enforced, or ignored and why
};

struct ResolvedQuotas {
  FixedVector<Quota, kMaxGpus> per_gpu;  // parallel to the list of GPUs that was passed in
};

// True when any variable that sets a limit is present and not empty: this process, or the one it inherited the
// variable from, is a tenant. Cheap (a handful of look-ups): the library's constructor calls it in every program.
bool any_limit_set(const Environment& environment);

// Everything that can be said without knowing the GPUs (syntax, ranges). For `vgpu doctor` and early refusal.
void check_syntax(const Environment& environment, Messages& messages);

// The quotas of `gpus`. With errors, `quotas` must not be used. `minimum_bytes`: what one context takes on each GPU
// (0: unknown); a limit below it is refused because it can't be met.
void resolve_quotas(const Environment& environment, std::span<const GpuIdentity> gpus, std::uint64_t minimum_bytes,
                    ResolvedQuotas& quotas, Messages& messages);

// The GPUs (positions in `gpus`) that the tenant's environment restricts it to (VGPU_GPUS, MANAGER_VISIBLE_DEVICES);
// all of them when nothing does.
void resolve_gpu_set(const Environment& environment, std::span<const GpuIdentity> gpus,
                     FixedVector<std::uint32_t, kMaxGpus>& positions, Messages& messages);

// "4GiB", "1.5G", "512m", "1073741824". False and a reason in `why` when it isn't a size of at least one byte
// below 2^63; "none" gives kNoLimit.
bool parse_size(std::string_view text, std::uint64_t& bytes, Line& why);
// "30": a whole number from 1 to 100; "none" gives 0.
bool parse_percent(std::string_view text, std::uint8_t& percent, Line& why);

// VGPU_ON_ERROR: refuse (default) or open.
bool opens_on_error(const Environment& environment);

// CUDA_VISIBLE_DEVICES as the driver reads it, seen from inside a tenant whose GPUs are `gpus` in CUDA order: the
// positions that stay visible, in order. Forms and treatment of broken lists: docs/settings.md, measured on a driver.
// `value` nullptr: unset, all are visible.
void visible_devices(const char* value, std::span<const GpuUuid> gpus, FixedVector<std::uint32_t, kMaxGpus>& positions);

}  // namespace vgpu::settings

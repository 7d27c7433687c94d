// SPDX-License-Identifier: Apache-2.0
// How a setting names a GPU: an NVML index, or a UUID (any case, with or without "GPU-", a prefix
// if only one GPU has it). Private to settings; pure.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "vgpu/settings/text.h"

namespace vgpu::settings {

struct GpuName {
  bool is_index = false;
  std::uint32_t index = 0;
  std::string_view uuid;  // without "GPU-"; hexadecimal digits and dashes in their places, any case
};

// The name alone, whatever GPUs there are.
bool parse_gpu_name(Piece piece, GpuName& name, Fault& fault);
bool same_gpu_name(const GpuName& a, const GpuName& b);

// The position of the GPU in `gpus`; a fault when it isn't there or several GPUs have the prefix.
bool find_gpu(const GpuName& name, Piece piece, std::span<const GpuIdentity> gpus,
              std::uint32_t& position, Fault& fault);

// Whether the UUID's text begins with `prefix` (no "GPU-"); letters in any case unless
// `exact_case`.
bool has_prefix(const GpuUuid& uuid, std::string_view prefix, bool exact_case = false);

}  // namespace vgpu::settings

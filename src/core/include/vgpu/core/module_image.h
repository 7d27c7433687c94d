// SPDX-License-Identifier: Apache-2.0
// How much a code image (cubin, fat binary, PTX text) will take of the device, told from its
// headers before it is loaded: code, constants and initialised data by their sizes, zeroed globals
// too, which no file size shows. An estimate that a measurement corrects after the load. Reads only
// what the driver reads too; anything odd counts as nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "vgpu/core/driver_model.h"

namespace vgpu::module_image {

struct Estimate {
  std::uint64_t code_bytes = 0;
  std::uint64_t global_bytes = 0;
  std::uint64_t device_bytes() const {
    return driver_model::module_bytes(code_bytes, global_bytes);
  }
};

// `size` is the image's where known (a file), else SIZE_MAX: the headers say how long each part is.
Estimate estimate(const void* image, std::size_t size);
Estimate estimate_ptx(std::string_view text);

}  // namespace vgpu::module_image

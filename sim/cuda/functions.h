// SPDX-License-Identifier: Apache-2.0
// Declares sim_NAME for every driver entry whose signature the API tables know: the implementation
// behind the exported NAME (trampolines.S). C linkage, so a definition with another signature than
// the table's does not compile.
#pragma once

#include "vgpu/api/cuda_abi.h"

extern "C" {
#define VGPU_DRIVER_FUNCTION(symbol, params, args) \
  __attribute__((visibility("hidden"))) CUresult sim_##symbol params;
#include "vgpu/api/driver_functions.def"
#undef VGPU_DRIVER_FUNCTION
}

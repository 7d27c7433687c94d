// SPDX-License-Identifier: Apache-2.0
// The driver that is asked: every entry whose signature the project knows, looked up by name in
// libcuda.so.1.
#pragma once

#include "vgpu/api/cuda_abi.h"

namespace conformance {

struct Driver {
#define VGPU_DRIVER_FUNCTION(symbol, params, args) CUresult(*symbol) params = nullptr;
#include "vgpu/api/driver_functions.def"
#undef VGPU_DRIVER_FUNCTION
};
extern Driver cu;

void* driver_symbol(const char* name);  // dlsym in the driver's own handle
bool load_driver();

}  // namespace conformance

// SPDX-License-Identifier: Apache-2.0
// What the hooks of modules, launches and graphs share: preparing what a function takes at its
// first launch.
#pragma once

#include "charge.h"

namespace vgpu::limiter {

// Charges what the first launch of a function takes in the current context: local memory for all
// threads, and the code of the library that a CUkernel comes from. False: it doesn't fit. Later
// calls for the same function cost one load.
bool prepare_function(CUfunction function);

// Charges a library's code in a context, once. False: it doesn't fit.
bool use_library(CUlibrary library, const Place& place);

}  // namespace vgpu::limiter

// SPDX-License-Identifier: Apache-2.0
// What the hooks of modules, launches and graphs share: preparing what a function takes at its
// first launch.
#pragma once

#include "charge.h"

namespace vgpu::limiter {

enum class Prepared : std::uint8_t {
  ready,    // prepared before, or it takes nothing worth speaking of
  growing,  // its launch will take memory that is charged now: measure after it
  refused,  // that doesn't fit
};

// Charges what the first launch of a function takes in the current context: local memory for all
// threads, and the code of the library that a CUkernel comes from. Later calls for the same
// function cost one load.
Prepared prepare_function(CUfunction function);

// Charges a library's code in a context, once. False: it doesn't fit.
bool use_library(CUlibrary library, const Place& place);

}  // namespace vgpu::limiter

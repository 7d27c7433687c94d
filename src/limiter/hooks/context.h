// SPDX-License-Identifier: Apache-2.0
// What the hooks of contexts, limits and launches share: the memory that a context holds for its
// threads.
#pragma once

#include "charge.h"

namespace vgpu::limiter {

// Stack and local memory beyond an empty context's, when every thread needs this much.
std::uint64_t local_memory_beyond_default(int gpu, std::uint64_t bytes_per_thread);

}  // namespace vgpu::limiter

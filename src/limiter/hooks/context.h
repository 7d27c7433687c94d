// SPDX-License-Identifier: Apache-2.0
// What the hooks of contexts, limits, launches and graphs share: the memory that a context holds
// for its threads.
#pragma once

#include "charge.h"

namespace vgpu::limiter {

// Stack and local memory beyond an empty context's, when every thread needs this much. The first
// time for a GPU it asks the driver, so before any lock.
std::uint64_t local_memory_beyond_default(int gpu, std::uint64_t bytes_per_thread);

// More of that is promised to a context, and charged already. Within the change that claimed it.
void add_local_promise(std::uint64_t context, int gpu, std::uint64_t bytes);
// The driver holds at least `bytes` of it in a context now: what was promised of that is no promise
// any more. Within a change that was open over the call which took it.
void fulfil_local_promise(std::uint64_t context, int gpu, std::uint64_t bytes);

}  // namespace vgpu::limiter

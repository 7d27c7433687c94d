// SPDX-License-Identifier: Apache-2.0
// Families of family_probe that use again what a pool has: an explicit pool with a release
// threshold that gives nothing back by itself, or one that nobody synchronises. What a limit leaves
// of such a pool shows only once it is full, so the take that is refused goes on with what it holds
// before it says so.
#pragma once

#include <cstddef>

#include "vgpu/api/cuda_abi.h"

namespace kept_pool {

// Odd sizes of about `bytes`. Full, four threads free half of what is held and fill up again with
// other sizes, several times, each in a stream of its own.
CUresult take_odd(std::size_t bytes);

// Pieces of one size, less than a pool's step. Full, it frees every second one; half as large again
// then fits nowhere, and what is smaller fits into each hole, and again beside that.
CUresult take_fragmented(std::size_t bytes);

// Pieces of one size in a pool that gives everything back when it can. Full, it frees every second
// one behind work that isn't done, and takes as many again in the same stream.
CUresult take_busy(std::size_t bytes);

std::size_t held_bytes();
// The first two keep their memory.
void free_all();

}  // namespace kept_pool

// SPDX-License-Identifier: Apache-2.0
// What many threads of one process do at once. Each gives CUDA_SUCCESS, or the first answer that
// was none of those that may be.
#pragma once

#include <string>
#include <vector>

#include "vgpu/api/cuda_abi.h"

namespace vgpu::test {

// The first use of the GPU by so many threads at once, each by another entry.
CUresult use_first(unsigned threads);

// The first use by a thread, and by the constructor of a library that another thread opens, while
// the first is in the middle of its own.
CUresult use_in_constructor();

// Each thread takes and gives back memory by these kinds of calls (taking.h; none: all of them),
// `steps` times, and looks at what it is shown, while the calling thread forks `children` that look
// too. Nothing is held afterwards.
using Kinds = std::vector<std::string>;
CUresult storm(unsigned threads, unsigned steps, unsigned children, const Kinds& kinds = {});

// Such a storm for ever.
[[noreturn]] void storm_on(unsigned threads);

}  // namespace vgpu::test

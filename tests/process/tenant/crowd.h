// SPDX-License-Identifier: Apache-2.0
// What many threads of one process do at once. Each gives CUDA_SUCCESS, or the first answer that
// was none of those that may be.
#pragma once

#include "vgpu/api/cuda_abi.h"

namespace vgpu::test {

// The first use of the GPU by so many threads at once, each by another entry.
CUresult use_first(unsigned threads);

// The first use by a thread, and by the constructor of a library that another thread opens, while
// the first is in the middle of its own.
CUresult use_in_constructor();

// Each thread takes and gives back memory by all kinds of calls, `steps` times, and looks at what
// it is shown, while the calling thread forks `children` that look too. Nothing is held afterwards.
CUresult storm(unsigned threads, unsigned steps, unsigned children);

// Such a storm for ever.
[[noreturn]] void storm_on(unsigned threads);

}  // namespace vgpu::test

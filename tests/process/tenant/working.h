// SPDX-License-Identifier: Apache-2.0
// One kind of GPU work, over and over.
#pragma once

#include <string>

#include "vgpu/api/cuda_abi.h"

namespace vgpu::test {

// kernel, graph, fill or copy; waits for each. `done`: how many in so many milliseconds.
CUresult work_for(const std::string& kind, unsigned milliseconds, long& done);

}  // namespace vgpu::test

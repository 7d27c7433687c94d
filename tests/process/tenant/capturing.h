// SPDX-License-Identifier: Apache-2.0
// A capture of many launches beside a thread that launches as fast as it can into another stream.
#pragma once

#include "vgpu/api/cuda_abi.h"

namespace vgpu::test {

// In that capture mode. `nodes`: how many the graph got. Launches it afterwards, twice.
CUresult capture_beside_work(CUstreamCaptureMode mode, unsigned launches, std::size_t& nodes);

}  // namespace vgpu::test

// SPDX-License-Identifier: Apache-2.0
// A capture of many launches beside a thread that launches as fast as it can into another stream.
#pragma once

#include <string>

#include "vgpu/api/cuda_abi.h"

namespace vgpu::test {

// In that capture mode, begun by the entry of that name: v1, v2 (cuStreamBeginCapture), graph
// (cuStreamBeginCaptureToGraph), or one of these with _ptsz. `nodes`: how many the graph got.
// Launches it afterwards, twice.
CUresult capture_beside_work(const std::string& entry, CUstreamCaptureMode mode, unsigned launches,
                             std::size_t& nodes);

}  // namespace vgpu::test

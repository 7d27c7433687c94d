// SPDX-License-Identifier: Apache-2.0
// Whether what goes into a stream now is recorded for a graph instead of done. 25 ns.
#pragma once

#include <cstdint>

#include "../enter.h"

namespace vgpu::limiter {

enum class Capture : std::uint8_t {
  none,
  active,   // or just invalidated
  unknown,  // the driver doesn't say: the legacy stream while another stream that it waits for is
            // captured, or no stream at all
};

// `per_thread`: a null stream is the thread's own.
inline Capture capture_of(CUstream stream, bool per_thread) {
  const auto query = per_thread ? real().cuStreamIsCapturing_ptsz : real().cuStreamIsCapturing;
  if (query == nullptr) return Capture::none;
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  if (query(stream, &status) != CUDA_SUCCESS) return Capture::unknown;
  return status == CU_STREAM_CAPTURE_STATUS_NONE ? Capture::none : Capture::active;
}

}  // namespace vgpu::limiter

// SPDX-License-Identifier: Apache-2.0
// Whether what goes into a stream now is recorded for a graph instead of done. A load until the
// process begins its first capture, 25 ns from then on.
#pragma once

#include <atomic>
#include <cstdint>

#include "../enter.h"

namespace vgpu::limiter {

enum class Capture : std::uint8_t {
  none,
  active,   // or just invalidated
  unknown,  // the driver doesn't say: the legacy stream while another stream that it waits for is
            // captured, or no stream at all
};

enum class Captures : std::uint8_t { unknown, none_begun, begun };
namespace internal {
extern std::atomic<Captures> g_captures;
Captures find_captures();
}  // namespace internal

// Whether any stream of this process may be captured. Who launches into one learned of it from the
// thread that began the capture, so this is seen with it.
inline bool may_capture() {
  Captures captures = internal::g_captures.load(std::memory_order_relaxed);
  if (captures == Captures::unknown) [[unlikely]]
    captures = internal::find_captures();
  return captures != Captures::none_begun;
}

// `per_thread`: a null stream is the thread's own.
inline Capture capture_of(CUstream stream, bool per_thread) {
  if (!may_capture()) return Capture::none;
  const auto query = per_thread ? real().cuStreamIsCapturing_ptsz : real().cuStreamIsCapturing;
  if (query == nullptr) return Capture::none;
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  if (query(stream, &status) != CUDA_SUCCESS) return Capture::unknown;
  return status == CU_STREAM_CAPTURE_STATUS_NONE ? Capture::none : Capture::active;
}

}  // namespace vgpu::limiter

// SPDX-License-Identifier: Apache-2.0
// The gate of every hook: straight to the driver when nested (the driver, or a hook of ours, calling the driver) or
// when the process isn't limited. errno is the program's again on the way out.
#pragma once

#include <cerrno>
#include <cstdint>

#include "limiter.h"
#include "vgpu/driver/dispatch.h"

namespace vgpu::limiter {

// Hooks that this thread is inside of. Initial-exec: one add through the thread pointer, no call into the loader.
extern thread_local std::uint32_t t_depth __attribute__((tls_model("initial-exec")));

class HookScope {
 public:
  HookScope() : saved_errno_(errno) { ++t_depth; }
  ~HookScope() {
    --t_depth;
    errno = saved_errno_;
  }
  HookScope(const HookScope&) = delete;
  HookScope& operator=(const HookScope&) = delete;

 private:
  int saved_errno_;
};

// Around driver calls that we add to the program's own: in a thread that captures a stream in another mode than
// relaxed they would fail, or end its capture.
class RelaxedCapture {
 public:
  RelaxedCapture() {
    if (real().cuThreadExchangeStreamCaptureMode != nullptr) {
      exchanged_ = real().cuThreadExchangeStreamCaptureMode(&mode_) == CUDA_SUCCESS;
    }
  }
  ~RelaxedCapture() {
    if (exchanged_) real().cuThreadExchangeStreamCaptureMode(&mode_);
  }
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  CUstreamCaptureMode mode_ = CU_STREAM_CAPTURE_MODE_RELAXED;
  bool exchanged_ = false;
};

}  // namespace vgpu::limiter

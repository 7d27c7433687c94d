// SPDX-License-Identifier: Apache-2.0
// The gate of every hook: straight to the driver when nested (the driver, or a hook of ours,
// calling the driver) or when the process isn't limited. errno is the program's again on the way
// out.
#pragma once

#include <cerrno>
#include <cstdint>

#include "limiter.h"
#include "vgpu/driver/dispatch.h"

namespace vgpu::limiter {

// Hooks that this thread is inside of. Initial-exec: one add through the thread pointer, no call
// into the loader.
extern constinit thread_local std::uint32_t t_depth __attribute__((tls_model("initial-exec")));

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

// Around driver calls that we add to the program's own: in a thread that captures a stream in
// another mode than relaxed they would fail, or end its capture.
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

// What a row's first column after the name means for the gate.
enum class Gate : std::uint8_t {
  lookup,     // pointers are mapped in every process, limited or not
  lifecycle,  // cuInit, nvmlInit*: a refused process is told so here
  other,      // hooks act in a limited process
};

// Where a process that isn't known to be limited stands, found out now if need be. Out of line:
// once a process, or once a call in one that is refused.
Phase settle_phase(Phase phase);

// Whether the program has initialised NVML itself: the limiter's own use of it mustn't make NVML
// answer where it wouldn't without us.
bool program_has_nvml();

template <class Result, Gate kGate>
struct Refusal;
template <Gate kGate>
struct Refusal<CUresult, kGate> {
  // NOT_INITIALIZED is what follows from a cuInit that failed.
  static constexpr CUresult kRefused =
      kGate == Gate::lifecycle ? CUDA_ERROR_NOT_PERMITTED : CUDA_ERROR_NOT_INITIALIZED;
  static constexpr CUresult kMissing = CUDA_ERROR_NOT_FOUND;
  static bool hooks(const Limiter& limiter) { return limiter.hooks_cuda(); }
  static bool early() { return false; }
};
template <Gate kGate>
struct Refusal<nvmlReturn_t, kGate> {
  static constexpr nvmlReturn_t kRefused =
      kGate == Gate::lifecycle ? NVML_ERROR_NO_PERMISSION : NVML_ERROR_UNINITIALIZED;
  static constexpr nvmlReturn_t kMissing = NVML_ERROR_FUNCTION_NOT_FOUND;
  static bool hooks(const Limiter& limiter) { return limiter.hooks_nvml(); }
  // A question before nvmlInit; its refusal is that of a refused process.
  static bool early() { return kGate == Gate::other && !program_has_nvml(); }
};

// `call`: the real entry, null when this driver hasn't got it. `hook`: the body. `pass`: the call
// of the real entry.
template <Gate kGate, class Result, class Entry, class Hook, class Pass>
inline Result enter(Entry call, Hook hook, Pass pass) {
  using Refuse = Refusal<Result, kGate>;
  if (call == nullptr) [[unlikely]]
    return Refuse::kMissing;
  if constexpr (kGate == Gate::lookup) return hook();
  if (t_depth != 0) return pass();
  Phase phase = Limiter::phase();
  if (phase != Phase::limited && phase != Phase::unlimited) [[unlikely]] {
    phase = settle_phase(phase);
    if (phase == Phase::refused) return Refuse::kRefused;
  }
  if (phase == Phase::unlimited || !Refuse::hooks(*Limiter::active())) return pass();
  if (Refuse::early()) return Refuse::kRefused;
  HookScope scope;
  return hook();
}

}  // namespace vgpu::limiter

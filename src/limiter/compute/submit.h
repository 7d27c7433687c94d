// SPDX-License-Identifier: Apache-2.0
// What the hooks of launches, graphs, fills and copies wrap their call of the driver in. A process
// that is alone on its only GPU and has no compute limit pays one load here. What is captured into
// a graph isn't submitted: it passes untouched, in any mode, from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include "gpu_gate.h"
#include "vgpu/core/hosting.h"
#include "work.h"

namespace vgpu::limiter {

namespace internal {
// The grant of a process that sees one GPU; elsewhere a word that is never open.
extern std::atomic<const std::atomic<std::uint64_t>*> g_only_grant;
}  // namespace internal

inline bool submits_freely() {
  return core::GrantWord::is_alone(
      internal::g_only_grant.load(std::memory_order_acquire)->load(std::memory_order_acquire));
}

// One submission into a stream of the current context: waits in its constructor until it may go.
class Submission {
 public:
  Submission(const Work& work, CUstream stream, bool per_thread);
  // After the driver's call, with what it said.
  void ended(CUresult result) {
    const bool asks_for_nothing = !ticket_.measured && !ticket_.marked && result == CUDA_SUCCESS;
    if (gate_ != nullptr && !asks_for_nothing) finish(result);
  }

 private:
  CUevent timing_event();
  [[gnu::noinline, gnu::cold]] void begin_measurement();
  [[gnu::noinline, gnu::cold]] void finish(CUresult result);
  void end_measurement(CUresult result);

  GpuGate* gate_ = nullptr;  // nullptr: it isn't gated
  Work work_;
  Target target_;
  Ticket ticket_;
  GpuGate::Measurement measurement_;
};

// The parts of one launch on several GPUs, each in its own stream's context. Room for all is waited
// for one after the other; what is let through early only waits in the driver.
class MultiSubmission {
 public:
  MultiSubmission(const CUDA_LAUNCH_PARAMS* parts, unsigned count);
  void ended(CUresult result);

 private:
  static constexpr unsigned kMost = shm::kMaxGpus;
  const CUDA_LAUNCH_PARAMS* parts_;
  unsigned count_;
  std::optional<Submission> submissions_[kMost];
};

// `make_work()`: which kind of work; not asked where nobody needs to know.
template <class MakeWork, class Call>
CUresult submit(MakeWork make_work, CUstream stream, bool per_thread, Call call) {
  if (submits_freely()) [[likely]]
    return call();
  const Work work = make_work();
  if (work.id == 0) return call();
  Submission submission(work, stream, per_thread);
  const CUresult result = call();
  submission.ended(result);
  return result;
}

// Around a call in which the program waits for work of the current context.
class ProgramWait {
 public:
  // For a stream; for all of the current context's streams; for something whose work isn't known.
  ProgramWait(CUstream stream, bool per_thread);
  ProgramWait();
  enum Unknown { kSomething };
  explicit ProgramWait(Unknown);
  void ended(CUresult result);

 private:
  GpuGate* gate_ = nullptr;
  std::uint64_t position_ = 0;
};

// Around a driver's call that may end a context. `ended`: whether it did.
class ContextEnd {
 public:
  ContextEnd(int gpu, std::uint64_t context);
  void finish(bool ended);
  ~ContextEnd() { finish(false); }
  ContextEnd(const ContextEnd&) = delete;
  ContextEnd& operator=(const ContextEnd&) = delete;

 private:
  GpuGate* gate_;
  std::uint64_t context_;
};

// This id is another kind from now on.
void forget_work(std::uint64_t work_id);
// A graph was changed. Programs do that before each launch, mostly to what takes as long: so it
// isn't forgotten.
void measure_again(const Work& work);

// At exit and in a forked child.
void release_hosting();
void reset_compute_after_fork();

}  // namespace vgpu::limiter

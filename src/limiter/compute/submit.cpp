// SPDX-License-Identifier: Apache-2.0
#include "submit.h"

#include <algorithm>

#include "../enter.h"
#include "../hooks/capture.h"
#include "../ledger/process_ledger.h"
#include "../limiter.h"
#include "collectives.h"
#include "service.h"
#include "vgpu/platform/clock.h"

namespace vgpu::limiter {
namespace {

constinit GpuGate g_gates[shm::kMaxGpus];
constinit const std::atomic<std::uint64_t> g_never_open{0};
// Gates of GPUs that aren't used yet needn't be told of anything.
bool is_used(const GpuGate& gate) { return gate.has_seat(); }

// Of a process that sees one GPU, which all its contexts are on: there the driver isn't asked which
// one is current. A launch in none is let through, and fails.
std::atomic<GpuGate*> g_only_gate{nullptr};

// Which gate the current context belongs to, as this thread saw it last. Handles come again, so it
// is good only while no context has ended.
std::atomic<std::uint64_t> g_contexts_ended{0};
struct Cached {
  std::uint64_t context;
  std::uint64_t ended;
  GpuGate* gate;
};
constinit thread_local Cached t_cached __attribute__((tls_model("initial-exec"))) = {};

void note_only_gpu(GpuGate& gate) {
  int count = 0;
  if (real().cuDeviceGetCount == nullptr || real().cuDeviceGetCount(&count) != CUDA_SUCCESS ||
      count != 1)
    return;
  internal::g_only_grant.store(&gate.grant(), std::memory_order_release);
  g_only_gate.store(&gate, std::memory_order_release);
}

// The gate of a context that this thread hasn't submitted to last.
[[gnu::noinline, gnu::cold]] GpuGate* find_gate(std::uint64_t context, std::uint64_t ended) {
  const int gpu = Limiter::active()->position_of_current_context();
  if (gpu == Limiter::kNoPosition) return nullptr;
  GpuGate& gate = g_gates[gpu];
  if (!gate.has_seat()) {
    gate.take_seat(gpu);
    note_only_gpu(gate);
  }
  t_cached = {context, ended, &gate};
  return &gate;
}

// nullptr: no context is current, or its GPU isn't the tenant's. `context`: 0 where it wasn't asked
// for.
GpuGate* current_gate(std::uint64_t& context) {
  context = 0;
  if (GpuGate* const only = g_only_gate.load(std::memory_order_acquire)) return only;
  CUcontext current = nullptr;
  if (real().cuCtxGetCurrent == nullptr || real().cuCtxGetCurrent(&current) != CUDA_SUCCESS ||
      current == nullptr)
    return nullptr;
  context = reinterpret_cast<std::uint64_t>(current);
  const std::uint64_t ended = g_contexts_ended.load(std::memory_order_acquire);
  const bool is_cached = t_cached.context == context && t_cached.ended == ended;
  return is_cached ? t_cached.gate : find_gate(context, ended);
}

}  // namespace

constinit std::atomic<const std::atomic<std::uint64_t>*> internal::g_only_grant{&g_never_open};

// ---- submissions ----

Submission::Submission(const Work& work, CUstream stream, bool per_thread) : work_(work) {
  std::uint64_t context = 0;
  GpuGate* const gate = current_gate(context);
  if (gate == nullptr || gate->is_open()) return;
  if (capture_of(stream, per_thread) != Capture::none) return;
  gate_ = gate;
  target_ = {stream, per_thread, context};
  ticket_ = gate->admit(work, target_);
  if (ticket_.measured) begin_measurement();
}

// Recorded into the stream; nullptr: it can't be.
CUevent Submission::timing_event() {
  const CUevent event = gate_->event_for(target_.context, EventKind::timing);
  const auto put = target_.per_thread ? real().cuEventRecord_ptsz : real().cuEventRecord;
  if (event != nullptr && put != nullptr && put(event, target_.stream) == CUDA_SUCCESS)
    return event;
  gate_->return_event(event, target_.context, EventKind::timing);
  return nullptr;
}

void Submission::begin_measurement() {
  const RelaxedCapture relaxed;
  target_ = in_current_context(target_);
  measurement_.begin = timing_event();
  if (measurement_.begin != nullptr && gate_->wants_empty_pair())
    measurement_.first = timing_event();
  measurement_.launched_ns = platform::monotonic_ns();
}

void Submission::end_measurement(CUresult result) {
  measurement_.host_ns = platform::monotonic_ns() - measurement_.launched_ns;
  const RelaxedCapture relaxed;
  if (result == CUDA_SUCCESS && measurement_.begin != nullptr) measurement_.end = timing_event();
  gate_->measured(work_, target_, ticket_, measurement_);
}

void Submission::finish(CUresult result) {
  if (!ticket_.measured && !ticket_.marked) {
    gate_->not_measured(work_);
    return;
  }
  if (ticket_.measured) end_measurement(result);
  if (ticket_.marked && result == CUDA_SUCCESS)
    gate_->put_mark(in_current_context(target_), ticket_.position);
}

namespace {

// Makes the context of a stream current for a moment.
class InContextOf {
 public:
  explicit InContextOf(CUstream stream) {
    CUcontext context = nullptr;
    is_current_ = stream != nullptr && real().cuStreamGetCtx != nullptr &&
                  real().cuCtxPushCurrent_v2 != nullptr &&
                  real().cuStreamGetCtx(stream, &context) == CUDA_SUCCESS &&
                  real().cuCtxPushCurrent_v2(context) == CUDA_SUCCESS;
  }
  ~InContextOf() {
    CUcontext context = nullptr;
    if (is_current_) real().cuCtxPopCurrent_v2(&context);
  }
  InContextOf(const InContextOf&) = delete;
  InContextOf& operator=(const InContextOf&) = delete;
  bool is_current() const { return is_current_; }

 private:
  bool is_current_ = false;
};

}  // namespace

MultiSubmission::MultiSubmission(const CUDA_LAUNCH_PARAMS* parts, unsigned count)
    : parts_(parts), count_(std::min(count, kMost)) {
  for (unsigned i = 0; i < count_; ++i) {
    const CUDA_LAUNCH_PARAMS& part = parts[i];
    const InContextOf context(part.hStream);
    if (!context.is_current()) continue;
    submissions_[i].emplace(kernel_work(part.function, part.gridDimX, part.gridDimY, part.gridDimZ,
                                        part.blockDimX, part.blockDimY, part.blockDimZ),
                            part.hStream, false);
  }
}

void MultiSubmission::ended(CUresult result) {
  for (unsigned i = 0; i < count_; ++i) {
    if (!submissions_[i]) continue;
    const InContextOf context(parts_[i].hStream);
    submissions_[i]->ended(result);
  }
}

// ---- the program's own waiting ----

namespace {

// nullptr: nothing is accounted for.
GpuGate* gate_to_tell() {
  if (submits_freely()) return nullptr;
  std::uint64_t context = 0;
  GpuGate* const gate = current_gate(context);
  return gate == nullptr || gate->is_open() ? nullptr : gate;
}

}  // namespace

ProgramWait::ProgramWait(CUstream stream, bool per_thread) : gate_(gate_to_tell()) {
  if (gate_ != nullptr) position_ = gate_->submitted_ns(stream, per_thread);
}

ProgramWait::ProgramWait() : gate_(gate_to_tell()) {
  // A context that is waited for is all there is only where there is no other.
  if (gate_ != nullptr && ledger().contexts.size() == 1) position_ = gate_->submitted_ns();
}

ProgramWait::ProgramWait(Unknown) : gate_(gate_to_tell()) {}

void ProgramWait::ended(CUresult result) {
  if (gate_ == nullptr || result != CUDA_SUCCESS) return;
  gate_->waited(position_);
}

// ---- the end of contexts and kinds ----

ContextEnd::ContextEnd(int gpu, std::uint64_t context)
    : gate_(gpu == Limiter::kNoPosition || !is_used(g_gates[gpu]) ? nullptr : &g_gates[gpu]),
      context_(context) {
  if (gate_ != nullptr) gate_->begin_context_end();
}

void ContextEnd::finish(bool ended) {
  if (ended) g_contexts_ended.fetch_add(1, std::memory_order_acq_rel);
  if (gate_ != nullptr) gate_->finish_context_end(context_, ended);
  gate_ = nullptr;
}

void forget_work(std::uint64_t work_id) {
  for (GpuGate& gate : g_gates) {
    if (is_used(gate)) gate.forget(work_id);
  }
}

void measure_again(const Work& work) {
  for (GpuGate& gate : g_gates) {
    if (is_used(gate)) gate.measure_again(work);
  }
}

void release_hosting() { Service::get().release(); }

void reset_compute_after_fork() {
  internal::g_only_grant.store(&g_never_open, std::memory_order_relaxed);
  g_only_gate.store(nullptr, std::memory_order_relaxed);
  g_contexts_ended.fetch_add(1, std::memory_order_relaxed);
  Service::get().reset_after_fork();
  g_collectives.reset_after_fork();
  for (GpuGate& gate : g_gates) gate.reset_after_fork();
}

}  // namespace vgpu::limiter

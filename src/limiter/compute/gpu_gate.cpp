// SPDX-License-Identifier: Apache-2.0
#include "gpu_gate.h"

#include <sched.h>

#include <algorithm>

#include "../enter.h"
#include "../limiter.h"
#include "collectives.h"
#include "service.h"
#include "vgpu/core/pace.h"
#include "vgpu/platform/clock.h"
#include "vgpu/platform/futex.h"

namespace vgpu::limiter {
namespace {

using core::Admission;
using core::GrantWord;

// A tenant under a compute limit saves up so much GPU time before it asks others for a turn.
constexpr std::uint64_t kBatchNs = 10'000'000;
// Between two looks whether a host is in office, and whether the limit has been changed.
constexpr std::uint64_t kMostTurnSleepNs = 10'000'000;
constexpr std::uint64_t kMostLimitSleepNs = 50'000'000;
// Between two questions to the same event: it costs 0.3 us (H200).
constexpr std::uint64_t kLeastAskNs = 10'000;
constexpr std::uint64_t kMostAskNs = 100'000;
// The rest of the ring is for what is marked anyway.
constexpr std::size_t kMostMarksOfCollectives = 512;
constexpr std::uintptr_t kStreamPerThread = 2;  // CU_STREAM_PER_THREAD
// Of a launch that was held back for less, samples aren't told.
constexpr std::uint64_t kLeastHoldNs = 20'000;
// So many samples measure the empty interval too; the least of them is what two events cost.
constexpr std::uint32_t kEmptyPairs = 8;
// What launches come to is noted for people this often, and at once for a long one.
constexpr std::uint64_t kBeatNs = 1'000'000;

CUresult record(CUevent event, const Target& target) {
  return target.per_thread ? real().cuEventRecord_ptsz(event, target.stream)
                           : real().cuEventRecord(event, target.stream);
}

// Two threads' own default streams can't be told apart, so they are never the same.
bool is_same_stream(const Target& a, const Target& b) {
  const auto number = reinterpret_cast<std::uintptr_t>(a.stream);
  const bool is_threads_own = number == kStreamPerThread || (number == 0 && a.per_thread);
  return a == b && !is_threads_own;
}

bool is_done(CUevent event) { return real().cuEventQuery(event) != CUDA_ERROR_NOT_READY; }

// Nanoseconds between two events that are done; 0: the driver doesn't say.
std::uint64_t between(CUevent begin, CUevent end) {
  float milliseconds = 0;
  const auto ask = real().cuEventElapsedTime_v2 != nullptr ? real().cuEventElapsedTime_v2
                                                           : real().cuEventElapsedTime;
  if (ask == nullptr || ask(&milliseconds, begin, end) != CUDA_SUCCESS || !(milliseconds > 0))
    return 0;
  return static_cast<std::uint64_t>(static_cast<double>(milliseconds) * 1e6);
}

}  // namespace

constinit const std::atomic<std::uint64_t> GpuGate::closed_{0};
constinit const std::atomic<std::uint64_t> GpuGate::unshared_{GrantWord::kAlone};
constinit const std::atomic<std::uint64_t> GpuGate::unshared_under_limit_{
    GrantWord::kAloneUnderLimit};

// ---- the seat ----

void GpuGate::take_seat(int gpu) {
  SeatState state = SeatState::none;
  if (!seat_state_.compare_exchange_strong(state, SeatState::taking)) {
    while (seat_state_.load(std::memory_order_acquire) != SeatState::taken) sched_yield();
    return;
  }
  gpu_ = static_cast<std::uint32_t>(gpu);
  tenant_ = &Limiter::active()->tenant();
  words_ = tenant_->compute_words(gpu_);
  shm::Node* const node = Service::get().node();
  const shm::TenantSpec spec = tenant_->spec();
  std::uint32_t number = shm::kNoSeat;
  const std::uint64_t now = platform::monotonic_ns();
  if (node != nullptr &&
      node->take_seat(spec.gpus[gpu_].uuid, spec.id.view(), now, number) == shm::Status::ok) {
    seat_ = shm::Seat(node->seat(number));
    seat_.set_terms(tenant_->quota(gpu_));
    node_ = node;
    host_ = &node->host();
    grant_.store(&seat_.grant(), std::memory_order_release);
    node->ring();
  } else {
    grant_.store(tenant_->compute_limit_percent(gpu_) == 0 ? &unshared_ : &unshared_under_limit_,
                 std::memory_order_release);
  }
  seat_state_.store(SeatState::taken, std::memory_order_release);
}

void GpuGate::reset_after_fork() {
  lock_.reset();
  grant_.store(nullptr, std::memory_order_relaxed);
  seat_state_.store(SeatState::none, std::memory_order_relaxed);
  seat_ = shm::Seat();
  node_ = nullptr;
  host_ = nullptr;
  words_ = {};
  unnoted_work_ns_ = unnoted_launches_ = unnoted_delayed_ = 0;
  beat_due_ns_ = 0;
  looking_.store(false, std::memory_order_relaxed);
  ending_.store(0, std::memory_order_relaxed);
  look_due_ns_.store(UINT64_MAX, std::memory_order_relaxed);
  flight_ = core::InFlight();
  costs_.reset_after_fork();
  events_.clear();
  marks_.clear();
  samples_.clear();
  passed_mark_ns_ = spread_ns_ = last_launch_ns_ = usual_gap_ns_ = want_since_ns_ = 0;
  since_sample_ = place_ = 0;
  counts_collectives_ = false;
  has_stream_ = has_streams_ = false;
}

void GpuGate::report() {
  if (!seat_.is_taken()) return;
  std::uint64_t busy_until = flight_.busy_until_ns();
  if (busy_until > last_launch_ns_) busy_until += spread_ns_;
  seat_.report({want_since_ns_, busy_until, last_launch_ns_, usual_gap_ns_, flight_.work_ns(),
                flight_.done_ns(), place_, counts_collectives_});
}

std::uint32_t GpuGate::limit_percent() const {
  return core::paced_percent(shm::limit_percent_of(words_.terms->load(std::memory_order_relaxed)));
}

void GpuGate::beat(std::uint64_t now) {
  words_ = tenant_->compute_words(gpu_);
  beat_due_ns_ = now + kBeatNs;
  if (unnoted_launches_ == 0) return;
  if (seat_.is_taken()) {
    shm::SeatSecond more;
    more.work_ns = unnoted_work_ns_;
    more.launches = unnoted_launches_;
    more.delayed = unnoted_delayed_;
    seat_.note(now, more);
  }
  unnoted_work_ns_ = unnoted_launches_ = unnoted_delayed_ = 0;
}

Target in_current_context(Target target) {
  CUcontext current = nullptr;
  if (target.context == 0 && real().cuCtxGetCurrent != nullptr &&
      real().cuCtxGetCurrent(&current) == CUDA_SUCCESS)
    target.context = reinterpret_cast<std::uint64_t>(current);
  return target;
}

// ---- admission ----

// Most launches go in at the first look. Waiting is a function of its own, so that what they run
// through is a few lines of the cache.
Ticket GpuGate::admit(const Work& work, const Target& target) {
  const std::uint64_t now = platform::monotonic_ns();
  if (now >= look_due_ns_.load(std::memory_order_relaxed)) look_at_events(now);
  Waiter waiter;
  waiter.asked_ns = waiter.looked_ns = now;
  waiter.turn = turn();
  const Look look = this->look(now, work, target, waiter);
  if (look.rings) node_->ring();
  if (look.verdict.admission == Admission::go) [[likely]]
    return look.ticket;
  return wait(work, in_current_context(target), waiter, look);
}

// Read before the grant: a change after that wakes the wait at once.
std::uint32_t GpuGate::turn() const {
  return node_ == nullptr ? 0 : seat_.turn().load(std::memory_order_acquire);
}

Ticket GpuGate::wait(const Work& work, const Target& target, Waiter& waiter, Look look) {
  std::uint64_t now = waiter.asked_ns;
  while (look.verdict.admission != Admission::go) {
    if (look.marks) put_mark(target, look.position);
    sleep(now, look.verdict, waiter);
    now = platform::monotonic_ns();
    if (look.verdict.admission != Admission::wait_limit &&
        now >= waiter.asked_ns + core::kMostIdleStreamWaitNs) {
      const auto query = target.per_thread ? real().cuStreamQuery_ptsz : real().cuStreamQuery;
      const RelaxedCapture relaxed;
      waiter.stream_is_idle = query != nullptr && query(target.stream) == CUDA_SUCCESS;
      // What it would be let in for may be done by now.
      if (waiter.stream_is_idle) look_at_events(now);
    }
    if (now >= look_due_ns_.load(std::memory_order_relaxed)) look_at_events(now);
    waiter.turn = turn();
    look = this->look(now, work, target, waiter);
    if (look.rings) node_->ring();
  }
  if (now - waiter.asked_ns >= kLeastHoldNs) {
    tenant_->note_held(gpu_, now - waiter.asked_ns);
    note_hold(waiter.asked_ns, now, target);
  }
  return look.ticket;
}

void GpuGate::sleep(std::uint64_t now, const core::Verdict& verdict, Waiter& waiter) {
  const bool for_turn = verdict.admission == Admission::wait_turn;
  const std::uint64_t most = for_turn ? kMostTurnSleepNs : kMostLimitSleepNs;
  const std::uint64_t until = std::min(verdict.until_ns, now + most);
  if (node_ == nullptr) {
    std::atomic<std::uint32_t> nobody{0};
    platform::futex_wait(nobody, 0, until);
    return;
  }
  if (for_turn) Service::get().expect_answer(now, waiter.turn_wait_ns);
  platform::futex_wait(seat_.turn(), waiter.turn, until);
  waiter.was_woken = turn() != waiter.turn;
}

GpuGate::Look GpuGate::look(std::uint64_t now, const Work& work, const Target& target,
                            Waiter& waiter) {
  Look look;
  std::uint64_t grant = this->grant().load(std::memory_order_acquire);
  if (seat_.is_taken()) {
    const core::Hosting lease = core::Hosting::unpack(host_->load(std::memory_order_acquire));
    // Of a host that isn't in office any more.
    if (lease.epoch != GrantWord::epoch(grant)) grant = 0;
    // Open until further notice: nobody waits, so nobody else notices that no host looks.
    if (GrantWord::is_counted(grant) && GrantWord::end_ns(grant) == core::kForever &&
        lease.may_be_taken_over(now, 0)) [[unlikely]]
      Service::get().expect_answer(now, 0);
  }
  SpinGuard guard(lock_);
  if (now >= beat_due_ns_) [[unlikely]]
    beat(now);
  core::Meter unknown;
  KnownWork* const known = costs_.find(work);
  core::Meter* const meter = known == nullptr ? &unknown : &known->meter;
  if (known != nullptr && known->launches < kLaunchesToKnow) [[unlikely]]
    known->is_collective = g_collectives.has(work.id);
  waiter.is_collective = known != nullptr && known->is_collective;
  // A graph may have collectives in it: nobody looks.
  waiter.counts = !counts_collectives_ || waiter.is_collective || is_graph(work);
  if (!waiter.has_asked) ask(now, meter->cost().mean_ns(), waiter);
  look.verdict = judge(now, grant, *meter, waiter);
  const bool goes = look.verdict.admission == Admission::go;
  if (goes && known != nullptr && known->launches < kLaunchesToKnow) [[unlikely]]
    ++known->launches;
  if (goes && waiter.waits_for == Admission::go) [[likely]] {
    let_in(now, grant, *meter, target, waiter, look);
  } else {
    look_while_waiting(now, grant, *meter, target, waiter, look);
  }
  report();
  return look;
}

// One look of a launch that is held back, the last included.
void GpuGate::look_while_waiting(std::uint64_t now, std::uint64_t grant, core::Meter& meter,
                                 const Target& target, Waiter& waiter, Look& look) {
  note_wait(now, waiter, look.verdict.admission);
  switch (look.verdict.admission) {
    case Admission::go:
      let_in(now, grant, meter, target, waiter, look);
      break;
    case Admission::wait_limit:
      want_since_ns_ = 0;
      break;
    case Admission::wait_turn:
      hold_for_turn(now, waiter, look);
      break;
    case Admission::wait_in_flight:
      want_since_ns_ = 0;  // it has its turn
      break;
  }
}

// Takes the launch's place under its tenant's limit.
void GpuGate::ask(std::uint64_t now, std::uint64_t cost_ns, Waiter& waiter) {
  waiter.has_asked = true;
  waiter.limit = limit_percent();
  if (waiter.limit != 0) waiter.place_ns = pay(now, cost_ns, waiter.limit);
}

// Gives the place under the limit that the payment began at.
std::uint64_t GpuGate::pay(std::uint64_t now, std::uint64_t cost_ns, std::uint32_t limit) {
  // Relaxed: the word is all there is.
  std::uint64_t paid = words_.paid_until_ns->load(std::memory_order_relaxed);
  while (!words_.paid_until_ns->compare_exchange_weak(
      paid, core::pace_charge(paid, now, cost_ns, limit), std::memory_order_relaxed)) {
  }
  return core::pace_place_ns(paid, now);
}

core::Verdict GpuGate::judge(std::uint64_t now, std::uint64_t grant, const core::Meter& meter,
                             const Waiter& waiter) {
  core::GateView view;
  view.grant_end_ns = GrantWord::end_ns(grant);
  const bool counted = GrantWord::is_counted(grant);
  view.in_flight_ns = counted && seat_.is_taken() ? seat_.in_flight_ns() : core::kForever;
  if (counted && seat_.is_taken()) {
    const std::uint64_t last = seat_.last_place();
    if (last != 0 && waiter.counts && place_ >= last) view.grant_end_ns = 0;
  }
  view.beside_priority = view.in_flight_ns == core::kInFlightBesidePriorityNs;
  view.marks_done = flight_.marks_done();
  view.busy_until_ns = flight_.busy_until_ns();
  view.unmeasured = meter.unmeasured();
  view.cost_ns = meter.cost().high_ns();
  view.spread_ns = spread_ns_;
  if (const std::uint32_t limit = limit_percent(); waiter.limit != 0) {
    // A batch is saved up only where starting costs others a turn, and by who has nothing going.
    const bool starts = counted && now >= view.grant_end_ns && want_since_ns_ == 0;
    const std::uint64_t place =
        core::pace_rescaled(waiter.place_ns, waiter.asked_ns, waiter.limit, limit);
    view.due_ns = limit == 0 ? 0 : core::pace_due_ns(place, starts ? kBatchNs : 0, limit);
  }
  core::Verdict verdict = core::judge_launch(now, view);
  // Not a collective: its peers would wait for the next turn, and it keep its GPU busy until then.
  if (verdict.admission == Admission::wait_turn && waiter.stream_is_idle && !waiter.is_collective &&
      flight_.is_overdue(now)) {
    flight_.forced();
    return {};
  }
  if (verdict.admission != Admission::wait_in_flight) return verdict;
  std::uint64_t forced_at = flight_.forced_at_ns();
  if (waiter.stream_is_idle) forced_at = std::min(forced_at, now);
  if (now >= forced_at) {
    flight_.forced();
    return {};
  }
  verdict.until_ns = std::min({verdict.until_ns, forced_at,
                               std::max(now + 1, waiter.asked_ns + core::kMostIdleStreamWaitNs)});
  return verdict;
}

// What the launch that goes in now changes.
void GpuGate::let_in(std::uint64_t now, std::uint64_t grant, core::Meter& meter,
                     const Target& target, const Waiter& waiter, Look& look) {
  const std::uint64_t mean = meter.cost().mean_ns();
  const bool has_waited = waiter.turn_wait_ns != 0;
  const std::uint64_t busy_until = flight_.busy_until_ns();
  const bool was_idle = busy_until <= waiter.asked_ns;
  if (was_idle && last_launch_ns_ != 0) {
    const std::uint64_t gap = std::min(waiter.asked_ns - busy_until, core::kMostIdleNs);
    usual_gap_ns_ = (usual_gap_ns_ * 7 + gap) / 8;
  } else if (!was_idle) {
    usual_gap_ns_ = usual_gap_ns_ * 7 / 8;
  }
  look.rings = seat_.is_taken() && seat_.announces() && busy_until <= now;
  want_since_ns_ = 0;
  flight_.launched(now, mean, has_waited ? core::kTurnSwitchNs : 0);
  spread_ns_ = meter.cost().high_ns() - mean;
  last_launch_ns_ = now;
  if (waiter.counts) ++place_;
  counts_collectives_ = counts_collectives_ || waiter.is_collective;

  Ticket& ticket = look.ticket;
  const bool counted = GrantWord::is_counted(grant);
  const std::uint64_t grant_end = GrantWord::end_ns(grant);
  // Alone; or in a turn, after which the others wait for what is predicted to be in flight.
  ticket.foreign_from_ns = core::kForever;
  if (counted)
    ticket.foreign_from_ns =
        grant_end == core::kForever ? now : std::max(grant_end, flight_.busy_until_ns());
  ticket.was_idle = busy_until <= now;
  ticket.measured = meter.wants_sample(since_sample_);
  since_sample_ = ticket.measured ? 1 : since_sample_ + 1;
  meter.launched(ticket.measured);
  // Behind the last ones of a turn too: in whichever stream they are, it is known when they are
  // done.
  const bool ends_turn = counted && flight_.busy_until_ns() >= grant_end;
  // Behind each collective as well, where there is room for that: a mark in another stream says
  // nothing of it, and whether it is done is what a gang's turns go by.
  const bool marks_it = waiter.is_collective && marks_.size() < kMostMarksOfCollectives;
  if (flight_.wants_mark() || !meter.cost().known() || ends_turn || marks_it) {
    ticket.marked = true;
    ticket.position = flight_.marked();
  }
  unnoted_work_ns_ += mean;
  unnoted_launches_ += 1;
  unnoted_delayed_ += now != waiter.asked_ns ? 1 : 0;
  if (unnoted_work_ns_ >= kBeatNs) beat(now);
  if (!has_stream_) {
    stream_ = target.stream;
    stream_per_thread_ = target.per_thread;
    has_stream_ = true;
  } else if (stream_ != target.stream || stream_per_thread_ != target.per_thread) {
    has_streams_ = true;
  }
}

// A new want is also one that comes after a wake-up that was too late to find the grant open. While
// work of its own is in flight it looks now and then whether that is done, for the host to know.
void GpuGate::hold_for_turn(std::uint64_t now, Waiter& waiter, Look& look) {
  if (waiter.turn_wait_ns == 0) waiter.turn_wait_ns = now;
  if (want_since_ns_ == 0 || waiter.was_woken) {
    want_since_ns_ = now;
    look.rings = true;
  }
  waiter.was_woken = false;
  if (!flight_.ends_with_mark()) {
    look.marks = true;
    look.position = flight_.marked();
  }
  if (marks_.empty() && !look.marks) {
    look.rings = look.rings || waiter.polls;  // who is next may begin
    waiter.polls = false;
    spread_ns_ = 0;
    return;
  }
  waiter.polls = true;
  const std::uint64_t busy_until = flight_.busy_until_ns();
  const std::uint64_t left = busy_until > now ? busy_until - now : 0;
  look.verdict.until_ns =
      now + std::max(std::min(left, spread_ns_ > 0 ? spread_ns_ : left), core::kLeastLookNs);
}

// The time since the last look went to what was waited for then.
void GpuGate::note_wait(std::uint64_t now, Waiter& waiter, Admission next) {
  const std::uint64_t waited = now - waiter.looked_ns;
  if (waiter.waits_for != Admission::go && seat_.is_taken()) {
    shm::SeatSecond more;
    if (waiter.waits_for == Admission::wait_limit) more.waited_limit_ns = waited;
    if (waiter.waits_for == Admission::wait_in_flight) more.waited_in_flight_ns = waited;
    if (waiter.waits_for == Admission::wait_turn) {
      more.waited_turn_ns = waited;
      more.behind = seat_.behind();
    }
    seat_.note(now, more);
  }
  waiter.looked_ns = now;
  waiter.waits_for = next;
}

// ---- events ----

CUevent GpuGate::event_for(std::uint64_t context, EventKind kind) {
  {
    SpinGuard guard(lock_);
    if (const CUevent event = events_.take(context, kind)) return event;
  }
  return EventPool::create(kind);
}

void GpuGate::return_event(CUevent event, std::uint64_t context, EventKind kind) {
  if (event == nullptr) return;
  {
    SpinGuard guard(lock_);
    if (events_.give_back(event, context, kind)) return;
  }
  if (real().cuEventDestroy_v2 != nullptr) real().cuEventDestroy_v2(event);
}

void GpuGate::put_mark(const Target& target, std::uint64_t position) {
  const RelaxedCapture relaxed;
  const CUevent event = event_for(target.context, EventKind::mark);
  if (event != nullptr && record(event, target) == CUDA_SUCCESS) {
    SpinGuard guard(lock_);
    if (!marks_.full()) {
      marks_.push({event, target.context, position});
      look_due_ns_.store(0, std::memory_order_relaxed);
      return;
    }
  }
  // What isn't marked is predicted.
  return_event(event, target.context, EventKind::mark);
}

bool GpuGate::wants_empty_pair() {
  SpinGuard guard(lock_);
  return empty_pairs_ < kEmptyPairs;
}

void GpuGate::measured(const Work& work, const Target& target, const Ticket& ticket,
                       const Measurement& measurement) {
  if (measurement.begin != nullptr && measurement.end != nullptr) {
    SpinGuard guard(lock_);
    if (!samples_.full()) {
      samples_.push({measurement.begin, measurement.first, measurement.end, target, work,
                     ticket.foreign_from_ns, measurement.launched_ns, measurement.host_ns,
                     measurement.launched_ns, ticket.was_idle, tenant_->held_elsewhere_ns(gpu_)});
      look_due_ns_.store(0, std::memory_order_relaxed);
      return;
    }
  }
  for (const CUevent event : {measurement.begin, measurement.first, measurement.end})
    return_event(event, target.context, EventKind::timing);
  not_measured(work);
}

void GpuGate::not_measured(const Work& work) {
  SpinGuard guard(lock_);
  if (KnownWork* const known = costs_.known(work)) known->meter.lost();
}

// Before a launch that was held back is submitted: what is being measured in other streams and
// isn't done may have been waiting for it. What is done wasn't.
void GpuGate::note_hold(std::uint64_t from, std::uint64_t until, const Target& target) {
  while (looking_.exchange(true, std::memory_order_seq_cst)) sched_yield();
  const RelaxedCapture relaxed;
  for (std::size_t i = 0; ending_.load(std::memory_order_seq_cst) == 0; ++i) {
    Sample sample;
    {
      SpinGuard guard(lock_);
      if (i >= samples_.size()) break;
      sample = samples_[i];
    }
    if (sample.begin == nullptr || is_same_stream(sample.target, target) || is_done(sample.end))
      continue;
    SpinGuard guard(lock_);
    Sample& told = samples_[i];  // still the same: only who looks takes any away
    const std::uint64_t since = std::max({from, told.launched_ns, told.held_until_ns});
    if (since >= until) continue;
    told.held_ns += until - since;
    told.held_until_ns = until;
  }
  looking_.store(false, std::memory_order_seq_cst);
}

// One thread at a time asks; the others go on with what is known. Only at a mark or sample that is
// the first in its queue, so what was passed is passed for all before it.
void GpuGate::look_at_events(std::uint64_t now) {
  if (looking_.exchange(true, std::memory_order_seq_cst)) return;
  if (ending_.load(std::memory_order_seq_cst) == 0) {
    const RelaxedCapture relaxed;
    while (look_at_sample(now)) {
    }
    while (look_at_mark()) {
    }
    SpinGuard guard(lock_);
    const bool has_mark = !marks_.empty();
    flight_.looked(now, passed_mark_ns_, has_mark ? marks_.front().position : 0);
    std::uint64_t due = UINT64_MAX;
    if (has_mark || !samples_.empty()) {
      const std::uint64_t rest =
          has_mark ? flight_.work_ns() - std::min(flight_.work_ns(), marks_.front().position) : 0;
      const std::uint64_t busy_until = flight_.busy_until_ns();
      const std::uint64_t predicted = busy_until > rest ? busy_until - rest : 0;
      due = std::clamp(predicted, now + kLeastAskNs, now + kMostAskNs);
      if (!samples_.empty()) due = now + kLeastAskNs;
    }
    look_due_ns_.store(due, std::memory_order_relaxed);
  }
  looking_.store(false, std::memory_order_seq_cst);
}

// False: there is none, or it isn't done.
bool GpuGate::look_at_mark() {
  Mark mark;
  {
    SpinGuard guard(lock_);
    if (marks_.empty()) return false;
    mark = marks_.front();
  }
  if (mark.event != nullptr && !is_done(mark.event)) return false;
  {
    SpinGuard guard(lock_);
    passed_mark_ns_ = std::max(passed_mark_ns_, marks_.front().position);
    marks_.pop();
  }
  return_event(mark.event, mark.context, EventKind::mark);
  return true;
}

bool GpuGate::look_at_sample(std::uint64_t now) {
  Sample sample;
  {
    SpinGuard guard(lock_);
    if (samples_.empty()) return false;
    sample = samples_.front();
  }
  std::uint64_t elapsed = 0;
  std::uint64_t empty = 0;
  if (sample.begin != nullptr) {
    if (!is_done(sample.end)) {
      SpinGuard guard(lock_);
      samples_.front().unfinished_ns = now;
      return false;
    }
    const bool has_empty = sample.first != nullptr;
    elapsed = between(has_empty ? sample.first : sample.begin, sample.end);
    if (has_empty) empty = between(sample.begin, sample.first);
    for (const CUevent event : {sample.begin, sample.first, sample.end})
      return_event(event, sample.target.context, EventKind::timing);
  }
  SpinGuard guard(lock_);
  if (sample.first != nullptr && empty_pairs_ < kEmptyPairs) {
    ++empty_pairs_;
    empty_pair_ns_ = empty_pairs_ == 1 ? empty : std::min(empty_pair_ns_, empty);
  }
  samples_.pop();
  KnownWork* const known = costs_.known(sample.work);
  if (known == nullptr) return true;
  // The thread may have been interrupted between the events, before the kernel was submitted or
  // after: nobody knows. It doesn't matter beside work that is long. Whether this launch was is not
  // asked: of work whose length varies the short ones would be left out.
  const bool is_slow = known->note_call(sample.host_ns);
  const core::Cost& cost = known->meter.cost();
  const std::uint64_t length = cost.known() ? cost.mean_ns() : elapsed;
  if (elapsed == 0 || (sample.was_idle && is_slow && sample.host_ns > length / 16)) {
    known->meter.lost();
    return true;
  }
  // Behind other work the GPU goes from event to kernel to event at once; an idle one has done the
  // first event before the program's thread has submitted the kernel.
  const std::uint64_t overhead = (sample.was_idle ? sample.host_ns : 0) + empty_pair_ns_;
  learn(now, sample, std::max<std::uint64_t>(elapsed - std::min(elapsed, overhead), 500));
  return true;
}

void GpuGate::learn(std::uint64_t now, const Sample& sample, std::uint64_t sample_ns) {
  core::Meter* const meter = &costs_.known(sample.work)->meter;
  // It ended after it was last seen unfinished, and not before it can have.
  const std::uint64_t ended =
      std::min(now, std::max(sample.unfinished_ns, sample.launched_ns + sample_ns));
  const std::uint64_t held_elsewhere_ns =
      tenant_->held_elsewhere_ns(gpu_) - sample.held_elsewhere_before_ns;
  const std::uint64_t more = meter->sampled(sample_ns, ended <= sample.foreign_from_ns,
                                            sample.held_ns + held_elsewhere_ns);
  if (more == 0) return;
  // What was taken for shorter is paid for now.
  flight_.correct(more);
  passed_mark_ns_ += more;
  for (std::size_t i = 0; i < marks_.size(); ++i) marks_[i].position += more;
  if (const std::uint32_t limit = limit_percent(); limit != 0) pay(now, more, limit);
}

// ---- what the program's own waiting proves ----

std::uint64_t GpuGate::submitted_ns() {
  SpinGuard guard(lock_);
  return flight_.work_ns();
}

std::uint64_t GpuGate::submitted_ns(CUstream stream, bool per_thread) {
  SpinGuard guard(lock_);
  const bool is_only =
      !has_stream_ || (!has_streams_ && stream_ == stream && stream_per_thread_ == per_thread);
  return is_only ? flight_.work_ns() : 0;
}

void GpuGate::waited(std::uint64_t position) {
  const std::uint64_t now = platform::monotonic_ns();
  if (look_due_ns_.load(std::memory_order_relaxed) != UINT64_MAX) look_at_events(now);
  bool rings = false;
  {
    SpinGuard guard(lock_);
    if (now >= beat_due_ns_) beat(now);
    if (position != 0) {
      passed_mark_ns_ = std::max(passed_mark_ns_, position);
      if (position == flight_.work_ns()) {
        flight_.all_done(now);
        spread_ns_ = 0;
        has_stream_ = has_streams_ = false;
      } else {
        flight_.looked(now, passed_mark_ns_, 0);
      }
    }
    report();
    rings = seat_.is_taken() && seat_.announces();
  }
  if (rings) node_->ring();
}

// ---- the end of contexts and kinds ----

void GpuGate::begin_context_end() {
  ending_.fetch_add(1, std::memory_order_seq_cst);
  while (looking_.load(std::memory_order_seq_cst)) sched_yield();
}

void GpuGate::finish_context_end(std::uint64_t context, bool ended) {
  if (ended) {
    SpinGuard guard(lock_);
    events_.forget(context);
    for (std::size_t i = 0; i < marks_.size(); ++i) {
      if (marks_[i].context == context) marks_[i].event = nullptr;
    }
    for (std::size_t i = 0; i < samples_.size(); ++i) {
      if (samples_[i].target.context == context) samples_[i].begin = nullptr;
    }
  }
  ending_.fetch_sub(1, std::memory_order_seq_cst);
}

void GpuGate::forget(std::uint64_t work_id) {
  SpinGuard guard(lock_);
  costs_.forget(work_id);
}

void GpuGate::measure_again(const Work& work) {
  SpinGuard guard(lock_);
  if (KnownWork* const known = costs_.known(work)) known->meter.changed();
}

}  // namespace vgpu::limiter

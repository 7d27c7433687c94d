// SPDX-License-Identifier: Apache-2.0
#include "world.h"

#include <algorithm>
#include <array>

#include "vgpu/core/gate.h"
#include "vgpu/core/in_flight.h"
#include "vgpu/core/meter.h"
#include "vgpu/core/node.h"
#include "vgpu/core/pace.h"

namespace vgpu::model {
namespace {

constexpr std::size_t kMostGpus = 4;

class World;

// One process of a tenant on one GPU: its program, and the limiter's gate in it.
class Process {
 public:
  Process(World& world, std::size_t tenant, std::size_t gpu, std::size_t context,
          std::uint32_t seat, std::size_t sibling, std::uint64_t seed)
      : world_(world),
        tenant_(tenant),
        gpu_(gpu),
        context_(context),
        seat_(seat),
        sibling_(sibling),
        random_(seed) {}

  Time next() const { return is_stopped_ ? kNever : next_ns_; }
  void start(Time now);
  void run(Time now);
  void end(Time now);
  void stop() { is_stopped_ = true; }
  void go_on(Time now);
  void completed(std::size_t stream, const Kernel& kernel, Time now);

  // The host of the arbiter.
  core::SeatView view() const;
  void granted(const core::Grant& grant, Time now);
  bool is_seated() const { return is_seated_; }
  void unseat() { is_seated_ = false; }
  bool is_alive() const { return at_ != At::gone; }
  bool is_stopped() const { return is_stopped_; }
  std::size_t gpu() const { return gpu_; }
  std::size_t tenant() const { return tenant_; }
  std::uint32_t seat() const { return seat_; }
  // The experiment of exclusive turns.
  void lock_granted(Time now);

 private:
  enum class At { unborn, gate, in_call, waits_for_work, queue_full, pause, gone };
  struct Mark {
    std::uint32_t stream;  // that it is in,
    std::uint64_t number;  // behind so many of that stream's launches
    Time work_ns;          // submitted up to here
  };
  struct Sample {
    std::uint64_t number;
    std::uint32_t kind;
    Time foreign_from_ns;  // others were kept out until then, at the least
    Time value_ns = 0;
    Time ended_ns = 0;
  };
  void try_launch(Time now);
  bool passes_lock(Time now);
  std::uint32_t limit() const;
  void ask(const core::Meter& meter, Time now);
  bool passes_gate(Time now);
  bool is_collective() const;
  bool counts() const { return is_collective() || !has_collectives_; }
  void admitted(Time now);
  void wait_for_turn(Time now);
  void launch(Time now);
  void called(Time now);
  void look_at_marks(Time now);
  void learn(const Sample& sample, Time now);
  bool is_idle() const;
  void wait_for_work(Time now);
  core::Meter& meter_of(std::uint32_t kind) {
    if (meters_.size() <= kind) meters_.resize(kind + 1);
    return meters_[kind];
  }

  World& world_;
  std::size_t tenant_;
  std::size_t gpu_;
  std::size_t context_;
  std::uint32_t seat_;
  std::size_t sibling_;  // its number among its tenant's processes on this GPU
  std::mt19937_64 random_;

  At at_ = At::unborn;
  Time next_ns_ = kNever;
  bool is_stopped_ = false;
  bool is_seated_ = false;
  bool dies_in_turn_ = false;

  // The program.
  Launch launch_;
  bool has_launch_ = false;
  std::uint64_t launches_ = 0;
  std::uint64_t place_ = 0;  // core::SeatView
  bool has_collectives_ = false;
  // By stream: kernels that were launched, and of these those whose end the GPU has reported.
  std::array<std::uint64_t, Gpu::kStreams> launched_in_{};
  std::array<std::uint64_t, Gpu::kStreams> done_in_{};
  std::size_t in_flight_ = 0;
  std::array<std::size_t, Gpu::kStreams> in_stream_{};
  Time request_ns_ = 0;  // since when this batch of work has been asked for
  bool in_request_ = false;
  bool drains_for_lock_ = false;

  // The gate.
  core::Grant grant_;
  std::uint64_t since_sample_ = 0;  // launches from the last that was measured on
  Time asked_ns_ = kNever;          // since when the present launch has been at the gate
  Time turn_wait_ns_ = kNever;      // since when it has been waiting for a turn
  Time place_ns_ = kNever;          // under the compute limit
  Time want_since_ns_ = 0;
  bool was_woken_ = false;  // by the host
  bool polls_ = false;      // whether what it left in flight is done
  Time spread_ns_ = 0;      // that the last launch may take longer than the mean
  Time last_launch_ns_ = 0;
  Time usual_gap_ns_ = 0;
  core::InFlight flight_;
  Time passed_mark_ns_ = 0;  // position of the last mark that was seen done
  std::deque<Mark> marks_;
  std::deque<Sample> sampled_;
  std::vector<Sample> samples_;
  std::vector<core::Meter> meters_;
};

class World {
 public:
  explicit World(const Scenario& scenario);
  Result run();

  const Scenario& scenario() const { return scenario_; }
  Tenant& tenant(std::size_t tenant) { return tenants_[tenant]; }
  Outcome& outcome(std::size_t tenant) { return result_.tenants[tenant]; }
  Time& paid_until(std::size_t gpu, std::size_t tenant) { return paid_[gpu][tenant]; }
  Gpu& gpu(std::size_t gpu) { return *gpus_[gpu]; }
  Time between(Time least, Time most) {
    return std::uniform_int_distribution<Time>(least, most)(random_);
  }
  Time wake_up() { return between(kLeastWakeNs, kMostWakeNs); }
  void ring(Time now) { host_next_ns_ = std::min(host_next_ns_, now + wake_up()); }

  // The experiment of exclusive turns: one lock a GPU.
  struct Lock {
    Process* holder = nullptr;
    Time since_ns = 0;
    std::deque<Process*> waiting;
  };
  Lock& lock(std::size_t gpu) { return locks_[gpu]; }
  void pass_on(Lock& lock, Time now);

 private:
  void step_host(Time now);
  void new_host();
  void apply_plan(Time now);
  Time next_plan() const { return planned_ < plan_.size() ? plan_[planned_].at_ns : kNever; }

  struct Planned {
    Time at_ns;
    enum class What { arrive, leave, die, stop, go_on, reap, change, new_host } what;
    std::size_t process = 0;
    Change change;
  };
  void plan(const Planned& planned) {
    plan_.insert(std::upper_bound(
                     plan_.begin() + static_cast<std::ptrdiff_t>(planned_), plan_.end(), planned,
                     [](const Planned& a, const Planned& b) { return a.at_ns < b.at_ns; }),
                 planned);
  }
  friend class Process;

  Scenario scenario_;
  std::vector<Tenant> tenants_;
  std::mt19937_64 random_;
  std::vector<std::unique_ptr<Gpu>> gpus_;
  std::vector<std::vector<Process*>> by_context_;
  std::vector<std::vector<Time>> paid_;
  std::vector<Lock> locks_;
  std::vector<std::unique_ptr<Process>> processes_;
  std::unique_ptr<core::Arbiter[]> arbiters_;
  std::unique_ptr<core::Node> node_;
  std::vector<Planned> plan_;
  std::size_t planned_ = 0;
  Time host_next_ns_ = kNever;
  Time last_step_ns_ = 0;
  Time last_event_ns_ = 0;
  bool overlapped_ = false;
  Result result_;
};

// ---- the program ----

void Process::start(Time now) {
  at_ = At::gate;
  is_seated_ = world_.scenario().sharing == Sharing::arbiter;
  next_ns_ = now;
  if (is_seated_) world_.ring(now);
}

void Process::go_on(Time now) {
  is_stopped_ = false;
  if (next_ns_ < now) next_ns_ = now;
}

void Process::end(Time now) {
  World::Lock& lock = world_.lock(gpu_);
  if (lock.holder == this) {
    lock.holder = nullptr;
    world_.pass_on(lock, now);
  }
  at_ = At::gone;
  next_ns_ = kNever;
  world_.gpu(gpu_).end_context(context_, now);
}

void Process::run(Time now) {
  next_ns_ = kNever;
  switch (at_) {
    case At::unborn:
    case At::gone:
      return;
    case At::gate:
    case At::queue_full:
    case At::pause:
      at_ = At::gate;
      try_launch(now);
      return;
    case At::in_call:
      called(now);
      return;
    case At::waits_for_work:
      if (drains_for_lock_) {
        drains_for_lock_ = false;
        at_ = At::gate;
        try_launch(now);
        return;
      }
      // The program's own synchronize proves that its work is done.
      if (world_.scenario().sharing == Sharing::arbiter) {
        look_at_marks(now);
        if (grant_.announces) world_.ring(now);
      }
      if (in_request_) {
        world_.outcome(tenant_).latencies_ns.push_back(now - request_ns_);
        in_request_ = false;
      }
      at_ = At::pause;
      if (launch_.period_ns != 0) {
        request_ns_ += launch_.period_ns;
        in_request_ = true;
        // What is late begins when the program has seen the last one's end: 5 to 20 us for the wait
        // to return, 5 to 40 us for the launch call.
        next_ns_ = request_ns_ <= now ? now + world_.between(10 * kUs, 60 * kUs)
                                      : request_ns_ + world_.between(5 * kUs, kTimerSlackNs);
        return;
      }
      next_ns_ = launch_.pause_ns == 0
                     ? now
                     : now + launch_.pause_ns + world_.between(5 * kUs, kTimerSlackNs);
      return;
  }
}

bool Process::is_idle() const { return in_flight_ == 0; }

void Process::try_launch(Time now) {
  if (!has_launch_) {
    launch_ = world_.tenant(tenant_).program(launches_, random_);
    has_launch_ = true;
  }
  if (!in_request_) {
    in_request_ = true;
    request_ns_ = now;
  }
  if (in_flight_ >= kQueueLength) {
    at_ = At::queue_full;
    return;
  }
  const bool passes =
      world_.scenario().sharing == Sharing::arbiter ? passes_gate(now) : passes_lock(now);
  if (passes) launch(now);
}

void Process::launch(Time now) {
  ++launches_;
  ++in_flight_;
  ++in_stream_[launch_.stream];
  ++launched_in_[launch_.stream];
  ++world_.outcome(tenant_).launches;
  ++world_.outcome(tenant_).by_sibling[sibling_];
  has_launch_ = false;
  Kernel kernel;
  kernel.work_ns = launch_.work_ns;
  kernel.visible_ns = now + kLaunchLatencyNs;
  kernel.number = launches_;
  kernel.together = launch_.together;
  kernel.until_other_stream = launch_.until_other_stream;
  kernel.after_other_stream = launch_.after_other_stream;
  world_.gpu(gpu_).submit(context_, launch_.stream, kernel);
  at_ = At::in_call;
  // One after the other: in one expression compilers draw them in either order.
  const Time call_ns = kLaunchCallNs - kLaunchCallNs / 8 + random_() % (kLaunchCallNs / 4);
  const Time gap_ns = launch_.gap_ns - launch_.gap_ns / 16 + random_() % (launch_.gap_ns / 8 + 1);
  next_ns_ = now + call_ns + gap_ns;
}

void Process::called(Time now) {
  if (launch_.waits) {
    at_ = At::waits_for_work;
    if (is_idle()) next_ns_ = now + kUs;
    return;
  }
  at_ = At::pause;
  if (launch_.pause_ns != 0) {
    next_ns_ = now + launch_.pause_ns + world_.between(5 * kUs, kTimerSlackNs);
    return;
  }
  at_ = At::gate;
  try_launch(now);
}

void Process::completed(std::size_t stream, const Kernel& kernel, Time now) {
  --in_flight_;
  --in_stream_[stream];
  ++done_in_[stream];
  Outcome& outcome = world_.outcome(tenant_);
  const std::size_t bin = now / kBinNs;
  if (kernel.work_ns != kNever) outcome.work_ns[bin] += kernel.work_ns;
  ++outcome.ends[bin];
  const auto sample = std::find_if(sampled_.begin(), sampled_.end(),
                                   [&](const Sample& one) { return one.number == kernel.number; });
  if (sample != sampled_.end()) {
    sample->value_ns = now - kernel.began_ns;
    sample->ended_ns = now;
    samples_.push_back(*sample);
    sampled_.erase(sample);
  }
  if (at_ == At::waits_for_work && is_idle()) next_ns_ = now + kSynchronizeNs;
  if (at_ == At::queue_full) next_ns_ = now + kUs;
}

// ---- the experiment of exclusive turns ----

bool Process::passes_lock(Time now) {
  if (world_.scenario().sharing == Sharing::unmanaged) return true;
  World::Lock& lock = world_.lock(gpu_);
  if (lock.holder == nullptr) {
    lock.holder = this;
    lock.since_ns = now;
    return true;
  }
  if (lock.holder == this) {
    if (now - lock.since_ns < world_.scenario().turn_ns || lock.waiting.empty()) return true;
    if (!is_idle()) {
      drains_for_lock_ = true;
      at_ = At::waits_for_work;
      return false;
    }
    lock.holder = nullptr;
    world_.pass_on(lock, now);
  }
  lock.waiting.push_back(this);
  return false;
}

void Process::lock_granted(Time now) { next_ns_ = now; }

void World::pass_on(Lock& lock, Time now) {
  if (lock.waiting.empty()) return;
  lock.holder = lock.waiting.front();
  lock.waiting.pop_front();
  // Of two awake processes: a futex wake took 6.4 us (median) to 93.
  const Time wakes = now + between(6'400, 34 * kUs);
  lock.since_ns = wakes;
  lock.holder->lock_granted(wakes);
}

// ---- the gate ----

// What is known of the work in flight from the marks in it bounds the prediction from both sides.
void Process::look_at_marks(Time now) {
  for (const Sample& sample : samples_) learn(sample, now);
  samples_.clear();
  while (!marks_.empty() && marks_.front().number <= done_in_[marks_.front().stream]) {
    passed_mark_ns_ = marks_.front().work_ns;
    marks_.pop_front();
  }
  // As the gate: the end of a wait asks the marks first, if there are any.
  const bool has_waited = is_idle() && at_ == At::waits_for_work;
  if (!has_waited || passed_mark_ns_ > flight_.done_ns())
    flight_.looked(now, passed_mark_ns_, marks_.empty() ? 0 : marks_.front().work_ns);
  if (!has_waited) return;
  marks_.clear();
  flight_.all_done(now);
  spread_ns_ = 0;
}

void Process::learn(const Sample& sample, Time now) {
  const Time noise = sample.value_ns / 100;
  const Time value = sample.value_ns - noise + world_.between(0, 2 * noise);
  const bool is_clean = sample.ended_ns <= sample.foreign_from_ns;
  const Time more = meter_of(sample.kind).sampled(value, is_clean);
  if (more == 0) return;
  // What was taken for shorter is paid for now.
  flight_.correct(more);
  passed_mark_ns_ += more;
  for (Mark& mark : marks_) mark.work_ns += more;
  Time& paid = world_.paid_until(gpu_, tenant_);
  paid = core::pace_charge(paid, now, more, limit());
}

std::uint32_t Process::limit() const { return core::paced_percent(world_.tenant(tenant_).limit); }

// Takes the launch's place under its tenant's limit.
void Process::ask(const core::Meter& meter, Time now) {
  asked_ns_ = now;
  place_ns_ = kNever;
  if (limit() == 0) return;
  Time& paid = world_.paid_until(gpu_, tenant_);
  place_ns_ = core::pace_place_ns(paid, now);
  paid = core::pace_charge(paid, now, meter.cost().mean_ns(), limit());
}

bool Process::is_collective() const {
  const Places places = world_.scenario().places;
  return launch_.together != nullptr &&
         (places == Places::collectives || (places == Places::collectives_on_one && gpu_ == 0));
}

bool Process::passes_gate(Time now) {
  look_at_marks(now);
  const bool first_look = asked_ns_ == kNever;
  const core::Meter& meter = meter_of(launch_.kind);
  if (first_look) ask(meter, now);

  core::GateView view;
  view.grant_end_ns = grant_.end_ns;
  if (grant_.last_place != 0 && counts() && place_ >= grant_.last_place) view.grant_end_ns = 0;
  view.in_flight_ns = grant_.in_flight_ns;
  view.beside_priority = grant_.in_flight_ns == core::kInFlightBesidePriorityNs;
  view.marks_done = flight_.marks_done();
  view.busy_until_ns = flight_.busy_until_ns();
  view.unmeasured = meter.unmeasured();
  view.cost_ns = meter.cost().high_ns();
  view.spread_ns = spread_ns_;
  if (place_ns_ != kNever) {
    // A batch is saved up only where starting costs others a turn, and by who has nothing going.
    const bool starts = grant_.counted && now >= grant_.end_ns && want_since_ns_ == 0;
    view.due_ns = core::pace_due_ns(place_ns_, starts ? kBatchNs : 0, limit());
  }
  core::Verdict verdict = core::judge_launch(now, view);
  if (verdict.admission == core::Admission::wait_in_flight) {
    Time forced_at = flight_.forced_at_ns();
    if (in_stream_[launch_.stream] == 0)
      forced_at = std::min(forced_at, asked_ns_ + core::kMostIdleStreamWaitNs);
    if (now >= forced_at) {
      ++world_.outcome(tenant_).forced;
      flight_.forced();
      verdict = {};
    } else {
      verdict.until_ns = std::min(verdict.until_ns, forced_at);
    }
  }
  switch (verdict.admission) {
    case core::Admission::go:
      admitted(now);
      return true;
    case core::Admission::wait_limit:
      want_since_ns_ = 0;
      next_ns_ = std::max(verdict.until_ns, now) + world_.between(kUs, kTimerSlackNs);
      return false;
    case core::Admission::wait_turn:
      if (turn_wait_ns_ == kNever) turn_wait_ns_ = now;
      wait_for_turn(now);
      return false;
    case core::Admission::wait_in_flight:
      want_since_ns_ = 0;  // it has its turn
      next_ns_ = std::max(verdict.until_ns, now) + world_.between(kUs, kTimerSlackNs);
      return false;
  }
  return false;
}

// What the launch that goes in now changes.
void Process::admitted(Time now) {
  core::Meter& meter = meter_of(launch_.kind);
  const Time mean = meter.cost().mean_ns();
  if (turn_wait_ns_ != kNever) {
    Outcome& outcome = world_.outcome(tenant_);
    if (turn_wait_ns_ >= kWarmUpNs)
      outcome.most_wait_ns = std::max(outcome.most_wait_ns, now - turn_wait_ns_);
  }
  const Time busy_until = flight_.busy_until_ns();
  const bool was_idle = busy_until <= asked_ns_;
  if (was_idle && last_launch_ns_ != 0) {
    const Time gap = std::min(asked_ns_ - busy_until, core::kMostIdleNs);
    usual_gap_ns_ = (usual_gap_ns_ * 7 + gap) / 8;
  } else if (!was_idle) {
    usual_gap_ns_ = usual_gap_ns_ * 7 / 8;
  }
  if (grant_.announces && busy_until <= now) world_.ring(now);
  const Time late = turn_wait_ns_ != kNever ? core::kTurnSwitchNs : 0;
  asked_ns_ = turn_wait_ns_ = kNever;
  want_since_ns_ = 0;
  flight_.launched(now, mean, late);
  spread_ns_ = meter.cost().high_ns() - mean;
  // Alone; or in a turn, after which the others wait for what is predicted to be in flight.
  Time foreign_from = kNever;
  if (grant_.counted) {
    foreign_from = grant_.end_ns == kNever ? now : std::max(grant_.end_ns, flight_.busy_until_ns());
  }
  last_launch_ns_ = now;
  has_collectives_ = has_collectives_ || is_collective();
  place_ += counts() ? 1 : 0;
  if (world_.scenario().places == Places::differing_launches && random_() % 1'000 == 0) ++place_;
  const std::uint64_t number = launches_ + 1;
  const bool is_measured = meter.wants_sample(since_sample_);
  since_sample_ = is_measured ? 1 : since_sample_ + 1;
  if (is_measured) sampled_.push_back({number, launch_.kind, foreign_from});
  meter.launched(is_measured);
  if (flight_.wants_mark() || !meter.cost().known() || is_collective())
    marks_.push_back({launch_.stream, launched_in_[launch_.stream] + 1, flight_.marked()});
}

// A new want is also one that comes after a wake-up that was too late to find the grant open. While
// work of its own is in flight it looks now and then whether that is done, for the host to know.
void Process::wait_for_turn(Time now) {
  if (want_since_ns_ == 0 || was_woken_) {
    want_since_ns_ = now;
    world_.ring(now);
  }
  was_woken_ = false;
  if (!flight_.ends_with_mark())
    marks_.push_back({launch_.stream, launched_in_[launch_.stream], flight_.marked()});
  if (marks_.empty()) {
    if (polls_) world_.ring(now);  // who is next may begin
    polls_ = false;
    spread_ns_ = 0;
    return;
  }
  polls_ = true;
  const Time left = flight_.busy_until_ns() > now ? flight_.busy_until_ns() - now : 0;
  next_ns_ = now +
             std::max(std::min(left, spread_ns_ > 0 ? spread_ns_ : left), core::kLeastLookNs) +
             world_.between(kUs, kTimerSlackNs);
}

core::SeatView Process::view() const {
  const Tenant& tenant = world_.tenants_[tenant_];
  core::SeatView view;
  view.seat = seat_;
  view.birth = seat_ + 1;
  view.tenant = tenant_ + 1;
  view.share_percent = tenant.share;
  view.limit_percent = tenant.limit;
  view.priority = tenant.priority;
  view.want_since_ns = want_since_ns_;
  view.busy_until_ns = flight_.busy_until_ns();
  if (view.busy_until_ns > last_launch_ns_) view.busy_until_ns += spread_ns_;
  view.last_launch_ns = last_launch_ns_;
  view.usual_gap_ns = usual_gap_ns_;
  view.work_ns = flight_.work_ns();
  view.done_ns = flight_.done_ns();
  view.place = place_;
  view.counts_collectives = has_collectives_;
  return view;
}

void Process::granted(const core::Grant& grant, Time now) {
  const bool is_open = now < grant.end_ns;
  grant_ = grant;
  if (!is_open || at_ != At::gate || want_since_ns_ == 0) return;
  was_woken_ = true;
  next_ns_ = std::min(next_ns_, now + world_.wake_up());
}

// ---- the world ----

World::World(const Scenario& scenario)
    : scenario_(scenario),
      tenants_(scenario.tenants),
      random_(scenario.seed),
      locks_(scenario.gpus) {
  by_context_.resize(scenario.gpus);
  for (std::size_t g = 0; g < scenario.gpus; ++g) {
    gpus_.push_back(std::make_unique<Gpu>(
        [this, g](std::size_t context, std::size_t stream, const Kernel& kernel, Time now) {
          by_context_[g][context]->completed(stream, kernel, now);
        },
        scenario.seed * 100 + g));
    paid_.emplace_back(tenants_.size(), 0);
  }
  new_host();
  const std::size_t bins = scenario.length_ns / kBinNs + 1;
  for (std::size_t t = 0; t < tenants_.size(); ++t) {
    result_.tenants.emplace_back().work_ns.resize(bins);
    result_.tenants.back().ends.resize(bins);
    result_.tenants.back().by_sibling.resize(static_cast<std::size_t>(tenants_[t].processes));
    const Tenant& tenant = tenants_[t];
    for (const std::size_t g : tenant.gpus) {
      for (int i = 0; i < tenant.processes; ++i) {
        const std::size_t p = processes_.size();
        const std::size_t context = gpus_[g]->add_context();
        processes_.push_back(
            std::make_unique<Process>(*this, t, g, context, static_cast<std::uint32_t>(p),
                                      static_cast<std::size_t>(i), scenario.seed * 1'000 + p));
        by_context_[g].push_back(processes_.back().get());
        using What = Planned::What;
        // Nobody starts at the same instant.
        plan({tenant.arrives_ns + between(0, 100 * kUs), What::arrive, p, {}});
        if (tenant.leaves_ns != kNever) plan({tenant.leaves_ns, What::leave, p, {}});
        if (tenant.dies_ns != kNever) plan({tenant.dies_ns, What::die, p, {}});
        if (tenant.stops_ns != kNever) plan({tenant.stops_ns, What::stop, p, {}});
        if (tenant.continues_ns != kNever) plan({tenant.continues_ns, What::go_on, p, {}});
      }
    }
  }
  for (const Change& change : scenario.changes)
    plan({change.at_ns, Planned::What::change, 0, change});
  if (scenario.new_host_every_ns != kNever)
    plan({scenario.new_host_every_ns, Planned::What::new_host, 0, {}});
}

void World::new_host() {
  arbiters_ = std::make_unique<core::Arbiter[]>(scenario_.gpus);
  node_ = std::make_unique<core::Node>(std::span(arbiters_.get(), scenario_.gpus));
}

void World::apply_plan(Time now) {
  const Planned planned = plan_[planned_++];
  Process& process = *processes_[planned.process];
  const bool holds = process.is_seated() && arbiters_[process.gpu()].holder() == process.seat();
  switch (planned.what) {
    case Planned::What::arrive:
      process.start(now);
      break;
    case Planned::What::leave:
      process.end(now);
      process.unseat();
      ring(now);
      break;
    case Planned::What::die:
      // With the lease, if there is one to hold.
      if (process.is_seated() && !holds && now < tenants_[process.tenant()].dies_ns + 500 * kMs) {
        plan({now + 50 * kUs, Planned::What::die, planned.process, {}});
        break;
      }
      process.end(now);
      plan({now + between(kMs, kReapNs), Planned::What::reap, planned.process, {}});
      break;
    case Planned::What::stop:
      if (process.is_seated() && !holds && !tenants_[process.tenant()].stops_anywhere &&
          now < tenants_[process.tenant()].stops_ns + 500 * kMs) {
        plan({now + 50 * kUs, Planned::What::stop, planned.process, {}});
        break;
      }
      process.stop();
      break;
    case Planned::What::go_on:
      process.go_on(now);
      break;
    case Planned::What::reap:
      process.unseat();
      ring(now);
      break;
    case Planned::What::change:
      tenants_[planned.change.tenant].share = planned.change.share;
      tenants_[planned.change.tenant].limit = planned.change.limit;
      ring(now);
      break;
    case Planned::What::new_host:
      new_host();
      ring(now);
      plan({now + scenario_.new_host_every_ns, Planned::What::new_host, 0, {}});
      break;
  }
}

void World::step_host(Time now) {
  ++result_.steps;
  if (overlapped_) result_.overlapped_ns += now - last_step_ns_;
  last_step_ns_ = now;
  constexpr std::size_t kMost = 64;
  std::array<core::Node::Gpu, kMostGpus> gpus;
  std::array<std::array<core::SeatView, kMost>, kMostGpus> views;
  std::array<std::array<core::Grant, kMost>, kMostGpus> grants;
  std::array<std::array<Process*, kMost>, kMostGpus> who;
  std::array<std::size_t, kMostGpus> count{};
  for (const auto& process : processes_) {
    if (!process->is_seated()) continue;
    const std::size_t g = process->gpu();
    views[g][count[g]] = process->view();
    who[g][count[g]++] = process.get();
  }
  for (std::size_t g = 0; g < gpus_.size(); ++g)
    gpus[g] = {std::span(views[g].data(), count[g]), std::span(grants[g].data(), count[g])};
  const Time wake = node_->step(now, std::span(gpus.data(), gpus_.size()));
  for (std::size_t g = 0; g < gpus_.size(); ++g) {
    for (std::size_t i = 0; i < count[g]; ++i) who[g][i]->granted(grants[g][i], now);
  }
  overlapped_ = arbiters_[0].overlaps();
  host_next_ns_ = wake == kNever ? kNever : std::max(wake, now + kUs) + between(0, kHostLateNs);
}

Result World::run() {
  for (;;) {
    Time now = std::min(host_next_ns_, next_plan());
    for (const auto& gpu : gpus_) now = std::min(now, gpu->next());
    for (const auto& process : processes_) now = std::min(now, process->next());
    // What another GPU or stream has been waiting for is over at once.
    now = std::max(now, last_event_ns_);
    last_event_ns_ = now;
    if (now >= scenario_.length_ns) break;
    ++result_.events;
    for (const auto& gpu : gpus_) {
      if (gpu->next() <= now) gpu->run(now);
    }
    if (next_plan() <= now) apply_plan(now);
    if (host_next_ns_ <= now) step_host(now);
    for (const auto& process : processes_) {
      if (process->next() <= now) process->run(now);
    }
  }
  for (const auto& gpu : gpus_) result_.switching_ns += gpu->switching_ns();
  return std::move(result_);
}

}  // namespace

Time Outcome::work_between(Time from, Time to) const {
  Time sum = 0;
  for (std::size_t bin = from / kBinNs; bin < to / kBinNs && bin < work_ns.size(); ++bin)
    sum += work_ns[bin];
  return sum;
}

std::uint64_t Outcome::launch_count_between(Time from, Time to) const {
  std::uint64_t sum = 0;
  for (std::size_t bin = from / kBinNs; bin < to / kBinNs && bin < ends.size(); ++bin)
    sum += ends[bin];
  return sum;
}

Time Outcome::latency(double quantile) const {
  if (latencies_ns.empty()) return 0;
  std::vector<Time> sorted = latencies_ns;
  std::sort(sorted.begin(), sorted.end());
  return sorted[static_cast<std::size_t>(quantile * static_cast<double>(sorted.size() - 1))];
}

Result simulate(const Scenario& scenario) { return World(scenario).run(); }

}  // namespace vgpu::model

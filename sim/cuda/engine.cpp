// SPDX-License-Identifier: Apache-2.0
// The simulation of streams and turns; see engine.h. Times are CLOCK_MONOTONIC nanoseconds.
// clock_ns_ is how far the simulation has come: it never passes now, and everything that ends at or
// before it has had its effect.
#include "engine.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

namespace vgpu::sim {
namespace {

constexpr std::uint64_t kNever = ~std::uint64_t{0};
constexpr std::uint64_t kLazyNs = 200'000;  // how late the engine's thread may be if nobody watches
constexpr std::uint64_t kLingerNs = 20'000'000;  // how long it stays half awake after work
constexpr std::uint64_t kSpinNs = 40'000;        // waiters spin for what comes sooner
constexpr std::uint64_t kPollNs = 20'000;        // between two looks at a value in memory
constexpr std::uint64_t kReportNs = 1'000'000;   // busy time that isn't reported yet, at most

void sleep_on(std::uint32_t* word, std::uint32_t seen, std::uint64_t until_ns) {
  timespec time{static_cast<time_t>(until_ns / 1'000'000'000),
                static_cast<long>(until_ns % 1'000'000'000)};
  syscall(SYS_futex, word, FUTEX_WAIT_BITSET, seen, until_ns == kNever ? nullptr : &time, nullptr,
          FUTEX_BITSET_MATCH_ANY);
}

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

Engine& Engine::get() {
  static auto* engine = new Engine;  // its threads run until the process ends
  return *engine;
}

Lane* Engine::new_lane(Device& device, int priority) {
  Lane* lane = nullptr;
  if (spare_.empty()) {
    lane = new Lane;
  } else {
    lane = spare_.back();
    spare_.pop_back();
  }
  lane->device = &device;
  lane->priority = priority;
  lane->orphan = false;
  return lane;
}

void Engine::retire_lane(Lane* lane) { spare_.push_back(lane); }

std::uint64_t Engine::submit(Lane& lane, Op&& op) {
  const std::uint64_t now = DeviceState::now_ns();
  op.submit_ns = now;
  op.ticket = next_ticket_++;
  lane.submitted = op.ticket;
  if (op.prompt) ++prompt_ops_;
  op.work_ns = !op.on_sms ? 0 : op.meets() ? kNeverEnds : op.remaining_ns;
  sm(*lane.device).add_work(op.work_ns);
  const bool prompt = op.prompt;
  if (active_.empty()) clock_ns_ = std::max(clock_ns_, now);
  last_active_ns_ = now;
  lane.queue.push_back(std::move(op));
  if (!lane.active) {
    lane.active = true;
    active_.push_back(&lane);
  }
  poke(prompt);
  return lane.submitted;
}

// Sees to it that the thread looks in time. It sleeps a little at a time after work, so that the
// usual launch finds it about to wake anyway and costs no system call.
void Engine::poke(bool prompt) {
  if (!has_thread_) {
    has_thread_ = true;
    std::thread([this] { thread_main(); }).detach();
    return;
  }
  const std::uint64_t needed = last_active_ns_ + (prompt ? 0 : kLazyNs);
  if (sleeping_until_ <= needed) return;
  sleeping_until_ = 0;
  DeviceState::wake(Driver::get().state->wake_word());
}

void Engine::thread_main() {
  pthread_setname_np(pthread_self(), "vgpu-sim");
  prctl(PR_SET_TIMERSLACK, 1000);
  std::uint32_t* word = Driver::get().state->wake_word();
  std::unique_lock lock(Driver::get().mutex);
  for (;;) {
    advance(lock);
    const std::uint32_t seen = std::atomic_ref(*word).load(std::memory_order_acquire);
    const std::uint64_t now = DeviceState::now_ns();
    std::uint64_t until = next_wake(now);
    if (until == kNever && now - last_active_ns_ < kLingerNs) {
      until = now + kLazyNs;
    } else if (until != kNever && prompt_ops_ == 0) {
      until = std::max(until, now + kLazyNs / 2);
    }
    if (until <= now) continue;
    sleeping_until_ = until;
    lock.unlock();
    sleep_on(word, seen, until);
    lock.lock();
    sleeping_until_ = 0;
  }
}

// Host functions run here, one at a time, as the driver does it.
void Engine::callback_main() {
  pthread_setname_np(pthread_self(), "vgpu-sim-host");
  std::unique_lock lock(Driver::get().mutex);
  for (;;) {
    callbacks_.wait(lock, [this] { return !callback_queue_.empty(); });
    Lane* lane = callback_queue_.front();
    callback_queue_.pop_front();
    const auto work = std::move(lane->queue.front().work);
    lock.unlock();
    work();
    lock.lock();
    Op& op = lane->queue.front();
    op.state = Op::State::running;
    op.remaining_ns = 0;
    op.resume_ns = std::max(DeviceState::now_ns(), op.resume_ns);
    last_active_ns_ = DeviceState::now_ns();
    advance(lock);
    poke(true);
  }
}

bool Engine::reached(const Op& op) {
  for (const Op::Point& point : op.after) {
    if (point.lane->completed < point.ticket) return false;
  }
  return true;
}

bool Engine::value_matches(const Op& op) {
  std::uint64_t found = 0;
  if (op.value_bytes == 4) {
    found = __atomic_load_n(reinterpret_cast<const std::uint32_t*>(op.address), __ATOMIC_ACQUIRE);
  } else {
    found = __atomic_load_n(reinterpret_cast<const std::uint64_t*>(op.address), __ATOMIC_ACQUIRE);
  }
  switch (op.value_flags & 3u) {
    case CU_STREAM_WAIT_VALUE_EQ:
      return found == op.value;
    case CU_STREAM_WAIT_VALUE_AND:
      return (found & op.value) != 0;
    case CU_STREAM_WAIT_VALUE_NOR: {
      const std::uint64_t nor = ~(found | op.value);
      return (op.value_bytes == 4 ? static_cast<std::uint32_t>(nor) : nor) != 0;
    }
    default:  // GEQ compares cyclically
      return op.value_bytes == 4 ? static_cast<std::int32_t>(found - op.value) >= 0
                                 : static_cast<std::int64_t>(found - op.value) >= 0;
  }
}

void Engine::adopt_turn(int device, const Turn& turn) {
  Sm& sm = sms_[static_cast<std::size_t>(device)];
  sm.held = true;
  sm.start_ns = turn.start_ns;
  has_news_ = true;             // who waits for work may know by now when it is done
  for (Lane* lane : active_) {  // what was interrupted goes on
    if (lane->device->index() != device || lane->idle()) continue;
    Op& op = lane->queue.front();
    if (op.state == Op::State::running && op.on_sms)
      op.resume_ns = std::max(turn.start_ns, clock_ns_);
  }
  if (sm.running > 0) sm.busy_from_ns = std::max(turn.start_ns, clock_ns_);
}

void Engine::pause_device(int device, std::uint64_t at) {
  Sm& sm = sms_[static_cast<std::size_t>(device)];
  for (Lane* lane : active_) {
    if (lane->device->index() != device || lane->idle()) continue;
    Op& op = lane->queue.front();
    if (op.state != Op::State::running || !op.on_sms || op.resume_ns >= at) continue;
    if (!op.meets()) op.remaining_ns -= std::min(op.remaining_ns, at - op.resume_ns);
    op.resume_ns = at;
  }
  if (sm.running > 0 && at > sm.busy_from_ns)
    Driver::get().state->add_busy(device, at - sm.busy_from_ns);
  sm.held = false;
}

// Compares what this process believes about its turns with what holds by now.
void Engine::refresh_turns(std::uint64_t now) {
  DeviceState& state = *Driver::get().state;
  for (std::size_t device = 0; device < state.devices().size(); ++device) {
    Sm& sm = sms_[device];
    if (!sm.wanted) continue;
    const int index = static_cast<int>(device);
    const Turn turn = state.want(index, now, sm.needs_ns());
    sm.retry_ns = turn.mine ? (turn.contended ? turn.end_ns : kNever) : turn.retry_ns;
    if (sm.held && !(turn.mine && turn.start_ns == sm.start_ns)) {
      sm.lost = true;
      sm.lost_ns = std::max(state.turn_ended_ns(index), sm.start_ns);
      sm.next = turn;
    } else if (!sm.held && turn.mine) {
      adopt_turn(index, turn);
    }
  }
}

// Gives the device to others when nothing of ours could run on it, as of the time when that became
// so.
void Engine::release_turns() {
  DeviceState& state = *Driver::get().state;
  for (std::size_t device = 0; device < state.devices().size(); ++device) {
    Sm& sm = sms_[device];
    if (!sm.wanted || sm.running > 0 || sm.lost) continue;
    bool demand = false;
    for (const Lane* lane : active_) {
      if (lane->device->index() != static_cast<int>(device) || lane->idle()) continue;
      const Op& op = lane->queue.front();
      demand = demand || (needs_turn(*lane) && op.state == Op::State::queued &&
                          op.submit_ns <= clock_ns_ && reached(op));
    }
    if (demand) continue;
    state.done(static_cast<int>(device), std::max(sm.last_end_ns, sm.start_ns));
    sm.wanted = false;
    sm.held = false;
  }
}

void Engine::pop(Lane& lane) {
  Op& op = lane.queue.front();
  if (op.prompt) --prompt_ops_;
  if (op.type == Op::Type::kernel || op.type == Op::Type::transfer) lane.on_sms = op.on_sms;
  sm(*lane.device).remove_work(op.work_ns);
  lane.completed = op.ticket;
  lane.queue.pop_front();
  has_news_ = true;
}

// Whether a kernel finds room beside those that run. It waits for what will come free; but where
// kernels that spin hold the rest, its blocks take the places that are left, in more waves.
bool Engine::fit(Op& op, const Lane& lane) const {
  const Sm& on = sms_[static_cast<std::size_t>(lane.device->index())];
  const std::uint64_t capacity = lane.device->model().resident_threads();
  if (on.running == 0 || on.threads + op.threads <= capacity) return true;
  std::uint64_t spinning = 0;
  for (const Lane* other : active_) {
    if (other->device != lane.device || other->idle()) continue;
    const Op& running = other->queue.front();
    if (running.state == Op::State::running && running.spins) spinning += running.threads;
  }
  if (on.threads + op.threads > capacity + spinning) return false;
  const std::uint64_t places = (capacity - std::min(capacity, on.threads)) / op.block_threads;
  if (places == 0) return false;
  op.threads = places * op.block_threads;
  op.remaining_ns = (op.blocks + places - 1) / places * op.wave_ns + kKernelGapNs;
  return true;
}

// Asks for the device's next turn if this process has none.
bool Engine::has_turn(Lane& lane) {
  const int device = lane.device->index();
  Sm& on = sm(*lane.device);
  if (!on.wanted) {
    on.wanted = true;
    on.lost = false;
    const Turn turn = Driver::get().state->want(device, clock_ns_, on.needs_ns());
    on.retry_ns = turn.mine ? (turn.contended ? turn.end_ns : kNever) : turn.retry_ns;
    if (turn.mine) adopt_turn(device, turn);
  }
  return on.held;
}

// Kernels, and events beside them: the device takes nothing out of a process's channels but in its
// turns. Those of the copy engines go on.
bool Engine::needs_turn(const Lane& lane) const {
  const Op& op = lane.queue.front();
  return op.on_sms || (op.type == Op::Type::record && lane.on_sms);
}

void Engine::start_on_sms(Lane& lane) {
  Op& op = lane.queue.front();
  Sm& on = sm(*lane.device);
  if (!has_turn(lane) || !fit(op, lane)) return;
  op.state = Op::State::running;
  op.resume_ns = std::max(clock_ns_, on.start_ns);
  if (on.running++ == 0) on.busy_from_ns = op.resume_ns;
  on.threads += op.threads;
}

// Starts the head of a lane if it can start at the present clock. True if that changed what other
// lanes may do.
bool Engine::start_queued(Lane& lane) {
  Op& op = lane.queue.front();
  if (op.state != Op::State::queued || op.submit_ns > clock_ns_ || !reached(op)) return false;
  switch (op.type) {
    case Op::Type::record:
      if (lane.on_sms && (!has_turn(lane) || sm(*lane.device).start_ns > clock_ns_)) return false;
      if (op.event->done < op.generation) {
        op.event->done = op.generation;
        op.event->time_ns = clock_ns_;
      }
      pop(lane);
      return true;
    case Op::Type::wait_event:
      if (op.event->done < op.generation) return false;
      pop(lane);
      return true;
    case Op::Type::wait_value:
      if (!value_matches(op)) return false;
      pop(lane);
      return true;
    case Op::Type::marker:
      if (op.work) op.work();
      pop(lane);
      return true;
    case Op::Type::host:
      op.state = Op::State::executing;
      op.resume_ns = clock_ns_;
      callback_queue_.push_back(&lane);
      if (!has_callback_thread_) {
        has_callback_thread_ = true;
        std::thread([this] { callback_main(); }).detach();
      }
      callbacks_.notify_one();
      return false;
    case Op::Type::kernel:
    case Op::Type::transfer:
      break;
  }
  if (op.on_sms) {
    start_on_sms(lane);
    if (op.state != Op::State::running) return false;
  } else {
    op.state = Op::State::running;
    op.resume_ns = clock_ns_;
  }
  if (op.work) {
    if (op.heavy) {
      op.state = Op::State::executing;
      heavy_lane_ = &lane;
    } else {
      op.work();
      op.work = nullptr;
    }
  }
  return false;
}

// What running kernels do in memory at the present clock. True if any did something.
bool Engine::meet() {
  bool any = false;
  for (Lane* lane : active_) {
    if (lane->idle()) continue;
    Op& op = lane->queue.front();
    if (op.state != Op::State::running || !op.meets() || op.resume_ns > clock_ns_ ||
        !sm(*lane->device).held)
      continue;
    if (op.arrives_at != 0) {
      note_write(op.arrives_at);
      __atomic_fetch_add(reinterpret_cast<std::uint32_t*>(op.arrives_at), 1, __ATOMIC_ACQ_REL);
      op.arrives_at = 0;
      op.resume_ns = clock_ns_;
      any = true;
    }
    if (op.spins && value_matches(op)) {
      op.spins = false;
      op.resume_ns = clock_ns_;
      any = true;
    }
  }
  return any;
}

bool Engine::start_ready() {
  bool changed = false;
  bool again = true;
  while (again && heavy_lane_ == nullptr) {
    again = false;
    // By priority, then by age: the order in which the device would take them.
    if (active_.size() > 1) {
      std::sort(active_.begin(), active_.end(), [](const Lane* a, const Lane* b) {
        if (a->priority != b->priority) return a->priority < b->priority;
        const std::uint64_t ours = a->idle() ? kNever : a->queue.front().ticket;
        const std::uint64_t theirs = b->idle() ? kNever : b->queue.front().ticket;
        return ours < theirs;
      });
    }
    for (std::size_t i = 0; i < active_.size() && heavy_lane_ == nullptr; ++i) {
      Lane& lane = *active_[i];
      while (!lane.idle() && start_queued(lane)) again = true;
    }
    again = meet() || again;
    changed = changed || again;
    std::erase_if(active_, [this](Lane* lane) {
      if (!lane->idle()) return false;
      lane->active = false;
      if (lane->orphan) retire_lane(lane);
      return true;
    });
  }
  return changed;
}

bool Engine::complete_due() {
  bool any = false;
  for (Lane* lane : active_) {
    if (lane->idle()) continue;
    Op& op = lane->queue.front();
    if (op.state != Op::State::running) continue;
    Sm& on = sm(*lane->device);
    if (op.meets() || (op.on_sms && !on.held)) continue;
    const std::uint64_t end = op.resume_ns + op.remaining_ns;
    if (end > clock_ns_) continue;
    if (op.on_sms) {
      on.threads -= op.threads;
      on.last_end_ns = std::max(on.last_end_ns, end);
      if (--on.running == 0 && end > on.busy_from_ns)
        Driver::get().state->add_busy(lane->device->index(), end - on.busy_from_ns);
    }
    pop(*lane);
    any = true;
  }
  return any;
}

std::uint64_t Engine::next_internal() const {
  std::uint64_t next = kNever;
  for (const Lane* lane : active_) {
    if (lane->idle()) continue;
    const Op& op = lane->queue.front();
    const Sm& on = sms_[static_cast<std::size_t>(lane->device->index())];
    if (op.state == Op::State::running && op.meets()) {
      if (on.held && op.resume_ns > clock_ns_) next = std::min(next, op.resume_ns);
    } else if (op.state == Op::State::running && (!op.on_sms || on.held)) {
      next = std::min(next, op.resume_ns + op.remaining_ns);
    } else if (op.state == Op::State::queued && op.submit_ns > clock_ns_) {
      next = std::min(next, op.submit_ns);
    } else if (op.type == Op::Type::record && needs_turn(*lane) && on.held &&
               on.start_ns > clock_ns_) {
      next = std::min(next, on.start_ns);
    }
  }
  for (const Sm& on : sms_) {
    if (on.lost) next = std::min(next, on.lost_ns);
  }
  return next;
}

// The next time at which something is to happen, as far as it is known.
std::uint64_t Engine::next_event() const {
  std::uint64_t next = next_internal();
  for (const Sm& on : sms_) {
    if (on.wanted) next = std::min(next, on.retry_ns);
  }
  return next;
}

// When the engine's thread has to look again: values in memory may be changed by anybody.
std::uint64_t Engine::next_wake(std::uint64_t now) const {
  std::uint64_t next = next_event();
  for (const Lane* lane : active_) {
    if (lane->idle()) continue;
    const Op& op = lane->queue.front();
    const bool spins = op.state == Op::State::running && op.spins &&
                       sms_[static_cast<std::size_t>(lane->device->index())].held;
    if (spins || op.type == Op::Type::wait_value) next = std::min(next, now + kPollNs);
  }
  return next;
}

// A kernel that runs for long is seen to be busy meanwhile.
void Engine::report_busy() {
  for (std::size_t device = 0; device < sms_.size(); ++device) {
    Sm& on = sms_[device];
    if (!on.held || on.running == 0 || clock_ns_ < on.busy_from_ns + kReportNs) continue;
    Driver::get().state->add_busy(static_cast<int>(device), clock_ns_ - on.busy_from_ns);
    on.busy_from_ns = clock_ns_;
  }
}

void Engine::advance(std::unique_lock<std::mutex>& lock) {
  for (;;) {
    if (active_.empty()) {
      release_turns();
      break;
    }
    const std::uint64_t now = DeviceState::now_ns();
    refresh_turns(now);
    while (heavy_lane_ == nullptr) {
      start_ready();
      if (heavy_lane_ != nullptr) break;
      std::uint64_t next = std::max(next_internal(), clock_ns_);
      if (next > now) {
        clock_ns_ = std::max(clock_ns_, now);
        break;
      }
      clock_ns_ = next;
      complete_due();
      for (std::size_t device = 0; device < sms_.size(); ++device) {
        Sm& on = sms_[device];
        if (!on.lost || on.lost_ns > clock_ns_) continue;
        pause_device(static_cast<int>(device), on.lost_ns);
        on.lost = false;
        if (on.next.mine) adopt_turn(static_cast<int>(device), on.next);
      }
    }
    if (heavy_lane_ != nullptr) {
      Lane& lane = *std::exchange(heavy_lane_, nullptr);
      const auto work = std::move(lane.queue.front().work);
      lock.unlock();
      work();
      lock.lock();
      Op& op = lane.queue.front();  // nobody else takes an op away that is being executed
      const std::uint64_t after = DeviceState::now_ns();
      const std::uint64_t due = op.resume_ns + op.remaining_ns;
      op.state = Op::State::running;
      op.work = nullptr;
      op.resume_ns = std::max(op.resume_ns, clock_ns_);
      op.remaining_ns = due > op.resume_ns ? due - op.resume_ns : 0;
      if (after > op.resume_ns + op.remaining_ns) op.remaining_ns = after - op.resume_ns;
      continue;
    }
    start_ready();
    if (heavy_lane_ != nullptr) continue;
    release_turns();
    report_busy();
    break;
  }
  if (std::exchange(has_news_, false) && waiters_ > 0) finished_.notify_all();
}

template <class Done>
void Engine::wait(std::unique_lock<std::mutex>& lock, Done done) {
  while (!done()) {
    advance(lock);
    if (done()) return;
    const std::uint64_t now = DeviceState::now_ns();
    const std::uint64_t next = next_event();
    if (next <= now) continue;
    if (next <= now + kSpinNs) {
      lock.unlock();
      while (DeviceState::now_ns() < next) relax();
      lock.lock();
      continue;
    }
    // Others may finish it as well, and tell; a turn comes to the engine's thread first.
    const std::uint64_t until =
        std::min(next == kNever ? kNever : next - kSpinNs / 2, now + 5'000'000);
    ++waiters_;
    finished_.wait_for(lock, std::chrono::nanoseconds(until - now));
    --waiters_;
  }
}

void Engine::wait_for(std::unique_lock<std::mutex>& lock, Lane& lane, std::uint64_t ticket) {
  wait(lock, [&] { return lane.completed >= ticket; });
}

void Engine::wait_for(std::unique_lock<std::mutex>& lock, const std::shared_ptr<EventState>& event,
                      std::uint64_t generation) {
  wait(lock, [&] { return event->done >= generation; });
}

void Engine::drain(std::unique_lock<std::mutex>& lock, CUcontext context) {
  std::vector<Op::Point> points;
  for (const CUstream stream : context->streams) {
    if (!stream->lane->idle()) points.push_back({stream->lane, stream->lane->submitted});
  }
  for (const Op::Point& point : points) wait_for(lock, *point.lane, point.ticket);
}

}  // namespace vgpu::sim

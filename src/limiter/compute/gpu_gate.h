// SPDX-License-Identifier: Apache-2.0
// One GPU's gate in this process: every submission of work passes it, waits here for its tenant's
// compute limit, for its turn and for room in flight, and is accounted for. The decisions are the
// core's (core/gate.h, in_flight.h, meter.h, pace.h; docs/arbiter.md says what they need); here are
// the clock, the seat, the events and the waiting. Any thread; the lock is for a few instructions
// and never held across a driver call.
#pragma once

#include <atomic>
#include <cstdint>

#include "../ledger/spin_lock.h"
#include "cost_table.h"
#include "event_pool.h"
#include "ring.h"
#include "vgpu/api/cuda_abi.h"
#include "vgpu/core/gate.h"
#include "vgpu/core/hosting.h"
#include "vgpu/core/in_flight.h"
#include "vgpu/shm/node.h"
#include "vgpu/shm/tenant.h"
#include "work.h"

namespace vgpu::limiter {

// Into which stream work goes. `per_thread`: a null stream is the thread's own.
struct Target {
  CUstream stream = nullptr;
  bool per_thread = false;
  std::uint64_t context = 0;  // the current one; events belong to it; 0: nobody has asked
  friend bool operator==(const Target&, const Target&) = default;
};

// With the context filled in, for who needs events.
Target in_current_context(Target target);

// What a submission that was let through has to do around the driver's call.
struct Ticket {
  bool measured = false;
  bool marked = false;
  bool was_idle = false;              // nothing was in flight before it, as predicted
  std::uint64_t position = 0;         // of the mark
  std::uint64_t foreign_from_ns = 0;  // others were kept out until then, at the least
};

class alignas(64) GpuGate {
 public:
  // Nothing has to be waited or accounted for: one load.
  bool is_open() const {
    return core::GrantWord::is_alone(grant().load(std::memory_order_acquire));
  }
  // The word that is_open() looks at.
  const std::atomic<std::uint64_t>& grant() const {
    const std::atomic<std::uint64_t>* const word = grant_.load(std::memory_order_acquire);
    return word != nullptr ? *word : closed_;
  }

  // Takes the seat, once. `gpu`: position in the tenant.
  [[gnu::cold]] void take_seat(int gpu);
  bool has_seat() const { return seat_state_.load(std::memory_order_acquire) == SeatState::taken; }

  // Waits until `work` may go into `target`. Then the caller submits it with what the ticket asks
  // for, and says how that went.
  Ticket admit(const Work& work, const Target& target);
  struct Measurement {  // the events around it, and how long the call took
    CUevent begin = nullptr;
    CUevent first = nullptr;  // behind an empty interval after `begin`; nullptr: without
    CUevent end = nullptr;    // nullptr: none was made
    std::uint64_t launched_ns = 0;
    std::uint64_t host_ns = 0;
  };
  void measured(const Work& work, const Target& target, const Ticket& ticket,
                const Measurement& measurement);
  // It was not submitted, or can't be measured as the ticket asked.
  void not_measured(const Work& work);
  // The first few samples also measure an empty interval.
  bool wants_empty_pair();
  // An event of that context, which is current; nullptr: none can be had.
  CUevent event_for(std::uint64_t context, EventKind kind);
  void return_event(CUevent event, std::uint64_t context, EventKind kind);
  void put_mark(const Target& target, std::uint64_t position);

  // What the program's waiting proves: `position` is of all work when the wait began, or 0 where
  // the call says nothing of the other streams.
  std::uint64_t submitted_ns();
  std::uint64_t submitted_ns(CUstream stream, bool per_thread);  // 0: not all into this one
  void waited(std::uint64_t position);

  // Around the end of a context: no event of it is looked at meanwhile, and none after.
  void begin_context_end();
  void finish_context_end(std::uint64_t context, bool ended);

  void forget(std::uint64_t work_id);
  void measure_again(const Work& work);
  void reset_after_fork();

 private:
  enum class SeatState : std::uint32_t { none, taking, taken };
  struct Mark {
    CUevent event;  // nullptr: its context has ended
    std::uint64_t context;
    std::uint64_t position;
  };
  struct Sample {
    CUevent begin;  // nullptr: its context has ended
    CUevent first;  // behind an empty interval after `begin`, or nullptr
    CUevent end;
    Target target;
    Work work;
    std::uint64_t foreign_from_ns;
    std::uint64_t launched_ns;
    std::uint64_t host_ns;        // of the call between the two events
    std::uint64_t unfinished_ns;  // when it was last seen not to be done
    bool was_idle;
    std::uint64_t held_elsewhere_before_ns;  // shm::Tenant::held_elsewhere_ns() when it began
    // Launches into other streams were held back so long while it ran, and until then.
    std::uint64_t held_ns = 0;
    std::uint64_t held_until_ns = 0;
  };
  // What a thread that is held back remembers from look to look.
  struct Waiter {
    std::uint64_t asked_ns = 0;
    std::uint64_t place_ns = 0;  // under the limit as it was then; where limit isn't 0
    std::uint32_t limit = 0;
    std::uint32_t turn = 0;          // the futex's word before the last look
    std::uint64_t turn_wait_ns = 0;  // since when it has been waiting for a turn; 0: it isn't
    std::uint64_t looked_ns = 0;     // until when what it waited for is noted
    core::Admission waits_for = core::Admission::go;
    bool has_asked = false;
    bool was_woken = false;
    bool polls = false;
    bool stream_is_idle = false;
    bool is_collective = false;
    bool counts = true;  // it moves place_ on
  };
  struct Look {  // what is to be done after the lock is let go
    core::Verdict verdict;
    Ticket ticket;
    bool rings = false;
    bool marks = false;
    std::uint64_t position = 0;
  };

  Look look(std::uint64_t now_ns, const Work& work, const Target& target, Waiter& waiter);
  [[gnu::noinline, gnu::cold]] Ticket wait(const Work& work, const Target& target, Waiter& waiter,
                                           Look look);
  void sleep(std::uint64_t now_ns, const core::Verdict& verdict, Waiter& waiter);
  std::uint32_t turn() const;
  [[gnu::noinline, gnu::cold]] void look_while_waiting(std::uint64_t now_ns, std::uint64_t grant,
                                                       core::Meter& meter, const Target& target,
                                                       Waiter& waiter, Look& look);
  core::Verdict judge(std::uint64_t now_ns, std::uint64_t grant, const core::Meter& meter,
                      const Waiter& waiter);
  void let_in(std::uint64_t now_ns, std::uint64_t grant, core::Meter& meter, const Target& target,
              const Waiter& waiter, Look& look);
  void hold_for_turn(std::uint64_t now_ns, Waiter& waiter, Look& look);
  void note_hold(std::uint64_t from_ns, std::uint64_t until_ns, const Target& target);
  void look_at_events(std::uint64_t now_ns);
  bool look_at_mark();
  bool look_at_sample(std::uint64_t now_ns);
  void learn(std::uint64_t now_ns, const Sample& sample, std::uint64_t sample_ns);
  void ask(std::uint64_t now_ns, std::uint64_t cost_ns, Waiter& waiter);
  std::uint64_t pay(std::uint64_t now_ns, std::uint64_t cost_ns, std::uint32_t limit_percent);
  void note_wait(std::uint64_t now_ns, Waiter& waiter, core::Admission next);
  void report();
  void beat(std::uint64_t now_ns);
  std::uint32_t limit_percent() const;

  static constinit const std::atomic<std::uint64_t> closed_;
  // Of a process that no arbiter knows: open, with or without a compute limit.
  static constinit const std::atomic<std::uint64_t> unshared_;
  static constinit const std::atomic<std::uint64_t> unshared_under_limit_;

  // What each launch touches comes first and close together: the driver's own work has pushed it
  // out of the near caches by the next one. All of it starts as zeros, so gates that nobody uses
  // are no pages.

  // Written once, before seat_state_ says `taken`.
  std::atomic<const std::atomic<std::uint64_t>*> grant_{nullptr};  // nullptr: closed_
  shm::Tenant* tenant_ = nullptr;
  shm::Node* node_ = nullptr;  // nullptr: no arbiter knows this process, and it has no seat
  const std::atomic<std::uint64_t>* host_ = nullptr;  // the node's, where there is one
  shm::Seat seat_;
  std::uint32_t gpu_ = 0;
  std::atomic<SeatState> seat_state_{SeatState::none};

  CostTable costs_;                            // under the lock, as are the words
  shm::ComputeWords words_;                    // looked for anew at each beat
  SpinLock lock_;                              // of all that follows, but for the next three
  std::atomic<bool> looking_{false};           // a thread asks events how far they are
  std::atomic<std::uint32_t> ending_{0};       // contexts that are being ended
  std::atomic<std::uint64_t> look_due_ns_{0};  // events aren't asked before; UINT64_MAX: none is

  std::uint64_t beat_due_ns_ = 0;
  std::uint64_t unnoted_work_ns_ = 0;  // since the last beat; so are the next two
  std::uint64_t unnoted_launches_ = 0;
  std::uint64_t unnoted_delayed_ = 0;
  std::uint64_t spread_ns_ = 0;  // that the last launch may take longer than the mean
  std::uint64_t last_launch_ns_ = 0;
  std::uint64_t usual_gap_ns_ = 0;
  std::uint64_t want_since_ns_ = 0;
  std::uint64_t place_ = 0;  // core::SeatView
  bool counts_collectives_ = false;
  std::uint64_t since_sample_ = 0;  // launches from the last that was measured on
  core::InFlight flight_;
  CUstream stream_ = nullptr;  // all since the last complete wait went into this one
  bool stream_per_thread_ = false;
  bool has_stream_ = false;
  bool has_streams_ = false;  // into several

  std::uint64_t passed_mark_ns_ = 0;  // position of the last mark that was seen done
  std::uint64_t empty_pair_ns_ = 0;   // between two timing events with nothing between
  std::uint32_t empty_pairs_ = 0;     // that were measured
  Ring<Mark, 1024> marks_;
  Ring<Sample, 256> samples_;
  EventPool events_;
};

}  // namespace vgpu::limiter

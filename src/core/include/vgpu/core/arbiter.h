// SPDX-License-Identifier: Apache-2.0
// Who may submit work to one GPU, and until when. Pure: it is shown what the seats say (a seat is
// one process on this GPU), answers with a grant for each and the time at which it wants to look
// again. No CUDA, clock, threads or heap; one caller at a time.
//
// How it decides. While one seat wants the GPU, that seat's grant is open and costs it one load.
// While several do, they take turns, because contexts don't run at the same time anyway and each
// switch by the hardware costs 0.15 to 0.23 ms. Each seat is owed a rate (rates.h) and the arbiter
// keeps its lag: what it was owed less what it had, so long turns, kernels that overrun a turn and
// late hosts are made up for. The next turn goes to whoever waits and is furthest behind, measured
// in time (lag / rate), and lasts for its rate's part of a cycle, more or less by its lag. A turn
// ends by the clock, or as soon as its seat is idle for longer than it usually is; the next begins
// when what is in flight is predicted to be done, never when the GPU has "drained": work that never
// ends would hold everybody. Seats of high priority go first, at once, while their tenant isn't
// behind what it may use. Where tenants together do more by overlapping (launch-bound ones), paired
// probes find that out and all grants are open; see ModeProbe. docs/arbiter.md has the whole, with
// bounds.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "vgpu/base/quota.h"
#include "vgpu/core/mode_probe.h"
#include "vgpu/core/rates.h"
#include "vgpu/core/rhythm.h"

namespace vgpu::core {

inline constexpr std::uint32_t kMaxSeats = 1024;
inline constexpr std::uint32_t kNoSeat = UINT32_MAX;
inline constexpr std::uint64_t kForever = UINT64_MAX;

// All of the others' turns together take about so long. Measured on an H200 (two tenants, exclusive
// turns): 20 ms turns keep 98.5 to 99.2 % of the work, 5 ms ones 96 to 97 %.
inline constexpr std::uint64_t kCycleNs = 50'000'000;
inline constexpr std::uint64_t kLeastTurnNs = 10'000'000;
// The same where all wait for each of their kernels. To them a switch is 0.3 to 0.5 ms in which the
// GPU does nothing (H200), as nothing of the next one is queued yet; and their turns end when they
// should, so that shares stay even over a quarter of a second, which is three of these.
inline constexpr std::uint64_t kWaitersCycleNs = 83'000'000;
// A seat that has no more in flight than this when its turn is over, and never had in its last few.
inline constexpr std::uint64_t kWaitersLeftNs = 200'000;
inline constexpr std::uint32_t kWaitersTurns = 4;
// The same where only gangs meet: three in a second. A step of theirs is long (17 ms of
// DistributedDataParallel on two H200) and what is begun of one when a turn ends is in nobody's way
// but in nobody's use either: in turns of 25 ms two such jobs did 69.8 % of one alone. And all
// hosts begin a turn with nothing in flight, so that each pause of one holds up every GPU, until
// they are ahead: with 200 ms two whose hosts pause for some milliseconds in every second step
// did 91.9 % of one alone, with this 94.8; with hosts that seldom pause 98.4 and 99.1 (model).
inline constexpr std::uint64_t kGangCycleNs = 333'000'000;
// And so much is in flight in such a turn while it has long to go. With 1 ms two that train did 94
// % of one alone, with 16 ms 98.5; with 16 ms and the pauses above 93.2, with this 94.8 (model).
inline constexpr std::uint64_t kGangAheadNs = 32'000'000;
// A seat that wants the GPU again after a pause, and is behind while the holder isn't, ends its
// turn after so long. With 2 ms a tenant that works for 1 ms and pauses for 1 ms got 47 % of its
// rate alone instead of 62 (model).
inline constexpr std::uint64_t kLeastBeforePreemptionNs = 1'000'000;
// Lag that is kept: credit that an idle seat saves up, and debt, as time at its own rate.
inline constexpr std::uint64_t kCreditNs = 50'000'000;
inline constexpr std::uint64_t kDebtNs = 2'000'000'000;
// How far a seat of high priority may be ahead of its rate and still go first.
inline constexpr std::uint64_t kPriorityBurstNs = 100'000'000;
// In flight, as predicted GPU time: enough to keep the GPU fed, little enough that a turn ends when
// it should; less while somebody of high priority may come at any time.
inline constexpr std::uint64_t kInFlightNs = 1'000'000;
inline constexpr std::uint64_t kInFlightBesidePriorityNs = 150'000;
// Work that overran its turn is waited for so long; then the others go beside it.
inline constexpr std::uint64_t kMostDrainNs = 150'000'000;
// The next grant is given so much before the GPU is predicted to be free: the wake-up of a waiting
// thread (20 to 57 us) and its first launch fall into the tail of the other's work. 100 us gain 0.2
// points of the sum, and cost the smaller of two tenants 0.5 (model).
inline constexpr std::uint64_t kEarlyNs = 60'000;
// The turn of one that can come back at once ends so long after its work.
inline constexpr std::uint64_t kStandingIdleNs = 50'000;
// An idle seat's turn ends after twice its usual gap between work and the next launch, at least the
// first of these. A seat that has had neither work nor wants for the second is no rival any more.
inline constexpr std::uint64_t kLeastIdleNs = 150'000;
inline constexpr std::uint64_t kMostIdleNs = 1'000'000;
// Who was given a turn and didn't use it is given the next so much later.
inline constexpr std::uint64_t kAskAgainNs = 200'000'000;
// A switch between contexts: 0.13 to 0.23 ms on an H200.
inline constexpr std::uint64_t kSwitchNs = 200'000;
// The longest that a context runs while another one has work, by the hardware's turns.
inline constexpr std::uint64_t kSliceNs = 2'050'000;

// What a seat says of itself. Untrusted: times are bounded by now and by the grants it had.
struct SeatView {
  std::uint32_t seat = 0;    // its index, below kMaxSeats
  std::uint64_t birth = 0;   // differs for each process that ever has the seat
  std::uint64_t tenant = 0;  // the same for all processes of a tenant
  std::uint8_t share_percent = 0;
  std::uint8_t limit_percent = 0;
  Priority priority = Priority::normal;
  // A launch has been waiting since; 0: none. Who finds its grant closed again after it was woken
  // says so by a new time here: it was late, and is thought to be stopped.
  std::uint64_t want_since_ns = 0;
  std::uint64_t busy_until_ns = 0;  // when what it has in flight is predicted to be done
  std::uint64_t last_launch_ns = 0;
  std::uint64_t usual_gap_ns = 0;  // between the end of its work and the next launch
  std::uint64_t work_ns = 0;       // GPU time of the work that it has submitted so far, as learned
  // Of it, done; known by marks, not predicted.
  std::uint64_t done_ns = 0;
  // Where its program is, to be compared with its peers on other GPUs (node.h): how many launches
  // it was let through with that they take part in; all launches where none is known to be such.
  std::uint64_t place = 0;
  bool counts_collectives = false;  // the former
};

struct Grant {
  std::uint64_t end_ns = 0;        // launches are let through before; 0: closed, kForever: open
  std::uint64_t in_flight_ns = 0;  // most predicted GPU time in flight; kForever: not bounded
  bool counted = false;            // what it launches has to be accounted for: there are others
  bool announces =
      false;  // it has to ring when it launches after being idle and when its work is done
  // Of those that SeatView::place counts none goes in once it is there, though the grant is open
  // otherwise; 0: no such bound. For gangs (node.h).
  std::uint64_t last_place = 0;
  friend bool operator==(const Grant&, const Grant&) = default;
};

// What a seat got and is owed, for people to read. Kept while the seat is known.
struct Standing {
  std::uint64_t birth = 0;
  Rate rate = 0;  // owed at present
  Rate entitled = 0;
  std::int64_t lag_ns = 0;    // above zero: it is behind; below: debt
  std::uint64_t held_ns = 0;  // GPU time charged to it so far
};

class Arbiter {
 public:
  // Decides as of `now_ns`, which never goes back. `grants[i]` is for `seats[i]`; both have the
  // same length. Gives the time at which it has to be called again even if nothing changes
  // (kForever: never); it may be called earlier and has to be when a seat begins to want.
  std::uint64_t step(std::uint64_t now_ns, std::span<const SeatView> seats,
                     std::span<Grant> grants);

  // For Node, which steps several of them in two parts. What it decides for a GPU:
  struct Ruling {
    bool keeps = false;            // the present turn goes on, whoever waits
    bool ends = false;             // it ends now
    std::uint32_t next = kNoSeat;  // whose turn is next; kNoSeat: as usual
    std::uint64_t begins_ns = 0;   // not much earlier than that
  };
  // What is true of all members of a gang together (node.h).
  struct Membership {
    bool is_member = false;
    bool asks = false;             // one of them does
    bool is_blocked = false;       // but somebody else is next on one of the GPUs
    std::uint64_t idle_at_ns = 0;  // the last of them
    std::int64_t behind_ns = 0;    // the least of them
    bool is_among_gangs = false;   // nobody else uses any of their GPUs
  };
  void observe(std::uint64_t now_ns, std::span<const SeatView> seats);
  std::uint64_t decide(std::uint64_t now_ns, std::span<const SeatView> seats,
                       std::span<Grant> grants, const Ruling& ruling);
  void disband(std::uint32_t seat) { books_[seat].gang = {}; }
  void enlist(const SeatView& seat, const Membership& gang) { books_[seat.seat].gang = gang; }
  void block(std::uint32_t seat) { books_[seat].gang.is_blocked = true; }
  bool is_recent(std::uint64_t now_ns, std::uint32_t seat) const {
    return is_recent(now_ns, books_[seat]);
  }
  bool asks(std::uint64_t now_ns, const SeatView& seat) const;
  std::uint64_t idle_at_ns(const SeatView& seat) const;
  std::int64_t behind_ns(std::uint32_t seat) const;
  const SeatView* next_in_line(std::uint64_t now_ns, std::span<const SeatView> seats,
                               bool with_gangs) const;
  // Whether the holder's turn would end now if it were not in a gang and nobody held it up.
  bool turn_is_over(std::uint64_t now_ns, std::span<const SeatView> seats) const;
  std::uint64_t drained_at_ns(std::uint64_t now_ns, std::span<const SeatView> seats) const;

  const Standing& standing(std::uint32_t seat) const { return books_[seat].standing; }
  // The seat whose turn it is; kNoSeat: nobody's, or everybody's.
  std::uint32_t holder() const { return overlaps() ? kNoSeat : holder_; }
  bool overlaps() const { return probe_.mode() == Mode::overlap; }

 private:
  struct Book {
    Standing standing;
    std::uint64_t seen_ns = 0;          // the step that last saw this seat
    std::uint64_t active_ns = 0;        // when it last wanted the GPU or was on it
    std::uint64_t opened_ns = 0;        // when its turn began
    std::uint64_t done_ns = 0;          // its completed work at the last step,
    std::uint64_t busy_until_ns = 0;    // as of the last step,
    std::uint64_t work_ns = 0;          // and what it had submitted
    std::uint64_t done_at_open_ns = 0;  // when its turn began,
    std::uint64_t done_at_look_ns = 0;  // and when its progress was last looked at
    std::uint64_t alone_ppm = 0;        // completed work per time of its turns; 0: not known
    std::uint32_t turns = 0;            // that it is known from
    std::uint32_t short_ends = 0;       // turns in a row with next to nothing in flight at the end
    std::uint64_t unanswered_ns = 0;    // the want that it was given a turn for and didn't use it
    std::uint64_t ask_again_ns = 0;     // when it gets another all the same
    Membership gang;
    bool active = false;
    bool arrived = false;  // has had no turn since it began to want after a pause
    bool spent = false;    // of high priority: has used up its burst
    bool coarse = false;   // its work comes in long pieces
    bool stands = false;   // of high priority: its grant is open without a turn
    Rhythm rhythm;         // of high priority
  };

  void meet(std::uint64_t now_ns, std::span<const SeatView> seats);
  void settle(std::uint64_t now_ns, std::span<const SeatView> seats);
  void balance(std::uint64_t now_ns, std::span<const SeatView> seats, std::uint64_t rates);
  void look_who_wants(std::uint64_t now_ns, std::span<const SeatView> seats);
  void set_rates(std::span<const SeatView> seats);
  void set_cycle(std::span<const SeatView> seats);
  void watch_progress(std::uint64_t now_ns, std::span<const SeatView> seats);
  std::uint64_t take_turns(std::uint64_t now_ns, std::span<const SeatView> seats,
                           const Ruling& ruling);
  std::uint64_t gang_ahead_ns(std::uint64_t now_ns) const;
  void answer(std::uint64_t now_ns, std::span<const SeatView> seats, std::span<Grant> grants);

  std::uint64_t busy_since(std::uint64_t since_ns, std::uint64_t now_ns,
                           const SeatView& seat) const;
  bool falls_short(std::uint64_t now_ns, std::span<const SeatView> seats);
  void begin_look(std::uint64_t now_ns, std::span<const SeatView> seats);
  const SeatView* find(std::span<const SeatView> seats, std::uint32_t seat) const;
  std::uint64_t contended_end_ns(std::uint64_t now_ns) const;
  bool follow(std::uint64_t now_ns, const SeatView& holder, const SeatView& next);
  bool is_in_line(std::uint64_t now_ns, const SeatView& seat) const;
  std::uint64_t lateness_ns(const SeatView& seat) const;
  std::uint64_t all_idle_at_ns(const SeatView& seat) const;
  std::int64_t key_ns(const SeatView& seat) const;
  bool must_end(std::uint64_t now_ns, const SeatView& holder, const SeatView& next) const;
  void begin_turn(std::uint64_t now_ns, const SeatView& seat);
  void end_turn(std::uint64_t now_ns, const SeatView& seat);
  static bool pauses(const SeatView& seat);
  static bool is_recent(std::uint64_t now_ns, const Book& book);
  bool goes_first(const SeatView& seat) const;
  std::uint64_t turn_ns(std::uint32_t seat) const;
  std::uint64_t preempts_at(std::uint64_t now_ns, const SeatView& holder,
                            const SeatView& next) const;
  std::uint64_t watch_turn_until(std::uint64_t now_ns, const SeatView& holder) const;

  std::array<Book, kMaxSeats> books_{};
  ModeProbe probe_;
  std::uint64_t last_ns_ = 0;
  std::uint32_t holder_ = kNoSeat;
  std::uint64_t turn_end_ns_ = 0;     // as granted
  std::uint64_t planned_end_ns_ = 0;  // of the turn, if somebody waits; kForever: nobody does
  std::uint64_t free_at_ns_ = 0;  // when what the last turn left in flight is predicted to be done
  std::uint32_t draining_ = kNoSeat;        // whose turn that was, until the next begins
  std::uint32_t promised_ = kNoSeat;        // whom it was ended for
  std::uint64_t drained_by_ns_ = 0;         // it isn't waited for longer
  std::uint64_t others_busy_until_ns_ = 0;  // all but one whose grant stands
  std::uint64_t progress_ns_ = 0;
  std::uint64_t look_began_ns_ = 0;  // at what each gets while all run together
  std::uint64_t next_look_ns_ = 0;
  std::uint64_t rates_for_ = 0;  // fingerprint of what the rates were made from
  std::uint64_t rivals_ = 0;     // fingerprint of the seats that wanted the GPU lately
  std::uint32_t active_count_ = 0;
  std::uint64_t cycle_ns_ = kCycleNs;
  bool beside_priority_ = false;  // a seat of high priority is there
};

}  // namespace vgpu::core

// SPDX-License-Identifier: Apache-2.0
// Arithmetic is in integers: rates in millionths, times in nanoseconds, lags in nanoseconds of GPU
// time. Intervals are bounded by a second before they are multiplied, so nothing overflows.
#include "vgpu/core/arbiter.h"

#include <algorithm>

namespace vgpu::core {
namespace {

constexpr std::uint64_t kMostStepNs = 1'000'000'000;
constexpr std::uint64_t kRecentNs = 500'000'000;  // seats that wanted the GPU within it are rivals
constexpr std::uint64_t kLookNs = 250'000'000;    // between two looks at shares while overlapping
constexpr std::uint64_t kLatelyTogetherNs = 20'000'000;
constexpr std::uint64_t kLeastLookNs = 12'000'000;
constexpr std::uint64_t kAlmostWholeGpu = 970'000;
// A seat that does so little in its turns leaves room for others to use the GPU meanwhile.
constexpr std::uint64_t kDensePpm = 800'000;

// What a seat does in its turns is known after so many: the first may be of unknown work.
constexpr std::uint32_t kTurnsToKnow = 8;

constexpr std::uint64_t part_of(std::uint64_t ns, std::uint64_t rate) {
  return ns * rate / kWholeGpu;
}

constexpr std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  hash ^= value + 0x9e3779b97f4a7c15 + (hash << 6) + (hash >> 2);
  return hash * 0xff51afd7ed558ccd;
}

}  // namespace

std::uint64_t Arbiter::step(std::uint64_t now_ns, std::span<const SeatView> seats,
                            std::span<Grant> grants) {
  observe(now_ns, seats);
  return decide(now_ns, seats, grants, {});
}

void Arbiter::observe(std::uint64_t now_ns, std::span<const SeatView> seats) {
  now_ns = std::max(now_ns, last_ns_);
  meet(now_ns, seats);
  settle(now_ns, seats);
  look_who_wants(now_ns, seats);
  set_rates(seats);
  set_cycle(seats);
  watch_progress(now_ns, seats);
}

std::uint64_t Arbiter::decide(std::uint64_t now_ns, std::span<const SeatView> seats,
                              std::span<Grant> grants, const Ruling& ruling) {
  now_ns = std::max(now_ns, last_ns_);
  const std::uint64_t wake = take_turns(now_ns, seats, ruling);
  answer(now_ns, seats, grants);
  last_ns_ = now_ns;
  return wake;
}

// Seats that are new, and those that are gone.
void Arbiter::meet(std::uint64_t now_ns, std::span<const SeatView> seats) {
  beside_priority_ = false;
  others_busy_until_ns_ = 0;
  for (const SeatView& seat : seats) {
    Book& book = books_[seat.seat];
    if (book.standing.birth != seat.birth) {
      book = Book();
      book.standing.birth = seat.birth;
      book.work_ns = seat.work_ns;
      book.done_ns = seat.done_ns;
      book.done_at_look_ns = seat.done_ns;
      if (holder_ == seat.seat) holder_ = kNoSeat;
    }
    book.seen_ns = now_ns;
    beside_priority_ = beside_priority_ || seat.priority == Priority::high;
    if (seat.priority == Priority::high)
      book.rhythm.observe(now_ns, {seat.last_launch_ns, seat.work_ns, seat.done_ns}, kLeastIdleNs);
    if (!book.stands) others_busy_until_ns_ = std::max(others_busy_until_ns_, seat.busy_until_ns);
  }
  // What a process that died had in flight went with it.
  if (holder_ != kNoSeat && books_[holder_].seen_ns != now_ns) {
    holder_ = kNoSeat;
    free_at_ns_ = now_ns;
  }
}

// How much of the time since `since_ns` a seat's own work was on the GPU, as far as can be told:
// what was in flight then, and what it has submitted since, less what is still to come of that.
std::uint64_t Arbiter::busy_since(std::uint64_t since_ns, std::uint64_t now_ns,
                                  const SeatView& seat) const {
  const Book& book = books_[seat.seat];
  const bool launched = seat.last_launch_ns > since_ns;
  // What is in flight takes longer than was thought.
  if (!launched && seat.busy_until_ns > now_ns) return now_ns - since_ns;
  const auto within = [&](std::uint64_t time_ns) { return std::clamp(time_ns, since_ns, now_ns); };
  const auto beyond = [&](std::uint64_t time_ns) {
    return time_ns > now_ns ? time_ns - now_ns : 0;
  };
  const std::uint64_t before = within(book.busy_until_ns) - since_ns;
  const std::uint64_t submitted = seat.work_ns > book.work_ns ? seat.work_ns - book.work_ns : 0;
  const std::uint64_t to_come = beyond(seat.busy_until_ns);
  const std::uint64_t was_to_come = beyond(book.busy_until_ns);
  const std::uint64_t more = to_come > was_to_come ? to_come - was_to_come : 0;
  const std::uint64_t since = submitted > more ? submitted - more : 0;
  return std::min(before + (launched ? since : 0), now_ns - since_ns);
}

// What each had of the GPU since the last step, against what it was owed.
void Arbiter::settle(std::uint64_t now_ns, std::span<const SeatView> seats) {
  const std::uint64_t elapsed = std::min(now_ns - last_ns_, kMostStepNs);
  const std::uint64_t since = now_ns - elapsed;
  const auto had = [&](const SeatView& seat) {
    // A turn is charged whole, because nobody else could use it. One whose grant stands goes beside
    // what others have in flight.
    const Book& book = books_[seat.seat];
    if (seat.seat == holder_ && !overlaps() && active_count_ > 1 && !book.stands)
      return now_ns - std::clamp(book.opened_ns, since, now_ns);
    return busy_since(since, now_ns, seat);
  };
  std::uint64_t all = 0;
  for (const SeatView& seat : seats) all += had(seat);
  std::uint64_t rates = 0;
  for (const SeatView& seat : seats) {
    Book& book = books_[seat.seat];
    std::uint64_t used = had(seat);
    if (book.alone_ppm != 0 && seat.done_ns > book.done_ns)
      progress_ns_ += (seat.done_ns - book.done_ns) * kWholeGpu / book.alone_ppm;
    if (all > elapsed) used = used * elapsed / all;  // they shared the time
    book.standing.held_ns += used;
    book.done_ns = std::max(book.done_ns, seat.done_ns);
    book.busy_until_ns = seat.busy_until_ns;
    book.work_ns = std::max(book.work_ns, seat.work_ns);
    // A burst that is used up has to be repaid first.
    const std::int64_t behind = behind_ns(seat.seat);
    if (behind < -static_cast<std::int64_t>(kPriorityBurstNs)) book.spent = true;
    if (behind >= 0) book.spent = false;
    std::int64_t& lag = book.standing.lag_ns;
    // While all run together nobody is owed anything by another.
    if (overlaps()) continue;
    if (!book.active) {
      const auto most = static_cast<std::int64_t>(part_of(kCreditNs, book.standing.entitled));
      lag = lag > most ? most
                       : std::min(most, lag + static_cast<std::int64_t>(
                                                  part_of(elapsed, book.standing.entitled)));
      lag -= static_cast<std::int64_t>(used);
      continue;
    }
    lag += static_cast<std::int64_t>(part_of(elapsed, book.standing.rate)) -
           static_cast<std::int64_t>(used);
    rates += book.standing.rate;
  }
  if (rates != 0) balance(now_ns, seats, rates);
}

// Together those that wanted the GPU lately can't be ahead or behind: time that nobody could use,
// or credit that somebody brought along, is spread by rate.
void Arbiter::balance(std::uint64_t now_ns, std::span<const SeatView> seats, std::uint64_t rates) {
  std::int64_t sum = 0;
  for (const SeatView& seat : seats) {
    const Book& book = books_[seat.seat];
    if (is_recent(now_ns, book)) sum += book.standing.lag_ns;
  }
  for (const SeatView& seat : seats) {
    Book& book = books_[seat.seat];
    if (!book.active) continue;
    const auto rate = static_cast<std::int64_t>(book.standing.rate);
    const auto most = static_cast<std::int64_t>(part_of(kDebtNs, book.standing.rate));
    book.standing.lag_ns -= sum * rate / static_cast<std::int64_t>(rates);
    book.standing.lag_ns = std::clamp(book.standing.lag_ns, -most, most);
  }
}

bool Arbiter::is_recent(std::uint64_t now_ns, const Book& book) {
  return book.active_ns != 0 && now_ns - book.active_ns < kRecentNs;
}

// A launch waits; or, where it didn't have to, work is on the GPU.
bool Arbiter::asks(std::uint64_t now_ns, const SeatView& seat) const {
  const Book& book = books_[seat.seat];
  if (seat.want_since_ns != 0)
    return seat.want_since_ns != book.unanswered_ns || now_ns >= book.ask_again_ns;
  return book.stands && holder_ != seat.seat &&
         (seat.busy_until_ns > now_ns || seat.last_launch_ns > last_ns_);
}

// Of a gang all ask if one does, unless it can't be its turn on all its GPUs.
bool Arbiter::is_in_line(std::uint64_t now_ns, const SeatView& seat) const {
  const Membership& gang = books_[seat.seat].gang;
  return gang.is_member ? gang.asks && !gang.is_blocked : asks(now_ns, seat);
}

void Arbiter::look_who_wants(std::uint64_t now_ns, std::span<const SeatView> seats) {
  active_count_ = 0;
  std::uint64_t rivals = 0;
  for (const SeatView& seat : seats) {
    Book& book = books_[seat.seat];
    const bool holds = seat.seat == holder_ && now_ns < all_idle_at_ns(seat);
    const bool active =
        asks(now_ns, seat) || book.gang.asks || holds || seat.busy_until_ns > now_ns;
    if (book.active)
      book.active_ns = std::max(book.active_ns, std::min(now_ns, seat.busy_until_ns));
    // Between two kernels that it waits for, a seat neither asks nor has anything on the GPU.
    // While all run together nobody asks, and looks are far apart.
    const std::uint64_t since = std::max(book.active_ns, std::min(now_ns, seat.last_launch_ns));
    const bool lately =
        since != 0 && now_ns - since < (overlaps() ? kLatelyTogetherNs : kMostIdleNs);
    if (active && !book.active) book.arrived = true;
    book.active = active || lately;
    if (active) book.active_ns = now_ns;
    active_count_ += book.active ? 1 : 0;
    if (is_recent(now_ns, book)) rivals = mix(mix(rivals, seat.seat), seat.birth);
  }
  if (rivals == rivals_) return;
  rivals_ = rivals;
  probe_.restart(now_ns);
}

// One claim a tenant; its seats that want the GPU split its rate evenly.
void Arbiter::set_rates(std::span<const SeatView> seats) {
  std::uint64_t made_from = seats.size();
  for (const SeatView& seat : seats) {
    made_from = mix(made_from, seat.birth);
    made_from = mix(made_from, seat.tenant);
    made_from =
        mix(made_from, std::uint64_t{seat.seat} << 32 | std::uint64_t{seat.share_percent} << 16 |
                           std::uint64_t{seat.limit_percent} << 8 |
                           static_cast<std::uint64_t>(seat.priority) << 1 |
                           (books_[seat.seat].active ? 1 : 0));
  }
  if (made_from == rates_for_) return;
  rates_for_ = made_from;

  constexpr std::uint32_t kPlaces = 2 * kMaxSeats;
  std::array<std::uint16_t, kPlaces> claim_at;  // claim + 1, by hash of the tenant
  claim_at.fill(0);
  std::array<Claim, kMaxSeats> claims;
  std::array<std::uint64_t, kMaxSeats> tenants;
  std::array<std::uint16_t, kMaxSeats> members{};
  std::array<std::uint16_t, kMaxSeats> wanting{};
  std::array<std::uint16_t, kMaxSeats> claim_of;
  std::size_t count = 0;
  for (std::size_t i = 0; i < seats.size() && i < kMaxSeats; ++i) {
    const SeatView& seat = seats[i];
    std::size_t place = mix(1, seat.tenant) % kPlaces;
    while (claim_at[place] != 0 && tenants[claim_at[place] - 1u] != seat.tenant)
      place = (place + 1) % kPlaces;
    if (claim_at[place] == 0) {
      tenants[count] = seat.tenant;
      claims[count] = {seat.share_percent, seat.limit_percent, seat.priority, false, 0, 0};
      claim_at[place] = static_cast<std::uint16_t>(++count);
    }
    const auto claim = static_cast<std::uint16_t>(claim_at[place] - 1);
    claim_of[i] = claim;
    ++members[claim];
    if (!books_[seat.seat].active) continue;
    ++wanting[claim];
    claims[claim].wants = true;
  }
  share_out(std::span(claims.data(), count));
  for (std::size_t i = 0; i < seats.size() && i < kMaxSeats; ++i) {
    Standing& standing = books_[seats[i].seat].standing;
    const Claim& claim = claims[claim_of[i]];
    standing.entitled = std::max<Rate>(claim.entitled / members[claim_of[i]], 1);
    standing.rate =
        books_[seats[i].seat].active ? std::max<Rate>(claim.rate / wanting[claim_of[i]], 1) : 0;
  }
}

void Arbiter::set_cycle(std::span<const SeatView> seats) {
  bool all_wait = !beside_priority_;
  for (const SeatView& seat : seats) {
    const Book& book = books_[seat.seat];
    all_wait = all_wait && (!book.active || book.short_ends >= kWaitersTurns);
  }
  cycle_ns_ = all_wait ? kWaitersCycleNs : kCycleNs;
}

// Feeds the probe, and looks whether anybody falls below its rate while all run together.
void Arbiter::watch_progress(std::uint64_t now_ns, std::span<const SeatView> seats) {
  std::uint32_t rivals = 0;
  std::uint64_t wanted = 0;
  bool all_known = true;
  bool leaves_room = false;
  for (const SeatView& seat : seats) {
    const Book& book = books_[seat.seat];
    if (!book.active) continue;
    ++rivals;
    wanted += book.standing.rate;
    all_known = all_known && book.turns >= kTurnsToKnow && !book.coarse && !book.gang.is_member;
    leaves_room = leaves_room || (book.alone_ppm != 0 && book.alone_ppm < kDensePpm);
  }
  const bool was = overlaps();
  // Where limits leave the GPU idle anyway there is nothing to win.
  const bool worth_trying = leaves_room && rivals > 1 && wanted >= kAlmostWholeGpu;
  const bool may_overlap = !beside_priority_ && all_known && (was || worth_trying) &&
                           !(was && falls_short(now_ns, seats));
  probe_.observe(now_ns, progress_ns_, may_overlap);
  if (was == overlaps()) return;
  begin_look(now_ns, seats);
  for (const SeatView& seat : seats) {
    Book& book = books_[seat.seat];
    book.opened_ns = now_ns;
    book.done_at_open_ns = book.done_ns;
  }
  if (was && holder_ != kNoSeat) turn_end_ns_ = planned_end_ns_ = now_ns;
}

void Arbiter::begin_look(std::uint64_t now_ns, std::span<const SeatView> seats) {
  look_began_ns_ = now_ns;
  next_look_ns_ = now_ns + kLookNs;
  for (const SeatView& seat : seats) {
    Book& book = books_[seat.seat];
    book.done_at_look_ns = book.done_ns;
  }
}

// Whether anybody got less than its rate while all ran together: looked at each quarter of a
// second, and at the end of a probe.
bool Arbiter::falls_short(std::uint64_t now_ns, std::span<const SeatView> seats) {
  const bool ends_probe = probe_.mode() != probe_.settled_mode() && now_ns >= probe_.next_ns();
  const std::uint64_t window = now_ns - look_began_ns_;
  if (window < kLeastLookNs || (now_ns < next_look_ns_ && !ends_probe)) return false;
  const std::uint64_t enough =
      window < kLookNs / 2 ? 85 : 95;  // percent; a short look is a coarse one
  bool short_of_it = false;
  for (const SeatView& seat : seats) {
    const Book& book = books_[seat.seat];
    if (!book.active || book.alone_ppm == 0) continue;
    const std::uint64_t worth = (book.done_ns - book.done_at_look_ns) * kWholeGpu / book.alone_ppm;
    short_of_it = short_of_it || worth * 100 < part_of(window, book.standing.rate) * enough;
  }
  begin_look(now_ns, seats);
  return short_of_it;
}

std::int64_t Arbiter::behind_ns(std::uint32_t seat) const {
  const Standing& standing = books_[seat].standing;
  const Rate rate = std::max<Rate>(standing.rate != 0 ? standing.rate : standing.entitled, 1);
  return standing.lag_ns * static_cast<std::int64_t>(kWholeGpu) / static_cast<std::int64_t>(rate);
}

bool Arbiter::goes_first(const SeatView& seat) const {
  const Book& book = books_[seat.seat];
  return seat.priority == Priority::high && !book.spent && !book.gang.is_member;
}

// Its part of a cycle, longer or shorter by what brings its lag to half of a turn's swing below
// zero: so lags swing evenly around zero, and a turn that was cut or overran is made up for at
// once.
std::uint64_t Arbiter::turn_ns(std::uint32_t seat) const {
  const Standing& standing = books_[seat].standing;
  const std::uint64_t cycle = books_[seat].gang.is_among_gangs ? kGangCycleNs : cycle_ns_;
  const std::uint64_t usual = std::max(part_of(cycle, standing.rate), kLeastTurnNs);
  const auto others = static_cast<std::int64_t>(kWholeGpu - std::min(standing.rate, kWholeGpu - 1));
  const std::int64_t swing = static_cast<std::int64_t>(usual) * others / kWholeGpu;
  const std::int64_t turn = (standing.lag_ns + swing / 2) * kWholeGpu / others;
  return static_cast<std::uint64_t>(
      std::clamp(turn, static_cast<std::int64_t>(usual / 2), static_cast<std::int64_t>(2 * usual)));
}

// Whether what it does usually ends with a pause that others can use.
bool Arbiter::pauses(const SeatView& seat) { return seat.usual_gap_ns >= 2 * kSwitchNs; }

// When the holder counts as idle, unless it launches before.
std::uint64_t Arbiter::idle_at_ns(const SeatView& seat) const {
  const Book& book = books_[seat.seat];
  const std::uint64_t opened = book.opened_ns;
  if (!book.stands && seat.last_launch_ns <= opened && seat.busy_until_ns <= opened)
    return opened + kMostIdleNs;
  const std::uint64_t since = std::max(seat.busy_until_ns, seat.last_launch_ns);
  // Who can come back at once needn't be waited for, unless it will: long work that others began
  // just before would make it later still. It was done when that was seen, not when it was
  // predicted to be: it had to wait for others' work.
  if (book.stands) {
    const bool is_dense = seat.usual_gap_ns < kLeastIdleNs / 2;
    if (book.rhythm.is_late())
      return std::max(since + lateness_ns(seat), book.rhythm.done_at_ns()) + kLeastIdleNs;
    return since + lateness_ns(seat) + (is_dense ? kStandingIdleNs + 2 * seat.usual_gap_ns : 0);
  }
  // A gap that is longer than switching away and back takes isn't waited for, only made sure of.
  std::uint64_t patience =
      pauses(seat) ? kStandingIdleNs : std::max(kLeastIdleNs, 2 * seat.usual_gap_ns);
  // Long work may take a little longer than predicted.
  patience += std::min((since - seat.last_launch_ns) / 32, kMostIdleNs);
  return since + patience;
}

// What was launched while others had work in flight runs when the hardware switches, so it may be
// done so much later than predicted; unless it is known to be done.
std::uint64_t Arbiter::lateness_ns(const SeatView& seat) const {
  if (seat.done_ns >= seat.work_ns) return 0;
  const std::uint64_t others = others_busy_until_ns_;
  if (others <= seat.last_launch_ns) return 0;
  return std::min(others - seat.last_launch_ns, kSliceNs) + kSwitchNs;
}

std::uint64_t Arbiter::all_idle_at_ns(const SeatView& seat) const {
  return std::max(idle_at_ns(seat), books_[seat.seat].gang.idle_at_ns);
}

// A gang is behind by as much as on the GPU where it is least.
std::int64_t Arbiter::key_ns(const SeatView& seat) const {
  const Membership& gang = books_[seat.seat].gang;
  return gang.is_member ? gang.behind_ns : behind_ns(seat.seat);
}

const SeatView* Arbiter::find(std::span<const SeatView> seats, std::uint32_t seat) const {
  for (const SeatView& each : seats) {
    if (each.seat == seat) return &each;
  }
  return nullptr;
}

const SeatView* Arbiter::next_in_line(std::uint64_t now_ns, std::span<const SeatView> seats,
                                      bool with_gangs) const {
  const SeatView* best = nullptr;
  for (const SeatView& seat : seats) {
    if (seat.seat == holder_ || !is_in_line(now_ns, seat)) continue;
    if (!with_gangs && books_[seat.seat].gang.is_member) continue;
    if (best == nullptr) {
      best = &seat;
      continue;
    }
    if (goes_first(seat) != goes_first(*best)) {
      if (goes_first(seat)) best = &seat;
      continue;
    }
    const std::int64_t ahead = key_ns(seat) - key_ns(*best);
    if (ahead > 0 || (ahead == 0 && seat.want_since_ns < best->want_since_ns)) best = &seat;
  }
  return best;
}

bool Arbiter::must_end(std::uint64_t now_ns, const SeatView& holder, const SeatView& next) const {
  // A little early, so that a turn that goes on does so without a gap.
  if (now_ns + kEarlyNs >= contended_end_ns(now_ns)) return true;
  if (now_ns >= all_idle_at_ns(holder)) return true;
  if (goes_first(next) != goes_first(holder)) return goes_first(next);
  // Nobody's turn is cut who is behind itself.
  return books_[next.seat].arrived && key_ns(next) > std::max<std::int64_t>(key_ns(holder), 0) &&
         key_ns(holder) <= 0 && now_ns - books_[holder.seat].opened_ns >= kLeastBeforePreemptionNs;
}

// When the present turn ends if somebody waits: fixed when it began, since its lag falls meanwhile.
// Its seat may have been alone until now; then the turn counts from when it began, and has passed.
std::uint64_t Arbiter::contended_end_ns(std::uint64_t now_ns) const {
  if (planned_end_ns_ != kForever) return planned_end_ns_;
  return std::max(books_[holder_].opened_ns + turn_ns(holder_), now_ns);
}

bool Arbiter::turn_is_over(std::uint64_t now_ns, std::span<const SeatView> seats) const {
  const SeatView* const holder = find(seats, holder_);
  const SeatView* const next = next_in_line(now_ns, seats, true);
  return holder != nullptr && next != nullptr && must_end(now_ns, *holder, *next);
}

// When the GPU is predicted to be done with what is in flight of the present turn or the last.
std::uint64_t Arbiter::drained_at_ns(std::uint64_t now_ns, std::span<const SeatView> seats) const {
  if (const SeatView* const holder = find(seats, holder_))
    return std::min(holder->busy_until_ns, now_ns + kMostDrainNs);
  const SeatView* const drains = find(seats, draining_);
  return drains == nullptr ? now_ns : std::min(drains->busy_until_ns, drained_by_ns_);
}

void Arbiter::begin_turn(std::uint64_t now_ns, const SeatView& seat) {
  Book& book = books_[seat.seat];
  holder_ = seat.seat;
  book.opened_ns = now_ns;
  book.done_at_open_ns = book.done_ns;
  book.arrived = false;
  turn_end_ns_ = planned_end_ns_ = now_ns + turn_ns(seat.seat);
  draining_ = promised_ = kNoSeat;
}

void Arbiter::end_turn(std::uint64_t now_ns, const SeatView& seat) {
  Book& book = books_[seat.seat];
  const std::uint64_t left = seat.busy_until_ns > now_ns ? seat.busy_until_ns - now_ns : 0;
  free_at_ns_ = now_ns + std::min(left, kMostDrainNs);
  // Who doesn't answer to its turn (stopped, or dead) gets the next one for a new want, or much
  // later.
  const bool answered = book.stands || seat.want_since_ns == 0 ||
                        std::max(seat.last_launch_ns, seat.busy_until_ns) > book.opened_ns;
  book.unanswered_ns = answered ? 0 : seat.want_since_ns;
  book.ask_again_ns = now_ns + kAskAgainNs;
  // Gave it up; when it asks again it has come back. Not a gang's that waits at the turn's end.
  book.arrived = now_ns >= idle_at_ns(seat) && (!book.gang.is_member || seat.want_since_ns == 0);
  holder_ = kNoSeat;
  draining_ = seat.seat;
  drained_by_ns_ = now_ns + kMostDrainNs;
  // What it does in a turn of its own: its completed work and what is still to come of it, over the
  // time that takes.
  const std::uint64_t end =
      left != 0 ? now_ns + left : std::max(seat.busy_until_ns, book.opened_ns);
  const std::uint64_t wall = end - book.opened_ns;
  if (wall < kLeastBeforePreemptionNs) return;
  // By the clock: who paused wants to come back soon.
  const bool ends_short = left <= kWaitersLeftNs && !book.arrived;
  book.short_ends = ends_short ? std::min(book.short_ends + 1, kWaitersTurns) : 0;
  const std::uint64_t done = book.done_ns - book.done_at_open_ns + left;
  const std::uint64_t ppm = std::clamp<std::uint64_t>(done * kWholeGpu / wall, 1'000, kWholeGpu);
  book.alone_ppm = book.alone_ppm == 0 ? ppm : (3 * book.alone_ppm + ppm) / 4;
  book.turns = std::min(book.turns + 1, kTurnsToKnow);
  // Work in such pieces can't be measured within a probe.
  book.coarse = left > ModeProbe::kProbeNs / 4 || (book.coarse && wall < ModeProbe::kProbeNs);
}

// When one that has come back will have fallen further behind than the holder.
std::uint64_t Arbiter::preempts_at(std::uint64_t now_ns, const SeatView& holder,
                                   const SeatView& next) const {
  const Book& book = books_[holder.seat];
  if (!books_[next.seat].arrived) return kForever;
  const std::int64_t ahead =
      std::max(key_ns(holder), std::max<std::int64_t>(key_ns(holder) - key_ns(next), 0));
  const std::uint64_t catches_up =
      ahead > 0 ? part_of(static_cast<std::uint64_t>(ahead), book.standing.rate) : 0;
  return std::max(book.opened_ns + kLeastBeforePreemptionNs, now_ns + catches_up + kLeastIdleNs);
}

// When the present turn has to be looked at again while others wait. Whether its seat has gone idle
// is asked the more seldom the longer it has been at it: what that costs is a part of the turn.
std::uint64_t Arbiter::watch_turn_until(std::uint64_t now_ns, const SeatView& holder) const {
  const std::uint64_t seldom = std::min((now_ns - books_[holder.seat].opened_ns) / 8, kMostIdleNs);
  return std::min(turn_end_ns_ - kEarlyNs, std::max(all_idle_at_ns(holder), now_ns + seldom));
}

std::uint64_t Arbiter::take_turns(std::uint64_t now_ns, std::span<const SeatView> seats,
                                  const Ruling& ruling) {
  if (overlaps()) return std::min(probe_.next_ns(), next_look_ns_);
  const std::uint64_t probe = active_count_ > 1 ? probe_.next_ns() : kForever;
  if (holder_ == kNoSeat) free_at_ns_ = drained_at_ns(now_ns, seats);
  const SeatView* holder = find(seats, holder_);
  const SeatView* next =
      ruling.next != kNoSeat ? find(seats, ruling.next) : next_in_line(now_ns, seats, false);
  // Whom the last turn was ended for is next, even if others overtake it while the GPU drains.
  const SeatView* const promised = holder_ == kNoSeat ? find(seats, promised_) : nullptr;
  if (promised != nullptr && next != nullptr && ruling.next == kNoSeat &&
      is_in_line(now_ns, *promised) && goes_first(*promised) == goes_first(*next))
    next = promised;
  if (holder != nullptr && ruling.keeps) {
    turn_end_ns_ = std::max(turn_end_ns_, now_ns + 2 * kMostIdleNs);
    return std::min({probe, now_ns + kMostIdleNs, watch_turn_until(now_ns, *holder)});
  }
  if (holder != nullptr && ruling.ends) {
    end_turn(now_ns, *holder);
    holder = nullptr;
  }
  if (holder != nullptr)
    planned_end_ns_ =
        next_in_line(now_ns, seats, true) == nullptr ? kForever : contended_end_ns(now_ns);
  if (next == nullptr) {
    // Nobody waits here: the grant stays open, so that whoever is alone pays nothing.
    if (holder != nullptr) turn_end_ns_ = kForever;
    return probe;
  }
  if (holder != nullptr) {
    turn_end_ns_ = contended_end_ns(now_ns);
    if (!must_end(now_ns, *holder, *next)) {
      return std::min(
          {probe, preempts_at(now_ns, *holder, *next), watch_turn_until(now_ns, *holder)});
    }
    if (follow(now_ns, *holder, *next)) return std::min(probe, watch_turn_until(now_ns, *holder));
  }
  const std::uint64_t begins =
      ruling.next != kNoSeat ? ruling.begins_ns : std::max(free_at_ns_, ruling.begins_ns);
  if (now_ns + kEarlyNs < begins && (ruling.next != kNoSeat || !goes_first(*next)))
    return std::min(probe, begins - kEarlyNs);
  begin_turn(now_ns, *next);
  return std::min(probe, watch_turn_until(now_ns, *next));
}

// Ends the holder's turn for `next`. True: the holder goes on with another one, because it is the
// one that is furthest behind itself, or that goes first.
bool Arbiter::follow(std::uint64_t now_ns, const SeatView& holder, const SeatView& next) {
  const bool is_idle = now_ns >= idle_at_ns(holder);
  const bool is_cut = now_ns + kEarlyNs < turn_end_ns_ && !is_idle;
  end_turn(now_ns, holder);
  const bool goes_on =
      goes_first(holder) != goes_first(next) ? goes_first(holder) : key_ns(holder) > key_ns(next);
  if (goes_on && !is_idle) {
    begin_turn(now_ns, holder);
    return true;
  }
  promised_ = next.seat;
  if (is_cut) {
    // Who comes back within another's turn pays for the switch.
    books_[next.seat].standing.lag_ns -= static_cast<std::int64_t>(kSwitchNs);
    books_[holder.seat].standing.lag_ns += static_cast<std::int64_t>(kSwitchNs);
  }
  return false;
}

// How far the hosts of the gang whose turn it is may be ahead. Whatever is in flight is done when
// the turn ends by the clock, also if it takes twice as long as predicted.
std::uint64_t Arbiter::gang_ahead_ns(std::uint64_t now_ns) const {
  const std::uint64_t ends_ns = std::min(turn_end_ns_, planned_end_ns_);
  return std::min(kGangAheadNs, (ends_ns - std::min(ends_ns, now_ns)) / 2);
}

void Arbiter::answer(std::uint64_t now_ns, std::span<const SeatView> seats,
                     std::span<Grant> grants) {
  std::uint32_t first = 0;
  for (const SeatView& seat : seats) first += goes_first(seat) ? 1 : 0;
  const std::uint64_t in_flight = beside_priority_ ? kInFlightBesidePriorityNs : kInFlightNs;
  const bool alone = seats.size() == 1;
  for (std::size_t i = 0; i < seats.size(); ++i) {
    const SeatView& seat = seats[i];
    Grant grant;
    grant.counted = !alone;
    grant.in_flight_ns = alone ? kForever : in_flight;
    const bool stands = first == 1 && goes_first(seat);
    books_[seat.seat].stands = stands;
    if (stands || alone || overlaps()) {
      grant.end_ns = kForever;
      grant.announces = stands;
    } else if (seat.seat == holder_) {
      grant.end_ns = turn_end_ns_;
      grant.announces = pauses(seat);
      if (books_[seat.seat].gang.is_among_gangs && !beside_priority_)
        grant.in_flight_ns = next_in_line(now_ns, seats, true) == nullptr
                                 ? kGangAheadNs
                                 : std::max(in_flight, gang_ahead_ns(now_ns));
    }
    grants[i] = grant;
  }
}

}  // namespace vgpu::core

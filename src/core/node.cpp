// SPDX-License-Identifier: Apache-2.0
#include "vgpu/core/node.h"

#include <algorithm>

namespace vgpu::core {
namespace {

bool is_done(const SeatView& seat) { return seat.done_ns >= seat.work_ns; }

}  // namespace

std::uint64_t Node::step(std::uint64_t now_ns, std::span<const Gpu> gpus) {
  for (std::size_t g = 0; g < gpus.size(); ++g) arbiters_[g].observe(now_ns, gpus[g].seats);
  gang_count_ = 0;
  if (gpus.size() > 1) find_gangs(now_ns, gpus);
  Rulings rulings{};
  hold_up(now_ns, gpus, rulings);
  if (gang_count_ > 0) {
    tell_members(now_ns, gpus);
    find_torn(now_ns);
    block_those_not_next(now_ns, gpus);
    rule(now_ns, gpus, rulings);
  }
  std::uint64_t wake = kForever;
  for (std::size_t g = 0; g < gpus.size(); ++g)
    wake = std::min(wake, arbiters_[g].decide(now_ns, gpus[g].seats, gpus[g].grants, rulings[g]));
  let_catch_up(now_ns, gpus);
  return std::min({wake, help_peers(now_ns, gpus), bound_places(now_ns, gpus)});
}

// A tenant that wanted several GPUs lately and has one seat on each. With more seats than that
// nobody can say which belong together.
void Node::find_gangs(std::uint64_t now_ns, std::span<const Gpu> gpus) {
  constexpr std::uint32_t kPlaces = 4 * kMaxSeats;
  struct Found {
    const SeatView* seat;
    std::uint16_t gpu;
    std::uint16_t gang;  // + 1; 0: only on one GPU so far
  };
  std::array<std::uint16_t, kPlaces> at;  // index + 1 into `found`, by hash of the tenant
  at.fill(0);
  std::array<Found, kMaxSeats> found;
  std::uint16_t count = 0;
  std::array<bool, kMostGangs> crowded{};
  for (std::size_t g = 0; g < gpus.size(); ++g) {
    for (const SeatView& seat : gpus[g].seats) {
      arbiters_[g].disband(seat.seat);
      if (!arbiters_[g].is_recent(now_ns, seat.seat) || count == kMaxSeats) continue;
      std::uint64_t place = (seat.tenant * 0x9e3779b97f4a7c15) >> 52;
      while (at[place] != 0 && found[at[place] - 1u].seat->tenant != seat.tenant)
        place = (place + 1) % kPlaces;
      if (at[place] == 0) {
        found[count] = {&seat, static_cast<std::uint16_t>(g), 0};
        at[place] = ++count;
        continue;
      }
      Found& first = found[at[place] - 1u];
      if (first.gang == 0) {
        if (gang_count_ == kMostGangs) continue;
        gang_[gang_count_] = Gang();
        gang_[gang_count_].tenant = seat.tenant;
        gang_[gang_count_].seats[first.gpu] = first.seat;
        crowded[gang_count_] = false;
        first.gang = static_cast<std::uint16_t>(++gang_count_);
      }
      Gang& gang = gang_[first.gang - 1u];
      if (gang.seats[g] != nullptr) crowded[first.gang - 1u] = true;
      gang.seats[g] = &seat;
    }
  }
  std::uint32_t kept = 0;
  for (std::uint32_t i = 0; i < gang_count_; ++i) {
    if (!crowded[i]) gang_[kept++] = gang_[i];
  }
  gang_count_ = kept;
}

// What is true of one member is true of all: one asks, so all do; all are idle, or none is.
void Node::tell_members(std::uint64_t now_ns, std::span<const Gpu> gpus) {
  std::array<bool, kMostGpus> has_singles{};
  for (std::size_t g = 0; g < gpus.size(); ++g) {
    std::uint32_t members = 0, recent = 0;
    for (std::uint32_t i = 0; i < gang_count_; ++i) members += gang_[i].seats[g] != nullptr ? 1 : 0;
    for (const SeatView& seat : gpus[g].seats)
      recent += arbiters_[g].is_recent(now_ns, seat.seat) ? 1 : 0;
    has_singles[g] = recent > members;
  }
  for (std::uint32_t i = 0; i < gang_count_; ++i) {
    Gang& gang = gang_[i];
    Arbiter::Membership all;
    all.is_member = true;
    all.behind_ns = INT64_MAX;
    all.is_among_gangs = true;
    std::uint32_t holding = 0;
    std::uint32_t members = 0;
    for (std::size_t g = 0; g < arbiters_.size(); ++g) {
      if (gang.seats[g] == nullptr) continue;
      const SeatView& seat = *gang.seats[g];
      ++members;
      all.is_among_gangs = all.is_among_gangs && !has_singles[g];
      holding += arbiters_[g].holder() == seat.seat ? 1 : 0;
      all.asks = all.asks || arbiters_[g].asks(now_ns, seat);
      all.idle_at_ns = std::max(all.idle_at_ns, arbiters_[g].idle_at_ns(seat));
      all.behind_ns = std::min(all.behind_ns, arbiters_[g].behind_ns(seat.seat));
    }
    gang.holds = holding == members;
    note_births(gang, turn_of(gang.tenant));
    for (std::size_t g = 0; g < arbiters_.size(); ++g) {
      if (gang.seats[g] != nullptr) arbiters_[g].enlist(*gang.seats[g], all);
    }
  }
}

// Each round blocks one more gang at the least, so there are no more rounds than gangs.
void Node::block_those_not_next(std::uint64_t now_ns, std::span<const Gpu> gpus) {
  for (std::uint32_t round = 0; round < gang_count_; ++round) {
    bool changed = false;
    for (std::uint32_t i = 0; i < gang_count_; ++i) {
      Gang& gang = gang_[i];
      if (gang.blocked || gang.holds) continue;
      for (std::size_t g = 0; g < gpus.size() && !gang.blocked; ++g) {
        if (gang.seats[g] == nullptr || arbiters_[g].holder() == gang.seats[g]->seat) continue;
        const SeatView* const next = arbiters_[g].next_in_line(now_ns, gpus[g].seats, true);
        gang.blocked = next == nullptr || next->seat != gang.seats[g]->seat;
      }
      if (!gang.blocked) continue;
      changed = true;
      for (std::size_t g = 0; g < gpus.size(); ++g) {
        if (gang.seats[g] != nullptr) arbiters_[g].block(gang.seats[g]->seat);
      }
    }
    if (!changed) return;
  }
}

// Its turn ends everywhere once it is over on each GPU where somebody waits.
bool Node::must_end(std::uint64_t now_ns, const Gang& gang, std::span<const Gpu> gpus) const {
  bool is_over = false;
  for (std::size_t g = 0; g < gpus.size(); ++g) {
    if (gang.seats[g] == nullptr) continue;
    if (arbiters_[g].turn_is_over(now_ns, gpus[g].seats)) {
      is_over = true;
    } else if (arbiters_[g].next_in_line(now_ns, gpus[g].seats, true) != nullptr) {
      return false;
    }
  }
  return is_over;
}

bool Node::high_priority_waits(std::uint64_t now_ns, const Gang& gang,
                               std::span<const Gpu> gpus) const {
  for (std::size_t g = 0; g < gpus.size(); ++g) {
    if (gang.seats[g] == nullptr || gang.seats[g]->priority == Priority::high) continue;
    const SeatView* const next = arbiters_[g].next_in_line(now_ns, gpus[g].seats, true);
    if (next != nullptr && next->priority == Priority::high) return true;
  }
  return false;
}

// It has nothing to launch, or somebody mustn't wait for it.
bool Node::has_to_end_at_once(std::uint64_t now_ns, const Gang& gang, std::span<const Gpu> gpus,
                              const Turn& turn) const {
  if (high_priority_waits(now_ns, gang, gpus)) return true;
  const bool is_idle =
      turn.aligned_by_ns == 0;  // who has come to its place is idle, until the others have
  std::uint64_t idle_at_ns = 0;
  for (std::size_t g = 0; g < gpus.size(); ++g) {
    if (gang.seats[g] == nullptr) continue;
    idle_at_ns = std::max(idle_at_ns, arbiters_[g].idle_at_ns(*gang.seats[g]));
  }
  if (is_apart(gang, turn)) idle_at_ns += kMostLateNs;
  return is_idle && now_ns >= idle_at_ns;
}

Node::Places Node::places_of(const Gang& gang, const Turn& turn) {
  Places places;
  for (std::size_t g = 0; g < gang.seats.size(); ++g) {
    if (gang.seats[g] == nullptr) continue;
    const std::uint64_t place = place_of(turn, g, *gang.seats[g]);
    places.least = std::min(places.least, place);
    places.most = std::max(places.most, place);
    places.some_count_collectives |= gang.seats[g]->counts_collectives;
    places.all_count_collectives &= gang.seats[g]->counts_collectives;
  }
  return places;
}

// Whether places of its seats say anything of each other. Not where one counts collectives and
// another doesn't (yet), nor where they make different numbers of them, as the stages of a
// pipeline.
bool Node::is_comparable(const Places& places, const Turn& turn) {
  return places.some_count_collectives == places.all_count_collectives &&
         !(places.all_count_collectives && turn.differs);
}

// It isn't done everywhere, and hasn't come as far on one GPU as on another: what isn't done may be
// waiting for a host that is late.
bool Node::is_apart(const Gang& gang, const Turn& turn) {
  const Places places = places_of(gang, turn);
  const bool is_all_done =
      std::all_of(gang.seats.begin(), gang.seats.end(),
                  [](const SeatView* seat) { return seat == nullptr || is_done(*seat); });
  return is_comparable(places, turn) && places.least != places.most && !is_all_done;
}

std::uint64_t Node::place_of(const Turn& turn, std::size_t gpu, const SeatView& seat) {
  return seat.place - std::min(turn.same_place[gpu], seat.place);
}

// What was known of a seat's place is not of who has it now.
void Node::note_births(const Gang& gang, Turn& turn) {
  for (std::size_t g = 0; g < gang.seats.size(); ++g) {
    if (gang.seats[g] == nullptr || turn.birth[g] == gang.seats[g]->birth) continue;
    turn.birth[g] = gang.seats[g]->birth;
    turn.same_place[g] = gang.seats[g]->place;
    turn.is_exact = turn.differs = false;
    turn.misses = 0;
  }
}

// What a moment at which all was done says of its seats' places. Once they are not the same says
// little: one that is taken to be done may not be. False: nothing follows from it yet.
bool Node::agrees(const Places& places, Turn& turn) {
  if (places.least == places.most) {
    turn.misses = 0;
    turn.differs = false;
    return true;
  }
  if (!turn.has_missed) turn.misses = std::min(turn.misses + 1, kMissesToDiffer);
  turn.has_missed = true;
  turn.differs = turn.misses == kMissesToDiffer;
  return turn.differs;
}

// Between its turns, when nothing can be launched.
void Node::note_same_place(std::uint64_t now_ns, const Gang& gang, Turn& turn) const {
  bool is_settled = turn.until_ns <= now_ns;
  for (std::size_t g = 0; g < gang.seats.size(); ++g) {
    if (gang.seats[g] == nullptr) continue;
    is_settled =
        is_settled && arbiters_[g].holder() != gang.seats[g]->seat && is_done(*gang.seats[g]);
  }
  const Places places = places_of(gang, turn);
  const bool is_exact = places.all_count_collectives;
  if (turn.is_exact && is_exact) {
    if (!is_settled || places.most == 0) return;
    if (!agrees(places, turn)) return;
  }
  turn.is_exact = is_exact && is_settled;
  for (std::size_t g = 0; g < gang.seats.size(); ++g) {
    if (gang.seats[g] != nullptr && arbiters_[g].holder() != gang.seats[g]->seat)
      turn.same_place[g] = gang.seats[g]->place;
  }
}

// Whether a turn that is over has come to the same place everywhere: to where the furthest is, or
// gets before it learns that it has to wait.
bool Node::is_aligned(std::uint64_t now_ns, const Gang& gang, std::span<const Gpu> gpus,
                      Turn& turn) {
  const Places places = places_of(gang, turn);
  if (has_to_end_at_once(now_ns, gang, gpus, turn) || !is_comparable(places, turn)) return true;
  if (turn.aligned_by_ns == 0) {
    turn.aligned_by_ns =
        now_ns + std::clamp((now_ns - turn.began_ns) / 6, kLeastAlignNs, kMostAlignNs);
    turn.ends_at = 0;
  }
  turn.ends_at = std::max(turn.ends_at, places.most);
  return now_ns >= turn.aligned_by_ns || places.least >= turn.ends_at;
}

// Tells the seats of turns that are about to end where they do.
std::uint64_t Node::bound_places(std::uint64_t now_ns, std::span<const Gpu> gpus) {
  std::uint64_t wake = kForever;
  for (std::uint32_t i = 0; i < gang_count_; ++i) {
    const Gang& gang = gang_[i];
    const Turn& turn = turn_of(gang.tenant);
    if (!gang.holds || turn.aligned_by_ns == 0) continue;
    wake = std::min(wake, now_ns + kLookAtAlignedNs);
    for (std::size_t g = 0; g < gpus.size(); ++g) {
      if (gang.seats[g] == nullptr) continue;
      const std::ptrdiff_t index = gang.seats[g] - gpus[g].seats.data();
      gpus[g].grants[static_cast<std::size_t>(index)].last_place =
          turn.same_place[g] + turn.ends_at;
    }
  }
  return wake;
}

bool Node::may_begin(std::uint64_t now_ns, const Gang& gang, std::span<const Gpu> gpus) const {
  for (std::size_t g = 0; g < gpus.size(); ++g) {
    if (gang.seats[g] == nullptr) continue;
    const std::uint32_t holder = arbiters_[g].holder();
    if (holder != kNoSeat && holder != gang.seats[g]->seat &&
        !arbiters_[g].turn_is_over(now_ns, gpus[g].seats))
      return false;
  }
  return true;
}

void Node::rule(std::uint64_t now_ns, std::span<const Gpu> gpus, Rulings& rulings) {
  for (std::uint32_t i = 0; i < gang_count_; ++i) {
    Gang& gang = gang_[i];
    Turn& turn = turn_of(gang.tenant);
    if (!gang.holds) {
      turn.began_ns = now_ns;
      turn.aligned_by_ns = 0;
      note_same_place(now_ns, gang, turn);
      continue;
    }
    turn.has_missed = false;
    const bool must = must_end(now_ns, gang, gpus);
    if (!must) turn.aligned_by_ns = 0;
    const bool ends = must && is_aligned(now_ns, gang, gpus, turn);
    if (ends) remember_end(now_ns, gang);
    for (std::size_t g = 0; g < gpus.size(); ++g) {
      if (gang.seats[g] == nullptr) continue;
      rulings[g].ends = ends;
      rulings[g].keeps = !ends;
    }
  }
  for (std::uint32_t i = 0; i < gang_count_; ++i) {
    Gang& gang = gang_[i];
    if (gang.holds || gang.blocked) continue;
    const bool begins = may_begin(now_ns, gang, gpus) && [&] {
      for (std::size_t g = 0; g < gpus.size(); ++g) {
        if (gang.seats[g] != nullptr && (rulings[g].keeps || rulings[g].next != kNoSeat))
          return false;
      }
      return true;
    }();
    std::uint64_t drained_ns = 0;
    for (std::size_t g = 0; g < gpus.size(); ++g) {
      if (gang.seats[g] != nullptr)
        drained_ns = std::max(
            {drained_ns, arbiters_[g].drained_at_ns(now_ns, gpus[g].seats), rulings[g].begins_ns});
    }
    for (std::size_t g = 0; g < gpus.size(); ++g) {
      if (gang.seats[g] == nullptr) continue;
      Arbiter::Ruling& ruling = rulings[g];
      if (begins) {
        ruling.ends = ruling.ends || arbiters_[g].holder() != kNoSeat;
        ruling.next = gang.seats[g]->seat;
        ruling.begins_ns = drained_ns;
      } else if (arbiters_[g].holder() != kNoSeat && !ruling.ends && ruling.next == kNoSeat) {
        ruling.keeps = true;  // nobody else begins a turn before it
      }
    }
  }
}

Node::Turn& Node::turn_of(std::uint64_t tenant) {
  const auto last_used = [](const Turn& turn) { return std::max(turn.began_ns, turn.until_ns); };
  Turn* place = &turns_[0];
  for (Turn& each : turns_) {
    if (each.tenant == tenant) return each;
    if (last_used(each) < last_used(*place)) place = &each;
  }
  *place = Turn();
  place->tenant = tenant;
  return *place;
}

void Node::remember_end(std::uint64_t now_ns, const Gang& gang) {
  std::uint64_t expected_ns = now_ns;
  for (const SeatView* const seat : gang.seats) {
    if (seat != nullptr)
      expected_ns = std::max(expected_ns, std::min(seat->busy_until_ns, now_ns + kMostDrainNs));
  }
  Turn& ended = turn_of(gang.tenant);
  ended.expected_ns = expected_ns + kPeerSlotNs;
  ended.until_ns = expected_ns + kMostStuckNs;
  ended.is_torn = false;
}

// A gang that was torn apart all the same (before it was known to be one; or its help ran out)
// would pay for a kernel that spins, and fall behind ever more where that is: it is helped again.
void Node::find_torn(std::uint64_t now_ns) {
  for (std::uint32_t i = 0; i < gang_count_; ++i) {
    const Gang& gang = gang_[i];
    if (gang.holds) continue;
    bool is_done_somewhere = false;
    bool is_done_everywhere = true;
    std::uint64_t last_launch_ns = 0;
    for (const SeatView* const seat : gang.seats) {
      if (seat == nullptr) continue;
      is_done_somewhere = is_done_somewhere || is_done(*seat);
      is_done_everywhere = is_done_everywhere && is_done(*seat);
      last_launch_ns = std::max(last_launch_ns, seat->last_launch_ns);
    }
    if (!is_done_somewhere || is_done_everywhere || now_ns < last_launch_ns + kMostStuckNs)
      continue;
    Turn& ended = turn_of(gang.tenant);
    if (now_ns < ended.until_ns || now_ns < ended.again_ns) continue;
    ended.expected_ns = now_ns;
    ended.until_ns = now_ns + kHelpTornNs;
    ended.again_ns = now_ns + kHelpAgainNs;
    ended.is_torn = true;
  }
}

// Nobody begins where a gang's last turn isn't known to be done everywhere, for a while.
void Node::hold_up(std::uint64_t now_ns, std::span<const Gpu> gpus, Rulings& rulings) {
  for (Turn& ended : turns_) {
    ended.is_stuck = false;
    if (ended.until_ns <= now_ns) continue;
    bool all_done = true;
    for (std::size_t g = 0; g < gpus.size(); ++g) {
      for (const SeatView& seat : gpus[g].seats) {
        if (seat.tenant != ended.tenant) continue;
        all_done = all_done && (arbiters_[g].holder() == seat.seat || is_done(seat));
        if (seat.busy_until_ns > now_ns)
          ended.until_ns = std::min(std::max(ended.until_ns, seat.busy_until_ns + kMostStuckNs),
                                    ended.expected_ns + kMostDrainNs);
      }
    }
    if (all_done) {
      ended.until_ns = 0;
      continue;
    }
    ended.is_stuck = now_ns >= ended.expected_ns;
    // It isn't its turn that others wait for the end of.
    if (ended.is_torn && now_ns >= ended.expected_ns + kMostStuckNs) continue;
    for (std::size_t g = 0; g < gpus.size(); ++g) {
      for (const SeatView& seat : gpus[g].seats) {
        if (seat.tenant == ended.tenant)
          rulings[g].begins_ns = std::min(ended.until_ns, now_ns + kPeerSlotNs);
      }
    }
  }
}

// In a gang's own turn: who hasn't come as far as a peer whose work makes no progress is what that
// one waits for. It may have next to nothing in flight and be predicted to have much: a kernel that
// once span for a tenth of a second is taken to be as long, so its host was held back, so the
// peer's span again.
void Node::let_catch_up(std::uint64_t now_ns, std::span<const Gpu> gpus) {
  for (std::uint32_t i = 0; i < gang_count_; ++i) {
    const Gang& gang = gang_[i];
    if (!gang.holds) continue;
    Turn& turn = turn_of(gang.tenant);
    if (!is_comparable(places_of(gang, turn), turn)) continue;
    std::uint64_t waiting = 0;  // the furthest place of one that makes no progress
    for (std::size_t g = 0; g < gpus.size(); ++g) {
      if (gang.seats[g] == nullptr) continue;
      const SeatView& seat = *gang.seats[g];
      if (seat.done_ns != turn.done_ns[g] || is_done(seat)) {
        turn.done_ns[g] = seat.done_ns;
        turn.progress_ns[g] = now_ns;
      }
      if (now_ns >= std::max(turn.progress_ns[g], turn.began_ns) + kNoProgressNs)
        waiting = std::max(waiting, place_of(turn, g, seat));
    }
    for (std::size_t g = 0; g < gpus.size(); ++g) {
      if (gang.seats[g] == nullptr || place_of(turn, g, *gang.seats[g]) >= waiting) continue;
      const std::ptrdiff_t index = gang.seats[g] - gpus[g].seats.data();
      Grant& grant = gpus[g].grants[static_cast<std::size_t>(index)];
      // Not beside high priority, and only to where the peer is.
      if (grant.end_ns <= now_ns || grant.in_flight_ns < kInFlightNs) continue;
      grant.in_flight_ns = kForever;
      grant.last_place = turn.same_place[g] + waiting;
    }
  }
}

// Where work of a gang is overdue after its turn, those that haven't come as far launch up to
// there: it is what the overdue work waits for. Where all seem to be at the same place, that isn't
// so, or it takes long: then those that are done launch a little at a time.
std::uint64_t Node::help_peers(std::uint64_t now_ns, std::span<const Gpu> gpus) {
  std::uint64_t wake = kForever;
  for (const Turn& ended : turns_) {
    if (ended.until_ns <= now_ns) continue;
    wake = std::min(wake, now_ns + kPeerSlotNs / 2);
    if (!ended.is_stuck) continue;
    const auto each = [&](const auto& visit) {
      for (std::size_t g = 0; g < gpus.size(); ++g) {
        for (std::size_t i = 0; i < gpus[g].seats.size(); ++i) {
          const SeatView& seat = gpus[g].seats[i];
          if (seat.tenant == ended.tenant) visit(seat, g, gpus[g].grants[i]);
        }
      }
    };
    std::uint64_t stuck = 0;  // the furthest place of one whose work is overdue
    bool is_exact = ended.is_exact && !ended.differs;
    each([&](const SeatView& seat, std::size_t g, const Grant&) {
      is_exact = is_exact && seat.counts_collectives;
      if (!is_done(seat)) stuck = std::max(stuck, place_of(ended, g, seat));
    });
    const std::uint64_t little_from_ns = ended.expected_ns + (is_exact ? kOverdueNs : 0);
    each([&](const SeatView& seat, std::size_t g, Grant& grant) {
      const bool is_behind = is_exact && place_of(ended, g, seat) < stuck;
      if (!is_behind && (!is_done(seat) || now_ns < little_from_ns)) return;
      grant.end_ns = std::max(grant.end_ns, now_ns + kPeerSlotNs);
      grant.in_flight_ns = is_behind ? kInFlightNs : kPeerInFlightNs;
      grant.last_place = is_behind ? ended.same_place[g] + stuck : 0;
    });
  }
  return wake;
}

}  // namespace vgpu::core

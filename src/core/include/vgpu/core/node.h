// SPDX-License-Identifier: Apache-2.0
// All GPUs of a node, stepped together, so that work which spans several of them isn't torn apart.
// A kernel that waits for its peer on another GPU (NCCL) holds its GPU for nothing until that one
// runs too: two such jobs beside each other reach 86 % of one alone unmanaged and 49 % under
// limiters that know of one GPU at a time (measured on two H200).
//
// A gang is a tenant that lately wanted several GPUs at once, by one process or thread on each. It
// gets its turns on all of them at the same time or not at all. Whether it is its turn is decided
// by the GPU on which it is least behind, so that it takes nobody's share there; those that are
// behind by more come first, on all their GPUs, so no two gangs can each hold what the other waits
// for. Once it is next everywhere it begins as soon as no other turn is under way on any of its
// GPUs: turns that end meanwhile are prolonged, not followed by others, so it can't be starved.
//
// A turn that ended everywhere at one time would end between the launches of one step on two GPUs:
// then the kernel on the first spins, and would do so beside everybody else's turn until the gang
// has its next. So a turn ends by place (SeatView::place): on each GPU where the one that has come
// furthest is. Places are counted from a moment at which all that had been launched was done: then
// none was waiting for a peer. In most programs all make the same collectives, and by their count
// that is exact. Where no launch is known to be one all count, and of two hosts on two GPUs one may
// launch a few more in a turn (two jobs of PyTorch on two H200: by two in a second). Where some
// count collectives and others don't, or some make more, places say nothing and turns end at once.
// A turn that ended in the wrong place is seen by its work not getting done: nobody else begins,
// and those that are behind launch what it waits for.
//
// Pure, like Arbiter. With no gang each Arbiter decides as it does alone.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "vgpu/core/arbiter.h"

namespace vgpu::core {

inline constexpr std::uint32_t kMostGpus = 32;
inline constexpr std::uint32_t kMostGangs = 64;  // tenants beyond that aren't kept together
// After a gang's turn, where work is overdue on one of its GPUs, its peers may launch for so long
// at a time; a little at a time where nobody knows how much is missing; until nothing of it has
// been going on for so long.
inline constexpr std::uint64_t kPeerSlotNs = 200'000;
inline constexpr std::uint64_t kPeerInFlightNs = 20'000;
inline constexpr std::uint64_t kMostStuckNs = 3'000'000;
// One that was torn apart beside the turns of others is helped for so long, and again after so
// long. What spins takes half of its GPU from them as long as it does.
inline constexpr std::uint64_t kHelpTornNs = 30'000'000;
inline constexpr std::uint64_t kHelpAgainNs = 60'000'000;
// Work may take longer than predicted: those that are done launch more only when it is overdue by
// so much.
inline constexpr std::uint64_t kOverdueNs = 2'000'000;
// Those that are behind have a sixth of the turn to come to the same place, within these bounds.
inline constexpr std::uint64_t kLeastAlignNs = 4'000'000;
inline constexpr std::uint64_t kMostAlignNs = 20'000'000;
inline constexpr std::uint64_t kLookAtAlignedNs = 200'000;
// A host that is busy with something else is waited for so long by a turn that would end for
// idleness, where the other GPUs are ahead: a kernel there would spin beside the next turn.
inline constexpr std::uint64_t kMostLateNs = 10'000'000;
// Work in flight that hasn't gone on for so long may be waiting for a peer.
inline constexpr std::uint64_t kNoProgressNs = 2'000'000;

// Places that are not the same when all is done, after so many turns in a row, say nothing.
inline constexpr std::uint32_t kMissesToDiffer = 3;

class Node {
 public:
  struct Gpu {
    std::span<const SeatView> seats;
    std::span<Grant> grants;
  };

  // One Arbiter for each GPU, at most kMostGpus; they outlive the Node, which alone steps them.
  explicit Node(std::span<Arbiter> arbiters) : arbiters_(arbiters) {}

  // As Arbiter::step, for all GPUs; `gpus` has one entry for each of the first Arbiters, in their
  // order, and never fewer than before. A seat's number is its own on all GPUs.
  std::uint64_t step(std::uint64_t now_ns, std::span<const Gpu> gpus);

  std::uint32_t gangs() const { return gang_count_; }

 private:
  struct Gang {
    std::uint64_t tenant = 0;
    std::array<const SeatView*, kMostGpus> seats{};  // null: not on that GPU
    bool blocked = false;                            // isn't next on all its GPUs
    bool holds = false;                              // has its turn
  };
  struct Turn {  // a gang's present turn or the last
    std::uint64_t tenant = 0;
    std::uint64_t began_ns = 0;
    // Of its seats at the same place of the program: when all they had launched was done last.
    // Where all launches count, or that wasn't seen yet, when the turn began.
    std::array<std::uint64_t, kMostGpus> same_place{};
    std::array<std::uint64_t, kMostGpus> birth{};  // of the seats that these are of
    bool is_exact = false;
    bool differs = false;      // from one such moment to the next some come further than others:
    std::uint32_t misses = 0;  // so often in a row
    bool has_missed = false;   // since its last turn
    std::array<std::uint64_t, kMostGpus> done_ns{};      // of its seats as last seen to grow,
    std::array<std::uint64_t, kMostGpus> progress_ns{};  // then
    std::uint64_t aligned_by_ns = 0;                     // 0: it doesn't end yet
    std::uint64_t ends_at = 0;                           // that many places further
    // Once it has ended:
    std::uint64_t expected_ns = 0;  // all it had in flight should be done
    std::uint64_t until_ns = 0;     // its peers are helped; 0: no more
    std::uint64_t again_ns = 0;     // not helped before, outside of the end of a turn
    bool is_torn = false;           // beside others' turns
    bool is_stuck = false;          // it is overdue somewhere
  };
  using Rulings = std::array<Arbiter::Ruling, kMostGpus>;

  void find_gangs(std::uint64_t now_ns, std::span<const Gpu> gpus);
  void tell_members(std::uint64_t now_ns, std::span<const Gpu> gpus);
  void block_those_not_next(std::uint64_t now_ns, std::span<const Gpu> gpus);
  void rule(std::uint64_t now_ns, std::span<const Gpu> gpus, Rulings& rulings);
  bool must_end(std::uint64_t now_ns, const Gang& gang, std::span<const Gpu> gpus) const;
  bool may_begin(std::uint64_t now_ns, const Gang& gang, std::span<const Gpu> gpus) const;
  void hold_up(std::uint64_t now_ns, std::span<const Gpu> gpus, Rulings& rulings);
  bool is_aligned(std::uint64_t now_ns, const Gang& gang, std::span<const Gpu> gpus, Turn& turn);
  bool has_to_end_at_once(std::uint64_t now_ns, const Gang& gang, std::span<const Gpu> gpus,
                          const Turn& turn) const;
  struct Places {  // of a gang's seats, from the same place on
    std::uint64_t least = UINT64_MAX;
    std::uint64_t most = 0;
    bool some_count_collectives = false;
    bool all_count_collectives = true;
  };
  static Places places_of(const Gang& gang, const Turn& turn);
  static bool is_comparable(const Places& places, const Turn& turn);
  static bool is_apart(const Gang& gang, const Turn& turn);
  static std::uint64_t place_of(const Turn& turn, std::size_t gpu, const SeatView& seat);
  static bool agrees(const Places& places, Turn& turn);
  static void note_births(const Gang& gang, Turn& turn);
  void note_same_place(std::uint64_t now_ns, const Gang& gang, Turn& turn) const;
  bool high_priority_waits(std::uint64_t now_ns, const Gang& gang, std::span<const Gpu> gpus) const;
  std::uint64_t bound_places(std::uint64_t now_ns, std::span<const Gpu> gpus);
  Turn& turn_of(std::uint64_t tenant);
  void find_torn(std::uint64_t now_ns);
  void let_catch_up(std::uint64_t now_ns, std::span<const Gpu> gpus);
  void remember_end(std::uint64_t now_ns, const Gang& gang);
  std::uint64_t help_peers(std::uint64_t now_ns, std::span<const Gpu> gpus);

  std::span<Arbiter> arbiters_;
  std::array<Gang, kMostGangs> gang_{};
  std::uint32_t gang_count_ = 0;
  std::array<Turn, kMostGangs> turns_{};
};

}  // namespace vgpu::core

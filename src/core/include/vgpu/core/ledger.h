// SPDX-License-Identifier: Apache-2.0
// How processes of a tenant share one memory limit without a lock: ask, add up, grant. Every
// function is written against a Memory, which src/shm implements with atomics and the tests with a
// scheduler that switches between any two operations.
//
// One line per slot (process) and GPU: a charge word and kAskCells ask cells. A reservation goes
//   cell: none -> asked                    "I want this much"           everybody counts it from
//   here on add up all slots, then all shared objects cell: asked -> granted                 it
//   fits                      fails if somebody revoked the ask meanwhile charge += bytes, with the
//   cell's mark  one step                     the mark says: that cell is already in here cell:
//   granted -> none, then the mark goes
//
// Why the limit is never passed. Take any moment, and of the reservations that are granted and not
// yet released the one that asked last, R. All the others asked before R did, so R's sum, which is
// made after its ask, meets each of them as an asked or granted cell or, its cell being cleared
// only after its charge was raised, inside a charge word that is read after the cells. (What moved
// from a charge into a shared object is met there: objects are read after slots.) So R's sum is at
// least the sum of all of them, and R was granted because that is within the limit.
//
// Why nobody waits. An ask that is not granted may be revoked by anyone: whoever is stopped there
// asks again when it goes on. Among those who collide the lowest (slot, cell) revokes the others
// and goes on, so one always gets through. A stop anywhere leaves the sum exact: asked bytes give
// way, granted bytes count once.
//
// All operations are sequentially consistent unless Memory says why less is enough.
#pragma once

#include <algorithm>
#include <cstdint>

#include "vgpu/core/steps.h"

namespace vgpu::core {

inline constexpr std::uint32_t kAskCells = 6;

// Charge word: bytes in bits 0-55, a mark per ask cell in 56-61, "being moved into a shared object"
// in 62.
inline constexpr std::uint64_t kBytesMask = (std::uint64_t{1} << 56) - 1;
inline constexpr std::uint64_t kMoving = std::uint64_t{1} << 62;
constexpr std::uint64_t cell_mark(std::uint32_t cell) { return std::uint64_t{1} << (56 + cell); }
constexpr std::uint64_t charge_bytes(std::uint64_t word) { return word & kBytesMask; }

// No total above this is granted, and no slot's charge passes twice this, so the bytes never run
// into the marks. 32 PiB.
inline constexpr std::uint64_t kMaxCharge = std::uint64_t{1} << 55;

// Ask cell: bytes in bits 0-55, state in 62-63; a free cell is 0.
enum class AskState : std::uint8_t { none = 0, asked = 1, granted = 2, revoked = 3 };
constexpr AskState ask_state(std::uint64_t cell) { return static_cast<AskState>(cell >> 62); }
constexpr std::uint64_t ask_bytes(std::uint64_t cell) { return cell & kBytesMask; }
constexpr std::uint64_t ask_cell(AskState state, std::uint64_t bytes) {
  return (static_cast<std::uint64_t>(state) << 62) | (bytes & kBytesMask);
}

// What is read from shared memory is not trusted, so sums stop at the top instead of wrapping.
constexpr std::uint64_t add_saturating(std::uint64_t a, std::uint64_t b) {
  return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

struct Totals {
  std::uint64_t charged = 0;  // slots and shared objects
  std::uint64_t granted = 0;  // granted cells that are not yet in a charge word
  std::uint64_t asked = 0;    // may still be revoked or withdrawn
};

enum class Attempt : std::uint8_t {
  granted,
  full,       // does not fit beside what is charged and granted
  contended,  // would fit, but for others who ask at the same time
};

// One slot's part. Cells are read before the charge word: see the proof above. Reading on while
// they change under us could count a reservation twice (as a cell and as a charge), never not at
// all, so the retries are bounded.
template <class Memory>
void add_slot(Memory& memory, std::uint32_t slot, Totals& totals) {
  constexpr int kReadTries = 16;
  for (int tries = 0;; ++tries) {
    std::uint64_t cells[Memory::kCells];
    std::uint64_t any = 0;
    for (std::uint32_t i = 0; i < Memory::kCells; ++i) any |= cells[i] = memory.ask(slot, i);
    const std::uint64_t charge = memory.charge(slot);
    if (any == 0 && (charge & kMoving) == 0) {
      totals.charged = add_saturating(totals.charged, charge_bytes(charge));
      return;
    }
    // The object counts from the moment that it is live, so from that moment the charge counts
    // without it.
    std::uint64_t moved = (charge & kMoving) != 0 ? memory.moving_bytes(slot) : 0;
    bool unchanged = memory.charge(slot) == charge;
    for (std::uint32_t i = 0; i < Memory::kCells; ++i) {
      unchanged = unchanged && memory.ask(slot, i) == cells[i];
    }
    if (!unchanged && tries < kReadTries) continue;
    if (!unchanged) moved = 0;
    const std::uint64_t bytes = charge_bytes(charge);
    totals.charged = add_saturating(totals.charged, bytes - std::min(bytes, moved));
    for (std::uint32_t i = 0; i < Memory::kCells; ++i) {
      const std::uint64_t wanted = ask_bytes(cells[i]);
      if (ask_state(cells[i]) == AskState::asked) {
        totals.asked = add_saturating(totals.asked, wanted);
      } else if (ask_state(cells[i]) == AskState::granted && (charge & cell_mark(i)) == 0) {
        totals.granted = add_saturating(totals.granted, wanted);
      }
    }
    return;
  }
}

// Slots first, objects after them: what moves between them moves from a slot into an object.
template <class Memory>
Totals add_up(Memory& memory) {
  Totals totals;
  const std::uint32_t slots = memory.slots();
  for (std::uint32_t slot = 0; slot < slots; ++slot) {
    if (memory.counts(slot)) add_slot(memory, slot, totals);
  }
  const std::uint32_t objects = memory.objects();
  for (std::uint32_t object = 0; object < objects; ++object) {
    totals.charged = add_saturating(totals.charged, memory.object_charge(object));
  }
  return totals;
}

// Takes a cell and puts the ask into it; Memory::kCells when other threads of this process use them
// all. A cell whose mark is still set must not be used: granted, it would be taken for the earlier
// one that is already in the charge.
template <class Memory>
std::uint32_t ask(Memory& memory, std::uint32_t slot, std::uint64_t bytes) {
  for (std::uint32_t cell = 0; cell < Memory::kCells; ++cell) {
    if (memory.ask(slot, cell) != 0) continue;
    if (!memory.swap_ask(slot, cell, 0, ask_cell(AskState::asked, bytes))) continue;
    // Only the cell's user sets its mark, and that is us now: clear here means clear until we set
    // it.
    if ((memory.charge(slot) & cell_mark(cell)) == 0) return cell;
    memory.clear_ask(slot, cell);
  }
  return Memory::kCells;
}

// Revokes the asks of others: of those behind (slot, cell), or of all when insisting. False if one
// in front remains.
template <class Memory>
bool revoke_others(Memory& memory, std::uint32_t slot, std::uint32_t cell, bool insist) {
  bool alone = true;
  const std::uint32_t slots = memory.slots();
  for (std::uint32_t other = 0; other < slots; ++other) {
    if (!memory.counts(other)) continue;
    for (std::uint32_t i = 0; i < Memory::kCells; ++i) {
      if (other == slot && i == cell) continue;
      const std::uint64_t seen = memory.ask(other, i);
      if (ask_state(seen) != AskState::asked) continue;
      const bool in_front = other < slot || (other == slot && i < cell);
      if (in_front && !insist) {
        alone = false;
      } else {
        // Losing the race means that it was granted, withdrawn or revoked: the next sum will tell.
        memory.swap_ask(other, i, seen, ask_cell(AskState::revoked, ask_bytes(seen)));
      }
    }
  }
  return alone;
}

// One try, without waiting. Precondition: 0 < bytes <= limit.
template <class Memory>
Attempt try_reserve(Memory& memory, std::uint32_t slot, std::uint64_t bytes, std::uint64_t limit,
                    bool insist) {
  constexpr int kRounds = 8;  // each follows a revocation, so somebody else gets on when we do not
  limit = std::min(limit, kMaxCharge);
  const std::uint32_t cell = ask(memory, slot, bytes);
  if (cell == Memory::kCells) return Attempt::contended;
  memory.step(Step::reserve_asked);
  Attempt refusal = Attempt::contended;
  for (int round = 0; round < kRounds; ++round) {
    const Totals totals = add_up(memory);
    memory.step(Step::reserve_added_up);
    const std::uint64_t firm = add_saturating(totals.charged, totals.granted);
    if (add_saturating(firm, totals.asked) <= limit) {
      if (!memory.swap_ask(slot, cell, ask_cell(AskState::asked, bytes),
                           ask_cell(AskState::granted, bytes))) {
        break;  // revoked
      }
      memory.step(Step::reserve_granted);
      memory.add_charge(slot, bytes + cell_mark(cell));
      memory.step(Step::commit_charged);
      memory.clear_ask(slot, cell);
      memory.step(Step::commit_cleared);
      memory.subtract_charge(slot, cell_mark(cell));
      memory.step(Step::commit_done);
      return Attempt::granted;
    }
    if (add_saturating(firm, bytes) > limit) {
      refusal = Attempt::full;
      break;
    }
    if (!revoke_others(memory, slot, cell, insist)) break;
  }
  memory.clear_ask(slot, cell);
  memory.step(Step::reserve_withdrawn);
  return refusal;
}

// Lowers the charge; returns what was asked for beyond what is charged (0 unless the caller's
// account is wrong).
template <class Memory>
std::uint64_t lower_charge(Memory& memory, std::uint32_t slot, std::uint64_t bytes,
                           std::uint64_t clear_flags = 0) {
  for (;;) {
    const std::uint64_t word = memory.charge(slot);
    const std::uint64_t taken = std::min(bytes, charge_bytes(word));
    if (memory.swap_charge(slot, word, (word - taken) & ~clear_flags)) return bytes - taken;
  }
}

// Charges without asking, up to kMaxCharge.
template <class Memory>
void raise_charge(Memory& memory, std::uint32_t slot, std::uint64_t bytes) {
  for (;;) {
    const std::uint64_t word = memory.charge(slot);
    const std::uint64_t room = kMaxCharge - std::min(kMaxCharge, charge_bytes(word));
    if (memory.swap_charge(slot, word, word + std::min(bytes, room))) return;
  }
}

}  // namespace vgpu::core

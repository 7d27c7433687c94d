// SPDX-License-Identifier: Apache-2.0
// Memory that several processes of a tenant hold, counted once while one of them lives. Same rules
// as ledger.h: no lock, any process may stop or die between any two steps.
//
// Who holds an object is written in the holders, one bit in the holder's own slot: a slot that dies
// takes its bits with it in the one step that frees it, so there is nothing to clean up and no late
// cleaner to fear. What is left is the object itself, which anyone may collect:
//   free -> building(slot) -> live -> dying -> free      dying -> live when a holder turns up
// A holder sets its bit and then looks at the state; the collector sets `dying` and then looks at
// the bits. One of them sees the other. Every transition raises the word's version, so a collector
// that slept decides nothing any more. An object counts while it is live or dying.
//
// Whoever takes a bit back collects afterwards, and goes on when another collector gets in between:
// that one may stop before it has finished. So an object that nobody holds is free once every
// process that took a bit back has returned, whatever collectors stop where. Only a process that
// itself stops or dies between the two leaves the object to the next collection of all objects,
// which comes with each reaping of slots.
//
// Calls of one process are serialised by the caller (one bit stands for all its threads).
#pragma once

#include <cstdint>

#include "vgpu/core/ledger.h"
#include "vgpu/core/steps.h"

namespace vgpu::core {

enum class ObjectState : std::uint8_t { free = 0, building = 1, live = 2, dying = 3 };

// State in bits 0-1, building slot in 2-15, incarnation (raised when built) in 16-39, version
// (raised always) in 40-63.
struct ObjectWord {
  ObjectState state = ObjectState::free;
  std::uint32_t builder = 0;
  std::uint32_t incarnation = 0;
  std::uint32_t version = 0;

  static constexpr ObjectWord unpack(std::uint64_t word) {
    return {static_cast<ObjectState>(word & 3), static_cast<std::uint32_t>((word >> 2) & 0x3fff),
            static_cast<std::uint32_t>((word >> 16) & 0xffffff),
            static_cast<std::uint32_t>(word >> 40)};
  }
  constexpr std::uint64_t pack() const {
    return static_cast<std::uint64_t>(state) | (static_cast<std::uint64_t>(builder & 0x3fff) << 2) |
           (static_cast<std::uint64_t>(incarnation & 0xffffff) << 16) |
           (static_cast<std::uint64_t>(version & 0xffffff) << 40);
  }
  constexpr bool counts() const {
    return state == ObjectState::live || state == ObjectState::dying;
  }
  constexpr ObjectWord next(ObjectState to) const {
    return {to, builder, incarnation, version + 1};
  }
};

struct ObjectKey {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  friend constexpr bool operator==(const ObjectKey&, const ObjectKey&) = default;
};

inline constexpr std::uint32_t kNoObject = UINT32_MAX;

template <class Memory>
bool object_is_held(Memory& memory, std::uint32_t object) {
  const std::uint32_t slots = memory.slots();
  for (std::uint32_t slot = 0; slot < slots; ++slot) {
    if (memory.counts(slot) && memory.holds(slot, object)) return true;
  }
  return false;
}

// Frees the object if nobody holds it, or if its builder died. Anyone, any time, any number of
// them. Lock-free: it starts again only when another process changed the word.
template <class Memory>
void collect_object(Memory& memory, std::uint32_t object) {
  for (;;) {
    const std::uint64_t seen = memory.object(object);
    const ObjectWord word = ObjectWord::unpack(seen);
    switch (word.state) {
      case ObjectState::free:
        return;
      case ObjectState::building:
        // A slot that was freed and taken anew has swept its predecessor's buildings before it went
        // live. If the word changes here, somebody else freed it.
        if (!memory.counts(word.builder)) {
          memory.swap_object(object, seen, word.next(ObjectState::free).pack());
        }
        return;
      case ObjectState::live:
        if (object_is_held(memory, object)) return;
        if (memory.swap_object(object, seen, word.next(ObjectState::dying).pack())) {
          memory.step(Step::collect_dying);
        }
        continue;  // dying by now, by us or by another
      case ObjectState::dying: {
        const bool held = object_is_held(memory, object);
        const ObjectWord to = word.next(held ? ObjectState::live : ObjectState::free);
        if (!memory.swap_object(object, seen, to.pack())) continue;
        memory.step(Step::collect_freed);
        return;
      }
    }
  }
}

template <class Memory>
std::uint32_t find_object(Memory& memory, const ObjectKey& key, std::uint32_t from = 0) {
  const std::uint32_t objects = memory.objects();
  for (std::uint32_t object = from; object < objects; ++object) {
    if (ObjectWord::unpack(memory.object(object)).counts() && memory.object_key(object) == key) {
      return object;
    }
  }
  return kNoObject;
}

// Makes `slot` a holder; kNoObject if there is no such object (any more).
template <class Memory>
std::uint32_t hold_object(Memory& memory, std::uint32_t slot, const ObjectKey& key) {
  for (std::uint32_t from = 0;;) {
    const std::uint32_t object = find_object(memory, key, from);
    if (object == kNoObject) return kNoObject;
    const bool held_before = memory.holds(slot, object);
    memory.set_holds(slot, object, true);
    memory.step(Step::hold_marked);
    std::uint64_t seen = memory.object(object);
    ObjectWord word = ObjectWord::unpack(seen);
    if (word.state == ObjectState::dying &&
        memory.swap_object(object, seen, word.next(ObjectState::live).pack())) {
      word.state = ObjectState::live;
    }
    // Live after the bit was set: it can't go any more, so its key is what we read now.
    if (word.state == ObjectState::live && memory.object_key(object) == key) {
      memory.step(Step::hold_confirmed);
      return object;
    }
    if (!held_before) {
      memory.set_holds(slot, object, false);
      // The last holder may have left meanwhile and taken our bit for another holder's.
      collect_object(memory, object);
    }
    // `dying` that moved on under us may be live again: look at it once more. Else it is another
    // object now.
    from = word.state == ObjectState::dying ? object : object + 1;
  }
}

// Lets go of every object with this key that `slot` holds; how many there were.
template <class Memory>
std::uint32_t unhold_object(Memory& memory, std::uint32_t slot, const ObjectKey& key) {
  std::uint32_t count = 0;
  for (std::uint32_t object = 0; (object = find_object(memory, key, object)) != kNoObject;
       ++object) {
    if (!memory.holds(slot, object)) continue;
    memory.set_holds(slot, object, false);
    memory.step(Step::unhold_unmarked);
    collect_object(memory, object);
    ++count;
  }
  return count;
}

// Moves `bytes` of the slot's charge into `object`, which counts from `publish` on. The flag in the
// charge word names that instant to readers, so at no step are the bytes counted twice or not at
// all. Returns what was not charged.
template <class Memory, class Publish>
std::uint64_t move_into_object(Memory& memory, std::uint32_t slot, std::uint32_t object,
                               std::uint64_t bytes, Publish publish) {
  memory.set_moving_object(slot, object);
  for (;;) {
    const std::uint64_t word = memory.charge(slot);
    if (memory.swap_charge(slot, word, word | kMoving)) break;
  }
  memory.step(Step::share_moving);
  publish();
  memory.step(Step::share_published);
  const std::uint64_t missing = lower_charge(memory, slot, bytes, kMoving);
  memory.step(Step::share_moved);
  return missing;
}

struct Shared {
  std::uint32_t object = kNoObject;  // kNoObject: the table is full, nothing changed
  std::uint64_t uncharged_bytes = 0;
};

template <class Memory>
Shared share_object(Memory& memory, std::uint32_t slot, const ObjectKey& key, std::uint64_t bytes) {
  const std::uint32_t known = find_object(memory, key);
  if (known != kNoObject && memory.holds(slot, known)) return {known, 0};  // exported once more
  for (std::uint32_t object = 0; object < memory.object_capacity(); ++object) {
    const std::uint64_t seen = memory.object(object);
    ObjectWord word = ObjectWord::unpack(seen);
    if (word.state != ObjectState::free) continue;
    memory.raise_objects(object + 1);  // before the claim, so that whoever sweeps meets every claim
    word = {ObjectState::building, slot, word.incarnation + 1, word.version + 1};
    if (!memory.swap_object(object, seen, word.pack())) continue;
    memory.step(Step::share_claimed);
    memory.describe_object(object, key, bytes);
    memory.set_holds(slot, object, true);
    memory.step(Step::share_filled);
    // Only the builder, or a collector that saw it dead, changes a word in this state.
    const std::uint64_t missing = move_into_object(memory, slot, object, bytes, [&] {
      memory.swap_object(object, word.pack(), word.next(ObjectState::live).pack());
    });
    return {object, missing};
  }
  return {};
}

// Frees what `slot`'s former owner was building: called by the next one before it goes live.
template <class Memory>
void sweep_buildings(Memory& memory, std::uint32_t slot) {
  const std::uint32_t objects = memory.objects();
  for (std::uint32_t object = 0; object < objects; ++object) {
    const std::uint64_t seen = memory.object(object);
    const ObjectWord word = ObjectWord::unpack(seen);
    if (word.state == ObjectState::building && word.builder == slot) {
      memory.swap_object(object, seen, word.next(ObjectState::free).pack());
    }
  }
}

}  // namespace vgpu::core

// SPDX-License-Identifier: Apache-2.0
// The ledger's memory as the model has it: plain words, a pause before each operation, and a naive
// account beside them (the truth) that says after every single step what the ledger must add up to.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "fiber.h"
#include "schedule.h"
#include "vgpu/core/ledger.h"
#include "vgpu/core/shared_objects.h"

namespace vgpu::model {

inline constexpr std::uint32_t kMostSlots = kMostProcesses;
inline constexpr std::uint32_t kMostObjects = 2;

// How many schedules a test runs at most; VGPU_MODEL_ROUNDS multiplies it (the `long` tests),
// sanitizers divide it.
inline int rounds(int usual) {
  const char* const factor = std::getenv("VGPU_MODEL_ROUNDS");
  if (factor != nullptr) usual *= std::max(1, std::atoi(factor));
#if defined(VGPU_MODEL_SANITIZED)
  usual /= 10;
#endif
  return usual;
}

struct Object {
  std::uint64_t word = 0;
  core::ObjectKey key;
  std::uint64_t bytes = 0;
};

class World;

// Core's Memory. Without a fiber the operations don't pause: that is how the world looks at itself.
class Memory {
 public:
  static constexpr std::uint32_t kCells = 2;

  Memory(World& world, Fiber* fiber) : world_(world), fiber_(fiber) {}

  std::uint32_t slots();
  bool counts(std::uint32_t slot);
  std::uint64_t ask(std::uint32_t slot, std::uint32_t cell);
  bool swap_ask(std::uint32_t slot, std::uint32_t cell, std::uint64_t from, std::uint64_t to);
  void clear_ask(std::uint32_t slot, std::uint32_t cell);
  std::uint64_t charge(std::uint32_t slot);
  bool swap_charge(std::uint32_t slot, std::uint64_t from, std::uint64_t to);
  void add_charge(std::uint32_t slot, std::uint64_t amount);
  void subtract_charge(std::uint32_t slot, std::uint64_t amount);
  std::uint64_t moving_bytes(std::uint32_t slot);
  void set_moving_object(std::uint32_t slot, std::uint32_t object);
  std::uint32_t objects();
  static constexpr std::uint32_t object_capacity() { return kMostObjects; }
  std::uint64_t object(std::uint32_t object);
  bool swap_object(std::uint32_t object, std::uint64_t from, std::uint64_t to);
  std::uint64_t object_charge(std::uint32_t object);
  core::ObjectKey object_key(std::uint32_t object);
  void describe_object(std::uint32_t object, const core::ObjectKey& key, std::uint64_t bytes);
  void raise_objects(std::uint32_t count);
  bool holds(std::uint32_t slot, std::uint32_t object);
  void set_holds(std::uint32_t slot, std::uint32_t object, bool holds);
  void step(core::Step) {}

 private:
  World& pause();
  World& world_;
  Fiber* fiber_;
};

class World {
 public:
  // A process's code gets its memory; it may call yield() where a real one would wait a little.
  using Code = std::function<void(std::uint32_t process, Memory& memory)>;

  std::uint64_t limit = 0;
  std::array<std::array<std::uint64_t, Memory::kCells>, kMostSlots> cells{};
  std::array<std::uint64_t, kMostSlots> charges{};
  std::array<std::uint32_t, kMostSlots> moving{};
  std::array<bool, kMostSlots> live{};
  std::array<std::array<bool, kMostObjects>, kMostSlots> held{};
  std::array<Object, kMostObjects> objects{};
  std::uint32_t object_high_water = 0;
  std::uint32_t slot_count = 0;

  // The truth.
  std::array<std::uint64_t, kMostSlots> own_bytes{};
  std::array<std::uint64_t, kMostObjects> object_bytes{};
  std::array<std::array<bool, kMostObjects>, kMostSlots>
      relies_on{};  // was told that it is a holder
  std::string error;

  // Runs the processes to their ends under a schedule. A process that `stops` is never gone on with
  // after so many steps of its own.
  struct Stop {
    std::uint32_t process = kMostSlots;
    int after_steps = 0;
  };
  template <class Schedule>
  void run(const std::vector<Code>& processes, Schedule& schedule, Stop stop = {}) {
    slot_count = static_cast<std::uint32_t>(processes.size());
    auto& fiber = fibers();
    for (std::uint32_t i = 0; i < slot_count; ++i) {
      live[i] = true;
      fiber[i]->start([this, i, &processes] {
        Memory memory(*this, fibers()[i].get());
        processes[i](i, memory);
      });
    }
    std::size_t current = 0;
    int steps = 0;
    int stop_steps = 0;
    while (error.empty()) {
      Processes ready;
      for (std::uint32_t i = 0; i < slot_count; ++i) {
        const bool stopped = i == stop.process && stop_steps >= stop.after_steps;
        if (!fiber[i]->finished() && !stopped && i != yielded_) ready.add(i);
      }
      if (ready.empty() && yielded_ < slot_count) {
        ready.add(yielded_);
      }
      yielded_ = kMostSlots;
      if (ready.empty()) break;
      current = schedule.choose(ready, current);
      if (current == stop.process) ++stop_steps;
      fiber[current]->go_on();
      check();
      if (++steps > 100000) error = "no end in sight";
    }
    was_stopped_ = stop.process < slot_count && !fibers()[stop.process]->finished();
  }
  bool was_stopped() const { return was_stopped_; }

  // The others go first, if they can go on at all.
  void yield(std::uint32_t process) {
    yielded_ = process;
    fibers()[process]->pause();
  }

  std::uint64_t true_bytes() const {
    std::uint64_t sum = 0;
    for (const std::uint64_t bytes : own_bytes) sum += bytes;
    for (const std::uint64_t bytes : object_bytes) sum += bytes;
    return sum;
  }

  // The process is dead and somebody noticed.
  void free_slot(std::uint32_t slot) {
    live[slot] = false;
    own_bytes[slot] = 0;
    relies_on[slot] = {};
  }

  void fail(const std::string& what) {
    if (error.empty()) error = what;
  }

 private:
  static std::vector<std::unique_ptr<Fiber>>& fibers() {
    static std::vector<std::unique_ptr<Fiber>> all = [] {
      std::vector<std::unique_ptr<Fiber>> made;
      for (std::uint32_t i = 0; i < kMostSlots; ++i) made.push_back(std::make_unique<Fiber>());
      return made;
    }();
    return all;
  }

  // Between any two steps, with everybody stopped where they are, the sum is what is really held,
  // and within the limit.
  void check() {
    Memory memory(*this, nullptr);
    const core::Totals totals = core::add_up(memory);
    const std::uint64_t counted = totals.charged + totals.granted;
    if (counted == true_bytes() && counted <= limit) return;
    std::ostringstream text;
    text << "counted " << counted << ", held " << true_bytes() << ", limit " << limit;
    fail(text.str());
  }

  std::uint32_t yielded_ = kMostSlots;
  bool was_stopped_ = false;
};

inline World& Memory::pause() {
  if (fiber_ != nullptr) fiber_->pause();
  return world_;
}

inline std::uint32_t Memory::slots() { return world_.slot_count; }
inline bool Memory::counts(std::uint32_t slot) { return pause().live[slot]; }
inline std::uint64_t Memory::ask(std::uint32_t slot, std::uint32_t cell) {
  return pause().cells[slot][cell];
}
inline bool Memory::swap_ask(std::uint32_t slot, std::uint32_t cell, std::uint64_t from,
                             std::uint64_t to) {
  std::uint64_t& word = pause().cells[slot][cell];
  if (word != from) return false;
  word = to;
  if (core::ask_state(to) == core::AskState::granted) world_.own_bytes[slot] += core::ask_bytes(to);
  return true;
}
inline void Memory::clear_ask(std::uint32_t slot, std::uint32_t cell) {
  pause().cells[slot][cell] = 0;
}
inline std::uint64_t Memory::charge(std::uint32_t slot) { return pause().charges[slot]; }
inline bool Memory::swap_charge(std::uint32_t slot, std::uint64_t from, std::uint64_t to) {
  std::uint64_t& word = pause().charges[slot];
  if (word != from) return false;
  const bool is_move = (from & core::kMoving) != 0 && (to & core::kMoving) == 0;
  if (!is_move) world_.own_bytes[slot] += core::charge_bytes(to) - core::charge_bytes(from);
  word = to;
  return true;
}
inline void Memory::add_charge(std::uint32_t slot, std::uint64_t amount) {
  pause().charges[slot] += amount;
}
inline void Memory::subtract_charge(std::uint32_t slot, std::uint64_t amount) {
  pause().charges[slot] -= amount;
}
inline std::uint64_t Memory::moving_bytes(std::uint32_t slot) {
  pause();
  const std::uint32_t object = pause().moving[slot];
  return object < kMostObjects ? object_charge(object) : 0;
}
inline void Memory::set_moving_object(std::uint32_t slot, std::uint32_t object) {
  pause().moving[slot] = object;
}
inline std::uint32_t Memory::objects() { return pause().object_high_water; }
inline std::uint64_t Memory::object(std::uint32_t object) { return pause().objects[object].word; }
inline bool Memory::swap_object(std::uint32_t object, std::uint64_t from, std::uint64_t to) {
  Object& it = pause().objects[object];
  if (it.word != from) return false;
  it.word = to;
  const core::ObjectWord before = core::ObjectWord::unpack(from),
                         after = core::ObjectWord::unpack(to);
  if (before.state == core::ObjectState::building && after.state == core::ObjectState::live) {
    world_.own_bytes[after.builder] -= it.bytes;
    world_.object_bytes[object] = it.bytes;
    world_.relies_on[after.builder][object] = true;
  }
  if (before.counts() && after.state == core::ObjectState::free) {
    world_.object_bytes[object] = 0;
    for (const auto& relies : world_.relies_on) {
      if (relies[object]) world_.fail("an object went that somebody holds");
    }
  }
  return true;
}
inline std::uint64_t Memory::object_charge(std::uint32_t object) {
  if (!core::ObjectWord::unpack(pause().objects[object].word).counts()) return 0;
  return pause().objects[object].bytes;
}
inline core::ObjectKey Memory::object_key(std::uint32_t object) {
  return pause().objects[object].key;
}
inline void Memory::describe_object(std::uint32_t object, const core::ObjectKey& key,
                                    std::uint64_t bytes) {
  pause().objects[object].key = key;
  pause().objects[object].bytes = bytes;
}
inline void Memory::raise_objects(std::uint32_t count) {
  pause().object_high_water = std::max(world_.object_high_water, count);
}
inline bool Memory::holds(std::uint32_t slot, std::uint32_t object) {
  return pause().held[slot][object];
}
inline void Memory::set_holds(std::uint32_t slot, std::uint32_t object, bool holds) {
  pause().held[slot][object] = holds;
}

// What shm's reserve does around core's, with yields for its waits.
inline core::Attempt reserve(World& world, Memory& memory, std::uint32_t process,
                             std::uint64_t bytes) {
  int fulls = 0;
  for (int round = 0; round < 100; ++round) {
    const core::Attempt attempt =
        core::try_reserve(memory, process, bytes, world.limit, round >= 3);
    if (attempt == core::Attempt::granted) return attempt;
    if (attempt == core::Attempt::full && ++fulls == 2) return attempt;
    if (attempt == core::Attempt::contended) world.yield(process);
  }
  return core::Attempt::contended;
}

}  // namespace vgpu::model

// SPDX-License-Identifier: Apache-2.0
// Shared objects under the same schedules: counted once at every step, there while a holder relies
// on them, gone after the last one, whoever stops or dies where.
#include <gtest/gtest.h>

#include "world.h"

namespace vgpu::model {
namespace {

using core::Attempt;
using core::ObjectKey;

constexpr ObjectKey kKey{1, 2};

void share(World& world, Memory& memory, std::uint32_t process, std::uint64_t bytes,
           const ObjectKey& key = kKey) {
  if (reserve(world, memory, process, bytes) != Attempt::granted) return world.fail("no room");
  const core::Shared shared = core::share_object(memory, process, key, bytes);
  if (shared.object == core::kNoObject || shared.uncharged_bytes != 0) world.fail("not shared");
}

bool hold(World& world, Memory& memory, std::uint32_t process, const ObjectKey& key = kKey) {
  const std::uint32_t object = core::hold_object(memory, process, key);
  if (object == core::kNoObject) return false;
  world.relies_on[process][object] = true;
  // Told so only now; it must not have gone in between.
  if (world.object_bytes[object] == 0) world.fail("held an object that is gone");
  return true;
}

// The only object that the process holds.
void unhold(World& world, Memory& memory, std::uint32_t process, const ObjectKey& key = kKey) {
  world.relies_on[process] = {};
  (void)core::unhold_object(memory, process, key);
}

void collect_all(Memory& memory) {
  for (std::uint32_t object = 0; object < kMostObjects; ++object)
    core::collect_object(memory, object);
}

TEST(SharedObjectModel, GoesWithItsLastHolderWhoeverThatIs) {
  AllSchedules schedules(3);
  int count = 0;
  do {
    World world;
    world.limit = 10;
    const World::Code exporter = [&](std::uint32_t process, Memory& memory) {
      share(world, memory, process, 6);
      unhold(world, memory, process);
    };
    const World::Code importer = [&](std::uint32_t process, Memory& memory) {
      if (hold(world, memory, process)) unhold(world, memory, process);
    };
    world.run({exporter, importer}, schedules);
    ASSERT_EQ(world.error, "") << "schedule " << count;
    ASSERT_EQ(world.true_bytes(), 0u) << "schedule " << count;
    ++count;
  } while (schedules.next() && count < rounds(40000));
}

TEST(SharedObjectModel, StaysWhileOneOfSeveralHolders) {
  AllSchedules schedules(2);
  int count = 0;
  do {
    World world;
    world.limit = 10;
    bool keeps = false;
    const World::Code exporter = [&](std::uint32_t process, Memory& memory) {
      share(world, memory, process, 6);
      unhold(world, memory, process);
    };
    const World::Code passer = [&](std::uint32_t process, Memory& memory) {
      if (hold(world, memory, process)) unhold(world, memory, process);
    };
    const World::Code keeper = [&](std::uint32_t process, Memory& memory) {
      keeps = hold(world, memory, process);
    };
    world.run({exporter, passer, keeper}, schedules);
    ASSERT_EQ(world.error, "") << "schedule " << count;
    ASSERT_EQ(world.true_bytes(), keeps ? 6u : 0u) << "schedule " << count;
    ++count;
  } while (schedules.next() && count < rounds(40000));
}

TEST(SharedObjectModel, AStopOrDeathAtAnyStepOfTheExporterCountsNothingTwiceAndLeaksNothing) {
  bool was_stopped = true;
  for (int after = 0; was_stopped; ++after) {
    World world;
    world.limit = 10;
    AllSchedules schedules(0);
    const World::Code exporter = [&](std::uint32_t process, Memory& memory) {
      share(world, memory, process, 6);
      unhold(world, memory, process);
    };
    const World::Code other = [&](std::uint32_t process, Memory& memory) {
      // While it is only stopped: 4 fit in any case.
      if (reserve(world, memory, process, 4) != Attempt::granted)
        world.fail("the stopped one is in the way");
      // Now it is dead.
      world.free_slot(0);
      collect_all(memory);
      if (reserve(world, memory, process, 6) != Attempt::granted)
        world.fail("the dead one is in the way");
      // And its object's place can be used again.
      if (core::share_object(memory, process, kKey, 5).object == core::kNoObject)
        world.fail("no object");
      if (core::share_object(memory, process, {9, 9}, 5).object == core::kNoObject)
        world.fail("a lost object");
    };
    world.run({exporter, other}, schedules, {.process = 0, .after_steps = after});
    ASSERT_EQ(world.error, "") << "after " << after;
    was_stopped = world.was_stopped();
  }
}

// Every schedule of two preemptions: what a collector that set `dying` and stopped leaves undone is
// done by the one that lets go.
TEST(SharedObjectModel, ACollectorThatStopsHalfwayKeepsNothingCharged) {
  bool was_stopped = true;
  for (int after = 0; was_stopped; ++after) {
    AllSchedules schedules(2);
    int count = 0;
    was_stopped = false;
    do {
      World world;
      world.limit = 10;
      const World::Code collector = [&](std::uint32_t, Memory& memory) {
        core::collect_object(memory, 0);
      };
      const World::Code exporter = [&](std::uint32_t process, Memory& memory) {
        share(world, memory, process, 6);
        unhold(world, memory, process);
      };
      world.run({collector, exporter}, schedules, {.process = 0, .after_steps = after});
      ASSERT_EQ(world.error, "") << "after " << after << ", schedule " << count;
      ASSERT_EQ(world.true_bytes(), 0u) << "after " << after << ", schedule " << count;
      was_stopped = was_stopped || world.was_stopped();
      ++count;
    } while (schedules.next());
  }
}

TEST(SharedObjectModel, CollectorsThatStopAnywhereDoNoHarm) {
  bool was_stopped = true;
  for (int after = 0; was_stopped; ++after) {
    AllSchedules schedules(2);
    int count = 0;
    was_stopped = false;
    do {
      World world;
      world.limit = 10;
      bool keeps = false;
      const World::Code collector = [&](std::uint32_t, Memory& memory) { collect_all(memory); };
      const World::Code exporter = [&](std::uint32_t process, Memory& memory) {
        share(world, memory, process, 6);
        unhold(world, memory, process);
      };
      const World::Code importer = [&](std::uint32_t process, Memory& memory) {
        keeps = hold(world, memory, process);
        collect_all(memory);
      };
      world.run({collector, exporter, importer}, schedules, {.process = 0, .after_steps = after});
      ASSERT_EQ(world.error, "") << "after " << after << ", schedule " << count;
      ASSERT_EQ(world.true_bytes(), keeps ? 6u : 0u) << "after " << after << ", schedule " << count;
      was_stopped = was_stopped || world.was_stopped();
      ++count;
    } while (schedules.next() && count < rounds(400));
  }
}

TEST(SharedObjectModel, RandomSchedulesKeepTheSumExact) {
  for (int seed = 1; seed <= rounds(3000); ++seed) {
    RandomSchedule schedule(static_cast<std::uint64_t>(seed));
    World world;
    world.limit = 20;
    std::vector<World::Code> processes;
    for (std::uint32_t i = 0; i < kMostSlots; ++i) {
      processes.push_back([&](std::uint32_t process, Memory& memory) {
        for (int turn = 0; turn < 4; ++turn) {
          switch (schedule.number(4)) {
            case 0:
              // Only one exports: a key names one allocation.
              if (process == 0 && reserve(world, memory, process, 5) == Attempt::granted) {
                if (core::share_object(memory, process, kKey, 5).object == core::kNoObject) {
                  (void)core::lower_charge(memory, process, 5);
                }
              }
              break;
            case 1:
              (void)hold(world, memory, process);
              break;
            case 2:
              unhold(world, memory, process);
              break;
            default:
              collect_all(memory);
          }
        }
        unhold(world, memory, process);
      });
    }
    world.run(processes, schedule);
    ASSERT_EQ(world.error, "") << "seed " << seed;
    // Exported twice in a row: the second time changes nothing, so those bytes stay the exporter's
    // own.
    ASSERT_EQ(world.true_bytes(), world.own_bytes[0]) << "seed " << seed;
  }
}

// One that looks for an object may mark another one, which took its place meanwhile; what the last
// holder of that one then leaves to it is gone when it has found its mistake.
TEST(SharedObjectModel, AnObjectMarkedByMistakeGoesAsWell) {
  constexpr std::uint64_t kLongRuns = 16;
  for (int seed = 1; seed <= rounds(10000); ++seed) {
    RandomSchedule schedule(static_cast<std::uint64_t>(seed), kLongRuns);
    World world;
    world.limit = 10;
    const World::Code exporter = [&](std::uint32_t process, Memory& memory) {
      for (const ObjectKey& key : {kKey, ObjectKey{8, 8}}) {
        share(world, memory, process, 5, key);
        unhold(world, memory, process, key);
      }
    };
    const World::Code importer = [&](std::uint32_t process, Memory& memory) {
      if (hold(world, memory, process)) unhold(world, memory, process);
    };
    world.run({exporter, importer}, schedule);
    ASSERT_EQ(world.error, "") << "seed " << seed;
    ASSERT_EQ(world.true_bytes(), 0u) << "seed " << seed;
  }
}

}  // namespace
}  // namespace vgpu::model

// SPDX-License-Identifier: Apache-2.0
// The ledger's protocol under every schedule of a few preemptions, and under random ones: after
// each single step the sum must be what is held, and never above the limit (world.h checks that);
// here, that those who ask get their answer.
#include <gtest/gtest.h>

#include <algorithm>

#include "world.h"

namespace vgpu::model {
namespace {

using core::Attempt;

struct Answers {
  std::array<Attempt, kMostSlots> of{};
  std::uint32_t granted() const {
    return static_cast<std::uint32_t>(std::count(of.begin(), of.end(), Attempt::granted));
  }
};

World::Code reserves(World& world, Answers& answers, std::uint64_t bytes) {
  return [&world, &answers, bytes](std::uint32_t process, Memory& memory) {
    answers.of[process] = reserve(world, memory, process, bytes);
  };
}

TEST(ReserveModel, OfTwoWhoWantTheLastBytesExactlyOneGetsThem) {
  AllSchedules schedules(4);
  int count = 0;
  do {
    World world;
    Answers answers;
    answers.of.fill(Attempt::full);
    world.limit = 10;
    world.run({reserves(world, answers, 6), reserves(world, answers, 6)}, schedules);
    ASSERT_EQ(world.error, "") << "schedule " << count;
    ASSERT_EQ(answers.granted(), 1u) << "schedule " << count;
    ASSERT_EQ(std::count(answers.of.begin(), answers.of.end(), Attempt::contended), 0)
        << "schedule " << count;
    ++count;
  } while (schedules.next() && count < rounds(60000));
  RecordProperty("schedules", count);
}

TEST(ReserveModel, WhoFitsIsNotRefusedForOthersWhoDoNot) {
  AllSchedules schedules(3);
  int count = 0;
  do {
    World world;
    Answers answers;
    answers.of.fill(Attempt::full);
    world.limit = 10;
    // 4 fits beside either of the others, which exclude each other.
    world.run(
        {reserves(world, answers, 6), reserves(world, answers, 5), reserves(world, answers, 4)},
        schedules);
    ASSERT_EQ(world.error, "") << "schedule " << count;
    ASSERT_EQ(answers.of[2], Attempt::granted) << "schedule " << count;
    ASSERT_EQ(answers.granted(), 2u) << "schedule " << count;
    ++count;
  } while (schedules.next() && count < rounds(40000));
  RecordProperty("schedules", count);
}

// A reader that meets a reservation half as a cell and half as a charge must look again.
TEST(ReserveModel, ACommitUnderAReadersEyesIsNotCountedTwice) {
  AllSchedules schedules(4);
  int count = 0;
  do {
    World world;
    world.limit = 10;
    Attempt reader = Attempt::contended;
    const World::Code commits = [&](std::uint32_t process, Memory& memory) {
      if (core::try_reserve(memory, process, 4, world.limit, false) == Attempt::full)
        world.fail("refused");
    };
    const World::Code reads = [&](std::uint32_t process, Memory& memory) {
      reader = core::try_reserve(memory, process, 6, world.limit, false);
    };
    world.run({commits, reads}, schedules);
    ASSERT_EQ(world.error, "") << "schedule " << count;
    ASSERT_EQ(reader, Attempt::granted) << "schedule " << count;
    ++count;
  } while (schedules.next() && count < rounds(60000));
}

TEST(ReserveModel, ReleasedBytesAreHadByWhoAsksAfterwards) {
  AllSchedules schedules(3);
  int count = 0;
  do {
    World world;
    world.limit = 10;
    bool released = false;
    bool refused_after_release = false;
    const World::Code gives = [&](std::uint32_t process, Memory& memory) {
      if (reserve(world, memory, process, 10) != Attempt::granted) return;
      if (core::lower_charge(memory, process, 10) != 0) world.fail("not charged");
      released = true;
    };
    const World::Code takes = [&](std::uint32_t process, Memory& memory) {
      const bool may_be_full = !released;
      if (reserve(world, memory, process, 10) != Attempt::granted && !may_be_full)
        refused_after_release = true;
    };
    world.run({gives, takes}, schedules);
    ASSERT_EQ(world.error, "") << "schedule " << count;
    ASSERT_FALSE(refused_after_release) << "schedule " << count;
    ++count;
  } while (schedules.next() && count < rounds(40000));
}

TEST(ReserveModel, AProcessThatStopsAnywhereKeepsNobodyFromWhatIsLeft) {
  for (std::uint32_t stopped = 0; stopped < 2; ++stopped) {
    bool was_stopped = true;
    for (int after = 0; was_stopped; ++after) {
      AllSchedules schedules(2);
      int count = 0;
      was_stopped = false;
      do {
        World world;
        Answers answers;
        answers.of.fill(Attempt::full);
        world.limit = 10;
        world.run({reserves(world, answers, 6), reserves(world, answers, 6)}, schedules,
                  {.process = stopped, .after_steps = after});
        ASSERT_EQ(world.error, "") << "stopped after " << after << ", schedule " << count;
        const bool stopped_has_it = world.own_bytes[stopped] != 0;
        ASSERT_EQ(answers.of[1 - stopped], stopped_has_it ? Attempt::full : Attempt::granted)
            << "stopped after " << after << ", schedule " << count;
        was_stopped = was_stopped || world.was_stopped();
        ++count;
      } while (schedules.next() && count < rounds(400));
    }
  }
}

TEST(ReserveModel, ThreadsOfOneProcessShareItsSlot) {
  AllSchedules schedules(3);
  int count = 0;
  do {
    World world;
    Answers answers;
    answers.of.fill(Attempt::full);
    world.limit = 10;
    // Two fibers on slot 0; cells run out at times, marks are left over from the other one.
    const World::Code thread = [&](std::uint32_t process, Memory& memory) {
      for (int i = 0; i < 2; ++i) {
        for (int round = 0; round < 50; ++round) {
          answers.of[process] = core::try_reserve(memory, 0, 4, world.limit, round > 3);
          if (answers.of[process] != Attempt::contended) break;
          world.yield(process);
        }
      }
    };
    world.run({thread, thread}, schedules);
    ASSERT_EQ(world.error, "") << "schedule " << count;
    ASSERT_LE(world.true_bytes(), 8u) << "schedule " << count;
    ASSERT_GE(world.true_bytes(), 4u) << "schedule " << count;
    ++count;
  } while (schedules.next() && count < rounds(40000));
}

TEST(ReserveModel, ADeathAtAnyStepGivesBackAllThatTheSlotWasCharged) {
  bool was_stopped = true;
  for (int after = 0; was_stopped; ++after) {
    World world;
    world.limit = 10;
    AllSchedules schedules(0);
    const World::Code victim = [&](std::uint32_t process, Memory& memory) {
      (void)reserve(world, memory, process, 7);
      (void)core::lower_charge(memory, process, 3);
    };
    Attempt survivor = Attempt::full;
    const World::Code reaper = [&](std::uint32_t process, Memory& memory) {
      world.free_slot(0);
      survivor = reserve(world, memory, process, 10);
    };
    world.run({victim, reaper}, schedules, {.process = 0, .after_steps = after});
    ASSERT_EQ(world.error, "") << "killed after " << after;
    ASSERT_EQ(survivor, Attempt::granted) << "killed after " << after;
    was_stopped = world.was_stopped();
  }
}

TEST(ReserveModel, RandomSchedulesOfFourNeverPassTheLimitAndFillIt) {
  for (int seed = 1; seed <= rounds(1000); ++seed) {
    RandomSchedule schedule(static_cast<std::uint64_t>(seed));
    World world;
    world.limit = 20 + schedule.number(20);
    std::array<std::uint64_t, kMostSlots> kept{};
    std::vector<World::Code> processes;
    for (std::uint32_t i = 0; i < kMostSlots; ++i) {
      processes.push_back([&](std::uint32_t process, Memory& memory) {
        for (int turn = 0; turn < 4; ++turn) {
          const std::uint64_t bytes = 1 + schedule.number(12);
          if (schedule.number(3) == 0 && kept[process] > 0) {
            const std::uint64_t back = 1 + schedule.number(kept[process]);
            if (core::lower_charge(memory, process, back) != 0) world.fail("lost some");
            kept[process] -= back;
          } else if (reserve(world, memory, process, bytes) == Attempt::granted) {
            kept[process] += bytes;
          }
        }
        // Whoever is last finds no asks in the way: what is left can be had to the last byte.
        while (reserve(world, memory, process, 1) == Attempt::granted) kept[process] += 1;
      });
    }
    world.run(processes, schedule);
    ASSERT_EQ(world.error, "") << "seed " << seed;
    ASSERT_EQ(world.true_bytes(), kept[0] + kept[1] + kept[2] + kept[3]) << "seed " << seed;
    ASSERT_EQ(world.true_bytes(), world.limit) << "seed " << seed;
  }
}

}  // namespace
}  // namespace vgpu::model

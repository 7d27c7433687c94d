// SPDX-License-Identifier: Apache-2.0
// Many threads of several processes of a tenant at once, from the first use of the GPU to the end,
// through every kind of allocation, with forks and deaths in the middle. Built with a sanitizer,
// where the limiter is a part of the program, these are the tests that find its races.
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "rig.h"

namespace {

using namespace vgpu::test;

// Little enough that threads meet the limit, and each other's contexts.

TEST(FirstUse, ByEightThreadsAtOnceMakesOneTenant) {
  for (int i = 0; i < rounds(8); ++i) {
    const Rig rig(kSmallLimitMib);
    Worker worker(rig.inside());
    ASSERT_EQ(worker.ask("first 8").code, 0);
    ASSERT_EQ(worker.ask("context").code, 0);
    EXPECT_EQ(worker.ask("info").number, rig.driver_bytes());
    EXPECT_EQ(worker.ask("fill 64").code, 2);
    EXPECT_LE(rig.driver_bytes(), kSmallLimitMib * kMiB);
  }
}

TEST(FirstUse, BySeveralProcessesOfThreadsMakesOneTenant) {
  const Rig rig(kSmallLimitMib);
  std::vector<Worker> workers;
  for (int i = 0; i < 4; ++i) {
    workers.emplace_back(rig.inside());
    workers.back().tell("first 8");
  }
  for (Worker& worker : workers) EXPECT_EQ(worker.answer().code, 0);
  for (Worker& worker : workers) EXPECT_EQ(worker.ask("context").code, 0);
  EXPECT_EQ(workers[0].ask("info").number, rig.driver_bytes());
}

// The constructor of a library runs with the dynamic linker's lock held, and the first use of the
// GPU opens libraries.
TEST(FirstUse, InAThreadAndInALibrarysConstructorEnds) {
  for (int i = 0; i < rounds(8); ++i) {
    const Rig rig(kSmallLimitMib);
    Worker worker(rig.inside());
    ASSERT_EQ(worker.ask("constructor").code, 0) << "round " << i;
  }
}

TEST(Storm, OfEightThreadsLeavesNothingBehind) {
  // What a process keeps of a storm: a page for each stream that lived at the same time.
  constexpr long kForStreams = 8 * 2 * kMiB;
  const Rig rig(kSmallLimitMib);
  Worker worker = rig.member();
  ASSERT_EQ(worker.ask("storm 8").code, 0);  // and what the first use of each kind keeps
  ASSERT_EQ(worker.ask("info").code, 0);
  const long held = rig.driver_bytes();
  for (int i = 0; i < rounds(2); ++i) {
    ASSERT_EQ(worker.ask("storm 8").code, 0);
    // The simulated driver finds at a call that a forked child has closed the last descriptor.
    ASSERT_EQ(worker.ask("info").code, 0);
    EXPECT_NEAR(static_cast<double>(rig.driver_bytes()), static_cast<double>(held), kForStreams);
  }
  EXPECT_EQ(worker.ask("fill 2").code, 2);
  EXPECT_LE(rig.driver_bytes(), kSmallLimitMib * kMiB);
}

struct Crowd {
  const char* name;
  const char* kinds;
};

class ImplicitMemory : public ::testing::TestWithParam<Crowd> {};

// What nobody asks for by name, or comes back by a way of its own, while others do the same: the
// limit holds at every instant, and when all is quiet the charge is what the driver holds.
TEST_P(ImplicitMemory, OfEightThreadsIsHeldToTheLimitAndChargedExactlyAfter) {
  const Rig rig(kSmallLimitMib);
  Worker worker = rig.member();
  for (int i = 0; i < rounds(2); ++i) {
    ASSERT_EQ(worker.ask(std::string("storm 8 ") + GetParam().kinds).code, 0);
    ASSERT_LE(rig.most_driver_bytes(), kSmallLimitMib * kMiB);
    const long held = rig.driver_bytes();
    ASSERT_EQ(eventually(
                  held, [&] { return worker.ask("info").number; }, std::chrono::seconds(2)),
              held);
  }
}

INSTANTIATE_TEST_SUITE_P(Storm, ImplicitMemory,
                         ::testing::Values(Crowd{"Contexts", "newcontext"},
                                           Crowd{"LocalMemory", "local"}, Crowd{"Stacks", "stack"},
                                           Crowd{"ContextsBesideLocalMemory", "local newcontext"},
                                           Crowd{"StacksBesideContexts", "stack newcontext"},
                                           Crowd{"LocalMemoryBesideStacks", "local stack"},
                                           Crowd{"CodeBesideContexts", "module newcontext library"},
                                           Crowd{"Imports", "shared"},
                                           Crowd{"ImportsBesideAllocations", "shared vmm alloc"}),
                         [](const auto& each) { return std::string(each.param.name); });

TEST(Storm, OfSeveralProcessesStaysWithinOneLimitWhileOthersDie) {
  const Rig rig(kSmallLimitMib);
  long most = 0;
  std::jthread watch([&](const std::stop_token& over) {
    while (!over.stop_requested()) most = std::max(most, rig.driver_bytes());
  });
  Worker idle = rig.member();
  const long charged = idle.ask("info").number;
  std::vector<Worker> workers;
  for (int i = 0; i < 2; ++i) workers.push_back(rig.member());
  for (Worker& worker : workers) worker.tell("storm 4");
  for (int i = 0; i < rounds(6); ++i) {
    Worker victim(rig.inside());
    victim.tell("context");
    victim.tell("storm on");
    EXPECT_EQ(idle.ask("info").code, 0);
    victim.kill_and_leave();
  }
  for (Worker& worker : workers) EXPECT_EQ(worker.answer().code, 0);
  watch.request_stop();
  watch.join();
  EXPECT_LE(most, kSmallLimitMib * kMiB);
  for (Worker& worker : workers) worker.kill_and_leave();
  EXPECT_EQ(eventually(charged, [&] { return idle.ask("info").number; }), charged);
}

}  // namespace

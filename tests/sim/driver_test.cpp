// SPDX-License-Identifier: Apache-2.0
// The simulated driver's own rules, which no real one could answer for: faults, threads, time,
// turns between processes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "simulated_driver.h"

namespace {

using testing::ElementsAre;
using vgpu::sim::test::Probe;
using vgpu::sim::test::SimulatedDriver;

TEST_F(SimulatedDriver, TheNthCallFailsWithTheCodeThatWasAskedFor) {
  setenv("VGPU_SIM_FAULT", "cuMemAlloc_v2:2:error=2;cuMemAlloc_v2:4:error=999", 1);
  EXPECT_THAT(Probe({"alloc", "5"}).rest(), ElementsAre(0, 2, 0, 999, 0));
}

TEST_F(SimulatedDriver, EveryCallFailsWithAStar) {
  setenv("VGPU_SIM_FAULT", "cuMemAlloc_v2:*:error=2", 1);
  EXPECT_THAT(Probe({"alloc", "3"}).rest(), ElementsAre(2, 2, 2));
}

TEST_F(SimulatedDriver, TheProcessDiesAtTheCallThatWasAskedFor) {
  setenv("VGPU_SIM_FAULT", "cuMemAlloc_v2:3:die", 1);
  Probe probe({"alloc", "5"});
  EXPECT_THAT(probe.rest(), ElementsAre(0, 0));
  EXPECT_TRUE(WIFSIGNALED(probe.status()) && WTERMSIG(probe.status()) == SIGKILL);
}

TEST_F(SimulatedDriver, AFaultThatCantBeReadHasNoEffect) {
  setenv("VGPU_SIM_FAULT", "cuMemAlloc_v2:0:error=2;nonsense;cuNoSuchName:1:die", 1);
  EXPECT_THAT(Probe({"alloc", "2"}).rest(), ElementsAre(0, 0));
}

TEST_F(SimulatedDriver, HasNoThreadBeforeTheFirstWork) {
  const auto threads = Probe({"threads"}).rest();
  ASSERT_EQ(threads.size(), 3u);
  EXPECT_EQ(threads[0], 1);
  EXPECT_EQ(threads[1], 1);
  EXPECT_GT(threads[2], 1);
}

TEST_F(SimulatedDriver, KernelsOfAStreamQueueAndThoseOfSeveralOverlapWhereTheyFit) {
  const auto us = Probe({"order"}).rest();
  ASSERT_EQ(us.size(), 4u);
  EXPECT_GE(us[0], 2000);
  EXPECT_GE(us[1], 6000);   // three in a row
  EXPECT_LT(us[2], us[1]);  // three side by side
  EXPECT_GE(us[3], 4000);   // each fills the device
}

TEST_F(SimulatedDriver, RefusesToWorkInAForkedChild) {
  EXPECT_THAT(Probe({"fork"}).rest(), ElementsAre(3, 3));
}

TEST_F(SimulatedDriver, RunsACapturedGraphInOrderEachTimeItIsLaunched) {
  EXPECT_THAT(Probe({"graph"}).rest(), ElementsAre(0, 6));
}

TEST_F(SimulatedDriver, OldEntriesWorkOnlyWhereTheOldDriverIsAskedFor) {
  EXPECT_THAT(Probe({"legacy"}).rest(), ElementsAre(2, 201, 0));
  setenv("VGPU_SIM_LEGACY", "1", 1);
  EXPECT_THAT(Probe({"legacy"}).rest(), ElementsAre(0, 0, 1));
}

TEST_F(SimulatedDriver, TwoProcessesShareTheDeviceByTurns) {
  Probe first({"busy", "600"});
  Probe second({"busy", "600"});
  first.line();
  second.line();
  first.go();
  second.go();
  const auto a = first.rest();
  const auto b = second.rest();
  ASSERT_EQ(a.size(), 1u);
  ASSERT_EQ(b.size(), 1u);
  // 600 kernels of 1 ms is what one process could do at the very best; together they can't do more,
  // and both get on.
  EXPECT_LE(a[0] + b[0], 610);
  EXPECT_GT(a[0], 20);
  EXPECT_GT(b[0], 20);
}

}  // namespace

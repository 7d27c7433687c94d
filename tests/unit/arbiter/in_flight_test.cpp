// SPDX-License-Identifier: Apache-2.0
// What is predicted of the work in flight, held by what its marks prove.
#include "vgpu/core/in_flight.h"

#include <gtest/gtest.h>

#include "times.h"

namespace vgpu::core {
namespace {

TEST(InFlight, AddsUpWhatWasLaunched) {
  InFlight flight;
  flight.launched(kMs, 100 * kUs);
  flight.launched(kMs, 100 * kUs);
  EXPECT_EQ(flight.busy_until_ns(), kMs + kLaunchLatencyNs + 200 * kUs);
  EXPECT_EQ(flight.done_ns(), 0u);
}

TEST(InFlight, WantsAMarkAfterAQuarterOfAMillisecond) {
  InFlight flight;
  flight.launched(kMs, 200 * kUs);
  EXPECT_FALSE(flight.wants_mark());
  flight.launched(kMs, 200 * kUs);
  EXPECT_TRUE(flight.wants_mark());
  EXPECT_EQ(flight.marked(), 400 * kUs);
  EXPECT_FALSE(flight.wants_mark());
}

TEST(InFlight, AMarkThatIsDoneLeavesOnlyWhatFollowsIt) {
  InFlight flight;
  for (int i = 0; i < 10; ++i) flight.launched(kMs, kMs);
  flight.looked(2 * kMs, 7 * kMs, 0);  // it took a fifth of what was thought
  EXPECT_EQ(flight.busy_until_ns(), 5 * kMs);
}

TEST(InFlight, AMarkThatIsNotDoneHasAllThatFollowsItToCome) {
  InFlight flight;
  flight.launched(kMs, kMs);
  const std::uint64_t mark = flight.marked();
  flight.launched(kMs, 3 * kMs);
  flight.looked(4 * kMs, 0, mark);  // somebody else had the GPU
  EXPECT_EQ(flight.busy_until_ns(), 7 * kMs);
}

TEST(InFlight, TheLaterWorkIsTheLongerItIsThoughtToTake) {
  InFlight flight;
  flight.launched(kMs, 5 * kUs);
  const std::uint64_t mark = flight.marked();
  std::uint64_t now = 2 * kMs;
  for (int i = 0; i < 20; ++i) {
    flight.looked(now, 0, mark);
    ASSERT_GT(flight.busy_until_ns(), now);
    now = flight.busy_until_ns() + now / 4;
  }
  EXPECT_GT(flight.busy_until_ns(), 50 * kMs);
}

TEST(InFlight, WhatTheProgramWaitedForIsDone) {
  InFlight flight;
  flight.launched(kMs, 50 * kMs);
  flight.all_done(3 * kMs);
  EXPECT_EQ(flight.busy_until_ns(), 3 * kMs);
  EXPECT_EQ(flight.done_ns(), 50 * kMs);
}

TEST(InFlight, LooksAtAnIdleGpuSayNothingNew) {
  InFlight flight;
  flight.launched(kMs, kMs);
  flight.all_done(2 * kMs);
  flight.looked(9 * kMs, kMs, 0);
  EXPECT_EQ(flight.busy_until_ns(), 2 * kMs);
}

TEST(InFlight, AMarkPassedSinceTheLastLookLeavesAlmostAllThatFollowsIt) {
  InFlight flight;
  flight.launched(kMs, kMs);
  const std::uint64_t mark = flight.marked();
  flight.launched(kMs, kMs);
  flight.looked(2 * kMs + 900 * kUs, 0, mark);
  flight.looked(3 * kMs, mark, 0);  // passed in the last 100 us
  EXPECT_GE(flight.busy_until_ns(), 3 * kMs + 900 * kUs);
  EXPECT_LE(flight.busy_until_ns(), 4 * kMs);
}

TEST(InFlight, LaunchesGoInRegardlessOnlyWhenWhatIsInFlightIsOverdue) {
  InFlight flight;
  flight.launched(kMs, 50 * kMs);
  const std::uint64_t mark = flight.marked();
  EXPECT_EQ(flight.forced_at_ns(), 51 * kMs + kMostInFlightWaitNs);
  flight.looked(40 * kMs, 0, mark);
  EXPECT_EQ(flight.forced_at_ns(), 51 * kMs + kMostInFlightWaitNs);
  flight.forced();
  flight.launched(71 * kMs, kMs);
  EXPECT_GE(flight.forced_at_ns(), 71 * kMs + 2 * kMostInFlightWaitNs);
  flight.looked(80 * kMs, mark, 0);
  EXPECT_LE(flight.forced_at_ns(), 82 * kMs + kMostInFlightWaitNs);
}

TEST(InFlight, IsOverdueAWhileAfterItWasExpectedAndLaterWithEachLaunchThatWasForced) {
  InFlight flight;
  EXPECT_FALSE(flight.is_overdue(kMs));  // there is nothing
  flight.launched(kMs, 5 * kMs);
  const std::uint64_t mark = flight.marked();
  EXPECT_FALSE(flight.is_overdue(6 * kMs));
  flight.looked(7 * kMs, 0, mark);
  EXPECT_TRUE(flight.is_overdue(6 * kMs + kMostIdleStreamWaitNs));
  flight.forced();
  flight.launched(7 * kMs, kMs);
  EXPECT_FALSE(flight.is_overdue(8 * kMs + kMostIdleStreamWaitNs));
  EXPECT_TRUE(flight.is_overdue(8 * kMs + 2 * kMostIdleStreamWaitNs));
  flight.looked(10 * kMs, flight.work_ns(), 0);
  EXPECT_FALSE(flight.is_overdue(100 * kMs));  // all is done
}

}  // namespace
}  // namespace vgpu::core

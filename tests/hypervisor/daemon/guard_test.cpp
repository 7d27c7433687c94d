// SPDX-License-Identifier: Apache-2.0
#include "guard.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <utility>

#include "times.h"

namespace vgpu::hypervisor {
namespace {

class GuardTest : public testing::Test {
 protected:
  GuardTest() { options_.guard_grace = std::chrono::seconds(2); }
  std::vector<int> signals_at(std::uint64_t seconds) {
    std::vector<int> signals;
    for (const auto& action : guard_.decide(seconds * kSecondNs, suspects_, options_))
      signals.push_back(action.signal);
    return signals;
  }
  using Signals = std::vector<int>;

  Guard guard_;
  DaemonOptions options_;
  std::vector<Suspect> suspects_{{Offence::unlimited, 4'000'000, 7}};
};

TEST_F(GuardTest, ReportsOnlyUnlessToldOtherwise) {
  for (std::uint64_t second = 100; second < 200; ++second) EXPECT_EQ(signals_at(second), Signals());
}

TEST_F(GuardTest, SignalsOnceAfterTheGrace) {
  options_.unlimited_policy = GuardPolicy::signal;
  EXPECT_EQ(signals_at(100), Signals());
  EXPECT_EQ(signals_at(101), Signals());
  EXPECT_EQ(signals_at(102), Signals{SIGTERM});
  for (std::uint64_t second = 103; second < 120; ++second) EXPECT_EQ(signals_at(second), Signals());
}

TEST_F(GuardTest, KillsWhoDoesNotGoByItself) {
  options_.unlimited_policy = GuardPolicy::kill;
  EXPECT_EQ(signals_at(100), Signals());
  EXPECT_EQ(signals_at(102), Signals{SIGTERM});
  EXPECT_EQ(signals_at(103), Signals());
  EXPECT_EQ(signals_at(104), Signals{SIGKILL});
  EXPECT_EQ(signals_at(110), Signals());
}

TEST_F(GuardTest, WhoStopsOffendingBeginsAnew) {
  options_.unlimited_policy = GuardPolicy::signal;
  EXPECT_EQ(signals_at(100), Signals());
  const auto before = std::exchange(suspects_, {});
  EXPECT_EQ(signals_at(101), Signals());
  suspects_ = before;
  EXPECT_EQ(signals_at(102), Signals());
  EXPECT_EQ(signals_at(104), Signals{SIGTERM});
}

TEST_F(GuardTest, EachOffenceHasItsPolicy) {
  options_.over_memory_policy = GuardPolicy::signal;
  suspects_.push_back({Offence::over_memory, 4'000'001, 7});
  EXPECT_EQ(signals_at(100), Signals());
  const auto actions = guard_.decide(102 * kSecondNs, suspects_, options_);
  ASSERT_EQ(actions.size(), 1u);
  EXPECT_EQ(actions[0].suspect.pid, 4'000'001);
}

TEST_F(GuardTest, NeverItselfAndNeverTheFirstProcess) {
  options_.unlimited_policy = GuardPolicy::kill;
  suspects_ = {{Offence::unlimited, getpid(), 7}, {Offence::unlimited, 1, 7}};
  EXPECT_EQ(signals_at(100), Signals());
  EXPECT_EQ(signals_at(200), Signals());
}

using Finding = OverMemory::Finding;
constexpr std::uint64_t kBegin = 100 * kSecondNs;

TEST(OverMemoryTest, CountsOnceItHasBeenSoForAWhileAndEndsAtOnce) {
  OverMemory tenant;
  std::uint64_t now = kBegin;
  EXPECT_EQ(tenant.look(false, now, now), Finding::within);
  for (; now < kBegin + OverMemory::kUntilSureNs; now += 100 * kMsNs)
    EXPECT_EQ(tenant.look(true, now, now), Finding::unsure);
  EXPECT_EQ(tenant.look(true, now, now), Finding::began);
  EXPECT_EQ(tenant.look(true, now + kMsNs, now), Finding::lasts);
  EXPECT_EQ(tenant.look(false, now + 2 * kMsNs, now), Finding::ended);
  EXPECT_EQ(tenant.look(false, now + 3 * kMsNs, now), Finding::within);
  EXPECT_EQ(tenant.look(true, now + 4 * kMsNs, now), Finding::unsure) << "anew";
}

TEST(OverMemoryTest, TakesTwoLooksAndNoMoreWhereTheyAreFarApart) {
  OverMemory tenant;
  EXPECT_EQ(tenant.look(true, kBegin, 1), Finding::unsure);
  EXPECT_EQ(tenant.look(true, kBegin + 500 * kMsNs, 2), Finding::began);
}

TEST(OverMemoryTest, TakesAnotherReadingOfTheDrivers) {
  OverMemory tenant;
  EXPECT_EQ(tenant.look(true, kBegin, 1), Finding::unsure);
  EXPECT_EQ(tenant.look(true, kBegin + 5 * kSecondNs, 1), Finding::unsure);
  EXPECT_EQ(tenant.look(true, kBegin + 6 * kSecondNs, 2), Finding::began);
}

TEST(ExemptionTest, CountsTheFileAndNotTheName) {
  DaemonOptions options;
  options.exempt_programs = {"blender"};
  EXPECT_TRUE(is_exempt("/usr/lib/xorg/Xorg", 0, options));
  EXPECT_FALSE(is_exempt("/home/eve/Xorg", 1000, options)) << "anybody can call a file so";
  EXPECT_TRUE(is_exempt("/opt/blender/blender", 1000, options));
  EXPECT_FALSE(is_exempt("/opt/blender/other", 0, options));
  EXPECT_FALSE(is_exempt("", 0, options));
}

TEST(SendSignalTest, NeverReachesAnotherProcessOfThatPid) {
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  EXPECT_FALSE(send_signal(child, 1, SIGKILL)) << "its start time is another";
  EXPECT_EQ(kill(child, 0), 0);
  kill(child, SIGKILL);
}

}  // namespace
}  // namespace vgpu::hypervisor

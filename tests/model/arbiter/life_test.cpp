// SPDX-License-Identifier: Apache-2.0
// What happens to tenants: they arrive, leave, die and stop with the lease, get other quotas, never
// end a kernel. The others go on, soon, and get what they are owed.
#include <gtest/gtest.h>

#include "measure.h"
#include "programs.h"

namespace vgpu::model {
namespace {

// GPU time that was lost to everybody between two times, beyond what sharing costs anyway.
Time lost(const Result& result, Time from, Time to) {
  Time work = 0;
  for (const Outcome& outcome : result.tenants) work += outcome.work_between(from, to);
  const Time usual = (to - from) * 97 / 100;
  return work >= usual ? 0 : usual - work;
}

TEST(Life, ArrivingAndLeavingTakesEffectWithinATenthOfASecond) {
  for (std::uint64_t seed = 1; seed <= seeds(5); ++seed) {
    Scenario scenario;
    scenario.length_ns = 9 * kS;
    scenario.seed = seed;
    scenario.tenants = {tenant("stays", queues(100 * kUs), 30),
                        tenant("comes and goes", queues(100 * kUs), 70)};
    scenario.tenants[1].arrives_ns = 3 * kS;
    scenario.tenants[1].leaves_ns = 6 * kS;
    const Result result = simulate(scenario);
    const double alone = alone_rate(scenario.tenants[0].program);
    const Outcome& stays = result.tenants[0];
    EXPECT_GE(percent(stays, alone, kS, 3 * kS), 99.5);
    EXPECT_NEAR(percent(stays, alone, 3'100 * kMs, 6 * kS), 30, 1.5);
    EXPECT_GE(percent(result.tenants[1], alone, 3'100 * kMs, 3'600 * kMs), 65);
    EXPECT_GE(percent(stays, alone, 6'100 * kMs, 9 * kS), 99);
  }
}

TEST(Life, DeathOfTheHolderCostsTheOthersATenthOfASecondAtMost) {
  for (const Program& program : {queues(100 * kUs), waits_on_each(kMs), queues(5 * kMs)}) {
    for (std::uint64_t seed = 1; seed <= seeds(5); ++seed) {
      Scenario scenario;
      scenario.length_ns = 5 * kS;
      scenario.seed = seed;
      scenario.tenants = {tenant("dies", program, 40), tenant("b", queues(100 * kUs), 30),
                          tenant("c", waits_on_each(500 * kUs), 30)};
      scenario.tenants[0].dies_ns = 3 * kS;
      const Result result = simulate(scenario);
      EXPECT_LE(lost(result, 3 * kS, 4 * kS), 100 * kMs) << seed;
      EXPECT_EQ(result.tenants[0].work_between(4 * kS, 5 * kS), 0u);
      EXPECT_LE(lost(result, 4 * kS, 5 * kS), 20 * kMs) << seed;
    }
  }
}

TEST(Life, AStopOfTheHolderCostsTheOthersATenthOfASecondAtMostAndItComesBack) {
  for (const Program& program : {queues(100 * kUs), waits_on_each(kMs), queues(5 * kMs)}) {
    for (std::uint64_t seed = 1; seed <= seeds(5); ++seed) {
      Scenario scenario;
      scenario.length_ns = 10 * kS;
      scenario.seed = seed;
      scenario.tenants = {tenant("stops", program, 40), tenant("b", queues(100 * kUs), 30),
                          tenant("c", waits_on_each(500 * kUs), 30)};
      scenario.tenants[0].stops_ns = 3 * kS;
      scenario.tenants[0].continues_ns = 6 * kS;
      const Result result = simulate(scenario);
      EXPECT_LE(lost(result, 3 * kS, 4 * kS), 100 * kMs) << seed;
      EXPECT_LE(lost(result, 4 * kS, 6 * kS), 30 * kMs) << seed;
      const double alone = alone_rate(program);
      EXPECT_GE(percent(result.tenants[0], alone, 6'100 * kMs, 10 * kS), 38) << seed;
    }
  }
}

// Stopped at any time, so often while it waits for its turn.
TEST(Life, AStopAtAnyInstantCostsTheOthersATenthOfASecondAtMost) {
  for (std::uint64_t seed = 1; seed <= seeds(10); ++seed) {
    Scenario scenario;
    scenario.length_ns = 6 * kS;
    scenario.seed = seed;
    scenario.tenants = {tenant("stops", queues(100 * kUs), 40), tenant("b", queues(100 * kUs), 60)};
    scenario.tenants[0].stops_ns = 3 * kS + seed * 3'100 * kUs;
    scenario.tenants[0].stops_anywhere = true;
    const Result result = simulate(scenario);
    EXPECT_LE(lost(result, 3 * kS, 4 * kS), 100 * kMs) << seed;
    EXPECT_LE(lost(result, 4 * kS, 6 * kS), 40 * kMs) << seed;
  }
}

TEST(Life, ALiveChangeOfASharesTakesATenthOfASecond) {
  for (std::uint64_t seed = 1; seed <= seeds(5); ++seed) {
    Scenario scenario;
    scenario.length_ns = 8 * kS;
    scenario.seed = seed;
    scenario.tenants = {tenant("30 to 70", queues(100 * kUs), 30),
                        tenant("70 to 30", queues(kMs), 70)};
    scenario.changes = {{4 * kS, 0, 70, 0}, {4 * kS, 1, 30, 0}};
    const Measured measured = measure(scenario);
    if (seed == 1) report("30/70 becomes 70/30 after 4 s", scenario, measured);
    const double alone = alone_rate(scenario.tenants[0].program);
    EXPECT_NEAR(percent(measured.result.tenants[0], alone, kS, 4 * kS), 30, 1.5);
    EXPECT_NEAR(percent(measured.result.tenants[0], alone, 4'100 * kMs, 4'600 * kMs), 70, 4);
    EXPECT_NEAR(percent(measured.result.tenants[0], alone, 4'100 * kMs, 8 * kS), 70, 1.5);
  }
}

TEST(Life, ALiveChangeOfALimitTakesATenthOfASecond) {
  for (const auto& [from, to] : {std::pair{20, 60}, {60, 20}}) {
    for (const Time kernel : {100 * kUs, 5 * kMs}) {
      Scenario scenario;
      scenario.length_ns = 8 * kS;
      scenario.tenants = {tenant("limited", queues(kernel), from, from)};
      scenario.changes = {
          {4 * kS, 0, static_cast<std::uint8_t>(to), static_cast<std::uint8_t>(to)}};
      const Result result = simulate(scenario);
      const double alone = alone_rate(scenario.tenants[0].program);
      EXPECT_NEAR(percent(result.tenants[0], alone, kS, 4 * kS), from, 1);
      EXPECT_NEAR(percent(result.tenants[0], alone, 4'100 * kMs, 4'600 * kMs), to, 2);
    }
  }
}

// Every contender gets its part of what the hardware gives, which is all that can be done.
TEST(Life, TheNeighboursOfAKernelThatNeverEndsRunOn) {
  for (std::uint64_t seed = 1; seed <= seeds(3); ++seed) {
    Scenario scenario;
    scenario.length_ns = 10 * kS;
    scenario.seed = seed;
    scenario.tenants = {tenant("endless", queues(kNever, 0, 1), 40),
                        tenant("b", queues(100 * kUs), 20),
                        tenant("c", waits_on_each(500 * kUs), 40)};
    scenario.tenants[0].arrives_ns = 2 * kS;
    scenario.tenants[0].dies_ns = 8 * kS;
    const Result result = simulate(scenario);
    const double b =
        percent(result.tenants[1], alone_rate(scenario.tenants[1].program), 3 * kS, 8 * kS);
    const double c =
        percent(result.tenants[2], alone_rate(scenario.tenants[2].program), 3 * kS, 8 * kS);
    if (seed == 1) std::printf("beside an endless kernel: 20: %.1f %%, 40: %.1f %%\n", b, c);
    EXPECT_GE(b + c, 35);  // the hardware leaves 45 to all others
    EXPECT_GE(b, 8);
    EXPECT_GE(c, 8);  // of each of its kernels it waits for a slice of the endless one
    // And they get everything as soon as it is gone.
    EXPECT_LE(lost(result, 8'700 * kMs, 9'700 * kMs), 60 * kMs);
  }
}

TEST(Life, SharesSurviveAHostThatIsReplacedByOneThatKnowsNothing) {
  for (std::uint64_t seed = 1; seed <= seeds(3); ++seed) {
    Scenario scenario;
    scenario.length_ns = kWarmUpNs + 10 * kS;
    scenario.seed = seed;
    scenario.tenants = {tenant("30", queues(100 * kUs), 30), tenant("70", queues(5 * kMs), 70)};
    scenario.new_host_every_ns = 333 * kMs;
    const Measured measured = measure(scenario);
    if (seed == 1) report("30/70, a new host each third of a second", scenario, measured);
    // Each new one forgets up to a turn of what was owed.
    EXPECT_NEAR(measured.shares[0].mean, 30, 3);
    EXPECT_NEAR(measured.shares[1].mean, 70, 3);
    EXPECT_GE(measured.sum, 96);
  }
}

// The first kernel spins until a later one of another stream has run: bounds on what is in flight
// and ends of turns may only delay that one.
TEST(Life, AKernelThatWaitsForALaterLaunchGetsIt) {
  const Program spins = [](std::uint64_t n, std::mt19937_64&) {
    if (n % 2 == 0) return Launch{.work_ns = kNever, .kind = 0, .until_other_stream = n / 2 + 1};
    return Launch{.work_ns = 100 * kUs, .kind = 1, .stream = 1, .waits = true};
  };
  for (std::uint64_t seed = 1; seed <= seeds(5); ++seed) {
    Scenario scenario;
    scenario.length_ns = 6 * kS;
    scenario.seed = seed;
    scenario.tenants = {tenant("spins", spins, 50), tenant("other", queues(100 * kUs), 50)};
    const Result result = simulate(scenario);
    for (Time at = kS; at < 6 * kS; at += kS)
      EXPECT_GE(result.tenants[0].launch_count_between(at, at + kS), 200u) << at / kMs;
    EXPECT_GE(percent(result.tenants[1], alone_rate(scenario.tenants[1].program), kS, 6 * kS), 45);
  }
}

}  // namespace
}  // namespace vgpu::model

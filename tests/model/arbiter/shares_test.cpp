// SPDX-License-Identifier: Apache-2.0
// Tenants that together want more than there is: each gets its share of the work that it does
// alone, steadily, and together they get almost all of it.
#include <gtest/gtest.h>

#include "measure.h"
#include "programs.h"

namespace vgpu::model {
namespace {

struct Bounds {
  double mean = 1.0;    // points, over 10 s
  double second = 3.0;  // in any second
  double cov = 0.1;     // over 250 ms; 0: not asked
  double sum = 97.0;
};
// A kernel counts when it ends: of 50 ms ones a second has 5, 6 or 7 at 30 %, which is 5 points
// each way and moves the neighbour by the switches too; of 20 ms ones three more or fewer are 6
// points. The target for any second, 5 and 3 points, is missed by that in about one run of five;
// where both have queued 50 ms kernels, by one more of them.
constexpr Bounds kLong{1.5, 5.5, 0, 97.0};
constexpr Bounds kLongish{1.0, 6.0, 0, 97.0};

void expect_shares(const std::string& name, std::vector<Tenant> tenants, const Bounds& bounds,
                   std::uint64_t usual_seeds = 3) {
  for (std::uint64_t seed = 1; seed <= seeds(usual_seeds); ++seed) {
    Scenario scenario;
    scenario.length_ns = kWarmUpNs + 10 * kS;
    scenario.tenants = tenants;
    scenario.seed = seed;
    const Measured measured = measure(scenario);
    if (seed == 1) report(name, scenario, measured);
    SCOPED_TRACE(name + ", seed " + std::to_string(seed));
    EXPECT_GE(measured.sum, bounds.sum);
    for (std::size_t t = 0; t < tenants.size(); ++t) {
      const Share& share = measured.shares[t];
      const double owed = tenants[t].share;
      SCOPED_TRACE(tenants[t].name);
      EXPECT_NEAR(share.mean, owed, bounds.mean);
      EXPECT_GE(share.least, owed - bounds.second);
      EXPECT_LE(share.most, owed + bounds.second);
      if (bounds.cov != 0) {
        EXPECT_LE(share.cov_250ms, bounds.cov);
      }
    }
  }
}

TEST(Shares, OfTwoAre30And70WhateverTheirWork) {
  const std::vector<std::tuple<const char*, Program, Bounds>> programs = {
      {"5 us, sync each", waits_on_each(5 * kUs), {}},
      {"20 us, sync each", waits_on_each(20 * kUs), {}},
      {"100 us, sync each", waits_on_each(100 * kUs), {}},
      {"1 ms, sync each", waits_on_each(kMs), {}},
      {"5 ms, sync each", waits_on_each(5 * kMs), {}},
      {"20 ms, sync each", waits_on_each(20 * kMs), kLongish},
      {"50 ms, sync each", waits_on_each(50 * kMs), kLong},
      {"20 us queued", queues(20 * kUs), {}},
      {"100 us queued", queues(100 * kUs), {}},
      {"1 ms queued", queues(kMs), {}},
      {"5 ms queued", queues(5 * kMs), {}},
      {"20 ms queued", queues(20 * kMs), kLongish},
      // Over ten seconds too: in one of 15 runs two points, which are four kernels.
      {"50 ms queued", queues(50 * kMs), {2.1, 10.5, 0, 97.0}},
      {"50 us queued, 10 us gaps", queues(50 * kUs, 10 * kUs), {}},
      {"20 us queued, 20 us gaps", queues(20 * kUs, 20 * kUs), {}},
      {"graphs of 20 x 100 us", graphs(100 * kUs, 20), {}},
  };
  for (const auto& [name, program, bounds] : programs)
    expect_shares(std::string("30/70 ") + name,
                  {tenant("30", program, 30), tenant("70", program, 70)}, bounds);
}

TEST(Shares, HoldBetweenUnequalTenants) {
  expect_shares("30/70 50 ms queued | 0.1 ms queued",
                {tenant("50 ms", queues(50 * kMs), 30), tenant("0.1 ms", queues(100 * kUs), 70)},
                kLong);
  expect_shares(
      "30/70 0.1 ms queued | 50 ms sync",
      {tenant("0.1 ms", queues(100 * kUs), 30), tenant("50 ms", waits_on_each(50 * kMs), 70)},
      kLong);
  expect_shares(
      "30/70 20 us sync | 20 ms queued",
      {tenant("20 us", waits_on_each(20 * kUs), 30), tenant("20 ms", queues(20 * kMs), 70)},
      kLongish);
  expect_shares("30/70 graphs of 20 x 0.1 ms | 20 x 1 ms",
                {tenant("2 ms", graphs(100 * kUs, 20), 30), tenant("20 ms", graphs(kMs, 20), 70)},
                kLongish);
}

TEST(Shares, OfThreeAre20And30And50) {
  expect_shares("20/30/50 0.1 ms queued | 20 us sync | 1 ms queued",
                {tenant("20", queues(100 * kUs), 20), tenant("30", waits_on_each(20 * kUs), 30),
                 tenant("50", queues(kMs), 50)},
                {});
}

TEST(Shares, OfTenAreATenthEach) {
  std::vector<Tenant> tenants;
  for (int i = 0; i < 10; ++i)
    tenants.push_back(tenant("10", i % 2 != 0 ? queues(100 * kUs) : waits_on_each(100 * kUs), 10));
  for (std::uint64_t seed = 1; seed <= seeds(3); ++seed) {
    Scenario scenario;
    scenario.length_ns = kWarmUpNs + 10 * kS;
    scenario.tenants = tenants;
    scenario.seed = seed;
    const Measured measured = measure(scenario);
    if (seed == 1) report("ten at 10", scenario, measured);
    // Ten switches in 0.1 s: a point less than for two.
    EXPECT_GE(measured.sum, 98);
    for (const Share& share : measured.shares) {
      EXPECT_NEAR(share.mean, 10, 1.0);
      EXPECT_GE(share.least, 7.0);
      EXPECT_LE(share.most, 13.0);
      EXPECT_LE(share.cov_1s, 0.1);
    }
  }
}

TEST(Shares, OfATenantHoldForAllItsProcessesTogether) {
  Tenant four = tenant("4 processes", queues(100 * kUs), 50);
  four.processes = 4;
  expect_shares("50/50 four processes | one", {four, tenant("one", queues(100 * kUs), 50)}, {2.0});
}

TEST(Shares, TenantsWithoutOneSplitWhatIsLeft) {
  Tenant first = tenant("none", queues(100 * kUs), 20);
  Tenant second = tenant("none", waits_on_each(kMs), 20);
  std::vector<Tenant> tenants = {tenant("60", queues(100 * kUs), 60), first, second};
  for (std::uint64_t seed = 1; seed <= seeds(3); ++seed) {
    Scenario scenario;
    scenario.length_ns = kWarmUpNs + 10 * kS;
    scenario.tenants = tenants;
    scenario.tenants[1].share = scenario.tenants[2].share = 0;
    scenario.seed = seed;
    const Measured measured = measure(scenario);
    if (seed == 1) report("60, and two without a share", scenario, measured);
    for (std::size_t t = 0; t < 3; ++t) EXPECT_NEAR(measured.shares[t].mean, tenants[t].share, 1.0);
  }
}

TEST(Shares, ThatAddUpToMoreThanTheGpuScaleTogether) {
  for (std::uint64_t seed = 1; seed <= seeds(3); ++seed) {
    Scenario scenario;
    scenario.length_ns = kWarmUpNs + 10 * kS;
    scenario.tenants = {tenant("90", queues(100 * kUs), 90), tenant("30", queues(100 * kUs), 30)};
    scenario.seed = seed;
    const Measured measured = measure(scenario);
    if (seed == 1) report("90 and 30, oversubscribed", scenario, measured);
    EXPECT_NEAR(measured.shares[0].mean, 75, 1.0);
    EXPECT_NEAR(measured.shares[1].mean, 25, 1.0);
  }
}

// It gets more than its share of what it does alone, and what it leaves is used.
TEST(Shares, OfTenantsWithIdleGapsAreKeptAndTheGapsAreUsed) {
  const std::vector<std::tuple<const char*, Program, int, double>> gaps = {
      {"20 ms work, 20 ms idle", bursts(100 * kUs, 200, 20 * kMs), 30, 110},
      {"20 ms work, 20 ms idle", bursts(100 * kUs, 200, 20 * kMs), 50, 120},
      {"1 ms work, 1 ms idle", bursts(100 * kUs, 10, kMs), 50, 104},
      {"0.1 ms work, 5 ms idle", bursts(100 * kUs, 1, 5 * kMs), 20, 125},
  };
  for (const auto& [name, program, share, sum] : gaps) {
    for (std::uint64_t seed = 1; seed <= seeds(3); ++seed) {
      Scenario scenario;
      scenario.length_ns = kWarmUpNs + 10 * kS;
      scenario.tenants = {tenant("gaps", program, share),
                          tenant("saturating", queues(100 * kUs), 100 - share)};
      scenario.seed = seed;
      const Measured measured = measure(scenario);
      if (seed == 1) report(std::string(name) + " | saturating", scenario, measured);
      EXPECT_GE(measured.shares[0].mean, share) << name;
      EXPECT_GE(measured.shares[1].mean, 100 - share - 1.0) << name;
      EXPECT_GE(measured.sum, sum) << name;
    }
  }
}

TEST(Shares, HoldForKernelsWhoseLengthVaries) {
  for (std::uint64_t seed = 1; seed <= seeds(3); ++seed) {
    Scenario scenario;
    scenario.length_ns = kWarmUpNs + 10 * kS;
    scenario.tenants = {tenant("0.25 to 4 ms", varies(kMs, 4, 64), 30),
                        tenant("50 to 800 us", varies(200 * kUs, 4, 1), 70)};
    scenario.seed = seed;
    const Measured measured = measure(scenario);
    if (seed == 1) report("30/70, lengths vary 16-fold", scenario, measured);
    // Who can't be predicted loses a little of its own share to that.
    EXPECT_NEAR(measured.shares[0].mean, 30, 2.5);
    EXPECT_NEAR(measured.shares[1].mean, 70, 2.0);
    EXPECT_GE(measured.sum, 96.0);
  }
}

// From 20 us to 2 ms without another name: what was learned is wrong by a hundred.
TEST(Shares, ComeBackAfterAKernelHasBecomeAnotherLength) {
  for (std::uint64_t seed = 1; seed <= seeds(3); ++seed) {
    Scenario scenario;
    scenario.length_ns = 16 * kS;
    scenario.tenants = {tenant("changes", changes(20 * kUs, 2 * kMs, 60'000, 64), 30),
                        tenant("saturating", queues(100 * kUs), 70)};
    scenario.seed = seed;
    const Measured measured = measure(scenario);
    if (seed == 1) report("30/70, one changes from 20 us to 2 ms", scenario, measured);
    const Outcome& other = measured.result.tenants[1];
    const double rate = alone_rate(scenario.tenants[1].program);
    EXPECT_NEAR(percent(other, rate, kWarmUpNs, 3 * kS), 70, 1.5);
    EXPECT_NEAR(percent(other, rate, 11 * kS, 16 * kS), 70, 1.5);
    // Meanwhile nobody starves.
    for (Time at = kWarmUpNs; at < 15 * kS; at += kS / 4)
      EXPECT_GE(percent(other, rate, at, at + kS), 40) << at / kMs;
  }
}

}  // namespace
}  // namespace vgpu::model

// SPDX-License-Identifier: Apache-2.0
// The supply in a closed loop with simulated limiters (simulated_pod.h), in virtual time.
#include "token_supply.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "simulated_pod.h"

namespace vgpu::hypervisor::testing {
namespace {

constexpr double kPoints = 5;

SupplyTerms terms_for(double percent) {
  SupplyTerms terms;
  terms.target = percent / 100;
  return terms;
}

TEST(TokenSupply, HoldsEveryKernelToItsPercentOnceItIsKnown) {
  for (const std::uint64_t period : {100 * kMs, 167 * kMs, 500 * kMs}) {
    for (const bool waits : {false, true}) {
      for (const double ms : {0.1, 1.0, 5.0, 20.0, 100.0, 300.0}) {
        for (const double threads : {32.0, 65'536.0, 4e6}) {
          for (const double percent : {10.0, 20.0, 40.0, 80.0}) {
            SimulatedPod pod(terms_for(percent), {{ms, threads, waits}});
            pod.counter.period_ns = period;
            EXPECT_LE(pod.busy_percent(10 * kSecond), percent + kPoints) << "at first";
            EXPECT_NEAR(pod.busy_percent(10 * kSecond), percent, kPoints);
            EXPECT_NEAR(pod.busy_percent(20 * kSecond), percent, kPoints);
            if (HasFailure()) {
              FAIL() << ms << " ms, " << threads << " threads, " << percent << " %, "
                     << (waits ? "waits" : "queues") << ", counted every " << period / kMs << " ms";
            }
          }
        }
      }
    }
  }
}

// Kernels that differ by less than a factor of 20 in length are held in every mixture; beyond it,
// launches of one price differ so much that some mixtures swing (docs/predecessor-files.md).
TEST(TokenSupply, HoldsMixturesOfProcesses) {
  constexpr double kMilliseconds[] = {0.1, 1, 5, 20, 100, 300};
  constexpr double kThreads[] = {32, 4096, 65'536, 262'144, 1e6, 4e6};
  int wide = 0, swinging = 0;
  for (unsigned seed = 0; seed < 150; ++seed) {
    std::mt19937 random(seed);
    std::vector<Work> processes(1 + random() % 4);
    double least = 1e9, most = 0;
    for (auto& work : processes) {
      work = {kMilliseconds[random() % 6], kThreads[random() % 6], random() % 2 == 0};
      least = std::min(least, work.kernel_ms);
      most = std::max(most, work.kernel_ms);
    }
    for (const double percent : {10.0, 20.0, 40.0, 80.0}) {
      SimulatedPod pod(terms_for(percent), processes, seed);
      // What each costs is learned only by letting some of it in.
      pod.run(20 * kSecond);
      const double off = std::abs(pod.busy_percent(20 * kSecond) - percent);
      if (most / least <= 20) {
        EXPECT_LE(off, kPoints) << "seed " << seed << " at " << percent << " %";
      } else {
        ++wide;
        swinging += off > kPoints;
      }
    }
  }
  EXPECT_LE(swinging * 20, wide) << swinging << " of " << wide;
}

TEST(TokenSupply, AMinuteOfIdlenessBuysNoMoreThanABurst) {
  for (const double ms : {0.1, 1.0, 5.0, 20.0, 100.0, 300.0}) {
    for (const double threads : {32.0, 65'536.0, 4e6}) {
      for (const double percent : {10.0, 20.0, 40.0, 80.0}) {
        SimulatedPod pod(terms_for(percent), {{ms, threads, false}});
        pod.run(20 * kSecond);
        pod.is_idle = true;
        pod.run(60 * kSecond);
        pod.is_idle = false;
        // A burst is half a second's worth or one launch; another is under way when the first
        // shows.
        const double burst = percent * 0.5 + 2 * ms / 10;
        EXPECT_LE(pod.busy_percent(5 * kSecond), percent + burst / 5 + kPoints)
            << ms << " ms, " << threads << " threads at " << percent << " %";
      }
    }
  }
}

TEST(TokenSupply, APodThatWasNeverSeenBeginsSlowly) {
  SimulatedPod pod(terms_for(10), {{300, 32, false}});
  pod.is_idle = true;
  double sum = 0;
  for (int i = 0; i < 6000; ++i) {
    pod.run(10 * kMs);
    sum += pod.tokens();
  }
  EXPECT_LE(sum / 6000, 1.5) << "it offers more only for moments";
}

TEST(TokenSupply, GoesByPriceWhileTheCounterFails) {
  for (const double ms : {1.0, 20.0, 300.0}) {
    SimulatedPod pod(terms_for(40), {{ms, 65'536, false}});
    pod.run(20 * kSecond);
    pod.counter.fails = true;
    pod.run(2 * kSecond);
    EXPECT_NEAR(pod.busy_percent(30 * kSecond), 40, kPoints) << ms;
    EXPECT_GT(pod.supply.blind_ns(pod.now_ns()), 20 * kSecond);
    pod.counter.fails = false;
    EXPECT_NEAR(pod.busy_percent(20 * kSecond), 40, kPoints) << ms;
  }
}

TEST(TokenSupply, ANewDaemonGoesOnWhereTheOldOneWas) {
  for (const double ms : {0.1, 5.0, 300.0}) {
    SimulatedPod pod(terms_for(20), {{ms, 65'536, false}});
    pod.run(20 * kSecond);
    const double before = pod.tokens();
    pod.daemon_runs = false;
    pod.run(10 * kSecond);
    pod.daemon_runs = true;
    pod.restart_daemon();
    pod.run(10 * kMs);
    EXPECT_LE(pod.tokens(), std::max(before, 20.0)) << ms;
    EXPECT_NEAR(pod.busy_percent(10 * kSecond), 20, kPoints) << ms;
  }
}

TEST(TokenSupply, LimitsChangeLive) {
  SimulatedPod pod(terms_for(20), {{5, 65'536, false}});
  pod.run(20 * kSecond);
  for (const double percent : {60.0, 80.0, 10.0, 20.0}) {
    pod.supply.set_terms(terms_for(percent));
    pod.run(kSecond);
    EXPECT_NEAR(pod.busy_percent(5 * kSecond), percent, kPoints);
  }
}

TEST(TokenSupply, AWorkloadThatChangesIsHeldAgainSoon) {
  SimulatedPod pod(terms_for(20), {{1, 262'144, true}});
  pod.run(20 * kSecond);
  pod.work(0) = {100, 65'536, true};
  pod.run(10 * kSecond);
  EXPECT_NEAR(pod.busy_percent(20 * kSecond), 20, kPoints);
  pod.work(0) = {0.1, 1e6, true};
  pod.run(10 * kSecond);
  EXPECT_NEAR(pod.busy_percent(20 * kSecond), 20, kPoints);
}

TEST(TokenSupply, ALargeLaunchIsNotStarvedBySmallOnes) {
  SimulatedPod pod(terms_for(20), {{1, 32, false}, {1, 32, false}, {5, 4e6, true}});
  pod.run(10 * kSecond);
  const double before = pod.done_ns(2);
  pod.run(20 * kSecond);
  EXPECT_GT(pod.done_ns(2) - before, 20e6);
}

TEST(TokenSupply, NobodyStopsForLongerThanAMinute) {
  TokenSupply supply(terms_for(10), 0, 0, 0);
  std::uint64_t now = 0;
  for (int i = 0; i < 1000; ++i, now += kSecond) {
    supply.filled(supply.level(now, supply.in_bucket(), false));
    supply.measured({now, now + kSecond, 1.0, 1.0}, now + kSecond);
  }
  const std::uint64_t stopped = now;
  while (supply.level(now, 0, false) <= 0) now += 10 * kMs;
  EXPECT_LE(now - stopped, 61 * kSecond);
}

TEST(TokenSupply, BelievesNoImpossibleMeasurement) {
  TokenSupply supply(terms_for(10), kSecond, 0, 0);
  const std::uint64_t now = 2 * kSecond;
  EXPECT_FALSE(supply.measured({kSecond, 10 * kSecond, 1.0}, now)) << "from the future";
  EXPECT_FALSE(supply.measured({now, kSecond, 1.0}, now)) << "ends before it begins";
  EXPECT_FALSE(supply.measured({0, kSecond, 1.0}, now)) << "before it began";
  EXPECT_FALSE(supply.measured({kSecond, now, std::numeric_limits<double>::quiet_NaN()}, now));
  EXPECT_FALSE(supply.measured({kSecond, now, -1}, now));
  EXPECT_TRUE(supply.measured({kSecond, now, 7}, now)) << "more than all is all";
  EXPECT_FALSE(supply.measured({kSecond, now, 1.0}, now)) << "counted before";
  EXPECT_GE(supply.credit_s(), -1.0);
}

TEST(TokenSupply, TokensThatATenantWritesBuyNothing) {
  for (const double written : {1e12, std::numeric_limits<double>::quiet_NaN(),
                               std::numeric_limits<double>::infinity(), -1e300}) {
    TokenSupply supply(terms_for(20), 0, 0, 0);
    for (std::uint64_t now = 0; now < 10 * kSecond; now += 10 * kMs) {
      const double level = supply.level(now, written, false);
      ASSERT_TRUE(level >= 0 && level <= supply.capacity()) << written << ": " << level;
      supply.filled(level);
      supply.measured({now, now + 10 * kMs, 0.4}, now + 10 * kMs);
    }
    EXPECT_LE(supply.credit_s(), -1.0) << written << ": what was measured is owed all the same";
  }
}

TEST(TokenSupply, WhatATenantWritesInChangesNothing) {
  TokenSupply honest(terms_for(20), 0, 0, 0), forged(terms_for(20), 0, 0, 0);
  for (std::uint64_t now = 0; now < 10 * kSecond; now += 10 * kMs) {
    const double level = honest.level(now, honest.in_bucket(), false);
    ASSERT_EQ(forged.level(now, forged.in_bucket() + 1e9, false), level);
    honest.filled(level);
    forged.filled(level);
    honest.measured({now, now + 10 * kMs, 0.1}, now + 10 * kMs);
    forged.measured({now, now + 10 * kMs, 0.1}, now + 10 * kMs);
  }
  EXPECT_EQ(honest.price_s(), forged.price_s());
}

TEST(TokenSupply, KeepsWithinTheBoundsThatAreAskedFor) {
  SupplyTerms terms = terms_for(80);
  terms.rate_max = 100;
  terms.capacity_max = 50;
  SimulatedPod pod(terms, {{0.1, 65'536, false}});
  pod.run(20 * kSecond);
  EXPECT_LE(pod.supply.rate(), 100);
  EXPECT_LE(pod.supply.capacity(), 50);
  // 100 tokens a second are 66 launches of 1.6.
  EXPECT_LE(pod.busy_percent(10 * kSecond), 1.0);
}

}  // namespace
}  // namespace vgpu::hypervisor::testing

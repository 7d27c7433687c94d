// SPDX-License-Identifier: Apache-2.0
// Who is owed what: shares first, the rest by priority and share, never above a limit.
#include "vgpu/core/rates.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace vgpu::core {
namespace {

Claim claim(int share, int limit = 0, Priority priority = Priority::normal, bool wants = true) {
  return {
      static_cast<std::uint8_t>(share), static_cast<std::uint8_t>(limit), priority, wants, 0, 0};
}

std::vector<int> percents(std::vector<Claim> claims) {
  share_out(claims);
  std::vector<int> out;
  for (const Claim& each : claims) out.push_back(static_cast<int>((each.rate + 5'000) / 10'000));
  return out;
}

using P = std::vector<int>;

TEST(Rates, WhoIsAloneMayHaveAllOfIt) { EXPECT_EQ(percents({claim(30)}), P({100})); }

TEST(Rates, AComputeLimitHoldsAlsoOnAnIdleGpu) { EXPECT_EQ(percents({claim(30, 60)}), P({60})); }

TEST(Rates, WhatAnotherLeavesGoesByShare) {
  EXPECT_EQ(percents({claim(30), claim(70)}), P({30, 70}));
  EXPECT_EQ(percents({claim(10), claim(30)}), P({25, 75}));
  EXPECT_EQ(percents({claim(20), claim(30), claim(50, 0, Priority::normal, false)}),
            P({40, 60, 0}));
}

TEST(Rates, WhatIsLeftGoesToTheHighestPriorityThatCanUseIt) {
  EXPECT_EQ(percents({claim(20, 0, Priority::high), claim(20)}), P({80, 20}));
  EXPECT_EQ(percents({claim(20, 50, Priority::high), claim(20)}), P({50, 50}));
  EXPECT_EQ(percents({claim(20, 0, Priority::low), claim(20)}), P({20, 80}));
}

TEST(Rates, TenantsWithoutAShareSplitWhatTheSharesOfAllPresentLeave) {
  EXPECT_EQ(percents({claim(0), claim(0)}), P({50, 50}));
  EXPECT_EQ(percents({claim(60), claim(0), claim(0)}), P({60, 20, 20}));
  // The one with 60 is present but idle: what it leaves is split again.
  EXPECT_EQ(percents({claim(60, 0, Priority::normal, false), claim(0), claim(0)}), P({0, 50, 50}));
  EXPECT_EQ(percents({claim(100), claim(0)}), P({99, 1}));
}

TEST(Rates, SharesThatAddUpToMoreScaleTogether) {
  EXPECT_EQ(percents({claim(100), claim(100)}), P({50, 50}));
  EXPECT_EQ(percents({claim(90), claim(30)}), P({75, 25}));
}

TEST(Rates, LimitsOfAllMayLeaveTheGpuIdle) {
  EXPECT_EQ(percents({claim(30, 30), claim(20, 20)}), P({30, 20}));
}

TEST(Rates, AddUpToTheGpuAndKeepEveryShareAndLimit) {
  std::mt19937 random(20261125);
  for (int round = 0; round < 20'000; ++round) {
    std::vector<Claim> claims(1 + random() % 12);
    int shares = 0;
    for (Claim& each : claims) {
      const int share = static_cast<int>(random() % 3 == 0 ? 0 : random() % (101 - shares));
      shares += share;
      const int limit =
          random() % 3 == 0 ? std::max(share, static_cast<int>(1 + random() % 100)) : 0;
      each = claim(share, limit, static_cast<Priority>(random() % 3), random() % 4 != 0);
    }
    share_out(claims);
    std::uint64_t sum = 0;
    bool some_without_limit = false;
    for (const Claim& each : claims) {
      sum += each.rate;
      const Rate limit = each.limit_percent == 0 ? kWholeGpu : rate_of_percent(each.limit_percent);
      ASSERT_LE(each.rate, limit);
      if (!each.wants) {
        ASSERT_EQ(each.rate, 0u);
        continue;
      }
      ASSERT_GT(each.rate, 0u);
      some_without_limit = some_without_limit || each.limit_percent == 0;
      ASSERT_GE(each.rate, std::min(each.entitled, limit));
    }
    ASSERT_LE(sum, kWholeGpu + claims.size());
    if (some_without_limit) {
      ASSERT_GE(sum + 2 * claims.size(), kWholeGpu);
    }
  }
}

}  // namespace
}  // namespace vgpu::core

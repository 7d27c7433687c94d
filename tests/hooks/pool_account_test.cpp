// SPDX-License-Identifier: Apache-2.0
#include "ledger/pool_account.h"

#include <gtest/gtest.h>

namespace vgpu::limiter {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;
constexpr auto kGrant = [](std::uint64_t) { return true; };

TEST(PoolAccount, ChargesTheWorstCaseBeforeTheDriverIsAsked) {
  PoolAccount account;
  PoolAccount::Request request;
  std::uint64_t reserved = 0;
  ASSERT_TRUE(account.begin(100 * kMiB, request, [&](std::uint64_t extra) {
    reserved = extra;
    return true;
  }));
  EXPECT_EQ(reserved, 128 * kMiB);
  EXPECT_EQ(account.charged_bytes(), 128 * kMiB);
}

TEST(PoolAccount, SmallRequestsShareAStep) {
  PoolAccount account;
  PoolAccount::Request request;
  for (int i = 0; i < 32; ++i) ASSERT_TRUE(account.begin(kMiB, request, kGrant));
  EXPECT_EQ(account.charged_bytes(), 32 * kMiB);
  ASSERT_TRUE(account.begin(1, request, kGrant));
  EXPECT_EQ(account.charged_bytes(), 64 * kMiB);
}

TEST(PoolAccount, RefusalChangesNothing) {
  PoolAccount account;
  PoolAccount::Request request;
  EXPECT_FALSE(account.begin(kMiB, request, [](std::uint64_t) { return false; }));
  EXPECT_EQ(account.charged_bytes(), 0U);
  EXPECT_FALSE(account.is_unsettled());
}

TEST(PoolAccount, WhatTheDriverRefusedIsGivenBack) {
  PoolAccount account;
  PoolAccount::Request request;
  ASSERT_TRUE(account.begin(200 * kMiB, request, kGrant));
  EXPECT_EQ(account.cancel(request), 224 * kMiB);
  EXPECT_EQ(account.charged_bytes(), 0U);
}

TEST(PoolAccount, SettlementLeavesWhatIsStillInTheDriverUnsettled) {
  PoolAccount account;
  PoolAccount::Request served;
  PoolAccount::Request in_flight;
  ASSERT_TRUE(account.begin(40 * kMiB, served, kGrant));
  ASSERT_TRUE(account.begin(40 * kMiB, in_flight, kGrant));
  account.end(served);
  std::uint64_t missing = 0;
  account.end_settlement(account.begin_settlement(), 64 * kMiB, missing);
  EXPECT_EQ(missing, 0U);
  EXPECT_EQ(account.charged_bytes(), 96 * kMiB)
      << "two requests of 40 MiB never took more than that";
  account.end(in_flight);
  EXPECT_EQ(account.end_settlement(account.begin_settlement(), 96 * kMiB, missing), 0U);
  EXPECT_FALSE(account.is_unsettled());
}

TEST(PoolAccount, OnlyTheNewestOfTwoReadingsCounts) {
  PoolAccount account;
  PoolAccount::Request request;
  ASSERT_TRUE(account.begin(64 * kMiB, request, kGrant));
  account.end(request);
  const auto early = account.begin_settlement();
  std::uint64_t missing = 0;
  account.end_settlement(account.begin_settlement(), 64 * kMiB, missing);
  EXPECT_EQ(account.end_settlement(early, 0, missing), 0U);
  EXPECT_EQ(account.charged_bytes(), 64 * kMiB);
}

TEST(PoolAccount, GrowthBehindOurBackIsReportedAsMissing) {
  PoolAccount account;
  std::uint64_t missing = 0;
  account.end_settlement(account.begin_settlement(), 96 * kMiB, missing);
  EXPECT_EQ(missing, 96 * kMiB);
  EXPECT_EQ(account.end_pool(), 96 * kMiB);
}

}  // namespace
}  // namespace vgpu::limiter

// SPDX-License-Identifier: Apache-2.0
#include "ledger/pool_account.h"

#include <gtest/gtest.h>

#include "ledger/implicit_account.h"

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

TEST(PoolAccount, EveryRequestMayTakeAStepOfItsOwnUntilAReadingSaysLess) {
  PoolAccount account;
  PoolAccount::Request request;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(account.begin(kMiB, request, kGrant));
    account.end(request);
  }
  EXPECT_EQ(account.charged_bytes(), 96 * kMiB);
  std::uint64_t missing = 0;
  EXPECT_EQ(account.end_settlement(account.begin_settlement(), 32 * kMiB, missing), 64 * kMiB);
  EXPECT_EQ(account.charged_bytes(), 32 * kMiB);
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
  EXPECT_EQ(account.charged_bytes(), 128 * kMiB) << "the other may take two steps of its own";
  account.end(in_flight);
  EXPECT_EQ(account.end_settlement(account.begin_settlement(), 96 * kMiB, missing), 32 * kMiB);
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

TEST(ImplicitAccount, MeasurementReplacesEstimates) {
  ImplicitAccount account;
  account.add_estimate(530 * kMiB);
  const auto change = account.settle(518 * kMiB);
  EXPECT_EQ(change.release_bytes, 12 * kMiB);
  EXPECT_EQ(account.charged_bytes(), 518 * kMiB);
}

TEST(ImplicitAccount, PromiseStaysUntilItsJumpIsSeen) {
  ImplicitAccount account;
  account.settle(518 * kMiB);
  account.add_promise(1024 * kMiB);
  account.settle(519 * kMiB);
  EXPECT_EQ(account.charged_bytes(), 519 * kMiB + 1024 * kMiB) << "a little growth isn't the heap";
  account.settle(519 * kMiB + 1026 * kMiB);
  EXPECT_EQ(account.charged_bytes(), 519 * kMiB + 1026 * kMiB) << "once, not twice";
  EXPECT_EQ(account.promised_bytes(), 0U);
}

TEST(ImplicitAccount, WithdrawnPromiseIsReleasedOnce) {
  ImplicitAccount account;
  account.add_promise(64 * kMiB);
  EXPECT_EQ(account.withdraw_promise(100 * kMiB), 64 * kMiB);
  EXPECT_EQ(account.withdraw_promise(100 * kMiB), 0U);
}

TEST(ImplicitAccount, RemovalNeverExceedsTheCharge) {
  ImplicitAccount account;
  account.add_estimate(10 * kMiB);
  account.settle(10 * kMiB);
  account.add_estimate(5 * kMiB);
  EXPECT_EQ(account.remove(100 * kMiB), 15 * kMiB);
  EXPECT_EQ(account.charged_bytes(), 0U);
}

}  // namespace
}  // namespace vgpu::limiter

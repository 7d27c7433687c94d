// SPDX-License-Identifier: Apache-2.0
#include "ledger/pool_account.h"

#include <gtest/gtest.h>

#include "sizes.h"

namespace vgpu::limiter {
namespace {

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
  EXPECT_EQ(account.end_settlement(account.begin_settlement(), 32 * kMiB).released_bytes,
            64 * kMiB);
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
  EXPECT_EQ(account.end_settlement(account.begin_settlement(), 64 * kMiB).missing_bytes, 0U);
  EXPECT_EQ(account.charged_bytes(), 128 * kMiB) << "the other may take two steps of its own";
  account.end(in_flight);
  EXPECT_EQ(account.end_settlement(account.begin_settlement(), 96 * kMiB).released_bytes,
            32 * kMiB);
  EXPECT_FALSE(account.is_unsettled());
}

TEST(PoolAccount, OnlyTheNewestOfTwoReadingsCounts) {
  PoolAccount account;
  PoolAccount::Request request;
  ASSERT_TRUE(account.begin(64 * kMiB, request, kGrant));
  account.end(request);
  const auto early = account.begin_settlement();
  EXPECT_TRUE(account.end_settlement(account.begin_settlement(), 64 * kMiB).is_done);
  EXPECT_FALSE(account.end_settlement(early, 0).is_done);
  EXPECT_EQ(account.charged_bytes(), 64 * kMiB);
}

TEST(PoolAccount, GrowthBehindOurBackIsReportedAsMissing) {
  PoolAccount account;
  const auto settled = account.end_settlement(account.begin_settlement(), 96 * kMiB);
  EXPECT_EQ(settled.missing_bytes, 96 * kMiB);
  EXPECT_EQ(account.end_pool(), 96 * kMiB);
}

// A pool that keeps its memory and holds `reserved_bytes`, all of it allocated from kStart on.
class FreedInPool : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kStart = 0x7f0000600000;
  static constexpr std::uint64_t kStream = 5;
  static constexpr std::uint64_t kOtherStream = 6;

  FreedInPool() {
    account_.lend(&storage_);
    account_.set_threshold(UINT64_MAX);
    settle(256 * kMiB);
  }
  void settle(std::uint64_t reserved) {
    account_.end_settlement(account_.begin_settlement(), reserved);
  }
  void free(std::uint64_t address, std::uint64_t bytes, std::uint64_t stream = kStream,
            std::uint64_t epoch = 0) {
    const std::uint64_t ticket = account_.begin_free(address, bytes);
    account_.end_free(address, bytes, ticket, stream, epoch);
  }
  bool serves(std::uint64_t bytes, std::uint64_t stream = kStream) {
    PoolAccount::Request request;
    if (!account_.begin_unreserved(bytes, stream, request)) return false;
    account_.cancel(request);  // which doubts: ask once in a test
    return true;
  }
  PoolAccount::Landing place(std::uint64_t address, std::uint64_t bytes) {
    PoolAccount::Request request;
    EXPECT_TRUE(account_.begin(bytes, request, kGrant));
    return account_.end(request, address, born_);
  }

  FreedRanges::Doubtful doubtful() {
    FreedRanges::Doubtful out;
    account_.list_doubtful(out);
    return out;
  }
  // An allocation of 1 MiB lies at kStart, another 30 MiB behind it.
  static void note_neighbours(FreedRanges::Doubtful& out, std::uint64_t born_in_front,
                              std::uint64_t born_behind) {
    out.note_live(kStart, kMiB, born_in_front);
    out.note_live(kStart + 31 * kMiB, kMiB, born_behind);
  }

  FreedRanges::Storage storage_{};
  PoolAccount account_;
  std::uint64_t born_ = 0;
};

TEST_F(FreedInPool, ServesWhatIsNoLargerInItsStream) {
  free(kStart, 40 * kMiB);
  EXPECT_TRUE(serves(40 * kMiB));
}

TEST_F(FreedInPool, ServesNothingLarger) {
  free(kStart, 40 * kMiB);
  EXPECT_FALSE(serves(40 * kMiB + 1));
}

TEST_F(FreedInPool, ServesNoOtherStream) {
  free(kStart, 40 * kMiB);
  EXPECT_FALSE(serves(kMiB, kOtherStream));
}

TEST_F(FreedInPool, ServesEveryStreamOnceItsOwnWasWaitedFor) {
  free(kStart, 40 * kMiB);
  account_.order(kStream, 0);
  EXPECT_TRUE(serves(kMiB, kOtherStream));
}

TEST_F(FreedInPool, IsNotCoveredByAWaitThatBeganBefore) {
  free(kStart, 40 * kMiB, kStream, 1);
  account_.order(kStream, 0);
  EXPECT_FALSE(serves(kMiB, kOtherStream));
}

TEST_F(FreedInPool, ServesNobodyWhileItIsInTheDriver) {
  account_.begin_free(kStart, 40 * kMiB);
  EXPECT_FALSE(serves(kMiB));
}

TEST_F(FreedInPool, IsTwoRangesWhereItWasTwoAllocations) {
  free(kStart, 40 * kMiB);
  free(kStart + 40 * kMiB, 40 * kMiB);
  EXPECT_FALSE(serves(41 * kMiB));
}

TEST_F(FreedInPool, LeavesWhatAnAllocationInItLeaves) {
  free(kStart, 8 * kMiB);
  EXPECT_EQ(place(kStart, 6 * kMiB), PoolAccount::Landing::in_freed);
  EXPECT_FALSE(serves(2 * kMiB + 1));
  EXPECT_TRUE(serves(2 * kMiB));
}

TEST_F(FreedInPool, IsInDoubtOnceAnAllocationLiesElsewhere) {
  free(kStart, 40 * kMiB);
  EXPECT_EQ(place(kStart + 512 * kMiB, 41 * kMiB), PoolAccount::Landing::elsewhere);
  EXPECT_FALSE(serves(kMiB));
}

// Where that lies may have been lent the memory of the steps here.
TEST_F(FreedInPool, IsInDoubtAlsoWhereItWouldHaveServedWhatLiesElsewhere) {
  free(kStart, 40 * kMiB);
  EXPECT_EQ(place(kStart + 128 * kMiB, 40 * kMiB), PoolAccount::Landing::elsewhere);
  EXPECT_FALSE(serves(kMiB));
}

TEST_F(FreedInPool, IsInDoubtWhereOthersInTheDriverMayHaveBeenGivenIt) {
  free(kStart, 40 * kMiB);
  PoolAccount::Request request;
  PoolAccount::Request other;
  ASSERT_TRUE(account_.begin(40 * kMiB, request, kGrant));
  ASSERT_TRUE(account_.begin(40 * kMiB, other, kGrant));
  EXPECT_EQ(account_.end(request, kStart + 512 * kMiB, born_), PoolAccount::Landing::elsewhere);
}

TEST_F(FreedInPool, IsInDoubtWhereItCameTooLateForWhatLiesElsewhere) {
  PoolAccount::Request request;
  ASSERT_TRUE(account_.begin(40 * kMiB, request, kGrant));
  free(kStart, 40 * kMiB);
  EXPECT_EQ(account_.end(request, kStart + 512 * kMiB, born_), PoolAccount::Landing::elsewhere);
}

TEST_F(FreedInPool, IsInDoubtWhenTheReservationShrank) {
  free(kStart, 40 * kMiB);
  settle(224 * kMiB);
  EXPECT_FALSE(serves(kMiB));
}

TEST_F(FreedInPool, IsInDoubtAfterATrimThatGrowthMayHide) {
  PoolAccount::Request request;
  ASSERT_TRUE(account_.begin(41 * kMiB, request, kGrant));
  free(kStart, 40 * kMiB);
  account_.begin_trim();
  account_.end_trim();
  settle(288 * kMiB);  // 64 more for the request, 32 fewer
  EXPECT_TRUE(doubtful().any());
}

TEST_F(FreedInPool, OutlivesDoubtBetweenAllocationsThatLeaveNoRoomForAStep) {
  ASSERT_EQ(place(kStart, kMiB), PoolAccount::Landing::elsewhere);
  const std::uint64_t born_in_front = born_;
  ASSERT_EQ(place(kStart + 31 * kMiB, kMiB), PoolAccount::Landing::elsewhere);
  const std::uint64_t born_behind = born_;
  free(kStart + kMiB, 30 * kMiB);
  settle(64 * kMiB);
  FreedRanges::Doubtful ranges = doubtful();
  ASSERT_TRUE(ranges.any());
  note_neighbours(ranges, born_in_front, born_behind);
  account_.resolve(ranges);
  EXPECT_TRUE(serves(30 * kMiB));
}

TEST_F(FreedInPool, StaysInDoubtWhereANeighbourWasFreedSinceOneLooked) {
  ASSERT_EQ(place(kStart, kMiB), PoolAccount::Landing::elsewhere);
  const std::uint64_t born_in_front = born_;
  ASSERT_EQ(place(kStart + 31 * kMiB, kMiB), PoolAccount::Landing::elsewhere);
  const std::uint64_t born_behind = born_;
  free(kStart + kMiB, 30 * kMiB);
  settle(64 * kMiB);
  FreedRanges::Doubtful ranges = doubtful();
  note_neighbours(ranges, born_in_front, born_behind);
  account_.begin_free(kStart, kMiB);
  account_.resolve(ranges);
  EXPECT_FALSE(serves(30 * kMiB));
}

TEST_F(FreedInPool, IsForgottenWhereAnAllocationBesideItCameLater) {
  ASSERT_EQ(place(kStart, kMiB), PoolAccount::Landing::elsewhere);
  const std::uint64_t born_in_front = born_;
  free(kStart + kMiB, 30 * kMiB);
  ASSERT_EQ(place(kStart + 31 * kMiB, kMiB), PoolAccount::Landing::elsewhere);
  settle(64 * kMiB);
  FreedRanges::Doubtful ranges = doubtful();
  note_neighbours(ranges, born_in_front, born_);
  account_.resolve(ranges);
  EXPECT_FALSE(account_.has_freed(1));
}

TEST_F(FreedInPool, IsForgottenWhereItWasPartedWhileOthersWereInTheDriver) {
  ASSERT_EQ(place(kStart + 31 * kMiB, kMiB), PoolAccount::Landing::elsewhere);
  const std::uint64_t born_behind = born_;
  free(kStart, 31 * kMiB);
  PoolAccount::Request other;
  ASSERT_TRUE(account_.begin(kMiB, other, kGrant));
  ASSERT_EQ(place(kStart, kMiB), PoolAccount::Landing::in_freed);
  settle(64 * kMiB);
  FreedRanges::Doubtful ranges = doubtful();
  note_neighbours(ranges, born_, born_behind);
  account_.resolve(ranges);
  EXPECT_FALSE(account_.has_freed(1));
}

TEST_F(FreedInPool, IsForgottenSmallestFirstWhenThereIsTooMuchOfIt) {
  free(kStart, 40 * kMiB);
  for (std::uint64_t i = 0; i < 4 * FreedRanges::kCapacity; ++i)
    free(kStart + 64 * kMiB + i * 1024, 512);
  EXPECT_TRUE(serves(40 * kMiB));
}

TEST_F(FreedInPool, MakesAnotherRequestPayForTheOneThatLeansOnIt) {
  free(kStart, 40 * kMiB);
  PoolAccount::Request leaning;
  PoolAccount::Request other;
  ASSERT_TRUE(account_.begin_unreserved(40 * kMiB, kStream, leaning));
  std::uint64_t reserved = 0;
  ASSERT_TRUE(account_.begin(kMiB, other, [&](std::uint64_t extra) {
    reserved = extra;
    return true;
  }));
  EXPECT_EQ(reserved, 32 * kMiB + 64 * kMiB);
}

TEST_F(FreedInPool, IsVouchedForByAnExactReadingOnlyWhereThePoolGivesBack) {
  account_.set_threshold(0);
  PoolAccount::Request request;
  ASSERT_TRUE(account_.begin(kMiB, request, kGrant));
  EXPECT_TRUE(account_.wants_reading());
  free(kStart, 40 * kMiB);
  EXPECT_TRUE(doubtful().any());
}

// Growth of a step and the loss of another make the same reading.
TEST_F(FreedInPool, IsInDoubtWhereGrowthMayHideWhatThePoolGaveBack) {
  account_.set_threshold(0);
  ASSERT_EQ(place(kStart, kMiB), PoolAccount::Landing::elsewhere);
  const std::uint64_t born_in_front = born_;
  ASSERT_EQ(place(kStart + 31 * kMiB, kMiB), PoolAccount::Landing::elsewhere);
  settle(256 * kMiB);
  free(kStart + kMiB, 30 * kMiB);
  ASSERT_EQ(place(kStart + 512 * kMiB, kMiB), PoolAccount::Landing::elsewhere);
  FreedRanges::Doubtful ranges = doubtful();
  note_neighbours(ranges, born_in_front, born_in_front);
  account_.resolve(ranges);
  free(kStart, kMiB);
  free(kStart + 31 * kMiB, kMiB);
  settle(256 * kMiB);
  EXPECT_FALSE(serves(30 * kMiB));
}

TEST_F(FreedInPool, MakesAReadingThatIsUnderWayStaleWhereThePoolGivesBack) {
  account_.set_threshold(0);
  free(kStart, 40 * kMiB);
  PoolAccount::Request request;
  ASSERT_TRUE(account_.begin(40 * kMiB, request, kGrant));
  const auto settlement = account_.begin_settlement();
  ASSERT_EQ(account_.end(request, kStart, born_), PoolAccount::Landing::in_freed);
  // Read when the range's step was gone; the request brought it back.
  EXPECT_FALSE(account_.end_settlement(settlement, 224 * kMiB).is_done);
  EXPECT_GE(account_.charged_bytes(), 256 * kMiB);
}

}  // namespace
}  // namespace vgpu::limiter

// SPDX-License-Identifier: Apache-2.0
#include "ledger/implicit_account.h"

#include <gtest/gtest.h>

#include "sizes.h"

namespace vgpu::limiter {
namespace {

class Implicit : public ::testing::Test {
 protected:
  // A reading with nothing open around it.
  struct Change {
    std::uint64_t charge_bytes = 0;
    std::uint64_t release_bytes = 0;
  };
  Change read(std::uint64_t shown) {
    Change change;
    EXPECT_TRUE(settle(shown, changes_.now(), change));
    return change;
  }
  bool settle(std::uint64_t shown, const ChangeCount::Moment& moment, Change& change) {
    return account_.settle(shown, changes_, moment, change.release_bytes,
                           [&](std::uint64_t bytes) { change.charge_bytes = bytes; });
  }

  ChangeCount changes_;
  ImplicitAccount account_;
};

TEST_F(Implicit, ReadingReplacesEstimates) {
  account_.add_estimate(530 * kMiB);
  EXPECT_EQ(read(518 * kMiB).release_bytes, 12 * kMiB);
  EXPECT_EQ(account_.charged_bytes(), 518 * kMiB);
}

TEST_F(Implicit, GrowthThatNothingForesawIsCharged) {
  read(518 * kMiB);
  EXPECT_EQ(read(520 * kMiB).charge_bytes, 2 * kMiB);
}

TEST_F(Implicit, NoGrowthIsTakenForAPromise) {
  read(518 * kMiB);
  account_.add_promise(1024 * kMiB);
  read(518 * kMiB + 1024 * kMiB);
  EXPECT_EQ(account_.charged_bytes(), 518 * kMiB + 2048 * kMiB);
}

TEST_F(Implicit, FulfilledPromiseIsChargedOnceAfterTheNextReading) {
  read(518 * kMiB);
  account_.add_promise(1024 * kMiB);
  account_.fulfil_promise(1024 * kMiB);
  EXPECT_EQ(account_.charged_bytes(), 518 * kMiB + 1024 * kMiB);
  read(518 * kMiB + 1026 * kMiB);
  EXPECT_EQ(account_.charged_bytes(), 518 * kMiB + 1026 * kMiB);
}

TEST_F(Implicit, WithdrawnPromiseIsReleasedOnce) {
  account_.add_promise(64 * kMiB);
  EXPECT_EQ(account_.withdraw_promise(100 * kMiB), 64 * kMiB);
  EXPECT_EQ(account_.withdraw_promise(100 * kMiB), 0U);
}

TEST_F(Implicit, ReadingWithAChangeOpenIsNotBelieved) {
  read(518 * kMiB);
  changes_.begin();
  Change change;
  EXPECT_FALSE(settle(0, changes_.now(), change));
  EXPECT_EQ(account_.charged_bytes(), 518 * kMiB);
}

TEST_F(Implicit, ReadingThatAChangeBeganAfterIsNotBelieved) {
  const ChangeCount::Moment moment = changes_.now();
  changes_.begin();
  account_.add_estimate(530 * kMiB);
  changes_.end();
  Change change;
  EXPECT_FALSE(settle(0, moment, change));
  EXPECT_EQ(account_.charged_bytes(), 530 * kMiB);
}

TEST_F(Implicit, OnlyWhatIsKnownToBeGoneIsReleasedOnceReadingsCome) {
  account_.add_estimate(530 * kMiB);
  read(518 * kMiB);
  EXPECT_EQ(account_.remove(500 * kMiB, 530 * kMiB), 500 * kMiB);
}

TEST_F(Implicit, WhatWasChargedIsReleasedWhereNoReadingEverCame) {
  account_.add_estimate(530 * kMiB);
  EXPECT_EQ(account_.remove(0, 530 * kMiB), 530 * kMiB);
}

TEST_F(Implicit, RemovalNeverExceedsTheCharge) {
  account_.add_estimate(10 * kMiB);
  read(10 * kMiB);
  account_.add_estimate(5 * kMiB);
  EXPECT_EQ(account_.remove(100 * kMiB, 100 * kMiB), 15 * kMiB);
  EXPECT_EQ(account_.charged_bytes(), 0U);
}

}  // namespace
}  // namespace vgpu::limiter

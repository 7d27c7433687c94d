// SPDX-License-Identifier: Apache-2.0
// The worker's record: where work is credited.
#include "progress.h"

#include <gtest/gtest.h>

#include <numeric>

namespace workload {
namespace {

using testing::Test;

constexpr Nanos kStart = 1'000;
constexpr Nanos kWindow = 100;

class ProgressTest : public Test {
 protected:
  void expect_work(const std::vector<double>& expected) {
    ASSERT_EQ(progress.work().size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i)
      EXPECT_NEAR(progress.work()[i], expected[i], 1e-9) << "window " << i;
  }
  Progress progress{kStart, 4 * kWindow, kWindow};
};

TEST_F(ProgressTest, WorkIsSpreadEvenlyOverItsTime) {
  progress.credit(kStart + 50, kStart + 250, 8, 8);
  expect_work({2, 4, 2, 0});
}

TEST_F(ProgressTest, WhatLiesBeforeTheStartOrBehindTheEndIsNotCounted) {
  progress.credit(kStart - 100, kStart + 100, 8, 8);
  progress.credit(kStart + 350, kStart + 550, 8, 8);
  expect_work({4, 0, 0, 2});
}

TEST_F(ProgressTest, WorkThatTookNoTimeIsCreditedWhereItEnded) {
  progress.credit(kStart + 150, kStart + 150, 3, 3);
  progress.credit(kStart + 260, kStart + 250, 1, 1);
  expect_work({0, 3, 1, 0});
}

TEST_F(ProgressTest, AWholeWindowEndsWhereTheNextBegins) {
  progress.credit(kStart, kStart + 100, 5, 5);
  progress.credit(kStart + 100, kStart + 200, 7, 7);
  expect_work({5, 7, 0, 0});
}

TEST_F(ProgressTest, NothingIsLostBetweenWindows) {
  for (Nanos at = 0; at < 400; at += 7)
    progress.credit(kStart + at, kStart + std::min<Nanos>(at + 7, 400), 1, 1);
  EXPECT_NEAR(std::accumulate(progress.work().begin(), progress.work().end(), 0.0), 58, 1e-9);
}

TEST_F(ProgressTest, KernelsAreCountedWhereTheirEndWasSeen) {
  progress.credit(kStart + 50, kStart + 250, 8, 8);
  progress.credit(kStart + 250, kStart + 900, 2, 2);
  EXPECT_EQ(progress.kernels(), (std::vector<std::uint64_t>{0, 0, 8, 0}));
}

}  // namespace
}  // namespace workload

// SPDX-License-Identifier: Apache-2.0
#include "pace.h"

#include <gtest/gtest.h>

#include "sampler.h"
#include "times.h"

namespace vgpu::hypervisor {
namespace {

TEST(PaceTest, ACheapLookKeepsTheBeat) {
  EXPECT_EQ(rest_ns(100 * kMsNs, 1 * kMsNs, 1 * kMsNs), 99 * kMsNs);
}

TEST(PaceTest, WhatIsWorthALookWaitsWhereLooksAreDear) {
  EXPECT_EQ(least_rest_ns(100 * kMsNs, kMsNs / 2), 2 * kMsNs);
  EXPECT_EQ(least_rest_ns(100 * kMsNs, 20 * kMsNs), 80 * kMsNs);
  EXPECT_EQ(least_rest_ns(100 * kMsNs, 90 * kMsNs), 100 * kMsNs);
}

TEST(PaceTest, ADearOneCostsAFiftiethOfACore) {
  EXPECT_EQ(rest_ns(100 * kMsNs, 6 * kMsNs, 6 * kMsNs), 300 * kMsNs);
  EXPECT_EQ(rest_ns(100 * kMsNs, 80 * kMsNs, 80 * kMsNs), 500 * kMsNs)
      << "but something is found in time";
}

TEST(PaceTest, WaitingCostsNothing) {
  EXPECT_EQ(rest_ns(100 * kMsNs, 4'000 * kMsNs, 0), 10 * kMsNs);
}

TEST(BackoffTest, DoublesUpToItsMostWithJitter) {
  for (const std::uint32_t random : {0u, 512u, 1023u}) {
    EXPECT_NEAR(static_cast<double>(backoff_ns(1, 200, 10'000, random)), 200e6, 41e6);
    EXPECT_NEAR(static_cast<double>(backoff_ns(3, 200, 10'000, random)), 800e6, 161e6);
    EXPECT_NEAR(static_cast<double>(backoff_ns(99, 200, 10'000, random)), 10'000e6, 2'001e6);
  }
  EXPECT_NE(backoff_ns(3, 200, 10'000, 0), backoff_ns(3, 200, 10'000, 1023));
}

}  // namespace
}  // namespace vgpu::hypervisor

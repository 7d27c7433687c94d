// SPDX-License-Identifier: Apache-2.0
#include "pace.h"

#include <gtest/gtest.h>

#include "sampler.h"

namespace vgpu::hypervisor {
namespace {

constexpr std::uint64_t kMs = 1'000'000;

TEST(PaceTest, ACheapLookKeepsTheBeat) {
  EXPECT_EQ(rest_ns(100 * kMs, 1 * kMs, 1 * kMs), 99 * kMs);
}

TEST(PaceTest, ADearOneCostsAFortiethOfACore) {
  EXPECT_EQ(rest_ns(100 * kMs, 6 * kMs, 6 * kMs), 240 * kMs);
  EXPECT_EQ(rest_ns(100 * kMs, 80 * kMs, 80 * kMs), 500 * kMs) << "but something is found in time";
}

TEST(PaceTest, WaitingCostsNothing) { EXPECT_EQ(rest_ns(100 * kMs, 4'000 * kMs, 0), 10 * kMs); }

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

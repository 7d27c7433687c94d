// SPDX-License-Identifier: Apache-2.0
// What is measured of a kind of work, and what of it is believed.
#include "vgpu/core/meter.h"

#include <gtest/gtest.h>

namespace vgpu::core {
namespace {

constexpr std::uint64_t kUs = 1'000;
constexpr std::uint64_t kMs = 1'000'000;

Meter learned(std::uint64_t cost_ns) {
  Meter meter;
  for (int i = 0; i < 8; ++i) {
    meter.launched();
    meter.sampled(cost_ns, true);
  }
  return meter;
}

TEST(Meter, ChargesWhatTheFirstLaunchesTookOnceItIsKnown) {
  Meter meter;
  meter.launched();
  meter.launched();
  EXPECT_EQ(meter.unmeasured(), 2u);
  EXPECT_EQ(meter.sampled(50 * kMs, true), 2 * (50 * kMs - kUnknownCostNs));
  EXPECT_EQ(meter.unmeasured(), 0u);
  EXPECT_EQ(meter.sampled(50 * kMs, true), 0u);
}

TEST(Meter, MeasuresOneShortLaunchInManyAndEveryLongOne) {
  Meter meter = learned(20 * kUs);
  int measured = 0;
  for (int i = 0; i < 640; ++i) {
    measured += meter.wants_sample() ? 1 : 0;
    meter.launched();
  }
  EXPECT_EQ(measured, 10);
  EXPECT_TRUE(learned(kMs).wants_sample());
}

// A graph that was updated. Longer work is a surprise, and so are the next ones measured.
TEST(Meter, MeasuresTheNextLaunchOfWhatHasChanged) {
  Meter meter = learned(20 * kUs);
  meter.launched();
  ASSERT_FALSE(meter.wants_sample());
  meter.changed();
  EXPECT_TRUE(meter.wants_sample());
  EXPECT_EQ(meter.cost().mean_ns(), 20 * kUs) << "known until then";
  meter.launched();
  EXPECT_FALSE(meter.wants_sample()) << "one is enough where nothing is different";
  meter.changed();
  meter.launched();
  meter.sampled(200 * kUs, true);
  EXPECT_TRUE(meter.wants_sample());
}

TEST(Meter, TheFirstCleanSampleReplacesWhatOthersWerePartOf) {
  Meter meter;
  meter.launched();
  meter.sampled(3 * kMs, false);
  EXPECT_EQ(meter.cost().mean_ns(), 3 * kMs);
  meter.sampled(kMs, true);
  EXPECT_EQ(meter.cost().mean_ns(), kMs);
}

TEST(Meter, AKernelDoesNotCostMoreForWaitingForALaunchThatWasHeldBack) {
  Meter meter = learned(300 * kUs);
  for (std::uint64_t held_ns = kMs; held_ns < 100 * kMs; held_ns *= 2)
    meter.sampled(300 * kUs + held_ns, true, held_ns);
  EXPECT_EQ(meter.cost().mean_ns(), 300 * kUs);
  Meter unknown;
  unknown.launched();
  unknown.sampled(20 * kMs, true, 19 * kMs);
  EXPECT_EQ(unknown.cost().mean_ns(), kMs);
}

TEST(Meter, AKernelThatIsLongerThanWhatWasHeldBackExplainsIsBelievedAtOnce) {
  Meter meter = learned(kMs);
  meter.sampled(20 * kMs, true, 3 * kMs);
  EXPECT_EQ(meter.cost().mean_ns(), 20 * kMs);
}

TEST(Meter, WhatIsShorterIsLearnedWhateverWasHeldBack) {
  Meter meter = learned(20 * kMs);
  meter.sampled(10 * kMs, true, 9 * kMs);
  EXPECT_LT(meter.cost().mean_ns(), 20 * kMs);
}

TEST(Meter, ASliceOfSomebodyElseIsNotLearned) {
  Meter meter = learned(20 * kUs);
  meter.sampled(2'500 * kUs, false);
  meter.sampled(21 * kUs, false);
  meter.sampled(2'500 * kUs, false);
  EXPECT_EQ(meter.cost().mean_ns(), 20 * kUs);
}

TEST(Meter, AKernelThatHasBecomeLongerIsBelievedEvenIfNoSampleIsClean) {
  Meter meter = learned(20 * kUs);
  meter.sampled(2'600 * kUs, false);
  EXPECT_TRUE(meter.wants_sample());
  meter.sampled(2'000 * kUs, false);
  meter.sampled(2'100 * kUs, false);
  EXPECT_EQ(meter.cost().mean_ns(), 2'000 * kUs);
}

}  // namespace
}  // namespace vgpu::core

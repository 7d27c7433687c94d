// SPDX-License-Identifier: Apache-2.0
// What is measured of a kind of work, and what of it is believed.
#include "vgpu/core/meter.h"

#include <gtest/gtest.h>

#include "times.h"

namespace vgpu::core {
namespace {

constexpr std::uint64_t kLongAgo = 1'000;  // launches since any was measured

Meter learned(std::uint64_t cost_ns) {
  Meter meter;
  for (int i = 0; i < 8; ++i) {
    meter.launched(true);
    meter.sampled(cost_ns, true);
  }
  return meter;
}

TEST(Meter, ChargesWhatTheFirstLaunchesTookOnceItIsKnown) {
  Meter meter;
  meter.launched(true);
  meter.launched(true);
  EXPECT_EQ(meter.unmeasured(), 2u);
  EXPECT_EQ(meter.sampled(50 * kMs, true), 2 * (50 * kMs - kUnknownCostNs));
  EXPECT_EQ(meter.unmeasured(), 0u);
  EXPECT_EQ(meter.sampled(50 * kMs, true), 0u);
}

// It held what is done once: its code was loaded, or its memory touched.
TEST(Meter, AFirstSampleThatTheSecondBeliesIsForgotten) {
  Meter meter;
  meter.launched(true);
  EXPECT_EQ(meter.sampled(100 * kMs, true), 100 * kMs - kUnknownCostNs) << "but paid for";
  meter.sampled(300 * kUs, true);
  EXPECT_EQ(meter.cost().mean_ns(), 300 * kUs);
  meter.sampled(100 * kMs, true);
  meter.sampled(300 * kUs, true);
  EXPECT_GT(meter.cost().mean_ns(), 10 * kMs) << "what happens again is no longer that";
}

TEST(Meter, MeasuresOneShortLaunchInManyAndEveryLongOne) {
  Meter meter = learned(20 * kUs);
  int measured = 0;
  for (int i = 0; i < 640; ++i) {
    const bool is_measured = meter.wants_sample(kLongAgo);
    measured += is_measured ? 1 : 0;
    meter.launched(is_measured);
  }
  EXPECT_EQ(measured, 10);
  EXPECT_TRUE(learned(kMs).wants_sample(1));
}

// Among others, where each sample is a surprise: measuring costs the host as much as launching.
TEST(Meter, NoMoreThanOneLaunchInEightIsMeasuredOnceItIsKnown) {
  Meter meter = learned(20 * kUs);
  std::uint64_t since_sample = 1;
  int measured = 0;
  for (int i = 0; i < 800; ++i) {
    const bool is_measured = meter.wants_sample(since_sample);
    since_sample = is_measured ? 1 : since_sample + 1;
    meter.launched(is_measured);
    if (is_measured) meter.sampled(++measured % 2 == 0 ? 20 * kUs : 2 * kMs, false);
  }
  EXPECT_LE(measured, 100);
  EXPECT_GT(measured, 10);
}

TEST(Meter, MeasuresWhatVariesMoreOften) {
  Meter meter = learned(100 * kUs);
  int measured = 0;
  for (int i = 0; i < 640; ++i) {
    const bool is_measured = meter.wants_sample(kLongAgo);
    meter.launched(is_measured);
    if (is_measured) meter.sampled(++measured % 2 == 0 ? 55 * kUs : 145 * kUs, true);
  }
  EXPECT_TRUE(meter.cost().varies());
  EXPECT_GT(measured, 40);
}

// The events around one in eight of them would take the GPU 2 percent of the time.
TEST(Meter, OneSampleForAMillisecondOfShortWorkIsEnoughHoweverItVaries) {
  Meter meter = learned(20 * kUs);
  int measured = 0;
  for (int i = 0; i < 5'000; ++i) {
    const bool is_measured = meter.wants_sample(kLongAgo);
    meter.launched(is_measured);
    if (is_measured) meter.sampled(++measured % 2 == 0 ? 11 * kUs : 29 * kUs, true);
  }
  EXPECT_TRUE(meter.cost().varies());
  EXPECT_GE(measured, 90);
  EXPECT_LE(measured, 110);
}

// What differs by a microsecond or two, which is how exactly events tell.
TEST(Meter, MeasuresVeryShortWorkSeldomHoweverItVaries) {
  Meter meter = learned(2 * kUs);
  int measured = 0;
  for (int i = 0; i < 6'400; ++i) {
    const bool is_measured = meter.wants_sample(kLongAgo);
    meter.launched(is_measured);
    if (is_measured) meter.sampled(++measured % 3 == 0 ? 9 * kUs : kUs / 2, true);
  }
  EXPECT_TRUE(meter.cost().varies());
  EXPECT_LE(measured, 110);
  EXPECT_GE(measured, 90);
  // But not what has become long.
  meter.sampled(100 * kUs, true);
  EXPECT_TRUE(meter.wants_sample(kLongAgo));
}

// A graph that was updated. Longer work is a surprise, and so are the next ones measured.
TEST(Meter, MeasuresTheNextLaunchOfWhatHasChanged) {
  Meter meter = learned(20 * kUs);
  meter.launched(false);
  ASSERT_FALSE(meter.wants_sample(kLongAgo));
  meter.changed();
  EXPECT_TRUE(meter.wants_sample(kLongAgo));
  EXPECT_EQ(meter.cost().mean_ns(), 20 * kUs) << "known until then";
  meter.launched(true);
  EXPECT_FALSE(meter.wants_sample(kLongAgo)) << "one is enough where nothing is different";
  meter.changed();
  meter.launched(true);
  meter.sampled(200 * kUs, true);
  EXPECT_TRUE(meter.wants_sample(kLongAgo));
}

TEST(Meter, TheFirstCleanSampleReplacesWhatOthersWerePartOf) {
  Meter meter;
  meter.launched(true);
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
  unknown.launched(true);
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
  EXPECT_TRUE(meter.wants_sample(kLongAgo));
  meter.sampled(2'000 * kUs, false);
  meter.sampled(2'100 * kUs, false);
  EXPECT_EQ(meter.cost().mean_ns(), 2'000 * kUs);
}

}  // namespace
}  // namespace vgpu::core

// SPDX-License-Identifier: Apache-2.0
// The compute limit, what work costs, and the gate's verdicts, as sentences.
#include "vgpu/core/pace.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "times.h"
#include "vgpu/core/arbiter.h"
#include "vgpu/core/cost.h"
#include "vgpu/core/gate.h"

namespace vgpu::core {
namespace {

// GPU time got in `wall_ns` by a tenant that always has a kernel of this length.
std::uint64_t saturate(std::uint64_t paid_until, std::uint64_t start, std::uint64_t wall_ns,
                       std::uint64_t kernel_ns, std::uint32_t limit) {
  std::uint64_t now = start;
  std::uint64_t got = 0;
  while (now < start + wall_ns) {
    now = std::max(now, pace_due_ns(paid_until, 0, limit));
    if (now >= start + wall_ns) break;
    paid_until = pace_charge(paid_until, now, kernel_ns, limit);
    got += kernel_ns;
    now += kernel_ns;
  }
  return got;
}

TEST(Pace, HoldsALimitForAnyLengthOfKernel) {
  for (const std::uint64_t kernel : {20 * kUs, 100 * kUs, 1 * kMs, 5 * kMs, 20 * kMs, 50 * kMs}) {
    for (const std::uint32_t limit : {10u, 30u, 50u, 80u}) {
      const double got = 100.0 *
                         static_cast<double>(saturate(100 * kS, 100 * kS, 10 * kS, kernel, limit)) /
                         static_cast<double>(10 * kS);
      EXPECT_NEAR(got, limit, 0.51) << kernel << " ns at " << limit;
    }
  }
}

TEST(Pace, NothingIsHeldBackUnderALimitOfAllTheTime) {
  EXPECT_EQ(paced_percent(0), 0u);
  EXPECT_EQ(paced_percent(99), 99u);
  EXPECT_EQ(paced_percent(100), 0u);
}

TEST(Pace, IdlingSavesUpOneBurstAndNoMore) {
  // A minute of idling, then five seconds of work.
  const std::uint64_t got = saturate(0, 60 * kS, 5 * kS, 100 * kUs, 30);
  EXPECT_LE(got, 5 * kS * 30 / 100 + kPaceBurstNs * 30 / 100 + 100 * kUs);
  EXPECT_GE(got, 5 * kS * 30 / 100);
}

TEST(Pace, ACostThatTurnsOutHigherIsPaidForLater) {
  std::uint64_t paid = 10 * kS;
  paid = pace_charge(paid, 10 * kS, 10 * kUs, 50);  // taken for a short one
  paid = pace_charge(paid, 10 * kS, 50 * kMs, 50);  // it was a long one
  EXPECT_EQ(pace_due_ns(paid, 0, 50), 10 * kS + 20 * kUs + 100 * kMs);
}

TEST(Cost, IsTheMeanOfWhatWasSeenAndAges) {
  Cost cost;
  EXPECT_EQ(cost.mean_ns(), kUnknownCostNs);
  for (int i = 0; i < 4; ++i) cost.learn(100 * kUs);
  EXPECT_EQ(cost.mean_ns(), 100 * kUs);
  EXPECT_EQ(cost.high_ns(), 100 * kUs);
  for (int i = 0; i < 40; ++i) cost.learn(300 * kUs);
  EXPECT_NEAR(static_cast<double>(cost.mean_ns()), 300'000, 3'000);
}

// Kernels of a quarter to four times their length: the mean that is charged is theirs to a tenth.
TEST(Cost, OfVaryingLengthsIsTheMeanOfMany) {
  Cost cost;
  std::mt19937 random(7);
  std::uniform_real_distribution<double> exponent(-1, 1);
  constexpr double kMean = 135'253;  // of 100 us * 4^exponent
  int far = 0;
  for (int i = 0; i < 4'000; ++i) {
    cost.learn(static_cast<std::uint64_t>(100e3 * std::pow(4.0, exponent(random))));
    if (i >= 64 && std::abs(static_cast<double>(cost.mean_ns()) - kMean) > 0.2 * kMean) ++far;
  }
  EXPECT_TRUE(cost.varies());
  EXPECT_LT(far, 200);
}

TEST(Cost, HighIsALengthThatFewPass) {
  Cost cost;
  std::mt19937 random(7);
  int above = 0;
  for (int i = 0; i < 2'000; ++i) {
    const std::uint64_t sample = 50 * kUs + random() % (100 * kUs);
    if (i > 100 && sample > cost.high_ns()) ++above;
    cost.learn(sample);
  }
  EXPECT_LT(above, 200);
}

TEST(Gate, WaitsForTheLimitFirstThenForTheTurnThenForRoom) {
  GateView view{.grant_end_ns = 0,
                .in_flight_ns = kMs,
                .busy_until_ns = 105 * kMs,
                .due_ns = 101 * kMs,
                .cost_ns = 100 * kUs};
  EXPECT_EQ(judge_launch(100 * kMs, view).admission, Admission::wait_limit);
  view.due_ns = 0;
  EXPECT_EQ(judge_launch(100 * kMs, view).admission, Admission::wait_turn);
  view.grant_end_ns = 200 * kMs;
  const Verdict room = judge_launch(100 * kMs, view);
  EXPECT_EQ(room.admission, Admission::wait_in_flight);
  // It looks again on the way, in case that the work is done sooner.
  EXPECT_EQ(room.until_ns, 100 * kMs + (5 * kMs - 900 * kUs) / 4);
  EXPECT_EQ(judge_launch(104 * kMs, view).until_ns, 104 * kMs + kLeastLookNs);
  EXPECT_EQ(judge_launch(104 * kMs + 100 * kUs, view).admission, Admission::go);
}

TEST(Gate, AlwaysLetsTheNextFollowShortlyBeforeTheWorkInFlightIsDone) {
  const GateView view{.grant_end_ns = 200 * kMs,
                      .in_flight_ns = kMs,
                      .busy_until_ns = 150 * kMs,
                      .due_ns = 0,
                      .cost_ns = 50 * kMs};
  EXPECT_EQ(judge_launch(149 * kMs, view).admission, Admission::wait_in_flight);
  EXPECT_EQ(judge_launch(150 * kMs - kLeadNs, view).admission, Admission::go);
}

TEST(Gate, BesideHighPriorityLongWorkWaitsUntilWhatIsInFlightIsKnownToBeDone) {
  GateView view{.grant_end_ns = 200 * kMs,
                .in_flight_ns = kInFlightBesidePriorityNs,
                .busy_until_ns = 110 * kMs,
                .cost_ns = 10 * kMs,
                .beside_priority = true,
                .marks_done = false};
  EXPECT_EQ(judge_launch(100 * kMs, view).until_ns, view.busy_until_ns);
  const Verdict late = judge_launch(112 * kMs, view);
  EXPECT_EQ(late.admission, Admission::wait_in_flight);
  EXPECT_EQ(late.until_ns, 112 * kMs + kDoneLookNs);
  view.marks_done = true;
  EXPECT_EQ(judge_launch(112 * kMs, view).admission, Admission::go);
  view.marks_done = false;
  view.cost_ns = kMs;
  EXPECT_EQ(judge_launch(112 * kMs, view).admission, Admission::go) << "shorter than a slice";
}

TEST(Gate, LetsFewLaunchesOfUnknownLengthBeInFlight) {
  GateView view{.grant_end_ns = UINT64_MAX, .in_flight_ns = UINT64_MAX, .cost_ns = kUnknownCostNs};
  view.unmeasured = kMostUnmeasured - 1;
  EXPECT_EQ(judge_launch(100 * kMs, view).admission, Admission::go);
  view.unmeasured = kMostUnmeasured;
  EXPECT_EQ(judge_launch(100 * kMs, view).admission, Admission::wait_in_flight);
  EXPECT_EQ(judge_launch(100 * kMs, view).until_ns, 100 * kMs + kUnmeasuredLookNs);
}

}  // namespace
}  // namespace vgpu::core

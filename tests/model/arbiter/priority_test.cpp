// SPDX-License-Identifier: Apache-2.0
// High priority goes first, at once, while it is within what it may use.
#include <gtest/gtest.h>

#include "measure.h"
#include "programs.h"

namespace vgpu::model {
namespace {

// Comes back after 1 to 3 ms, so at any point of the others' slices.
Program comes_at_random(Time kernel_ns) {
  return [=](std::uint64_t, std::mt19937_64& random) {
    return Launch{.work_ns = kernel_ns, .waits = true, .pause_ns = kMs + random() % (2 * kMs)};
  };
}

TEST(Priority, HighWaitsForWhatIsInFlightOrOneSliceAndAThirdOfAMillisecond) {
  const std::vector<std::pair<const char*, Program>> paced_programs = {
      {"every 2 ms", paced(200 * kUs, 2 * kMs)},
      {"in time", keeps_pace(200 * kUs, 2 * kMs)},
      {"at random", comes_at_random(200 * kUs)}};
  std::mt19937_64 random;
  for (const auto& [name, program] : paced_programs) {
    for (const Time kernel : {100 * kUs, kMs, 10 * kMs}) {
      for (std::uint64_t seed = 1; seed <= seeds(2); ++seed) {
        Scenario scenario;
        scenario.length_ns = kWarmUpNs + 10 * kS;
        scenario.seed = seed;
        scenario.sharing = Sharing::unmanaged;
        scenario.tenants = {tenant("high", program, 30, 0, Priority::high)};
        const Time alone = simulate(scenario).tenants[0].latency(0.99);
        scenario.tenants.push_back(tenant("saturating", queues(kernel), 70));
        const Time unmanaged = simulate(scenario).tenants[0].latency(0.99);
        scenario.sharing = Sharing::arbiter;
        const Measured measured = measure(scenario);
        const Outcome& high = measured.result.tenants[0];
        if (seed == 1) {
          std::printf(
              "high, 200 us %-10s beside %5llu us: p50 %4llu p99 %4llu us (alone %llu, unmanaged "
              "%llu), the other gets %.1f %%\n",
              name, (unsigned long long)(kernel / kUs),
              (unsigned long long)(high.latency(0.5) / kUs),
              (unsigned long long)(high.latency(0.99) / kUs), (unsigned long long)(alone / kUs),
              (unsigned long long)(unmanaged / kUs), measured.shares[1].mean);
        }
        // The target has 0.30 ms: it is missed by 5 us where the other's slice ends just as it
        // comes back, so that a switch in the middle of work is added. Who wants the GPU more often
        // than the hardware switches falls behind while one long kernel runs, by 0.6 ms for each of
        // its slices, and catches up behind it.
        const bool falls_behind = program(0, random).period_ns != 0 && kernel > kHardwareSliceNs;
        const Time lateness = falls_behind ? kernel / kHardwareSliceNs * 500 * kUs : 0;
        EXPECT_LE(high.latency(0.99),
                  alone + std::min(kernel, kHardwareSliceNs) + 310 * kUs + lateness)
            << name << " beside " << kernel / kUs << " us, seed " << seed;
        EXPECT_GE(measured.shares[1].mean, 70) << name << " beside " << kernel / kUs << " us";
      }
    }
  }
}

// Who asks for more than its share with high priority gets its share, and not at once.
TEST(Priority, HighDoesNotTakeMoreThanItsShareFromOthersThatAreOwedTheRest) {
  for (std::uint64_t seed = 1; seed <= seeds(3); ++seed) {
    Scenario scenario;
    scenario.length_ns = kWarmUpNs + 10 * kS;
    scenario.seed = seed;
    scenario.tenants = {tenant("high", queues(100 * kUs), 30, 0, Priority::high),
                        tenant("normal", queues(100 * kUs), 70)};
    const Measured measured = measure(scenario);
    if (seed == 1) report("30 high and saturating | 70", scenario, measured);
    EXPECT_NEAR(measured.shares[0].mean, 30, 1.5);
    EXPECT_NEAR(measured.shares[1].mean, 70, 1.5);
  }
}

TEST(Priority, WhatIsLeftGoesToTheHighestThatCanUseIt) {
  Scenario scenario;
  scenario.length_ns = kWarmUpNs + 10 * kS;
  scenario.tenants = {tenant("normal", queues(100 * kUs), 20),
                      tenant("low", queues(100 * kUs), 20, 0, Priority::low)};
  const Measured measured = measure(scenario);
  report("20 normal | 20 low", scenario, measured);
  EXPECT_NEAR(measured.shares[0].mean, 80, 1.5);
  EXPECT_NEAR(measured.shares[1].mean, 20, 1.5);
}

}  // namespace
}  // namespace vgpu::model

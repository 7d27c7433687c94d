// SPDX-License-Identifier: Apache-2.0
// Turns or together: found out by probes, soon, and for little.
#include <gtest/gtest.h>

#include "measure.h"
#include "programs.h"

namespace vgpu::model {
namespace {

double together_percent(const Measured& measured, const Scenario& scenario) {
  return 100.0 * static_cast<double>(measured.result.overlapped_ns) /
         static_cast<double>(scenario.length_ns);
}

TEST(Modes, LaunchBoundTenantsRunTogetherAndGetWhatTheyGetUnmanaged) {
  const std::vector<std::pair<const char*, Program>> programs = {
      {"10 us queued, 30 us gaps", queues(10 * kUs, 30 * kUs)},
      {"10 us queued, 42 us gaps, long", queues(10 * kUs, 42 * kUs, 2'000)},
      {"10 us queued, 20 us gaps", queues(10 * kUs, 20 * kUs)}};
  for (const auto& [name, program] : programs) {
    double part = 0;
    const std::uint64_t count = seeds(6);
    for (std::uint64_t seed = 1; seed <= count; ++seed) {
      Scenario scenario;
      scenario.length_ns = 20 * kS;
      scenario.seed = seed;
      scenario.tenants = {tenant("30", program, 30), tenant("70", program, 70)};
      const Measured managed = measure(scenario);
      scenario.sharing = Sharing::unmanaged;
      const Measured unmanaged = measure(scenario);
      if (seed == 1) {
        report(std::string("30/70 ") + name, scenario, managed);
        std::printf("%46s sum %5.1f unmanaged\n", "", unmanaged.sum);
      }
      const double alone = alone_rate(program);
      double found = 0;
      for (const Outcome& outcome : managed.result.tenants)
        found += percent(outcome, alone, 2 * kS, scenario.length_ns);
      part += found / unmanaged.sum;
      // How the batches of the two meet makes some points of difference, either way.
      EXPECT_GE(managed.sum, 0.93 * unmanaged.sum) << name << ", seed " << seed;
      // Found within a second and a half of the start.
      EXPECT_GE(managed.result.overlapped_ns, scenario.length_ns - 2 * kS) << name;
      EXPECT_GE(managed.shares[0].mean, 30);
      EXPECT_GE(managed.shares[1].mean, 70);
    }
    EXPECT_GE(100 * part / static_cast<double>(count), count >= 6 ? 97.0 : 94.0) << name;
  }
}

TEST(Modes, ProbesOfTheLosingModeTakeHalfAPercentAtMost) {
  const std::vector<std::tuple<const char*, Program, bool>> programs = {
      {"5 us sync each", waits_on_each(5 * kUs), false},
      {"100 us sync each", waits_on_each(100 * kUs), false},
      {"1 ms queued", queues(kMs), false},
      {"20 us queued, 20 us gaps", queues(20 * kUs, 20 * kUs), false},
      {"10 us queued, 42 us gaps", queues(10 * kUs, 42 * kUs, 2'000), true}};
  for (const auto& [name, program, together] : programs) {
    Scenario scenario;
    scenario.length_ns = 60 * kS;
    scenario.tenants = {tenant("30", program, 30), tenant("70", program, 70)};
    const Result result = simulate(scenario);
    const Time losing = together ? scenario.length_ns - result.overlapped_ns : result.overlapped_ns;
    std::printf("%-28s %.2f %% of a minute in the losing mode\n", name,
                100.0 * static_cast<double>(losing) / static_cast<double>(scenario.length_ns));
    // Until it is found, launch-bound tenants are in the losing one.
    EXPECT_LE(losing, scenario.length_ns / 200 + (together ? 1'500 * kMs : 0)) << name;
  }
}

// Together they may do more, but not at the cost of a share.
TEST(Modes, NobodyFallsBelowItsShareByRunningTogether) {
  const std::vector<std::tuple<const char*, std::vector<Tenant>>> mixes = {
      {"launch-bound | saturating",
       {tenant("launch-bound", queues(10 * kUs, 30 * kUs), 50),
        tenant("saturating", queues(100 * kUs), 50)}},
      {"launch-bound | saturating with 80",
       {tenant("launch-bound", queues(10 * kUs, 30 * kUs), 20),
        tenant("saturating", queues(100 * kUs), 80)}},
      {"two launch-bound | saturating",
       {tenant("launch-bound", queues(10 * kUs, 30 * kUs), 30),
        tenant("launch-bound", queues(10 * kUs, 30 * kUs), 30),
        tenant("saturating", queues(100 * kUs), 40)}},
      {"launch-bound | waits on each",
       {tenant("launch-bound", queues(10 * kUs, 30 * kUs), 50),
        tenant("waits", waits_on_each(50 * kUs), 50)}}};
  for (const auto& [name, tenants] : mixes) {
    for (std::uint64_t seed = 1; seed <= seeds(2); ++seed) {
      Scenario scenario;
      scenario.length_ns = kWarmUpNs + 20 * kS;
      scenario.seed = seed;
      scenario.tenants = tenants;
      const Measured measured = measure(scenario);
      if (seed == 1) report(name, scenario, measured);
      for (std::size_t t = 0; t < tenants.size(); ++t)
        EXPECT_GE(measured.shares[t].mean, tenants[t].share - 1.5) << name << ", " << t;
      EXPECT_LE(together_percent(measured, scenario), 100);
    }
  }
}

}  // namespace
}  // namespace vgpu::model

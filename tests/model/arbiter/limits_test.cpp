// SPDX-License-Identifier: Apache-2.0
// Compute limits: GPU time of at most so much of the wall time, to the point, alone and beside
// others.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "measure.h"
#include "programs.h"
#include "vgpu/core/pace.h"

namespace vgpu::model {
namespace {

// GPU time is what the kernels take back to back.
double gpu_percent(double percent_of_alone, double alone_percent, Time kernel_ns) {
  const double back_to_back = static_cast<double>(kernel_ns + kBetweenKernelsNs);
  return percent_of_alone / 100 * alone_percent * back_to_back / static_cast<double>(kernel_ns);
}

struct Kind {
  const char* name;
  Program (*make)(Time kernel_ns);
};
constexpr Kind kKinds[] = {
    {"queued", [](Time kernel_ns) { return queues(kernel_ns); }},
    {"sync each", [](Time kernel_ns) { return waits_on_each(kernel_ns); }},
    {"graph of 20", [](Time kernel_ns) { return graphs(kernel_ns, 20); }},
};

TEST(Limits, AloneAreHeldForAnyKernelToTwoPointsAndToOneOnAverage) {
  double sum = 0;
  double count = 0;
  for (std::uint64_t seed = 1; seed <= seeds(2); ++seed) {
    for (const Kind& kind : kKinds) {
      for (const Time kernel : {20 * kUs, 100 * kUs, kMs, 5 * kMs, 20 * kMs, 50 * kMs}) {
        const bool is_graph = kind.name[0] == 'g';
        if (is_graph && kernel > 5 * kMs) continue;  // 0.4 s and more in one piece
        if (seed == 1)
          std::printf("%-12s %5llu us:", kind.name, (unsigned long long)(kernel / kUs));
        for (const int limit : {10, 30, 50, 80}) {
          Scenario scenario;
          scenario.length_ns = kWarmUpNs + 10 * kS;
          scenario.seed = seed;
          scenario.tenants = {tenant("limited", kind.make(kernel), limit, limit)};
          const Measured measured = measure(scenario);
          const Share& share = measured.shares[0];
          const Time piece = is_graph ? 20 * kernel : kernel;
          const double used = gpu_percent(100, share.alone, piece);
          const double got = gpu_percent(share.mean, share.alone, piece);
          const double error = got - std::min<double>(limit, used);
          if (seed == 1) std::printf("  %d%% %+.2f (%.3f)", limit, error, share.cov_250ms);
          EXPECT_LE(std::abs(error), 2.0) << kind.name << kernel / kUs << " us at " << limit;
          if (piece <= 5 * kMs) {
            // Of 5 ms kernels at 10 % a window has five; one that falls into the next makes 0.054.
            EXPECT_LE(share.cov_250ms, 0.055) << kind.name << kernel / kUs << " us at " << limit;
          }
          sum += std::abs(error);
          ++count;
        }
        if (seed == 1) std::printf("\n");
      }
    }
  }
  EXPECT_LE(sum / count, 0.5);
}

TEST(Limits, OfAHundredPercentCostNothing) {
  for (const Program& program : {queues(20 * kUs), waits_on_each(20 * kUs), queues(5 * kMs)}) {
    Scenario scenario;
    scenario.length_ns = kWarmUpNs + 5 * kS;
    scenario.tenants = {tenant("100", program, 100, 100)};
    EXPECT_GE(measure(scenario).shares[0].mean, 99.5);
  }
}

// They add up to the GPU, so what switching costs is missing from both; what they save up before a
// turn keeps them from switching at each kernel.
TEST(Limits, BesideEachOtherNeitherThrashNorLose) {
  const std::vector<std::pair<const char*, Program>> programs = {
      {"100 us queued", queues(100 * kUs)},
      {"100 us sync", waits_on_each(100 * kUs)},
      {"20 us sync", waits_on_each(20 * kUs)},
      {"1 ms queued", queues(kMs)},
      {"5 ms queued", queues(5 * kMs)}};
  for (const auto& [name, program] : programs) {
    for (const auto& [first, second] : {std::pair{30, 70}, {30, 50}, {20, 20}}) {
      for (std::uint64_t seed = 1; seed <= seeds(2); ++seed) {
        Scenario scenario;
        scenario.length_ns = kWarmUpNs + 10 * kS;
        scenario.seed = seed;
        scenario.tenants = {tenant("a", program, first, first),
                            tenant("b", program, second, second)};
        const Measured measured = measure(scenario);
        SCOPED_TRACE(name);
        if (seed == 1)
          report("fixed " + std::to_string(first) + "/" + std::to_string(second) + " " + name,
                 scenario, measured);
        for (std::size_t t = 0; t < 2; ++t) {
          // A limit is of GPU time; what a tenant uses alone is less where it waits for kernels.
          const double most = scenario.tenants[t].limit / std::max(measured.shares[t].alone, 1.0);
          EXPECT_GE(measured.shares[t].mean, scenario.tenants[t].limit - 1.0);
          EXPECT_LE(measured.shares[t].mean, most * 100 + 1.0);
        }
        EXPECT_LE(measured.result.switching_ns, scenario.length_ns / 40);
      }
    }
  }
}

TEST(Limits, BesideOneWithoutAShareHold) {
  for (std::uint64_t seed = 1; seed <= seeds(3); ++seed) {
    for (const int limit : {10, 30}) {
      Scenario scenario;
      scenario.length_ns = kWarmUpNs + 10 * kS;
      scenario.seed = seed;
      scenario.tenants = {tenant("fixed", queues(100 * kUs), limit, limit),
                          tenant("none", queues(100 * kUs), 0)};
      const Measured measured = measure(scenario);
      if (seed == 1) report("fixed " + std::to_string(limit) + " | no share", scenario, measured);
      EXPECT_NEAR(measured.shares[0].mean, limit, 1.0);
      EXPECT_GE(measured.sum, 97.0);
    }
  }
}

TEST(Limits, AreLimitsAlsoForAnElasticTenantWhoseNeighboursLeaveTime) {
  Scenario scenario;
  scenario.length_ns = kWarmUpNs + 10 * kS;
  scenario.tenants = {tenant("20 to 40", queues(100 * kUs), 20, 40),
                      tenant("light", paced(500 * kUs, 5 * kMs), 50)};
  const Measured measured = measure(scenario);
  report("20 up to 40 | paced", scenario, measured);
  EXPECT_NEAR(measured.shares[0].mean, 40, 1.5);
  EXPECT_GE(measured.shares[1].mean, 50);
}

TEST(Limits, OfSeveralProcessesComeRoundAmongThem) {
  for (std::uint64_t seed = 1; seed <= seeds(3); ++seed) {
    for (const bool beside : {false, true}) {
      Scenario scenario;
      scenario.seed = seed;
      scenario.length_ns = kWarmUpNs + 10 * kS;
      scenario.tenants = {tenant("four", queues(kMs), 30, 30)};
      scenario.tenants[0].processes = 4;
      if (beside) scenario.tenants.push_back(tenant("other", queues(kMs), 70));
      const Measured measured = measure(scenario);
      if (seed == 1)
        report(beside ? "fixed 30 by four | 70" : "fixed 30 by four", scenario, measured);
      EXPECT_NEAR(measured.shares[0].mean, 30, 2.0) << beside;
      const std::vector<std::uint64_t>& each = measured.result.tenants[0].by_sibling;
      const auto [least, most] = std::minmax_element(each.begin(), each.end());
      EXPECT_GE(*least * 4, *most * 3) << beside << ": " << *least << " to " << *most;
    }
  }
}

// It works for a second, sleeps for a minute, and works on.
Program sleeps_a_minute(Time kernel_ns, std::uint64_t first) {
  return [=](std::uint64_t n, std::mt19937_64&) {
    return Launch{.work_ns = kernel_ns,
                  .waits = (n + 1) % 64 == 0 || n + 1 == first,
                  .pause_ns = n + 1 == first ? 60 * kS : 0};
  };
}

TEST(Limits, AMinuteOfIdlingSavesUpOneBurst) {
  for (const bool beside : {false, true}) {
    Scenario scenario;
    scenario.length_ns = 70 * kS;
    scenario.tenants = {tenant("30", sleeps_a_minute(kMs, 300), 30, 30)};
    if (beside) scenario.tenants.push_back(tenant("other", queues(kMs), 70));
    const Result result = simulate(scenario);
    Time back = 0;
    for (std::size_t bin = 60 * kS / kBinNs; back == 0; ++bin) {
      if (result.tenants[0].work_ns[bin] != 0) back = bin * kBinNs;
    }
    const Time got = result.tenants[0].work_between(back, back + 5 * kS);
    EXPECT_LE(got, (5 * kS + core::kPaceBurstNs) * 30 / 100 + kMs) << beside;
    EXPECT_GE(got, 5 * kS * 29 / 100) << beside;
  }
}

TEST(Shares, AMinuteOfIdlingSavesUpOneBurst) {
  Scenario scenario;
  scenario.length_ns = 70 * kS;
  scenario.tenants = {tenant("30", sleeps_a_minute(kMs, 300), 30), tenant("70", queues(kMs), 70)};
  const Result result = simulate(scenario);
  Time back = 0;
  for (std::size_t bin = 60 * kS / kBinNs; back == 0; ++bin) {
    if (result.tenants[0].work_ns[bin] != 0) back = bin * kBinNs;
  }
  const Time got = result.tenants[0].work_between(back, back + 5 * kS);
  EXPECT_LE(got, (5 * kS + core::kCreditNs) * 30 / 100 + core::kLeastTurnNs);
  EXPECT_GE(got, 5 * kS * 29 / 100);
}

}  // namespace
}  // namespace vgpu::model

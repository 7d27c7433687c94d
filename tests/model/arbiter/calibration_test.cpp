// SPDX-License-Identifier: Apache-2.0
// The model of the GPU gives what an H200 gave: the table of turns and overlap (two tenants, sum of
// their rates in percent of one alone), within 3 points. What it can't give stands apart, with the
// reason. How many kernels the measured programs queued isn't recorded; 64 is what the same bench
// used elsewhere, and sums of queued rows depend on it by some points.
#include <gtest/gtest.h>

#include "programs.h"

namespace vgpu::model {
namespace {

constexpr double kWithin = 3.0;

double rate(const Result& result, std::size_t tenant, Time length) {
  return static_cast<double>(result.tenants[tenant].work_between(100 * kMs, length)) /
         static_cast<double>(length - 100 * kMs);
}

double sum_of(const Program& program, std::size_t tenants, Sharing sharing, Time turn = 0) {
  Scenario alone;
  alone.length_ns = 2 * kS;
  alone.sharing = Sharing::unmanaged;
  alone.tenants = {Tenant{.name = "alone", .program = program}};
  Scenario together = alone;
  together.sharing = sharing;
  together.turn_ns = turn;
  together.tenants.assign(tenants, alone.tenants[0]);
  const Result together_result = simulate(together);
  double sum = 0;
  for (std::size_t i = 0; i < tenants; ++i) sum += rate(together_result, i, alone.length_ns);
  return 100.0 * sum / rate(simulate(alone), 0, alone.length_ns);
}

struct Row {
  const char* name;
  Program program;
  double unmanaged;
  std::vector<std::pair<Time, double>> turns;
};

const std::vector<Row>& rows() {
  static const std::vector<Row> kRows = {
      {"20 us, sync each", waits_on_each(20 * kUs), 19.9, {{5 * kMs, 98.8}}},
      {"100 us, sync each",
       waits_on_each(100 * kUs),
       46.6,
       {{1 * kMs, 84.7}, {2 * kMs, 91.9}, {5 * kMs, 96.2}, {10 * kMs, 97.4}, {20 * kMs, 98.5}}},
      {"1 ms, sync each",
       waits_on_each(kMs),
       88.8,
       {{1 * kMs, 87.8}, {2 * kMs, 93.3}, {5 * kMs, 97.1}, {10 * kMs, 98.4}, {20 * kMs, 99.1}}},
      {"5 ms, sync each",
       waits_on_each(5 * kMs),
       90.2,
       {{1 * kMs, 97.2}, {2 * kMs, 97.2}, {5 * kMs, 97.1}, {10 * kMs, 98.5}, {20 * kMs, 99.2}}},
      {"50 us queued, 10 us gaps", queues(50 * kUs, 10 * kUs), 89.6, {{5 * kMs, 96.8}}},
      {"10 us queued, 30 us gaps", queues(10 * kUs, 30 * kUs), 181.6, {{5 * kMs, 98.9}}},
  };
  return kRows;
}

// The row of training as a CUDA graph (111.3) has no program here: what it does between replays
// wasn't recorded.
TEST(Calibration, GivesTheTableOfTurnsAndOverlap) {
  for (const Row& row : rows()) {
    const double unmanaged = sum_of(row.program, 2, Sharing::unmanaged);
    std::printf("%-27s unmanaged %6.1f (%6.1f)", row.name, unmanaged, row.unmanaged);
    EXPECT_NEAR(unmanaged, row.unmanaged, kWithin) << row.name;
    for (const auto& [turn, measured] : row.turns) {
      const double got = sum_of(row.program, 2, Sharing::exclusive_turns, turn);
      std::printf("  %2llu ms %5.1f (%5.1f)", static_cast<unsigned long long>(turn / kMs), got,
                  measured);
      EXPECT_NEAR(got, measured, kWithin) << row.name << ", turns of " << turn / kMs << " ms";
    }
    std::printf("\n");
  }
}

// Two sums of the table are above what two tenants can do in the model, 100 in turns and 200
// together: there the run alone, which is the unit, must have been slower than it could be.
TEST(Calibration, GivesTheMostThatThereIsWhereTheTableHasMore) {
  EXPECT_NEAR(sum_of(waits_on_each(5 * kUs), 2, Sharing::unmanaged), 11.5, kWithin);
  EXPECT_NEAR(sum_of(waits_on_each(5 * kUs), 2, Sharing::exclusive_turns, 5 * kMs), 97, kWithin)
      << "measured: 101.6";
  EXPECT_NEAR(sum_of(queues(10 * kUs, 42 * kUs, 2'000), 2, Sharing::unmanaged), 200, kWithin)
      << "launch-bound training, 18 % busy; measured: 203.7";
}

// 82 % busy each: both want more than half, and the sum depends on where in a slice a batch ends:
// 94.7 was measured, batches of 32 give 96, of 64 give 104.
TEST(Calibration, IsNineOffWhereABatchMeetsTheSliceUnlessItIsAnother) {
  EXPECT_NEAR(sum_of(queues(20 * kUs, 20 * kUs, 32), 2, Sharing::unmanaged), 94.7, kWithin);
  EXPECT_NEAR(sum_of(queues(20 * kUs, 20 * kUs, 64), 2, Sharing::unmanaged), 103.8, kWithin);
  EXPECT_NEAR(sum_of(queues(20 * kUs, 20 * kUs), 2, Sharing::exclusive_turns, 5 * kMs), 98.2,
              kWithin);
}

TEST(Calibration, GivesThreeTenantsAThirdOfWhatIsLeft) {
  EXPECT_NEAR(sum_of(waits_on_each(100 * kUs), 3, Sharing::unmanaged), 3 * 15.5, kWithin);
}

// Not of the table. It comes back just before the other's slice ends, since it sleeps for about a
// slice: so the median is short, and a sleep that ends late costs a whole slice more (p99 2,112).
TEST(Calibration, GivesThePacedTenantBesideASaturatingOne) {
  Scenario scenario;
  scenario.sharing = Sharing::unmanaged;
  scenario.tenants = {Tenant{.name = "paced", .program = paced(200 * kUs, 2 * kMs)}};
  EXPECT_NEAR(static_cast<double>(simulate(scenario).tenants[0].latency(0.5)), 219e3, 10e3);
  scenario.tenants.push_back(Tenant{.name = "saturating", .program = queues(kMs)});
  EXPECT_NEAR(static_cast<double>(simulate(scenario).tenants[0].latency(0.5)), 537e3, 60e3);
  scenario.tenants[0].program = paced(200 * kUs, 2'150 * kUs);
  EXPECT_NEAR(static_cast<double>(simulate(scenario).tenants[0].latency(0.99)), 2'112e3, 500e3);
}

}  // namespace
}  // namespace vgpu::model

// SPDX-License-Identifier: Apache-2.0
// What holds for any mix of tenants, drawn at random: nobody starves or waits beyond its bound,
// shares are kept, and the GPU isn't left idle while somebody wants it.
#include <gtest/gtest.h>

#include "measure.h"
#include "programs.h"

namespace vgpu::model {
namespace {

struct Drawn {
  Scenario scenario;
  std::vector<bool> saturates;
  Time longest_ns = 0;
};

Program draw_program(std::mt19937_64& random, bool& saturates, Time& longest) {
  const Time kernels[] = {20 * kUs, 50 * kUs, 100 * kUs, 500 * kUs, kMs, 3 * kMs, 10 * kMs};
  const Time kernel = kernels[random() % std::size(kernels)];
  longest = kernel;
  saturates = true;
  switch (random() % 5) {
    case 0:
      return queues(kernel);
    case 1:
      return waits_on_each(kernel);
    case 2:
      longest = 2 * kernel;
      return varies(kernel, 2, 16);
    case 3:
      saturates = false;
      return bursts(kernel, 1 + random() % 20, 20 * kMs);
    default:
      saturates = false;
      return paced(kernel, kMs + random() % (10 * kMs));
  }
}

Drawn draw(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Drawn drawn;
  drawn.scenario.seed = seed;
  drawn.scenario.length_ns = kWarmUpNs + 6 * kS;
  const std::size_t count = 2 + random() % 5;
  int left = 100;
  for (std::size_t i = 0; i < count; ++i) {
    const int share = i + 1 == count ? left : 5 + static_cast<int>(random() % 13);
    left -= share;
    bool saturates = false;
    Time longest = 0;
    Program program = draw_program(random, saturates, longest);
    if (i + 1 == count) program = queues(200 * kUs), saturates = true, longest = 200 * kUs;
    drawn.scenario.tenants.push_back(tenant("drawn", std::move(program), share));
    drawn.saturates.push_back(saturates);
    drawn.longest_ns = std::max(drawn.longest_ns, longest);
  }
  return drawn;
}

TEST(Properties, OfAnyMixOfTenants) {
  const std::uint64_t count = seeds(25);
  double sum = 0;
  double sum_without = 0;
  for (std::uint64_t seed = 1; seed <= count; ++seed) {
    const Drawn drawn = draw(seed);
    SCOPED_TRACE("seed " + std::to_string(seed));
    const Measured measured = measure(drawn.scenario);
    double gpu = 0;
    for (std::size_t t = 0; t < measured.shares.size(); ++t) {
      const Tenant& tenant = drawn.scenario.tenants[t];
      const Share& share = measured.shares[t];
      SCOPED_TRACE("tenant " + std::to_string(t));
      gpu += share.mean * share.alone / 100;
      // At least its share of what it does alone: less a part for the switches, which are more the
      // more there are.
      EXPECT_GE(share.mean, tenant.share * 0.93 - 0.7);
      // Nobody waits for longer than two rounds of everybody's turns and the debts that the longest
      // kernel makes at the smallest share.
      const Time round = std::max({core::kCycleNs, measured.shares.size() * core::kLeastTurnNs,
                                   100 * core::kLeastTurnNs / tenant.share});
      const Time debt = 100 * drawn.longest_ns / tenant.share;
      EXPECT_LE(measured.result.tenants[t].most_wait_ns, 3 * round + 3 * debt);
    }
    Scenario unmanaged = drawn.scenario;
    unmanaged.sharing = Sharing::unmanaged;
    const Measured without = measure(unmanaged);
    double gpu_without = 0;
    for (const Share& share : without.shares) gpu_without += share.mean * share.alone / 100;
    EXPECT_LE(gpu, 100.5);
    // Tenants that come back all the time are let in, for which others are switched away from.
    EXPECT_GE(gpu, std::min(gpu_without, 90.0) - 9);
    sum += gpu;
    sum_without += gpu_without;
  }
  std::printf("mixes drawn at random: %.1f %% of the GPU's time used, %.1f unmanaged\n",
              sum / static_cast<double>(count), sum_without / static_cast<double>(count));
  EXPECT_GE(sum, sum_without);
}

}  // namespace
}  // namespace vgpu::model

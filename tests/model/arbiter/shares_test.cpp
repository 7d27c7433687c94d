// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "measure.h"
#include "programs.h"

namespace vgpu::model {
namespace {

Tenant tenant(std::string name, Program program, int share, int limit = 0,
              Priority priority = Priority::normal) {
  Tenant made;
  made.name = std::move(name);
  made.program = std::move(program);
  made.share = static_cast<std::uint8_t>(share);
  made.limit = static_cast<std::uint8_t>(limit);
  made.priority = priority;
  return made;
}

TEST(Explore, Pairs) {
  const std::vector<std::pair<const char*, Program>> programs = {
      {"5 us sync", waits_on_each(5 * kUs)},     {"20 us sync", waits_on_each(20 * kUs)},
      {"100 us sync", waits_on_each(100 * kUs)}, {"1 ms sync", waits_on_each(kMs)},
      {"5 ms sync", waits_on_each(5 * kMs)},     {"20 ms sync", waits_on_each(20 * kMs)},
      {"20 us queued", queues(20 * kUs)},        {"100 us queued", queues(100 * kUs)},
      {"1 ms queued", queues(kMs)},              {"5 ms queued", queues(5 * kMs)},
      {"20 ms queued", queues(20 * kMs)},        {"50 ms queued", queues(50 * kMs)},
      {"50/10", queues(50 * kUs, 10 * kUs)},     {"20/20", queues(20 * kUs, 20 * kUs)},
      {"10/30", queues(10 * kUs, 30 * kUs)}};
  for (const auto& [name, program] : programs) {
    Scenario scenario;
    scenario.length_ns = 11 * kS;
    scenario.tenants = {tenant("a", program, 30), tenant("b", program, 70)};
    report(std::string("30/70 ") + name, scenario, measure(scenario));
  }
  Scenario scenario;
  scenario.length_ns = 11 * kS;
  scenario.tenants = {tenant("a", queues(50 * kMs), 30), tenant("b", queues(100 * kUs), 70)};
  report("30/70 50 ms queued, 0.1 ms queued", scenario, measure(scenario));
  scenario.tenants = {tenant("a", queues(100 * kUs), 30), tenant("b", waits_on_each(50 * kMs), 70)};
  report("30/70 0.1 ms queued, 50 ms sync", scenario, measure(scenario));
  scenario.tenants = {tenant("a", queues(100 * kUs), 20), tenant("b", waits_on_each(20*kUs), 30), tenant("c", queues(kMs), 50)};
  report("20/30/50", scenario, measure(scenario));
  scenario.tenants.clear();
  for (int i = 0; i < 10; ++i) scenario.tenants.push_back(tenant("x", i % 2 ? queues(100 * kUs) : waits_on_each(100*kUs), 10));
  report("10 at 10", scenario, measure(scenario));
}

TEST(Explore, One) {
  Scenario scenario;
  scenario.length_ns = 11 * kS;
  const Time k = strtoull(getenv("K"),0,10)*kUs;
  Program p = getenv("SYNC") ? waits_on_each(k) : queues(k, getenv("G") ? strtoull(getenv("G"),0,10)*kUs : 0);
  scenario.tenants = {tenant("a", p, 30), tenant("b", p, 70)};
  report(std::string("30/70 one"), scenario, measure(scenario));
}
TEST(Explore, Limits) {
  for (const Time kernel : {20 * kUs, 100 * kUs, kMs, 5 * kMs, 20 * kMs, 50 * kMs}) {
    for (const bool sync : {false, true}) {
      for (const int limit : {10, 30, 50, 80}) {
        Scenario scenario;
        scenario.length_ns = 11 * kS;
        scenario.tenants = {tenant("a", sync ? waits_on_each(kernel) : queues(kernel), limit, limit)};
        const Measured m = measure(scenario);
        const double factor = double(kernel + kBetweenKernelsNs) / double(kernel);
        const double used = m.shares[0].alone * factor;
        const double got = m.shares[0].mean / 100 * used;
        std::printf("%6lu us %s at %d: used alone %.1f got %.2f error %.2f cov %.3f\n", kernel / kUs, sync ? "sync  " : "queued", limit, used, got, got - std::min<double>(limit, used), m.shares[0].cov_250ms);
      }
    }
  }
}

}  // namespace
}  // namespace vgpu::model

// SPDX-License-Identifier: Apache-2.0
#pragma GCC diagnostic ignored "-Wconversion"
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
TEST(Explore, Launchy) {
  for (int gap : {20, 30, 42}) for (int seed = 1; seed < 5; ++seed) {
  Scenario scenario;
  scenario.length_ns = 21 * kS;
  scenario.seed = seed;
  Program p = queues(10 * kUs, gap * kUs, gap == 42 ? 2000: 64);
  scenario.tenants = {tenant("a", p, 30), tenant("b", p, 70)};
  Measured a = measure(scenario);
  scenario.sharing = Sharing::unmanaged;
  Measured b = measure(scenario);
  printf("gap %d seed %d: %.1f of %.1f = %.1f; later %.1f\n", gap, seed, a.sum, b.sum, a.sum / b.sum * 100, (percent(a.result.tenants[0], alone_rate(p), 10*kS, 20*kS)+percent(a.result.tenants[1], alone_rate(p), 10*kS, 20*kS)) / b.sum*100);
  }
}
TEST(Explore, More) {
  auto run = [](const char* name, std::vector<Tenant> tenants, Time length = 11 * kS) {
    Scenario scenario; scenario.length_ns = length; scenario.tenants = std::move(tenants);
    report(name, scenario, measure(scenario));
  };
  run("fixed 30/70 100us queued", {tenant("a", queues(100*kUs), 30, 30), tenant("b", queues(100*kUs), 70, 70)});
  run("fixed 30/70 100us sync", {tenant("a", waits_on_each(100*kUs), 30, 30), tenant("b", waits_on_each(100*kUs), 70, 70)});
  run("fixed 30/70 20us sync", {tenant("a", waits_on_each(20*kUs), 30, 30), tenant("b", waits_on_each(20*kUs), 70, 70)});
  run("fixed 30/70 5ms queued", {tenant("a", queues(5*kMs), 30, 30), tenant("b", queues(5*kMs), 70, 70)});
  run("fixed 30/50 100us queued", {tenant("a", queues(100*kUs), 30, 30), tenant("b", queues(100*kUs), 50, 50)});
  run("fixed 30, elastic 50", {tenant("a", queues(100*kUs), 30, 30), tenant("b", queues(100*kUs), 50)});
  run("fixed 10 beside elastic 0", {tenant("a", queues(100*kUs), 10, 10), tenant("b", queues(100*kUs), 0)});
  run("idle gaps 20ms: 30 bursts (20ms work) beside 70", {tenant("a", bursts(100*kUs, 200, 20*kMs), 30), tenant("b", queues(100*kUs), 70)});
  run("idle gaps 20ms: 50 bursts (20ms work) beside 50", {tenant("a", bursts(100*kUs, 200, 20*kMs), 50), tenant("b", queues(100*kUs), 50)});
  run("two with idle gaps 50/50", {tenant("a", bursts(100*kUs, 200, 20*kMs), 50), tenant("b", bursts(100*kUs, 200, 20*kMs), 50)});
  run("idle gaps 1ms/1ms beside 50", {tenant("a", bursts(100*kUs, 10, 1*kMs), 50), tenant("b", queues(100*kUs), 50)});
  run("without share x2", {tenant("a", queues(100*kUs), 0), tenant("b", waits_on_each(kMs), 0)});
  run("without share beside 60", {tenant("a", queues(100*kUs), 60), tenant("b", waits_on_each(kMs), 0), tenant("c", waits_on_each(kMs), 0)});
  run("oversubscribed 90/30", {tenant("a", queues(100*kUs), 90), tenant("b", queues(100*kUs), 30)});
  auto many = tenant("a", queues(100*kUs), 50); many.processes = 4;
  run("four processes 50 beside 50", {many, tenant("b", queues(100*kUs), 50)});
  run("varying x4", {tenant("a", varies(kMs, 4, 64), 30), tenant("b", varies(200*kUs, 4, 1), 70)});
  run("changes", {tenant("a", changes(20*kUs, 2*kMs, 100000, 64), 30), tenant("b", queues(100*kUs), 70)});
  run("graphs 20x100us / 20x1ms", {tenant("a", graphs(100*kUs, 20), 30), tenant("b", graphs(kMs, 20), 70)});
  run("endless beside 70", {tenant("a", queues(kNever, 0, 1), 30), tenant("b", queues(100*kUs), 70)});
  run("endless beside 30 and 40", {tenant("a", queues(kNever, 0, 1), 30), tenant("b", queues(100*kUs), 30), tenant("c", queues(100*kUs), 40)});
  run("high paced beside sat 1ms", {tenant("a", paced(200*kUs, 2*kMs), 30, 0, Priority::high), tenant("b", queues(kMs), 70)});
  run("launch-bound beside sat", {tenant("a", queues(10*kUs, 30*kUs), 50), tenant("b", queues(100*kUs), 50)});
  run("launch-bound x2 beside sat", {tenant("a", queues(10*kUs, 30*kUs), 30), tenant("b", queues(10*kUs, 30*kUs), 30), tenant("c", queues(100*kUs), 40)});
}
TEST(Explore, High) {
  for (Time kernel : {100*kUs, kMs, 10*kMs}) for (int seed = 1; seed < 4; ++seed) for (bool v : {false, true}) {
    Scenario scenario; scenario.length_ns = 20 * kS; scenario.seed = seed;
    Program hp = [v](std::uint64_t, std::mt19937_64& r) { return Launch{.work_ns = 200*kUs, .waits = true, .pause_ns = v ? kMs + r() % (2*kMs) : 2*kMs}; };
    scenario.tenants = {tenant("a", hp, 30, 0, Priority::high)};
    scenario.sharing = Sharing::unmanaged;
    Result alone = simulate(scenario);
    scenario.tenants.push_back(tenant("b", queues(kernel), 70));
    Result un = simulate(scenario);
    scenario.sharing = Sharing::arbiter;
    Measured m = measure(scenario);
    printf("kernel %lu us: alone p50 %lu p99 %lu; unmanaged %lu %lu; managed %lu %lu max %lu: added %.3f ms; other %.1f own %.1f steps %.0f\n", kernel/kUs, alone.tenants[0].latency(.5)/kUs, alone.tenants[0].latency(.99)/kUs,
      un.tenants[0].latency(.5)/kUs, un.tenants[0].latency(.99)/kUs, m.result.tenants[0].latency(.5)/kUs, m.result.tenants[0].latency(.99)/kUs,m.result.tenants[0].latency(1)/kUs, (m.result.tenants[0].latency(.99)-alone.tenants[0].latency(.99))/1e6, m.shares[1].mean, m.shares[0].mean, m.result.steps/20.0);
  }
}
TEST(Explore, HP1) {
    Scenario scenario; scenario.length_ns = 20 * kS;
    scenario.tenants = {tenant("a", paced(200*kUs, 2*kMs), 30, 0, Priority::high)};
    scenario.tenants.push_back(tenant("b", queues(10*kMs), 70));
    measure(scenario);
}
TEST(Explore, F1) {
    Scenario scenario; scenario.length_ns = 20 * kS;
    scenario.tenants = {tenant("a", queues(100*kUs), 10, 10), tenant("b", queues(100*kUs), 0)};
    measure(scenario);
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

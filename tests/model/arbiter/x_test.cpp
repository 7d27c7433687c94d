#pragma GCC diagnostic ignored "-Wconversion"
#include <gtest/gtest.h>
#include "measure.h"
#include "programs.h"
namespace vgpu::model { namespace {
TEST(X, One) {
      Scenario scenario;
      scenario.length_ns = kWarmUpNs + 10 * kS; scenario.seed = 3;
      scenario.tenants = {tenant("20", queues(100 * kUs), 20), tenant("30", waits_on_each(20 * kUs), 30),
                 tenant("50", queues(kMs), 50)};
      Measured m = measure(scenario);
      report("x", scenario, m);
      for (Time at = 0; at < 11*kS; at += 500*kMs) { for (auto& o : m.result.tenants) printf(" %.1f", o.work_between(at, at+500*kMs)/5e6); printf("\n"); }
}
}}

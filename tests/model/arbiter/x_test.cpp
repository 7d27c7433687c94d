#pragma GCC diagnostic ignored "-Wconversion"
#include <gtest/gtest.h>
#include "measure.h"
#include "programs.h"
namespace vgpu::model { namespace {
TEST(X, One) {
      Scenario scenario;
      scenario.length_ns = kWarmUpNs + 10 * kS;
      scenario.tenants = {tenant("gaps", bursts(100 * kUs, 1, 5 * kMs), 20), tenant("saturating", queues(100 * kUs), 80)};
      measure(scenario);
}
}}

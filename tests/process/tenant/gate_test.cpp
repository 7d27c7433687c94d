// SPDX-License-Identifier: Apache-2.0
// Programs whose launches pass the gate, because their tenant has a compute limit: whatever they do
// goes on as it would without.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "rig.h"

namespace {

using namespace vgpu::test;

Environment gated(const Rig& rig, int percent = 90) {
  Environment environment = rig.inside();
  environment["VGPU_COMPUTE_LIMIT"] = std::to_string(percent);
  return environment;
}

class GateOf : public testing::TestWithParam<const char*> {};

// A fifth of what it does under a limit of 100, and what it may save up before it begins. On the
// simulated GPU fills and copies take as long as the machine does, so of several runs the best
// without a bound counts, and the least with one.
TEST_P(GateOf, HoldsEveryKindOfWorkToItsLimit) {
  const auto done_under = [](int percent) {
    const Rig rig(kSmallLimitMib);
    Worker worker(gated(rig, percent));
    EXPECT_EQ(worker.ask("context").code, 0);
    const Answer answer = worker.ask(std::string("work 600 ") + GetParam());
    EXPECT_EQ(answer.code, 0);
    return static_cast<double>(answer.number);
  };
  expect_a_fifth_to_hold(done_under);
}

INSTANTIATE_TEST_SUITE_P(Work, GateOf, testing::Values("kernel", "graph", "fill", "copy"),
                         [](const auto& kind) { return std::string(kind.param); });

// A process that has begun no capture isn't asked whether it is captured (hooks/capture.h), so each
// way to begin the first one counts.
class CaptureBegunBy : public testing::TestWithParam<const char*> {};

TEST_P(CaptureBegunBy, IsLeftAloneInEveryMode) {
  constexpr long kLaunches = 300;
  const bool has_mode = !std::string_view(GetParam()).starts_with("v1");
  for (const char* mode : {"global", "thread", "relaxed"}) {
    if (!has_mode && mode != std::string_view("global")) continue;
    const Rig rig(kSmallLimitMib);
    Worker worker(gated(rig));
    ASSERT_EQ(worker.ask("context").code, 0);
    const Answer answer =
        worker.ask("record " + std::to_string(kLaunches) + " " + mode + " " + GetParam());
    EXPECT_EQ(answer.code, 0) << mode;
    EXPECT_EQ(answer.number, kLaunches) << mode << ": nodes of the graph";
  }
}

INSTANTIATE_TEST_SUITE_P(Entry, CaptureBegunBy,
                         testing::Values("v1", "v1_ptsz", "v2", "v2_ptsz", "graph", "graph_ptsz"),
                         [](const auto& entry) { return std::string(entry.param); });

// Contexts, streams, modules and graphs that come and go while others launch, and children that are
// forked in the middle.
TEST(Gate, OutlivesWhatItsEventsBelongTo) {
  const Rig rig(kSmallLimitMib);
  Worker worker(gated(rig));
  ASSERT_EQ(worker.ask("context").code, 0);
  ASSERT_EQ(worker.ask("storm 4").code, 0);
  ASSERT_EQ(worker.ask("info").code, 0);
}

}  // namespace

// SPDX-License-Identifier: Apache-2.0
// Programs whose launches pass the gate, because their tenant has a compute limit: whatever they do
// goes on as it would without.
#include <gtest/gtest.h>

#include "rig.h"

namespace {

using namespace vgpu::test;

constexpr long kLimitMib = 4096;

Environment gated(const Rig& rig) {
  Environment environment = rig.inside();
  environment["VGPU_COMPUTE_LIMIT"] = "90";
  return environment;
}

TEST(Gate, LeavesCapturesAloneInEveryMode) {
  constexpr long kLaunches = 300;
  for (const char* mode : {"global", "thread", "relaxed"}) {
    const Rig rig(kLimitMib);
    Worker worker(gated(rig));
    ASSERT_EQ(worker.ask("context").code, 0);
    const Answer answer =
        worker.ask(std::string("record ") + std::to_string(kLaunches) + " " + mode);
    EXPECT_EQ(answer.code, 0) << mode;
    EXPECT_EQ(answer.number, kLaunches) << mode << ": nodes of the graph";
  }
}

// Contexts, streams, modules and graphs that come and go while others launch, and children that are
// forked in the middle.
TEST(Gate, OutlivesWhatItsEventsBelongTo) {
  const Rig rig(kLimitMib);
  Worker worker(gated(rig));
  ASSERT_EQ(worker.ask("context").code, 0);
  ASSERT_EQ(worker.ask("storm 4").code, 0);
  ASSERT_EQ(worker.ask("info").code, 0);
}

}  // namespace

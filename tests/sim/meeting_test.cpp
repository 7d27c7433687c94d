// SPDX-License-Identifier: Apache-2.0
// Kernels of the simulated GPU that add to words in memory and wait for them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "simulated_driver.h"
#include "vgpu/sim/device_state.h"

namespace {

using testing::ElementsAre;
using testing::Ge;
using vgpu::sim::test::Probe;

constexpr int kNotReady = 600;
constexpr int kIllegalAddress = 700;

class MeetingKernels : public vgpu::sim::test::SimulatedDriver {
 protected:
  static Probe probe(std::vector<std::string> arguments) {
    return Probe(std::move(arguments), VGPU_MEETING_PROBE);
  }
};

TEST_F(MeetingKernels, AKernelAddsOneToAWordWhateverItsGrid) {
  EXPECT_THAT(probe({"arrive"}).rest(), ElementsAre(3));
}

TEST_F(MeetingKernels, AKernelWaitsForALaterLaunchInAnotherStreamAndThenTakesItsTime) {
  EXPECT_THAT(probe({"await"}).rest(), ElementsAre(kNotReady, 0, Ge(2000)));
}

TEST_F(MeetingKernels, AKernelOfAGraphWaitsToo) {
  EXPECT_THAT(probe({"graph"}).rest(), ElementsAre(kNotReady, 0));
}

TEST_F(MeetingKernels, AKernelThatWaitsHoldsItsPlacesAndNoOthers) {
  EXPECT_THAT(probe({"room"}).rest(), ElementsAre(kNotReady, 0, 0, Ge(4000), kNotReady, 0));
}

TEST_F(MeetingKernels, TwoGpusMeetStepByStep) {
  setenv("VGPU_SIM_DEVICES", "h200:2", 1);
  EXPECT_THAT(probe({"pair", "50"}).rest(), ElementsAre(50, 50, 1));
}

TEST_F(MeetingKernels, TwoProcessesMeetOnTwoGpus) {
  setenv("VGPU_SIM_DEVICES", "h200:2", 1);
  EXPECT_THAT(probe({"ranks", "50"}).rest(), ElementsAre(50, 50));
}

TEST_F(MeetingKernels, AWordThatLiesNowhereIsRefused) {
  EXPECT_THAT(probe({"astray"}).rest(), ElementsAre(kIllegalAddress));
}

TEST_F(MeetingKernels, AKernelThatWaitsIsBusyAndSharesTheDeviceWithAnotherProcess) {
  Probe spins = probe({"spin"});
  ASSERT_EQ(spins.line(), "ready");
  Probe works({"busy", "400"});
  ASSERT_EQ(works.line(), "ready");
  std::string why;
  auto* const device = vgpu::sim::DeviceState::open(why);
  ASSERT_NE(device, nullptr) << why;
  // The simulation never detaches, so what was opened stays reachable to the end.
  static auto* const opened = new std::vector<vgpu::sim::DeviceState*>;
  opened->push_back(device);
  const auto busy_ns = [device, &spins] {
    std::uint64_t own = 0;
    std::uint64_t others = 0;
    for (const auto& process : device->look(0).processes)
      (process.pid == spins.pid() ? own : others) += process.busy_ns;
    return std::pair(own, others);
  };
  const auto before = busy_ns();
  works.go();
  const auto done = works.line();
  const auto after = busy_ns();
  const auto own = after.first - before.first;
  const auto others = after.second - before.second;
  // By turns; what waits for each kernel leaves some of its own.
  EXPECT_GT(own, others / 5);
  EXPECT_GT(others, own / 5);
  EXPECT_GT(std::stoi(done), 20);  // kernels of 1 ms
  spins.go();
  EXPECT_THAT(spins.rest(), ElementsAre(kNotReady, 0));
}

}  // namespace

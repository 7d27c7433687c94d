// SPDX-License-Identifier: Apache-2.0
// A process of a run that has the GPU open without the limiter ends the run, with one line that
// names the cause; what has the limiter never does.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <ctime>

#include "tool.h"
#include "vgpu/platform/clock.h"
#include "vgpu/platform/file.h"
#include "vgpu/survey/process_tree.h"

namespace vgpu::cli_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class WatchTest : public ToolTest {
 protected:
  Result shell(const std::string& script) {
    return vgpu({"run", "-q", "--memory", "4GiB", "--", "sh", "-c", script});
  }
  void expect_ended(const Result& result, const std::string& cause) {
    EXPECT_EQ(result.exit_code, 125) << result.err;
    EXPECT_THAT(result.err, AllOf(HasSubstr("VG1301"), HasSubstr("opener"), HasSubstr(cause)));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  }
};

TEST_F(WatchTest, AStaticChildThatOpensTheGpuEndsTheRun) {
  expect_ended(shell(std::string(STATIC_OPENER) + " " + simulated_state_file()),
               "statically linked");
}

TEST_F(WatchTest, AnEscapeInADetachedSessionEndsTheRun) {
  expect_ended(shell("(setsid " + std::string(STATIC_OPENER) + " " + simulated_state_file() +
                     " &) ; while :; do sleep 1; done"),
               "statically linked");
}

TEST_F(WatchTest, AChildWithoutOurPreloadEndsTheRun) {
  expect_ended(shell("env -u LD_PRELOAD " + std::string(OPENER) + " " + simulated_state_file()),
               "LD_PRELOAD");
}

TEST_F(WatchTest, AChildThatLeftTheTenantEndsTheRun) {
  expect_ended(shell("env -u VGPU_TENANT " + std::string(OPENER) + " " + simulated_state_file()),
               "VGPU_TENANT");
}

TEST_F(WatchTest, AProgramThatReplacesItselfByAStaticOneEndsTheRun) {
  // The pid has acknowledged, the program that it is now has not.
  expect_ended(shell("exec " + std::string(STATIC_OPENER) + " " + simulated_state_file()),
               "statically linked");
}

TEST_F(WatchTest, AChildThatDoesNotOpenTheGpuMayBeAnything) {
  EXPECT_EQ(shell(std::string(STATIC_OPENER) + "; exit 6").exit_code, 6);
}

TEST_F(WatchTest, ForkedAndExecutedChildrenWithTheLimiterAreFine) {
  const Result result =
      shell(std::string(CLIENT) + " info fork=info && sh -c '" + CLIENT + " alloc=64'; exit 6");
  EXPECT_EQ(result.exit_code, 6) << result.err;
}

TEST_F(WatchTest, OfThoseThatHaveTheGpuOpenOnlyTheOneWithoutTheLimiterIsNamed) {
  // An escape makes the watch look while the others hold the GPU: a forked child, and a program
  // that another one became.
  const std::string fifo = folder() + "/fifo";
  const std::string out = folder() + "/holding";
  expect_ended(
      shell("mkfifo " + fifo + "; exec 3<>" + fifo + "; " + CLIENT + " info fork=hold <&3 >" + out +
            "1 & sh -c 'exec " + CLIENT + " alloc=64 hold' <&3 >" + out +
            "2 & until grep -qs holding " + out + "1 && grep -qs holding " + out +
            "2; do :; done; " + STATIC_OPENER + " " + simulated_state_file()),
      "statically linked");
}

// Whoever opens a GPU wakes the keepers of all runs on the machine.
TEST_F(WatchTest, CostsLittleHoweverOftenOthersOpenTheGpu) {
  Running run = start({"run", "-q", "--memory", "4GiB", "--", CLIENT, "info", "hold"});
  ASSERT_TRUE(run.wait_for("holding"));
  const auto below = survey::descendants_of(run.pid());
  const auto keeper = std::find_if(below.begin(), below.end(), [](pid_t pid) {
    return survey::program_name(pid) == "vgpu-keeper";
  });
  ASSERT_NE(keeper, below.end());
  clockid_t used = 0;
  ASSERT_EQ(clock_getcpuclockid(*keeper, &used), 0);
  const std::uint64_t used_ns = platform::clock_ns(used), begin_ns = platform::monotonic_ns();
  constexpr std::uint64_t kSpanNs = 2'000'000'000;
  while (platform::monotonic_ns() < begin_ns + kSpanNs) {
    const platform::File file(open(simulated_state_file().c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(file.is_open());
    sched_yield();
  }
  EXPECT_LT(platform::clock_ns(used) - used_ns, kSpanNs / 20);
  run.close_input();
  EXPECT_EQ(run.finish().exit_code, 0);
}

}  // namespace
}  // namespace vgpu::cli_test

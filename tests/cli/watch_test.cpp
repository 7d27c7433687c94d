// SPDX-License-Identifier: Apache-2.0
// A process of a run that has the GPU open without the limiter ends the run, with one line that
// names the cause; what has the limiter never does.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tool.h"

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

}  // namespace
}  // namespace vgpu::cli_test

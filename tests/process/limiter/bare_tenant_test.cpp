// SPDX-License-Identifier: Apache-2.0
// Settings as a program meets them that has nothing but variables and the preloaded library: what
// is said, how often, what initialisation answers, and what a tenant leaves behind. The program is
// the simulated nvidia-smi.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

struct Outcome {
  int status = -1;
  std::string out;
  std::string err;
};

class BareTenant : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "vgpu-bare-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    fs::create_directory(folder_ / "state");
    fs::permissions(folder_ / "state", fs::perms::owner_all);
  }
  void TearDown() override { fs::remove_all(folder_); }

  // `variables`: NAME=VALUE words for env. `command`: for sh.
  Outcome run(const std::string& variables, const std::string& command = "nvidia-smi") const {
    const std::string line =
        "env -i PATH=" VGPU_SIMULATED_DIR ":/usr/bin:/bin LD_LIBRARY_PATH=" VGPU_SIMULATED_DIR
        " VGPU_SIM_STATE=" +
        (folder_ / "gpu").string() + " VGPU_STATE_DIR=" + (folder_ / "state").string() +
        " LD_PRELOAD=" VGPU_LIMITER " " + variables + " sh -c '" + command + "' >" +
        (folder_ / "out").string() + " 2>" + (folder_ / "err").string();
    Outcome outcome;
    const int status = std::system(line.c_str());
    outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    outcome.out = text_of("out");
    outcome.err = text_of("err");
    return outcome;
  }

  std::size_t tenants() const {
    std::size_t count = 0;
    for (const auto& entry : fs::directory_iterator(folder_ / "state"))
      count += entry.path().extension() == ".tenant";
    return count;
  }

 private:
  std::string text_of(const char* name) const {
    std::ifstream file(folder_ / name);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }

  fs::path folder_;
};

std::size_t count_of(const std::string& text, const std::string& what) {
  std::size_t count = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1))
    ++count;
  return count;
}

TEST_F(BareTenant, WithoutLimitLeavesTheProgramAlone) {
  const Outcome outcome = run("VGPU_LOG=off", "nvidia-smi; env");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_EQ(outcome.err, "");
  EXPECT_THAT(outcome.out, Not(HasSubstr("VGPU_TENANT")));
  EXPECT_EQ(tenants(), 0u);
}

TEST_F(BareTenant, BadSettingFailsInitialisationWithOneLineOnStandardError) {
  const Outcome outcome = run("VGPU_MEMORY_LIMIT=0=4GiB,1=8Q");
  EXPECT_NE(outcome.status, 0);
  EXPECT_EQ(
      outcome.err.find("vgpu: VGPU_MEMORY_LIMIT=\"0=4GiB,1=8Q\", column 11: \"Q\" is not a unit"),
      0u)
      << outcome.err;
  EXPECT_EQ(count_of(outcome.err, "vgpu:"), 1u) << outcome.err;
  EXPECT_THAT(outcome.out, Not(HasSubstr("VGPU_MEMORY_LIMIT")));
  EXPECT_EQ(tenants(), 0u);
}

TEST_F(BareTenant, GpuThatIsNotThereIsRefused) {
  const Outcome outcome = run("'TENSOR_FUSION_CUDA_MEM_LIMIT={\"17\":1073741824}'");
  EXPECT_NE(outcome.status, 0);
  EXPECT_THAT(outcome.err, HasSubstr("no GPU here"));
}

TEST_F(BareTenant, LimitBelowOneContextIsRefused) {
  const Outcome outcome = run("CUDA_DEVICE_MEMORY_LIMIT=100m");
  EXPECT_NE(outcome.status, 0);
  EXPECT_THAT(outcome.err, HasSubstr("can't be met"));
}

TEST_F(BareTenant, OpenOnErrorRunsUnlimitedWithAWarning) {
  const Outcome outcome = run("VGPU_MEMORY_LIMIT=8Q VGPU_ON_ERROR=open");
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("VGPU_MEMORY_LIMIT=\"8Q\""));
  EXPECT_THAT(outcome.err, HasSubstr("without limits"));
}

TEST_F(BareTenant, WhatIsIgnoredIsSaidOnceForAllProcesses) {
  const Outcome outcome = run("VGPU_MEMORY_LIMIT=4GiB CUDA_MEM_RATIO=2 CUDA_OVERSUBSCRIBE=true",
                              "nvidia-smi; nvidia-smi; nvidia-smi");
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(count_of(outcome.err, "CUDA_MEM_RATIO="), 1u) << outcome.err;
  EXPECT_EQ(count_of(outcome.err, "CUDA_OVERSUBSCRIBE"), 1u) << outcome.err;
  EXPECT_EQ(tenants(), 1u);
}

// Tenants by variables have nobody who ends them; they must not pile up all the same.
TEST_F(BareTenant, LeavesItsStateToTheNextToClearAway) {
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(run("VGPU_MEMORY_LIMIT=4GiB").status, 0);
    EXPECT_EQ(tenants(), 1u);
  }
}

TEST_F(BareTenant, LivesOnWhileTheNextIsMade) {
  // The first program's shell goes on under its own tenant after another one was made beside it.
  const std::string other = "env -u VGPU_TENANT VGPU_MEMORY_LIMIT=8GiB nvidia-smi";
  const Outcome outcome = run("VGPU_MEMORY_LIMIT=4GiB", "nvidia-smi; " + other + "; nvidia-smi");
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
}

}  // namespace

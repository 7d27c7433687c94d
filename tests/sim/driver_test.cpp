// SPDX-License-Identifier: Apache-2.0
// The simulated driver's own rules, which no real one could answer for: faults, threads, time,
// turns between processes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

namespace {

using testing::ElementsAre;

// A running sim_probe.
class Probe {
 public:
  explicit Probe(std::vector<std::string> arguments) {
    int in[2];
    int out[2];
    if (pipe(in) != 0 || pipe(out) != 0) std::abort();
    pid_ = fork();
    if (pid_ == 0) {
      dup2(in[0], STDIN_FILENO);
      dup2(out[1], STDOUT_FILENO);
      for (const int fd : {in[0], in[1], out[0], out[1]}) close(fd);
      std::vector<char*> argv;
      static std::string program = VGPU_SIM_PROBE;
      static std::string driver = VGPU_SIMULATED_DRIVER;
      argv = {program.data(), driver.data()};
      for (std::string& argument : arguments) argv.push_back(argument.data());
      argv.push_back(nullptr);
      execv(program.c_str(), argv.data());
      _exit(127);
    }
    close(in[0]);
    close(out[1]);
    in_ = in[1];
    out_ = out[0];
  }
  std::string line() {
    std::string text;
    char c = 0;
    while (read(out_, &c, 1) == 1 && c != '\n') text += c;
    return text;
  }
  void go() { (void)!write(in_, "g", 1); }
  std::vector<int> rest() {
    std::string text;
    char buffer[512];
    for (ssize_t size = 0; (size = read(out_, buffer, sizeof buffer)) > 0;)
      text.append(buffer, static_cast<std::size_t>(size));
    close(in_);
    close(out_);
    waitpid(pid_, &status_, 0);
    std::istringstream words(text);
    std::vector<int> numbers;
    for (int number = 0; words >> number;) numbers.push_back(number);
    return numbers;
  }
  int status() const { return status_; }

 private:
  pid_t pid_ = 0;
  int in_ = -1;
  int out_ = -1;
  int status_ = 0;
};

class SimulatedDriver : public testing::Test {
 protected:
  SimulatedDriver() {
    folder_ = testing::TempDir() + "vgpu-sim-" + std::to_string(getpid()) + "-" +
              testing::UnitTest::GetInstance()->current_test_info()->name();
    setenv("VGPU_SIM_STATE", folder_.c_str(), 1);
    setenv("VGPU_SIM_DEVICES", "h200:1", 1);
    for (const char* name : {"VGPU_SIM_FAULT", "VGPU_SIM_LEGACY", "VGPU_SIM_MEMORY",
                             "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"})
      unsetenv(name);
  }
  ~SimulatedDriver() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

TEST_F(SimulatedDriver, TheNthCallFailsWithTheCodeThatWasAskedFor) {
  setenv("VGPU_SIM_FAULT", "cuMemAlloc_v2:2:error=2;cuMemAlloc_v2:4:error=999", 1);
  EXPECT_THAT(Probe({"alloc", "5"}).rest(), ElementsAre(0, 2, 0, 999, 0));
}

TEST_F(SimulatedDriver, EveryCallFailsWithAStar) {
  setenv("VGPU_SIM_FAULT", "cuMemAlloc_v2:*:error=2", 1);
  EXPECT_THAT(Probe({"alloc", "3"}).rest(), ElementsAre(2, 2, 2));
}

TEST_F(SimulatedDriver, TheProcessDiesAtTheCallThatWasAskedFor) {
  setenv("VGPU_SIM_FAULT", "cuMemAlloc_v2:3:die", 1);
  Probe probe({"alloc", "5"});
  EXPECT_THAT(probe.rest(), ElementsAre(0, 0));
  EXPECT_TRUE(WIFSIGNALED(probe.status()) && WTERMSIG(probe.status()) == SIGKILL);
}

TEST_F(SimulatedDriver, AFaultThatCantBeReadHasNoEffect) {
  setenv("VGPU_SIM_FAULT", "cuMemAlloc_v2:0:error=2;nonsense;cuNoSuchName:1:die", 1);
  EXPECT_THAT(Probe({"alloc", "2"}).rest(), ElementsAre(0, 0));
}

TEST_F(SimulatedDriver, HasNoThreadBeforeTheFirstWork) {
  const auto threads = Probe({"threads"}).rest();
  ASSERT_EQ(threads.size(), 3u);
  EXPECT_EQ(threads[0], 1);
  EXPECT_EQ(threads[1], 1);
  EXPECT_GT(threads[2], 1);
}

TEST_F(SimulatedDriver, KernelsOfAStreamQueueAndThoseOfSeveralOverlapWhereTheyFit) {
  const auto us = Probe({"order"}).rest();
  ASSERT_EQ(us.size(), 4u);
  EXPECT_GE(us[0], 2000);
  EXPECT_GE(us[1], 6000);   // three in a row
  EXPECT_LT(us[2], us[1]);  // three side by side
  EXPECT_GE(us[3], 4000);   // each fills the device
}

TEST_F(SimulatedDriver, RefusesToWorkInAForkedChild) {
  EXPECT_THAT(Probe({"fork"}).rest(), ElementsAre(3, 3));
}

TEST_F(SimulatedDriver, RunsACapturedGraphInOrderEachTimeItIsLaunched) {
  EXPECT_THAT(Probe({"graph"}).rest(), ElementsAre(0, 6));
}

TEST_F(SimulatedDriver, OldEntriesWorkOnlyWhereTheOldDriverIsAskedFor) {
  EXPECT_THAT(Probe({"legacy"}).rest(), ElementsAre(2, 201, 0));
  setenv("VGPU_SIM_LEGACY", "1", 1);
  EXPECT_THAT(Probe({"legacy"}).rest(), ElementsAre(0, 0, 1));
}

TEST_F(SimulatedDriver, TwoProcessesShareTheDeviceByTurns) {
  Probe first({"busy", "600"});
  Probe second({"busy", "600"});
  first.line();
  second.line();
  first.go();
  second.go();
  const auto a = first.rest();
  const auto b = second.rest();
  ASSERT_EQ(a.size(), 1u);
  ASSERT_EQ(b.size(), 1u);
  // 600 kernels of 1 ms is what one process could do at the very best; together they can't do more,
  // and both get on.
  EXPECT_LE(a[0] + b[0], 610);
  EXPECT_GT(a[0], 20);
  EXPECT_GT(b[0], 20);
}

}  // namespace

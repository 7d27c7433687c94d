// SPDX-License-Identifier: Apache-2.0
// A simulated machine for one test, and programs on it.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

namespace vgpu::sim::test {

// A running program, which gets the driver's path and these arguments.
class Probe {
 public:
  explicit Probe(std::vector<std::string> arguments, std::string program = VGPU_SIM_PROBE) {
    int in[2];
    int out[2];
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) std::abort();
    pid_ = fork();
    if (pid_ == 0) {
      dup2(in[0], STDIN_FILENO);
      dup2(out[1], STDOUT_FILENO);
      std::string driver = VGPU_SIMULATED_DRIVER;
      std::vector<char*> argv = {program.data(), driver.data()};
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
    close(in_);
    std::string text;
    char buffer[512];
    for (ssize_t size = 0; (size = read(out_, buffer, sizeof buffer)) > 0;)
      text.append(buffer, static_cast<std::size_t>(size));
    close(out_);
    waitpid(pid_, &status_, 0);
    std::istringstream words(text);
    std::vector<int> numbers;
    for (int number = 0; words >> number;) numbers.push_back(number);
    return numbers;
  }
  int status() const { return status_; }
  pid_t pid() const { return pid_; }

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

}  // namespace vgpu::sim::test

// SPDX-License-Identifier: Apache-2.0
// Runs the tool as a user would, in an environment of its own: a fresh state directory and a fresh
// simulated machine, gone when the test ends. Nothing of the tester's VGPU_*, CUDA_* or LD_*
// variables gets in.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace vgpu::cli_test {

struct Result {
  int exit_code = -1;  // -n: ended by signal n
  std::string out;
  std::string err;
};

// A tool that runs beside the test.
class Running {
 public:
  Running(pid_t pid, int in, int out, int err) : pid_(pid), in_(in), out_(out), err_(err) {}
  Running(Running&& other) noexcept;
  Running& operator=(Running&&) = delete;
  ~Running();

  pid_t pid() const { return pid_; }
  // Reads standard output until `text` has come; false when it ended before.
  bool wait_for(const std::string& text);
  // The same of standard error.
  bool wait_for_message(const std::string& text);
  void send(int signal) const;
  void close_input();
  Result finish();

 private:
  pid_t pid_;
  int in_, out_, err_;
  std::string read_, said_;
};

class ToolTest : public testing::Test {
 protected:
  ToolTest();
  ~ToolTest() override;

  Result vgpu(const std::vector<std::string>& arguments);
  Running start(const std::vector<std::string>& arguments);
  // Another program in the same environment, without the tool.
  Running start_program(const std::vector<std::string>& words);
  // The same with a terminal for all three files, which becomes its controlling one.
  pid_t start_on(const std::string& terminal, const std::vector<std::string>& words);
  void set(const std::string& name, const std::string& value) { environment_[name] = value; }
  void unset(const std::string& name) { environment_.erase(name); }
  const std::string& folder() const { return folder_; }
  std::string simulated_state_file() const { return folder_ + "/sim/devices"; }
  std::string write_file(const std::string& name, const std::string& content, unsigned mode);

 private:
  pid_t start_with(const std::vector<std::string>& words, const std::function<void()>& in_child);

  std::string folder_;
  std::map<std::string, std::string> environment_;
};

// `text` is what golden/NAME holds; VGPU_UPDATE_GOLDEN=1 writes it there.
void expect_golden(const std::string& name, const std::string& text);

}  // namespace vgpu::cli_test

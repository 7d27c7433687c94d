// SPDX-License-Identifier: Apache-2.0
// Starts programs for the tests of this folder: with an environment that begins empty, on a
// simulated machine of their own, and with the limiter where a test says so.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace nvml_test {

using Environment = std::map<std::string, std::string>;
using Words = std::vector<std::string>;

// A folder for the simulated machine and the tenants on it; gone with the test.
class Machine {
 public:
  explicit Machine(std::string devices = "a10:1,h200:2") : devices_(std::move(devices)) {
    char name[] = "/tmp/vgpu-nvml-XXXXXX";
    folder_ = mkdtemp(name);
  }
  ~Machine() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  Environment plain() const {
    return {{"PATH", "/usr/bin:/bin"},
            {"LD_LIBRARY_PATH", VGPU_SIMULATED_DIR},
            {"VGPU_SIM_STATE", folder_ + "/gpus"},
            {"VGPU_SIM_DEVICES", devices_},
            {"VGPU_STATE_DIR", folder_ + "/tenants"}};
  }
  Environment limited(const Environment& settings) const {
    Environment environment = plain();
    environment["LD_PRELOAD"] = VGPU_LIMITER_LIBRARY;
    for (const auto& [name, value] : settings) environment[name] = value;
    return environment;
  }

 private:
  std::string folder_;
  std::string devices_;
};

struct Output {
  int status = -1;
  std::string out;
  std::string err;

  // The lines that begin with a word, without it.
  Words lines(const std::string& word) const {
    Words found;
    std::istringstream stream(out);
    for (std::string line; std::getline(stream, line);) {
      if (line.starts_with(word + " ")) found.push_back(line.substr(word.size() + 1));
    }
    return found;
  }
};

class Program {
 public:
  Program(const Words& words, const Environment& environment) {
    int in[2], out[2], err[2];
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0)
      return;
    std::vector<char*> arguments;
    for (const auto& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    std::vector<std::string> entries;
    for (const auto& [name, value] : environment) entries.push_back(name + "=" + value);
    std::vector<char*> variables;
    for (auto& entry : entries) variables.push_back(entry.data());
    variables.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(in[0], 0);
      dup2(out[1], 1);
      dup2(err[1], 2);
      execve(arguments[0], arguments.data(), variables.data());
      _exit(127);
    }
    close(in[0]);
    close(out[1]);
    close(err[1]);
    in_ = in[1];
    out_ = out[0];
    err_ = err[0];
  }
  ~Program() {
    if (pid_ > 0) finish();
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Reads until a line "ready PID"; the pid as the program knows it, 0 if it ended instead.
  int wait_until_ready() {
    while (true) {
      const std::size_t at = output_.out.find("ready ");
      if (at != std::string::npos && output_.out.find('\n', at) != std::string::npos) {
        return std::atoi(output_.out.c_str() + at + 6);
      }
      char bytes[4096];
      const ssize_t size = read(out_, bytes, sizeof(bytes));
      if (size <= 0) return 0;
      output_.out.append(bytes, static_cast<std::size_t>(size));
    }
  }

  // Closes its stdin, reads the rest, waits for it.
  Output finish() {
    close(in_);
    pollfd sources[2] = {{out_, POLLIN, 0}, {err_, POLLIN, 0}};
    while (sources[0].fd >= 0 || sources[1].fd >= 0) {
      poll(sources, 2, -1);
      for (int i = 0; i < 2; ++i) {
        if (sources[i].fd < 0 || sources[i].revents == 0) continue;
        char bytes[4096];
        const ssize_t size = read(sources[i].fd, bytes, sizeof(bytes));
        if (size <= 0) {
          close(sources[i].fd);
          sources[i].fd = -1;
        } else {
          (i == 0 ? output_.out : output_.err).append(bytes, static_cast<std::size_t>(size));
        }
      }
    }
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    output_.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return output_;
  }

  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  int in_ = -1;
  int out_ = -1;
  int err_ = -1;
  Output output_;
};

inline Output run(const Words& words, const Environment& environment) {
  return Program(words, environment).finish();
}

inline Words probe(Words commands) {
  commands.insert(commands.begin(), VGPU_NVML_PROBE);
  return commands;
}

inline Words smi(Words options) {
  options.insert(options.begin(), std::string(VGPU_SIMULATED_DIR) + "/nvidia-smi");
  return options;
}

}  // namespace nvml_test

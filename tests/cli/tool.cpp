// SPDX-License-Identifier: Apache-2.0
// Processes, pipes and folders behind tool.h.
#include "tool.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

namespace vgpu::cli_test {
namespace {

struct Pipe {
  int read_end = -1, write_end = -1;
  Pipe() {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) == 0) {
      read_end = ends[0];
      write_end = ends[1];
    }
  }
};

// True: something came. False: it ended.
bool read_some(int file, std::string& out) {
  std::array<char, 4096> chunk{};
  const ssize_t got = read(file, chunk.data(), chunk.size());
  if (got > 0) out.append(chunk.data(), static_cast<std::size_t>(got));
  return got > 0;
}

void close_once(int& file) {
  if (file >= 0) close(std::exchange(file, -1));
}

}  // namespace

Running::Running(Running&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      in_(std::exchange(other.in_, -1)),
      out_(std::exchange(other.out_, -1)),
      err_(std::exchange(other.err_, -1)),
      read_(std::move(other.read_)),
      said_(std::move(other.said_)) {}

Running::~Running() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  close_once(in_);
  close_once(out_);
  close_once(err_);
}

bool Running::wait_for(const std::string& text) {
  while (read_.find(text) == std::string::npos) {
    if (!read_some(out_, read_)) return false;
  }
  return true;
}

bool Running::wait_for_message(const std::string& text) {
  while (said_.find(text) == std::string::npos) {
    if (!read_some(err_, said_)) return false;
  }
  return true;
}

void Running::send(int signal) const { kill(pid_, signal); }

void Running::close_input() { close_once(in_); }

Result Running::finish() {
  Result result;
  close_once(in_);
  result.out = read_;
  result.err = said_;
  std::array<pollfd, 2> sources{{{out_, POLLIN, 0}, {err_, POLLIN, 0}}};
  while (sources[0].fd >= 0 || sources[1].fd >= 0) {
    poll(sources.data(), sources.size(), -1);
    if (sources[0].revents != 0 && !read_some(out_, result.out)) sources[0].fd = -1;
    if (sources[1].revents != 0 && !read_some(err_, result.err)) sources[1].fd = -1;
  }
  int status = 0;
  waitpid(std::exchange(pid_, -1), &status, 0);
  result.exit_code = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
  return result;
}

ToolTest::ToolTest() {
  std::string pattern = testing::TempDir() + "vgpu-cli-XXXXXX";
  folder_ = mkdtemp(pattern.data());
  environment_ = {{"PATH", "/usr/local/bin:/usr/bin:/bin"}, {"VGPU_STATE_DIR", folder_ + "/state"},
                  {"VGPU_SIM_STATE", folder_ + "/sim"},     {"VGPU_SIMULATED", "1"},
                  {"VGPU_SIM_DEVICES", "a10,h200"},         {"HOME", folder_}};
}

ToolTest::~ToolTest() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

Running ToolTest::start(const std::vector<std::string>& arguments) {
  std::vector<std::string> words{TOOL};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return start_program(words);
}

pid_t ToolTest::start_with(const std::vector<std::string>& program,
                           const std::function<void()>& in_child) {
  std::vector<std::string> words = program, settings;
  for (const auto& [name, value] : environment_) settings.push_back(name + "=" + value);
  std::vector<char*> argv, environment;
  for (auto& word : words) argv.push_back(word.data());
  for (auto& setting : settings) environment.push_back(setting.data());
  argv.push_back(nullptr);
  environment.push_back(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    in_child();
    execve(argv[0], argv.data(), environment.data());
    _exit(99);
  }
  return pid;
}

Running ToolTest::start_program(const std::vector<std::string>& program) {
  Pipe in, out, err;
  const pid_t pid = start_with(program, [&] {
    setpgid(0, 0);
    dup2(in.read_end, STDIN_FILENO);
    dup2(out.write_end, STDOUT_FILENO);
    dup2(err.write_end, STDERR_FILENO);
  });
  setpgid(pid, pid);
  close(in.read_end);
  close(out.write_end);
  close(err.write_end);
  return {pid, in.write_end, out.read_end, err.read_end};
}

pid_t ToolTest::start_on(const std::string& terminal, const std::vector<std::string>& words) {
  return start_with(words, [&] {
    setsid();
    const int file = open(terminal.c_str(), O_RDWR);  // of a session without one: its terminal
    for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(file, standard);
    if (file > STDERR_FILENO) close(file);
  });
}

Result ToolTest::vgpu(const std::vector<std::string>& arguments) {
  return start(arguments).finish();
}

std::string ToolTest::write_file(const std::string& name, const std::string& content,
                                 unsigned mode) {
  const std::string path = folder_ + "/" + name;
  std::ofstream(path, std::ios::binary) << content;
  chmod(path.c_str(), mode);
  return path;
}

void expect_golden(const std::string& name, const std::string& text) {
  const std::string path = std::string(GOLDEN_FOLDER) + "/" + name;
  if (std::getenv("VGPU_UPDATE_GOLDEN") != nullptr) {
    std::filesystem::create_directories(GOLDEN_FOLDER);
    std::ofstream(path) << text;
    return;
  }
  std::ifstream file(path);
  const std::string expected{std::istreambuf_iterator<char>(file), {}};
  EXPECT_EQ(text, expected) << path;
}

}  // namespace vgpu::cli_test

// SPDX-License-Identifier: Apache-2.0
#include "run.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>

namespace vgpu::test {
namespace {

// A command and an environment as execve takes them.
class Image {
 public:
  Image(const std::vector<std::string>& command,
        const std::map<std::string, std::string>& environment) {
    for (const std::string& word : command) argv_.push_back(const_cast<char*>(word.c_str()));
    argv_.push_back(nullptr);
    for (const auto& [name, value] : environment) entries_.push_back(name + "=" + value);
    for (std::string& entry : entries_) envp_.push_back(entry.data());
    envp_.push_back(nullptr);
  }
  void execute() { execve(argv_[0], argv_.data(), envp_.data()); }

 private:
  std::vector<char*> argv_;
  std::vector<std::string> entries_;
  std::vector<char*> envp_;
};

}  // namespace

std::size_t count_system_calls(const std::vector<std::string>& command,
                               const std::map<std::string, std::string>& environment) {
  Image image(command, environment);
  const pid_t child = fork();
  if (child == 0) {
    const int nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, 1);
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(127);
    image.execute();  // stops here for the parent
    _exit(127);
  }
  int status = 0;
  std::size_t stops = 0;
  waitpid(child, &status, 0);
  while (WIFSTOPPED(status)) {
    if (ptrace(PTRACE_SYSCALL, child, nullptr, nullptr) != 0) return 0;
    waitpid(child, &status, 0);
    ++stops;
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? stops / 2
                                                       : 0;  // a stop at entry, one at exit
}

Ended run(const std::vector<std::string>& command,
          const std::map<std::string, std::string>& environment) {
  Image image(command, environment);
  int out[2];
  int err[2];
  if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
  const pid_t child = fork();
  if (child == 0) {
    dup2(out[1], 1);
    dup2(err[1], 2);
    image.execute();
    _exit(127);
  }
  close(out[1]);
  close(err[1]);
  Ended ended;
  pollfd ends[] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
  std::string* texts[] = {&ended.out, &ended.err};
  for (int open = 2; open > 0;) {
    if (poll(ends, 2, -1) < 0) continue;
    for (int i = 0; i < 2; ++i) {
      if (ends[i].fd < 0 || ends[i].revents == 0) continue;
      char buffer[4096];
      const ssize_t got = read(ends[i].fd, buffer, sizeof(buffer));
      if (got > 0) {
        texts[i]->append(buffer, static_cast<std::size_t>(got));
      } else {
        close(ends[i].fd);
        ends[i].fd = -1;
        --open;
      }
    }
  }
  int status = 0;
  waitpid(child, &status, 0);
  ended.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return ended;
}

TemporaryDirectory::TemporaryDirectory() {
  std::string name = (std::filesystem::temp_directory_path() / "vgpu-binding-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
  path_ = name;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace vgpu::test

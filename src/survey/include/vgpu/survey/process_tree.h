// SPDX-License-Identifier: Apache-2.0
// What /proc says about the processes of a run: who descends from whom, who has the GPU open, who
// they are. Everything may vanish between two reads; a process that is gone answers with nothing.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace vgpu::survey {

struct ProcessIdentity {
  pid_t pid = 0;
  std::uint64_t start_time_ticks = 0;
  std::uint64_t executable_device =
      0;  // with the inode: another program after exec is another identity
  std::uint64_t executable_inode = 0;
  friend auto operator<=>(const ProcessIdentity&, const ProcessIdentity&) = default;
};

// All descendants of `root`, without it.
std::vector<pid_t> descendants_of(pid_t root);

// False: it is gone, or has begun to exit.
bool identify(pid_t pid, ProcessIdentity& identity);

// The pid that the process itself sees (the innermost of NSpid).
pid_t pid_in_own_namespace(pid_t pid);
// The inode of its PID namespace, 0 if it can't be read.
std::uint64_t pid_namespace_of(pid_t pid);

// From a pid in another PID namespace to the pid here. Looks through all processes once, when the
// first foreign one is asked for.
class PidTranslator {
 public:
  // 0: in a namespace that can't be looked into, or gone.
  pid_t outer_pid(std::uint64_t pid_namespace, pid_t pid);

 private:
  std::uint64_t own_ = pid_namespace_of(getpid());
  bool scanned_ = false;
  std::map<std::pair<std::uint64_t, pid_t>, pid_t> by_inner_;
};

// The folder of the simulated GPU's shared state.
std::string simulated_state_folder();

// The files that mean use of a GPU: device nodes, and the simulated GPU's state.
class GpuFiles {
 public:
  explicit GpuFiles(std::string simulated_state_folder)
      : simulated_(std::move(simulated_state_folder)) {}
  bool is_gpu(std::string_view path) const;
  // What can be watched for being opened.
  std::vector<std::string> watchable() const;
  const std::string& simulated_folder() const { return simulated_; }

 private:
  std::string simulated_;
};

// Has the process one of them open or mapped?
bool uses_gpu(pid_t pid, const GpuFiles& files);
bool has_mapped(pid_t pid, std::string_view file_name);

std::string program_name(pid_t pid);  // "-" if unknown
std::string command_line(pid_t pid);
std::string user_name(uid_t uid);  // its number where nobody has that one

}  // namespace vgpu::survey

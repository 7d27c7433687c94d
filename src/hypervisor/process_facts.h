// SPDX-License-Identifier: Apache-2.0
// What /proc says of a process, asked once and kept while it is the same process. One thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "daemon_options.h"
#include "node_state.h"

namespace vgpu::hypervisor {

struct ProcessFacts {
  std::uint64_t start_time_ticks = 0;
  pid_t own_pid = 0;
  std::optional<uid_t> owner;
  std::string user;
  std::string program;
  std::string command_line;
  LimiterPresence limiter = LimiterPresence::unknown;
  bool exempt = false;
};

class ProcessBook {
 public:
  // `start_time_ticks`: of a tenant's process, which the segment says is alive; 0: whichever has
  // that pid, with its limiter looked for. nullptr: it is
  // gone. Valid until tidy().
  const ProcessFacts* of(pid_t pid, std::uint64_t start_time_ticks, std::uint64_t now_ns,
                         const DaemonOptions& options);
  // Of one that of() has just found: is it in a container (containment.h)? Asked once: it takes
  // reading more of /proc.
  bool is_contained(pid_t pid);
  // Forgets those that nobody asked for since the last time.
  void tidy();

 private:
  struct Entry {
    ProcessFacts facts;
    std::uint64_t checked_ns = 0;  // that it is the same process still
    std::uint64_t read_ns = 0;
    bool used = false;
    std::optional<bool> is_contained{};
    bool is_member = false;  // of a tenant: without limiter and exemption
  };
  const std::string& user_of(uid_t uid);
  ProcessFacts read(pid_t pid, bool is_member, const DaemonOptions& options);

  std::map<pid_t, Entry> entries_;
  std::map<uid_t, std::string> users_;
};

}  // namespace vgpu::hypervisor

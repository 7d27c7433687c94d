// SPDX-License-Identifier: Apache-2.0
// Processes under the predecessor's limiter. Such a process has no slot of ours: it names itself by
// its pid in its container, and its token names its pod. Which process of the node that is says the
// kernel: the pid in its own PID namespace, and a control group with the pod's uid in its path;
// what stands in its environment counts for nothing. Who is known stays so across daemons, by a
// list beside the segments. Any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "control.h"

namespace vgpu::hypervisor {

struct PodProcess {
  std::string name_space;
  std::string pod;
  std::string uid;
  pid_t pid = 0;  // the node's
  pid_t own_pid = 0;
  std::uint64_t start_ticks = 0;

  friend bool operator==(const PodProcess&, const PodProcess&) = default;
};

// Is the process of that text of a /proc/PID/cgroup in the pod? The uid as Kubernetes writes it, in
// the paths of either driver ("pod1234-56", "kubepods-pod1234_56.slice"). Pure.
bool is_in_pod(std::string_view cgroup_text, std::string_view uid);

class PodProcesses {
 public:
  // `list`: the file in which they are kept. `proc`: where the kernel shows processes.
  PodProcesses(std::string list, std::string proc);

  // Looks for it, and keeps it. Else one line that says why not. Who asks often waits: looking
  // through all processes is dear.
  std::variant<PodProcess, std::string> enlist(const PodProcessRequest& request);
  // Those that live.
  std::vector<PodProcess> living();

 private:
  std::vector<PodProcess> find(const PodProcessRequest& request) const;
  bool is_still(const PodProcess& process) const;
  std::variant<PodProcess, std::string> chosen(const PodProcessRequest& request,
                                               std::vector<PodProcess> found) const;
  void write() const;

  const std::string list_;
  const std::string proc_;
  std::mutex search_mutex_;
  std::uint64_t search_again_ns_ = 0;  // guarded by search_mutex_
  mutable std::mutex mutex_;
  std::vector<PodProcess> known_;  // guarded by mutex_
};

}  // namespace vgpu::hypervisor

// SPDX-License-Identifier: Apache-2.0
// The process at the other end of a Unix socket, by a descriptor that never comes to mean another.
// What /proc says of its pid is its own if it still lives after that was read. Any thread.
#pragma once

#include <sys/types.h>

#include <memory>

#include "vgpu/platform/file.h"

namespace vgpu::hypervisor {

class PeerProcess {
 public:
  // Of a connected Unix socket; `pid` as SO_PEERCRED says. Null: it is in a PID namespace that
  // can't be seen from here (pid 0), or gone already, or the kernel can't say.
  static std::shared_ptr<const PeerProcess> of(int socket, pid_t pid);

  pid_t pid() const { return pid_; }
  bool is_alive() const;

 private:
  PeerProcess(platform::File descriptor, pid_t pid)
      : descriptor_(std::move(descriptor)), pid_(pid) {}

  platform::File descriptor_;
  pid_t pid_;
};

}  // namespace vgpu::hypervisor

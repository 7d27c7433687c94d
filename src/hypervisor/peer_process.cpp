// SPDX-License-Identifier: Apache-2.0
#include "peer_process.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vgpu/platform/process.h"

namespace vgpu::hypervisor {
namespace {

// Since Linux 6.5; Debian 12's headers don't name it.
constexpr int kPeerPidfd = 77;

// -1 with ENOPROTOOPT: this kernel has no such question.
int descriptor_of_peer(int socket) {
  int descriptor = -1;
  socklen_t size = sizeof descriptor;
  return getsockopt(socket, SOL_SOCKET, kPeerPidfd, &descriptor, &size) == 0 ? descriptor : -1;
}

// Older kernels: the pid may be another process's by now, but not between two looks at its start.
int descriptor_of(pid_t pid) {
  const std::uint64_t start = platform::start_time_ticks(pid);
  if (start == 0) return -1;
  const auto descriptor = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (descriptor >= 0 && platform::start_time_ticks(pid) == start) return descriptor;
  if (descriptor >= 0) close(descriptor);
  return -1;
}

}  // namespace

std::shared_ptr<const PeerProcess> PeerProcess::of(int socket, pid_t pid) {
  if (pid <= 0) return nullptr;
  platform::File descriptor(descriptor_of_peer(socket));
  // Not where the kernel says that it is gone: the pid may be another's.
  if (!descriptor.is_open() && errno == ENOPROTOOPT)
    descriptor = platform::File(descriptor_of(pid));
  if (!descriptor.is_open()) return nullptr;
  return std::shared_ptr<const PeerProcess>(new PeerProcess(std::move(descriptor), pid));
}

bool PeerProcess::is_alive() const {
  pollfd file{descriptor_.fd(), POLLIN, 0};
  return poll(&file, 1, 0) == 0;
}

}  // namespace vgpu::hypervisor

// SPDX-License-Identifier: Apache-2.0
#include "activation.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "vgpu/survey/problem.h"

namespace vgpu::hypervisor {
namespace {

constexpr int kFirst = 3;  // SD_LISTEN_FDS_START
constexpr int kMost = 64;

std::optional<long> number_in(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr) return std::nullopt;
  const std::string_view view = text;
  long number = 0;
  const auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), number);
  if (error != std::errc() || end != view.data() + view.size()) return std::nullopt;
  return number;
}

bool listens(int descriptor) {
  int type = 0, accepting = 0;
  socklen_t size = sizeof type;
  if (getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM)
    return false;
  size = sizeof accepting;
  return getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &size) == 0 &&
         accepting != 0;
}

}  // namespace

std::vector<int> take_activated_sockets() {
  const std::optional<long> pid = number_in("LISTEN_PID"), count = number_in("LISTEN_FDS");
  for (const char* variable : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) unsetenv(variable);
  std::vector<int> sockets;
  if (!pid || *pid != getpid() || !count || *count <= 0) return sockets;
  for (int descriptor = kFirst; descriptor < kFirst + std::min<long>(*count, kMost); ++descriptor) {
    if (!listens(descriptor)) {
      throw survey::Problem(
          survey::kExitFailed, "VG2202",
          fmt::format("LISTEN_FDS: descriptor {} is no listening stream socket", descriptor),
          "ListenStream= in the socket unit");
    }
    fcntl(descriptor, F_SETFD, FD_CLOEXEC);
    sockets.push_back(descriptor);
  }
  return sockets;
}

}  // namespace vgpu::hypervisor

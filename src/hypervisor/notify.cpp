// SPDX-License-Identifier: Apache-2.0
#include "notify.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <cstring>

namespace vgpu::hypervisor {

void notify(std::string_view state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || (path[0] != '/' && path[0] != '@')) return;
  sockaddr_un address{};
  const std::size_t size = std::strlen(path);
  if (size >= sizeof address.sun_path) return;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path, size);
  if (path[0] == '@') address.sun_path[0] = '\0';
  const int file = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (file < 0) return;
  (void)sendto(file, state.data(), state.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
               reinterpret_cast<const sockaddr*>(&address),
               static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size));
  close(file);
}

std::optional<std::chrono::microseconds> watchdog_interval() {
  const auto number = [](const char* name) -> std::optional<long long> {
    const char* text = std::getenv(name);
    long long value = 0;
    if (text == nullptr) return std::nullopt;
    const char* end = text + std::strlen(text);
    const auto [stop, error] = std::from_chars(text, end, value);
    return error == std::errc() && stop == end && value > 0 ? std::optional(value) : std::nullopt;
  };
  const auto pid = number("WATCHDOG_PID");
  if (pid && *pid != getpid()) return std::nullopt;
  const auto interval = number("WATCHDOG_USEC");
  return interval ? std::optional(std::chrono::microseconds(*interval)) : std::nullopt;
}

}  // namespace vgpu::hypervisor

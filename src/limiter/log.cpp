// SPDX-License-Identifier: Apache-2.0
#include "log.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "environment.h"
#include "vgpu/settings/settings.h"

namespace vgpu::limiter {
namespace {

using settings::LogLevel;

constexpr int kUnread = -2;
// Descriptor that log lines go to, and their level; read from the environment once, by whoever logs
// first. Threads that come at the same time may open the file twice, which costs a descriptor and
// no line.
std::atomic<int> g_fd{kUnread};
std::atomic<std::uint8_t> g_level{0};

void read_settings() {
  const int saved_errno = errno;
  const settings::LogSettings wanted = settings::log_settings(ProcessEnvironment());
  int fd = STDERR_FILENO;
  if (wanted.level != LogLevel::off && !wanted.path.empty()) {
    constexpr int kFlags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY;
    fd = open(wanted.path.c_str(), kFlags, 0644);
    if (fd < 0 && errno == EISDIR && wanted.may_be_directory) {
      FixedString<300> file(wanted.path.view());
      file.append("/tf.log");
      fd = open(file.c_str(), kFlags, 0644);
    }
  }
  g_level.store(static_cast<std::uint8_t>(fd < 0 ? LogLevel::off : wanted.level),
                std::memory_order_relaxed);
  g_fd.store(fd, std::memory_order_release);
  errno = saved_errno;
}

void write_line(int fd, std::initializer_list<std::string_view> parts) {
  FixedString<1000> line;
  for (const std::string_view part : parts) line.append(part);
  line.append("\n");
  const int saved_errno = errno;
  // Short writes and errors: there is nobody to tell.
  [[maybe_unused]] const ssize_t written = write(fd, line.c_str(), line.size());
  errno = saved_errno;
}

}  // namespace

void say(std::string_view text) { write_line(STDERR_FILENO, {"vgpu: ", text}); }

bool log_enabled(LogLevel level) {
  if (g_fd.load(std::memory_order_acquire) == kUnread) read_settings();
  return static_cast<std::uint8_t>(level) <= g_level.load(std::memory_order_relaxed);
}

void log(LogLevel level, const char* code, std::string_view text) {
  if (level == LogLevel::off || !log_enabled(level)) return;
  constexpr std::string_view kLetters[] = {"", "E", "W", "I", "D"};
  write_line(g_fd.load(std::memory_order_acquire),
             {kLetters[static_cast<std::size_t>(level)], " ", code, " ", text});
}

}  // namespace vgpu::limiter

// SPDX-License-Identifier: Apache-2.0
// Reads /proc and asks pidfds. No allocation, so that it works in the child of a fork of a threaded
// program.
#include "vgpu/platform/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <optional>
#include <string_view>

namespace vgpu::platform {
namespace {

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

using ProcPath = FixedString<63>;

ProcPath proc_path(std::int32_t pid, std::string_view file) {
  ProcPath path("/proc/");
  return path.append_number(static_cast<std::uint64_t>(pid)).append("/").append(file);
}

struct Stat {
  char state = '?';
  std::uint64_t flags = 0;
  std::uint64_t start_ticks = 0;
};

std::optional<std::uint64_t> number(std::string_view text) {
  if (text.empty()) return std::nullopt;
  std::uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<std::uint64_t>(c - '0');
  }
  return value;
}

// The program's name is in parentheses and may hold anything, parentheses too: fields count from
// the last one.
std::optional<Stat> parse_stat(std::string_view text) {
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string_view::npos || name_end + 2 > text.size()) return std::nullopt;
  text.remove_prefix(name_end + 2);
  constexpr int kState = 3, kFlags = 9, kStartTime = 22;
  Stat stat;
  for (int field = kState; field <= kStartTime; ++field) {
    const std::size_t end = text.find(' ');
    const std::string_view value(text.data(), end < text.size() ? end : text.size());
    if (field == kState && !value.empty()) stat.state = value[0];
    if (field == kFlags || field == kStartTime) {
      const std::optional<std::uint64_t> parsed = number(value);
      if (!parsed) return std::nullopt;
      (field == kFlags ? stat.flags : stat.start_ticks) = *parsed;
    }
    if (end == std::string_view::npos) {
      if (field != kStartTime) return std::nullopt;
      break;
    }
    text.remove_prefix(end + 1);
  }
  return stat;
}

std::optional<Stat> read_stat(std::int32_t pid) {
  const int fd = ::open(proc_path(pid, "stat").c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  char text[1024];
  const ssize_t size = ::read(fd, text, sizeof text);
  ::close(fd);
  if (size <= 0) return std::nullopt;
  return parse_stat({text, static_cast<std::size_t>(size)});
}

}  // namespace

std::int32_t self_pid() { return static_cast<std::int32_t>(::getpid()); }

std::uint64_t start_time_ticks(std::int32_t pid) {
  const std::optional<Stat> stat = read_stat(pid);
  return stat ? stat->start_ticks : 0;
}

std::uint64_t pid_namespace() {
  struct stat file {};
  return ::stat("/proc/self/ns/pid", &file) == 0 ? static_cast<std::uint64_t>(file.st_ino) : 0;
}

Life life_of(std::int32_t pid, std::uint64_t start_ticks) {
  if (pid <= 0) return Life::gone;
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (fd < 0 && errno == ESRCH) return Life::gone;
  bool exited = false;
  if (fd >= 0) {
    // Readable once the whole thread group has exited, which is after its files were closed.
    pollfd exit{fd, POLLIN, 0};
    exited = ::poll(&exit, 1, 0) > 0 && (exit.revents & POLLIN) != 0;
  }
  // Looked at while the pidfd pins nothing but after it was opened: if the start time is the right
  // one here, then the pidfd is that process's too (it can't have been an earlier one with the same
  // pid).
  const std::optional<Stat> stat = exited ? std::nullopt : read_stat(pid);
  if (fd >= 0) ::close(fd);
  if (exited) return Life::gone;
  if (!stat) return ::kill(pid, 0) != 0 && errno == ESRCH ? Life::gone : Life::unknown;
  if (start_ticks != 0 && stat->start_ticks != start_ticks) return Life::gone;
  constexpr std::uint64_t kExiting = 0x4;  // PF_EXITING, set before a process closes its files
  return (stat->flags & kExiting) != 0 || stat->state == 'Z' || stat->state == 'X' ? Life::exiting
                                                                                   : Life::alive;
}

FixedString<63> program_name() {
  char name[17] = {};  // the kernel's 16 and a terminator
  ::prctl(PR_GET_NAME, name, 0, 0, 0);
  // The thread's own name: the main thread's, which is the program's, is in comm.
  const int fd = ::open("/proc/self/comm", O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    char text[17];
    const ssize_t size = ::read(fd, text, sizeof text - 1);
    ::close(fd);
    if (size > 0) {
      std::string_view view(text, static_cast<std::size_t>(size));
      if (view.back() == '\n') view.remove_suffix(1);
      return FixedString<63>(view);
    }
  }
  return FixedString<63>(std::string_view(name));
}

std::uint32_t program_fingerprint(std::int32_t pid) {
  struct stat file {};
  if (::stat(proc_path(pid, "exe").c_str(), &file) != 0) return 0;
  std::uint64_t mixed = static_cast<std::uint64_t>(file.st_dev) * 0x9e3779b97f4a7c15u;
  mixed = (mixed ^ static_cast<std::uint64_t>(file.st_ino)) * 0xbf58476d1ce4e5b9u;
  const auto folded = static_cast<std::uint32_t>(mixed >> 32);
  return folded != 0 ? folded : 1;
}

}  // namespace vgpu::platform

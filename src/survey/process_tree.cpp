// SPDX-License-Identifier: Apache-2.0
// Reading /proc for process_tree.h.
#include "vgpu/survey/process_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdlib>
#include <map>
#include <memory>
#include <string_view>

namespace vgpu::survey {
namespace {

constexpr std::string_view kDevicePrefix = "/dev/nvidia";

std::string read_all(const std::string& path) {
  std::string out;
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return out;
  std::array<char, 16384> chunk{};
  ssize_t got = 0;
  while ((got = read(descriptor, chunk.data(), chunk.size())) > 0)
    out.append(chunk.data(), static_cast<std::size_t>(got));
  close(descriptor);
  return out;
}

std::string link_target(const std::string& path) {
  std::array<char, PATH_MAX> target{};
  const ssize_t size = readlink(path.c_str(), target.data(), target.size());
  return size > 0 ? std::string(target.data(), static_cast<std::size_t>(size)) : "";
}

template <class Function>
void for_each_entry(const std::string& folder, Function&& function) {
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(opendir(folder.c_str()), closedir);
  if (!listing) return;
  while (const dirent* entry = readdir(listing.get())) {
    if (entry->d_name[0] != '.') function(std::string_view(entry->d_name));
  }
}

template <class Number>
bool parse_number(std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

// Field `wanted` (from 3 on) of /proc/PID/stat; the program's name before it may hold blanks and
// brackets.
std::string_view stat_field(std::string_view stat, int wanted) {
  const auto bracket = stat.rfind(')');
  if (bracket == std::string_view::npos) return {};
  std::string_view rest = stat.substr(bracket + 1);
  for (int field = 3;; ++field) {
    const auto begin = rest.find_first_not_of(' ');
    if (begin == std::string_view::npos) return {};
    rest.remove_prefix(begin);
    const std::string_view value = rest.substr(0, rest.find_first_of(" \n"));
    if (field == wanted) return value;
    rest.remove_prefix(value.size());
  }
}

bool children_by_threads(pid_t pid, std::vector<pid_t>& out) {
  bool readable = false;
  const std::string tasks = fmt::format("/proc/{}/task", pid);
  for_each_entry(tasks, [&](std::string_view thread) {
    const std::string path = fmt::format("{}/{}/children", tasks, thread);
    readable = readable || access(path.c_str(), R_OK) == 0;
    const std::string list = read_all(path);
    std::string_view rest = list;
    while (!rest.empty()) {
      const auto blank = rest.find(' ');
      pid_t child = 0;
      if (parse_number(rest.substr(0, blank), child)) out.push_back(child);
      if (blank == std::string_view::npos) break;
      rest.remove_prefix(blank + 1);
    }
  });
  return readable;
}

// Where the kernel lists no children: one pass over all processes.
std::vector<pid_t> descendants_by_parents(pid_t root) {
  std::multimap<pid_t, pid_t> children;
  for_each_entry("/proc", [&](std::string_view name) {
    pid_t pid = 0, parent = 0;
    if (!parse_number(name, pid)) return;
    const std::string stat = read_all(fmt::format("/proc/{}/stat", pid));
    if (parse_number(stat_field(stat, 4), parent)) children.emplace(parent, pid);
  });
  std::vector<pid_t> found{root};
  for (std::size_t i = 0; i < found.size(); ++i) {
    const auto [first, last] = children.equal_range(found[i]);
    for (auto it = first; it != last; ++it) found.push_back(it->second);
  }
  found.erase(found.begin());
  return found;
}

}  // namespace

std::vector<pid_t> descendants_of(pid_t root) {
  std::vector<pid_t> found{root};
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (!children_by_threads(found[i], found) && i == 0) return descendants_by_parents(root);
  }
  found.erase(found.begin());
  return found;
}

bool identify(pid_t pid, ProcessIdentity& identity) {
  identity.pid = pid;
  const std::string stat_text = read_all(fmt::format("/proc/{}/stat", pid));
  if (!parse_number(stat_field(stat_text, 22), identity.start_time_ticks)) return false;
  struct stat info {};
  if (stat(fmt::format("/proc/{}/exe", pid).c_str(), &info) == 0) {
    identity.executable_device = info.st_dev;
    identity.executable_inode = info.st_ino;
  } else if (errno == ENOENT) {
    // It is exiting: memory goes first, files later, so that it looks as if it had the GPU and no
    // limiter.
    return false;
  }
  return true;
}

pid_t pid_in_own_namespace(pid_t pid) {
  const std::string status = read_all(fmt::format("/proc/{}/status", pid));
  const auto at = status.find("\nNSpid:");
  if (at == std::string::npos) return pid;
  const std::string_view line =
      std::string_view(status).substr(at + 1, status.find('\n', at + 1) - at - 1);
  pid_t inner = pid;
  parse_number(line.substr(line.find_last_of(" \t") + 1), inner);
  return inner;
}

std::uint64_t pid_namespace_of(pid_t pid) {
  struct stat info {};
  return stat(fmt::format("/proc/{}/ns/pid", pid).c_str(), &info) == 0 ? info.st_ino : 0;
}

std::string simulated_state_folder() {
  const char* variable = std::getenv("VGPU_SIM_STATE");
  if (variable != nullptr && *variable != '\0') return variable;
  return fmt::format("/dev/shm/vgpu-sim-{}", getuid());
}

pid_t PidTranslator::outer_pid(std::uint64_t pid_namespace, pid_t pid) {
  if (pid_namespace == own_ || pid_namespace == 0) return pid;
  if (!scanned_) {
    scanned_ = true;
    for (const pid_t each : descendants_of(1)) {
      const std::uint64_t name_space = pid_namespace_of(each);
      if (name_space != 0 && name_space != own_)
        by_inner_[{name_space, pid_in_own_namespace(each)}] = each;
    }
  }
  const auto found = by_inner_.find({pid_namespace, pid});
  return found == by_inner_.end() ? 0 : found->second;
}

bool GpuFiles::is_gpu(std::string_view path) const {
  if (path.starts_with(kDevicePrefix)) {
    const std::string_view rest = path.substr(kDevicePrefix.size());
    return rest.starts_with("ctl") || (!rest.empty() && rest.front() >= '0' && rest.front() <= '9');
  }
  return !simulated_.empty() && path.size() > simulated_.size() && path.starts_with(simulated_) &&
         path[simulated_.size()] == '/';
}

std::vector<std::string> GpuFiles::watchable() const {
  std::vector<std::string> paths;
  for_each_entry("/dev", [&](std::string_view name) {
    std::string path = fmt::format("/dev/{}", name);
    if (is_gpu(path)) paths.push_back(std::move(path));
  });
  if (!simulated_.empty()) paths.push_back(simulated_);
  return paths;
}

bool uses_gpu(pid_t pid, const GpuFiles& files) {
  bool found = false;
  const std::string folder = fmt::format("/proc/{}/fd", pid);
  for_each_entry(folder, [&](std::string_view number) {
    found = found || files.is_gpu(link_target(fmt::format("{}/{}", folder, number)));
  });
  if (found) return true;
  const std::string maps = read_all(fmt::format("/proc/{}/maps", pid));
  std::string_view rest = maps;
  while (!rest.empty()) {
    const auto end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    const auto path = line.find('/');
    if (path != std::string_view::npos && files.is_gpu(line.substr(path))) return true;
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  return false;
}

bool has_mapped(pid_t pid, std::string_view file_name) {
  return read_all(fmt::format("/proc/{}/maps", pid)).find(file_name) != std::string::npos;
}

std::string program_name(pid_t pid) {
  std::string name = read_all(fmt::format("/proc/{}/comm", pid));
  if (!name.empty() && name.back() == '\n') name.pop_back();
  return name.empty() ? "-" : name;
}

std::string user_name(uid_t uid) {
  std::array<char, 16'384> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  const bool is_known =
      getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr;
  return is_known ? found->pw_name : std::to_string(uid);
}

std::string command_line(pid_t pid) {
  std::string line = read_all(fmt::format("/proc/{}/cmdline", pid));
  while (!line.empty() && line.back() == '\0') line.pop_back();
  std::replace(line.begin(), line.end(), '\0', ' ');
  std::replace_if(
      line.begin(), line.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }, '?');
  constexpr std::size_t kShown = 100;
  if (line.size() > kShown) line = line.substr(0, kShown) + "...";
  return line.empty() ? program_name(pid) : line;
}

}  // namespace vgpu::survey

// SPDX-License-Identifier: Apache-2.0
#include "containment.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "quota_rules.h"

namespace vgpu::hypervisor {
namespace {

std::string text_in_proc(pid_t pid, std::string_view file) {
  std::ifstream stream(fmt::format("/proc/{}/{}", pid, file));
  return {std::istreambuf_iterator<char>(stream), {}};
}

// From the outermost inwards: whoever may make control groups in a container can name one after
// another.
std::vector<std::string> containers_in(std::string_view cgroups) {
  std::vector<std::string> found;
  for (const std::string& path : cgroups_in(cgroups)) {
    for (std::size_t at = 1; at < path.size();) {
      const std::size_t end = std::min(path.find('/', at), path.size());
      std::string id = container_of(std::string_view(path).substr(at, end - at));
      if (!id.empty()) found.push_back(std::move(id));
      at = end + 1;
    }
  }
  return found;
}

}  // namespace

std::size_t pid_namespaces_in(std::string_view status) {
  constexpr std::string_view kField = "\nNSpid:";
  const auto at = status.find(kField);
  if (at == status.npos) return 0;
  std::string_view line = status.substr(at + kField.size());
  line = line.substr(0, line.find('\n'));
  std::size_t count = 0;
  bool in_number = false;
  for (const char c : line) {
    const bool is_digit = c >= '0' && c <= '9';
    if (is_digit && !in_number) ++count;
    in_number = is_digit;
  }
  return count;
}

Surroundings surroundings_of(pid_t pid) {
  Surroundings found;
  found.pid_namespaces = pid_namespaces_in(text_in_proc(pid, "status"));
  found.user_map = text_in_proc(pid, "uid_map");
  found.containers = containers_in(text_in_proc(pid, "cgroup"));
  struct stat facts {};
  if (stat(fmt::format("/proc/{}/ns/pid", pid).c_str(), &facts) == 0)
    found.pid_namespace = facts.st_ino;
  return found;
}

namespace {

const std::string* foreign_container(const Surroundings& its, const Surroundings& ours) {
  const auto found =
      std::find_if(its.containers.begin(), its.containers.end(), [&](const std::string& id) {
        return std::find(ours.containers.begin(), ours.containers.end(), id) ==
               ours.containers.end();
      });
  return found == its.containers.end() ? nullptr : &*found;
}

}  // namespace

bool is_contained(const Surroundings& its, const Surroundings& ours) {
  if (its.pid_namespaces == 0 || its.pid_namespaces != ours.pid_namespaces) return true;
  if (its.user_map.empty() || its.user_map != ours.user_map) return true;
  return foreign_container(its, ours) != nullptr;
}

std::string container_name(const Surroundings& its, const Surroundings& ours) {
  constexpr std::size_t kShownDigits = 12;  // as docker ps shows them
  if (const std::string* const id = foreign_container(its, ours))
    return id->substr(0, kShownDigits);
  return its.pid_namespace == 0 ? "" : fmt::format("ns{}", its.pid_namespace);
}

std::optional<std::string> container_around(pid_t pid) {
  static const Surroundings ours = surroundings_of(getpid());
  const Surroundings its = surroundings_of(pid);
  if (!is_contained(its, ours)) return std::nullopt;
  return container_name(its, ours);
}

}  // namespace vgpu::hypervisor

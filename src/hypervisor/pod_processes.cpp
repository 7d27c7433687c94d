// SPDX-License-Identifier: Apache-2.0
#include "pod_processes.h"

#include <dirent.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <sstream>
#include <thread>

#include "quota_rules.h"
#include "vgpu/platform/clock.h"
#include "vgpu/platform/process.h"
#include "vgpu/survey/process_tree.h"

namespace vgpu::hypervisor {
namespace {

// A search takes no more of the time than one part of so many, whoever asks how often.
constexpr std::uint64_t kSearchOneOf = 20;
constexpr std::size_t kMostOfAPod = 2048;  // as many as its file names
constexpr std::size_t kLeastUidSize = 8;   // less could stand in any path

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The last number after "NSpid:", its pid in its own namespace.
std::optional<pid_t> innermost_pid(std::string_view status) {
  const auto at = status.find("\nNSpid:");
  if (at == status.npos) return std::nullopt;
  std::string_view line = status.substr(at + 1);
  line = line.substr(0, line.find('\n'));
  const std::string_view digits = line.substr(line.find_last_of(" \t") + 1);
  pid_t pid = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), pid);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return pid;
}

// "pod" and the uid, as a part of the path or as the last part of a slice's name.
bool names_pod(std::string_view part, std::string_view uid) {
  if (part.ends_with(".slice")) part.remove_suffix(std::string_view(".slice").size());
  if (part.size() < uid.size() + 3) return false;
  const std::string_view before = part.substr(0, part.size() - uid.size());
  if (!before.ends_with("pod") || (before.size() > 3 && before[before.size() - 4] != '-'))
    return false;
  return std::equal(
      uid.begin(), uid.end(), part.end() - static_cast<std::ptrdiff_t>(uid.size()),
      [](char wanted, char there) { return wanted == there || (wanted == '-' && there == '_'); });
}

}  // namespace

bool is_in_pod(std::string_view cgroup_text, std::string_view uid) {
  if (uid.size() < kLeastUidSize) return false;
  for (const std::string& path : cgroups_in(cgroup_text)) {
    std::string_view rest = path;
    while (!rest.empty()) {
      const std::string_view part = rest.substr(0, rest.find('/'));
      if (names_pod(part, uid)) return true;
      rest.remove_prefix(std::min(part.size() + 1, rest.size()));
    }
  }
  return false;
}

PodProcesses::PodProcesses(std::string list, std::string proc)
    : list_(std::move(list)), proc_(std::move(proc)) {
  std::ifstream file(list_);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    PodProcess process;
    if (words >> process.pid >> process.start_ticks >> process.own_pid >> process.uid >>
            process.name_space >> process.pod &&
        is_still(process))
      known_.push_back(std::move(process));
  }
}

bool PodProcesses::is_still(const PodProcess& process) const {
  const auto is_the_same = [&] {
    return process.start_ticks != 0 &&
           platform::start_time_ticks(process.pid) == process.start_ticks;
  };
  // Asked again after its control groups were read: those are of the same process then.
  return is_the_same() &&
         is_in_pod(text_of(fmt::format("{}/{}/cgroup", proc_, process.pid)), process.uid) &&
         is_the_same();
}

std::vector<PodProcess> PodProcesses::find(const PodProcessRequest& request) const {
  std::vector<PodProcess> found;
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(opendir(proc_.c_str()), closedir);
  while (const dirent* entry = listing ? readdir(listing.get()) : nullptr) {
    const std::string_view name(entry->d_name);
    pid_t pid = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (error != std::errc() || end != name.data() + name.size()) continue;
    const std::string status = text_of(fmt::format("{}/{}/status", proc_, pid));
    if (innermost_pid(status) != request.own_pid) continue;
    PodProcess process{request.name_space, request.name,
                       request.uid,        pid,
                       request.own_pid,    platform::start_time_ticks(pid)};
    if (is_still(process)) found.push_back(std::move(process));
  }
  return found;
}

// Containers of a pod may each have a process of that pid: it is one that nobody has named yet, and
// that has the limiter's library in it.
std::variant<PodProcess, std::string> PodProcesses::chosen(const PodProcessRequest& request,
                                                           std::vector<PodProcess> found) const {
  if (found.empty()) {
    return fmt::format("no process of the pod has the pid {} in its container", request.own_pid);
  }
  const std::vector<PodProcess> all = found;
  if (found.size() > 1) {
    const std::lock_guard lock(mutex_);
    std::erase_if(found, [&](const PodProcess& process) {
      return std::find(known_.begin(), known_.end(), process) != known_.end();
    });
  }
  if (found.empty()) return all.front();  // all of them asked before
  if (found.size() > 1) {
    std::erase_if(found, [](const PodProcess& process) {
      return !survey::has_mapped(process.pid, "libcuda_limiter.so");
    });
  }
  if (found.size() == 1) return found.front();
  return fmt::format("several processes of the pod have the pid {} in their containers",
                     request.own_pid);
}

std::variant<PodProcess, std::string> PodProcesses::enlist(const PodProcessRequest& request) {
  const std::lock_guard search_lock(search_mutex_);
  const std::uint64_t asked_ns = platform::monotonic_ns();
  if (asked_ns < search_again_ns_)
    std::this_thread::sleep_for(std::chrono::nanoseconds(search_again_ns_ - asked_ns));
  const std::uint64_t began_ns = platform::monotonic_ns();
  auto result = chosen(request, find(request));
  const std::uint64_t ended_ns = platform::monotonic_ns();
  search_again_ns_ = ended_ns + (ended_ns - began_ns) * kSearchOneOf;
  const auto* const process = std::get_if<PodProcess>(&result);
  if (process == nullptr) return result;
  const std::lock_guard lock(mutex_);
  if (std::find(known_.begin(), known_.end(), *process) != known_.end()) return result;
  const auto of_pod = std::count_if(known_.begin(), known_.end(), [&](const PodProcess& one) {
    return one.name_space == process->name_space && one.pod == process->pod;
  });
  if (static_cast<std::size_t>(of_pod) >= kMostOfAPod)
    return fmt::format("the pod has {} processes; no more are counted", kMostOfAPod);
  known_.push_back(*process);
  write();
  return result;
}

std::vector<PodProcess> PodProcesses::living() {
  const std::lock_guard lock(mutex_);
  const auto ended = std::erase_if(known_, [](const PodProcess& process) {
    return platform::life_of(process.pid, process.start_ticks) == platform::Life::gone;
  });
  if (ended != 0) write();
  return known_;
}

void PodProcesses::write() const {
  const std::string fresh = list_ + ".new";
  {
    std::ofstream file(fresh, std::ios::trunc);
    for (const PodProcess& process : known_) {
      file << process.pid << ' ' << process.start_ticks << ' ' << process.own_pid << ' '
           << process.uid << ' ' << process.name_space << ' ' << process.pod << '\n';
    }
    if (!file.flush()) return;
  }
  (void)std::rename(fresh.c_str(), list_.c_str());
}

}  // namespace vgpu::hypervisor

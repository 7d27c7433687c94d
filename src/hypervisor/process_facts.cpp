// SPDX-License-Identifier: Apache-2.0
#include "process_facts.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>

#include "containment.h"
#include "guard.h"
#include "vgpu/platform/process.h"
#include "vgpu/survey/process_tree.h"
#include "vgpu/survey/snapshot.h"

namespace vgpu::hypervisor {
namespace {

constexpr std::uint64_t kCheckEveryNs = 1'000'000'000;
// An exec changes what it is; of a tenant's process that only changes how it is shown.
constexpr std::uint64_t kReadEveryNs = 10'000'000'000;
constexpr std::uint64_t kReadMembersEveryNs = 60'000'000'000;
constexpr std::size_t kMostUsers = 10'000;

LimiterPresence presence(survey::Limiter limiter) {
  switch (limiter) {
    case survey::Limiter::absent:
      return LimiterPresence::absent;
    case survey::Limiter::present:
      return LimiterPresence::present;
    case survey::Limiter::predecessor:
    case survey::Limiter::unknown:
    case survey::Limiter::arbitrated:
      break;
  }
  return LimiterPresence::unknown;
}

}  // namespace

const std::string& ProcessBook::user_of(uid_t uid) {
  if (users_.size() > kMostUsers) users_.clear();
  const auto [at, is_new] = users_.try_emplace(uid);
  if (is_new) at->second = survey::user_name(uid);
  return at->second;
}

ProcessFacts ProcessBook::read(pid_t pid, bool is_member, const DaemonOptions& options) {
  ProcessFacts facts;
  facts.start_time_ticks = platform::start_time_ticks(pid);
  facts.own_pid = survey::pid_in_own_namespace(pid);
  struct stat info {};
  if (stat(fmt::format("/proc/{}", pid).c_str(), &info) == 0) {
    facts.owner = info.st_uid;
    facts.user = user_of(info.st_uid);
  }
  facts.program = survey::program_name(pid);
  facts.command_line = survey::command_line(pid);
  if (is_member) return facts;  // its tenant's segment says the rest
  facts.limiter = presence(survey::limiter_of(static_cast<std::uint32_t>(pid)));
  const std::string link = fmt::format("/proc/{}/exe", pid);
  std::array<char, PATH_MAX> target{};
  const ssize_t size = readlink(link.c_str(), target.data(), target.size());
  if (size > 0 && stat(link.c_str(), &info) == 0) {
    facts.exempt = is_exempt(std::string_view(target.data(), static_cast<std::size_t>(size)),
                             info.st_uid, options);
  }
  return facts;
}

const ProcessFacts* ProcessBook::of(pid_t pid, std::uint64_t start_time_ticks, std::uint64_t now_ns,
                                    const DaemonOptions& options) {
  Entry& entry = entries_[pid];
  entry.used = true;
  const bool is_member = start_time_ticks != 0;
  const std::uint64_t read_every_ns = is_member ? kReadMembersEveryNs : kReadEveryNs;
  const bool known = entry.read_ns != 0 && (is_member || !entry.is_member) &&
                     (start_time_ticks == 0 || entry.facts.start_time_ticks == start_time_ticks);
  // Who names the start time knows that it lives.
  if (known && now_ns < entry.read_ns + read_every_ns &&
      (start_time_ticks != 0 || now_ns < entry.checked_ns + kCheckEveryNs))
    return &entry.facts;
  const std::uint64_t present = platform::start_time_ticks(pid);
  entry.checked_ns = now_ns;
  if (present == 0 || (start_time_ticks != 0 && present != start_time_ticks)) {
    entry.read_ns = 0;
    return nullptr;
  }
  if (!known || present != entry.facts.start_time_ticks ||
      now_ns >= entry.read_ns + read_every_ns) {
    entry.facts = read(pid, is_member, options);
    if (!known) entry.is_contained.reset();
    entry.is_member = is_member;
    entry.read_ns = now_ns;
  }
  return &entry.facts;
}

bool ProcessBook::is_contained(pid_t pid) {
  auto& known = entries_[pid].is_contained;
  if (!known) known = container_around(pid).has_value();
  return *known;
}

void ProcessBook::tidy() {
  std::erase_if(entries_, [](const auto& entry) { return !entry.second.used; });
  for (auto& [pid, entry] : entries_) entry.used = false;
}

}  // namespace vgpu::hypervisor

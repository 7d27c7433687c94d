// SPDX-License-Identifier: Apache-2.0
#include "guard.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <iterator>

#include "vgpu/platform/process.h"

namespace vgpu::hypervisor {
namespace {

bool signals(GuardPolicy policy) {
  return policy == GuardPolicy::signal || policy == GuardPolicy::kill;
}

}  // namespace

std::vector<GuardAction> Guard::decide(std::uint64_t now_ns, const std::vector<Suspect>& suspects,
                                       const DaemonOptions& options) {
  std::vector<GuardAction> actions;
  const auto grace_ns = static_cast<std::uint64_t>(options.guard_grace.count()) * 1'000'000;
  for (auto& [suspect, open] : cases_) open.present = false;
  for (const Suspect& suspect : suspects) {
    Case& open = cases_.try_emplace(suspect, Case{now_ns, 0, false, true}).first->second;
    open.present = true;
    const GuardPolicy policy = suspect.offence == Offence::unlimited ? options.unlimited_policy
                                                                     : options.over_memory_policy;
    // Itself and the first process are nobody's to end.
    if (!signals(policy) || suspect.pid <= 1 || suspect.pid == getpid()) continue;
    if (open.asked_ns == 0) {
      if (now_ns < open.since_ns + grace_ns) continue;
      open.asked_ns = now_ns;
      actions.push_back({suspect, SIGTERM});
    } else if (policy == GuardPolicy::kill && !open.killed && now_ns >= open.asked_ns + grace_ns) {
      open.killed = true;
      actions.push_back({suspect, SIGKILL});
    }
  }
  std::erase_if(cases_, [](const auto& entry) { return !entry.second.present; });
  return actions;
}

OverMemory::Finding OverMemory::look(bool is_over, std::uint64_t now_ns,
                                     std::optional<std::uint64_t> read_ns) {
  if (!is_over) {
    const bool was_sure = since_ && since_->is_sure;
    since_.reset();
    return was_sure ? Finding::ended : Finding::within;
  }
  if (!since_) since_ = Since{now_ns, read_ns, false};
  if (since_->is_sure) return Finding::lasts;
  since_->is_sure = now_ns >= since_->now_ns + kUntilSureNs && read_ns != since_->read_ns;
  return since_->is_sure ? Finding::began : Finding::unsure;
}

bool is_exempt(std::string_view executable, uid_t executable_owner, const DaemonOptions& options) {
  const std::string_view name = executable.substr(executable.rfind('/') + 1);
  if (name.empty()) return false;
  const auto& chosen = options.exempt_programs;
  if (std::find(chosen.begin(), chosen.end(), name) != chosen.end()) return true;
  return executable_owner == 0 && std::find(std::begin(kAlwaysExempt), std::end(kAlwaysExempt),
                                            name) != std::end(kAlwaysExempt);
}

bool send_signal(pid_t pid, std::uint64_t start_time_ticks, int signal) {
  const auto file = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (file < 0) return false;
  // The descriptor is one process's for ever; the start time says that it is the one meant.
  const bool same = platform::start_time_ticks(pid) == start_time_ticks;
  const bool sent = same && syscall(SYS_pidfd_send_signal, file, signal, nullptr, 0) == 0;
  close(file);
  return sent;
}

}  // namespace vgpu::hypervisor

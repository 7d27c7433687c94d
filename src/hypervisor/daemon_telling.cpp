// SPDX-License-Identifier: Apache-2.0
// What has changed from one moment to the next is told as events, and the guard judges who is on a
// GPU. On the beat's thread.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <csignal>
#include <map>
#include <set>
#include <utility>

#include "daemon.h"
#include "times.h"
#include "vgpu/survey/text.h"

namespace vgpu::hypervisor {
namespace {

constexpr std::uint64_t kRefusalsEveryNs = kSecondNs;

std::string process_text(const ProcessState& process) {
  return fmt::format("{} (pid {}{})", survey::visible(process.command_line),
                     process.host_pid.value_or(process.own_pid),
                     process.user.empty() ? "" : fmt::format(", {}", process.user));
}

std::string gpu_list(const NodeState& state, const ProcessState& process) {
  std::vector<std::string> names;
  for (const auto& gpu : process.gpus) {
    const GpuState* known = state.gpu(gpu.gpu);
    names.push_back(known != nullptr ? std::to_string(known->index) : gpu.gpu.text().data());
  }
  return fmt::format("GPU {}", fmt::join(names, ", "));
}

std::string_view offence_of(const ProcessState& process) {
  return process.limiter == LimiterPresence::elsewhere ? "in no tenant that is known here"
                                                       : "without the limiter";
}

// For the first reason that there is.
void close_gpu(NodeState& state, const GpuUuid& uuid, std::string_view why) {
  for (GpuState& gpu : state.gpus) {
    if (gpu.uuid == uuid && gpu.closed.empty()) gpu.closed = why;
  }
}

bool same_quota(const Quota& a, const Quota& b) {
  return a.memory_limit_bytes == b.memory_limit_bytes &&
         a.compute_share_percent == b.compute_share_percent &&
         a.compute_limit_percent == b.compute_limit_percent && a.policy == b.policy &&
         a.priority == b.priority;
}

}  // namespace

void Daemon::tell(const NodeState& before, NodeState& state) {
  tell_gpus(before, state);
  tell_tenants(before, state);
  tell_processes(before, state);
  if (before.sequence == 0 ? state.driver.available
                           : state.driver.available && !before.driver.available) {
    say(state, EventKind::driver_found, "",
        fmt::format("driver {}{}, {} GPU{}", state.driver.version,
                    state.driver.simulated ? " (simulated)" : "", state.gpus.size(),
                    state.gpus.size() == 1 ? "" : "s"));
  } else if (!state.driver.available &&
             (before.driver.available || before.driver.why != state.driver.why)) {
    say(state, EventKind::driver_lost, "", state.driver.why + "; it is waited for");
  }
  const std::uint64_t takings = hosting_.takings();
  if (told_hosting_ && (!state.hosts_arbiter || takings > told_takings_ + 1))
    say(state, EventKind::hosting_lost, "", "a tenant's process has hosted the arbiter");
  if (state.hosts_arbiter && takings != told_takings_)
    say(state, EventKind::hosting_taken, "", "this daemon hosts the arbiter");
  told_hosting_ = state.hosts_arbiter;
  if (state.hosts_arbiter) told_takings_ = takings;
}

void Daemon::tell_gpus(const NodeState& before, NodeState& state) {
  for (auto& gpu : state.gpus) {
    const GpuState* was = before.gpu(gpu.uuid);
    const GpuHealth health_before = was != nullptr ? was->health : GpuHealth::ok;
    if (gpu.health == GpuHealth::ok) {
      unhealthy_since_.erase(gpu.uuid);
    } else {
      gpu.unhealthy_since_ns = unhealthy_since_.try_emplace(gpu.uuid, state.time_ns).first->second;
    }
    const std::string name = fmt::format("GPU {} ({})", gpu.index, gpu.name);
    if (gpu.health != health_before) {
      const EventKind kind = gpu.health == GpuHealth::ok     ? EventKind::gpu_back
                             : gpu.health == GpuHealth::lost ? EventKind::gpu_lost
                                                             : EventKind::gpu_unreadable;
      say(state, kind, gpu.uuid_text(),
          gpu.health == GpuHealth::ok ? name + " answers again"
                                      : fmt::format("{}: {}", name, gpu.health_text));
    }
    if (!gpu.sample.throttle_reasons) continue;
    const auto throttling =
        throttling_[gpu.uuid].look(holding_back(*gpu.sample.throttle_reasons), state.monotonic_ns);
    if (throttling.began != 0) {
      say(state, EventKind::throttled, gpu.uuid_text(),
          fmt::format("{}: clocks are held back: {}", name,
                      fmt::join(throttle_names(throttling.began), ", ")));
    }
    if (throttling.ended)
      say(state, EventKind::throttle_ended, gpu.uuid_text(), name + ": clocks are free again");
  }
}

void Daemon::tell_tenants(const NodeState& before, NodeState& state) {
  std::map<std::string_view, const TenantState*> was;
  for (const auto& tenant : before.tenants) was[tenant.id] = &tenant;
  for (const auto& tenant : state.tenants) {
    const auto found = was.find(tenant.id);
    const TenantState* old = found == was.end() ? nullptr : found->second;
    if (old == nullptr) {
      say(state, EventKind::tenant_began, tenant.id,
          fmt::format("tenant {}{}", tenant.name,
                      before.sequence == 0 ? " was here already" : " began"));
    } else if (old->name != tenant.name) {
      say(state, EventKind::tenant_renamed, tenant.id,
          fmt::format("tenant {} is called {}", old->name, tenant.name));
    }
    if (old != nullptr && tenant.quota_restored > old->quota_restored) {
      say(state, EventKind::quota_restored, tenant.id,
          fmt::format("{}: its quota had been written past the daemon, and is as it was",
                      tenant.name));
    }
    for (const auto& gpu : tenant.gpus) {
      const Place place(tenant.id, gpu.gpu);
      if (old != nullptr) {
        for (const auto& old_gpu : old->gpus) {
          if (old_gpu.gpu == gpu.gpu && !same_quota(old_gpu.quota, gpu.quota)) {
            say(state, EventKind::quota_changed, tenant.id,
                fmt::format("{} GPU {}: {}", tenant.name, gpu.index,
                            survey::change_text(old_gpu.quota, gpu.quota)));
          }
        }
      }
      const std::uint64_t refused = gpu.counters.denied_allocations;
      // What was refused before the daemon began isn't news.
      auto [told, is_new] = refusals_told_.try_emplace(place, before.sequence == 0 ? refused : 0);
      auto& told_ns = refusals_told_ns_[place];
      if (refused > told->second && state.monotonic_ns >= told_ns + kRefusalsEveryNs) {
        const std::uint64_t more = refused - told->second;
        say(state, EventKind::memory_refused, tenant.id,
            fmt::format("{} GPU {}: {} allocation{} refused at its limit of {}", tenant.name,
                        gpu.index, more, more == 1 ? "" : "s",
                        survey::limit_text(gpu.quota.memory_limit_bytes)));
        told->second = refused;
        told_ns = state.monotonic_ns;
      }
      if (is_new) told_ns = 0;
    }
  }
  for (const auto& tenant : before.tenants) {
    if (state.tenant(tenant.id) != nullptr) continue;
    say(state, EventKind::tenant_ended, tenant.id, fmt::format("tenant {} ended", tenant.name));
    counters_.forget(tenant.id);
    const auto is_its = [&](const auto& entry) { return entry.first.first == tenant.id; };
    std::erase_if(refusals_told_, is_its);
    std::erase_if(refusals_told_ns_, is_its);
    std::erase_if(over_memory_, is_its);
  }
}

void Daemon::tell_processes(const NodeState& before, NodeState& state) {
  using Key = std::tuple<std::string_view, pid_t, std::uint64_t>;
  const auto key_of = [](const ProcessState& process) {
    return Key(process.tenant, process.host_pid.value_or(process.own_pid),
               process.start_time_ticks);
  };
  std::map<Key, const ProcessState*> was, now;
  for (const auto& process : before.processes) was[key_of(process)] = &process;
  for (const auto& process : state.processes) now[key_of(process)] = &process;
  for (const auto& [key, process] : now) {
    const auto old = was.find(key);
    if (!process->tenant.empty()) {
      if (old == was.end())
        say(state, EventKind::process_joined, process->tenant, process_text(*process) + " joined");
    } else if (NodeState::is_unlimited(*process) &&
               (old == was.end() || !NodeState::is_unlimited(*old->second))) {
      say(state, EventKind::unlimited_found, std::to_string(process->host_pid.value_or(0)),
          fmt::format("{} is on {} {}", process_text(*process), gpu_list(state, *process),
                      offence_of(*process)));
    }
  }
  for (const auto& [key, process] : was) {
    if (now.count(key) != 0) continue;
    if (!process->tenant.empty()) {
      say(state, EventKind::process_ended, process->tenant, process_text(*process) + " ended");
    } else if (NodeState::is_unlimited(*process)) {
      say(state, EventKind::unlimited_gone, std::to_string(process->host_pid.value_or(0)),
          fmt::format("{} is gone from {}", process_text(*process), gpu_list(state, *process)));
    }
  }
}

void Daemon::guard(NodeState& state, std::uint64_t now_ns) {
  const DaemonOptions chosen = options();
  std::vector<Suspect> suspects;
  std::map<Suspect, std::string> texts;
  for (const auto& process : state.processes) {
    if (!NodeState::is_unlimited(process) || !process.host_pid) continue;
    const Suspect suspect{Offence::unlimited, *process.host_pid, process.start_time_ticks};
    suspects.push_back(suspect);
    texts[suspect] = fmt::format("{} is on a GPU {}", process_text(process), offence_of(process));
    if (chosen.unlimited_policy != GuardPolicy::stop_admitting) continue;
    for (const auto& on : process.gpus) {
      close_gpu(state, on.gpu,
                fmt::format("{} is on it {}", process_text(process), offence_of(process)));
    }
  }
  for (const auto& tenant : state.tenants) {
    for (const auto& gpu : tenant.gpus) {
      const Place place(tenant.id, gpu.gpu);
      const bool over =
          gpu.quota.limits_memory() && gpu.driver_bytes &&
          *gpu.driver_bytes > gpu.quota.memory_limit_bytes &&
          *gpu.driver_bytes - gpu.quota.memory_limit_bytes > chosen.over_memory_slack_bytes;
      const OverMemory::Finding finding =
          over_memory_[place].look(over, now_ns, state.processes_read_ns);
      if (finding == OverMemory::Finding::ended) {
        say(state, EventKind::within_memory, tenant.id,
            fmt::format("{} GPU {}: within its limit again", tenant.name, gpu.index));
      }
      if (finding != OverMemory::Finding::began && finding != OverMemory::Finding::lasts) continue;
      const ProcessState* largest = nullptr;
      std::uint64_t most = 0;
      for (const auto& process : state.processes) {
        if (process.tenant != tenant.id || !process.host_pid) continue;
        for (const auto& on : process.gpus) {
          if (on.gpu != gpu.gpu || on.driver_bytes.value_or(0) <= most) continue;
          most = *on.driver_bytes;
          largest = &process;
        }
      }
      const std::string text = fmt::format(
          "{} GPU {}: the driver counts {}, more than its limit of {}; most of it is {}'s",
          tenant.name, gpu.index, survey::size_text(gpu.driver_bytes),
          survey::limit_text(gpu.quota.memory_limit_bytes),
          largest != nullptr ? process_text(*largest) : "nobody");
      if (finding == OverMemory::Finding::began)
        say(state, EventKind::over_memory, tenant.id, text);
      if (chosen.over_memory_policy == GuardPolicy::stop_admitting)
        close_gpu(state, gpu.gpu, fmt::format("{} holds more than its limit", tenant.name));
      if (largest == nullptr) continue;
      const Suspect suspect{Offence::over_memory, *largest->host_pid, largest->start_time_ticks};
      suspects.push_back(suspect);
      texts[suspect] = text;
    }
  }
  const StatePointer before = this->state();
  for (const GpuState& gpu : state.gpus) {
    const GpuState* const earlier = before->gpu(gpu.uuid);
    if (gpu.closed.empty() == (earlier == nullptr || earlier->closed.empty())) continue;
    say(state, EventKind::guard_acted, gpu.uuid_text(),
        gpu.closed.empty()
            ? fmt::format("GPU {}: tenants are admitted again", gpu.index)
            : fmt::format("GPU {}: nothing new is admitted while {}", gpu.index, gpu.closed));
  }
  for (const GuardAction& action : guard_.decide(now_ns, suspects, chosen)) {
    const bool sent =
        send_signal(action.suspect.pid, action.suspect.start_time_ticks, action.signal);
    say(state, EventKind::guard_acted, std::to_string(action.suspect.pid),
        fmt::format("{} {} pid {}: {}", action.signal == SIGKILL ? "SIGKILL" : "SIGTERM",
                    sent ? "sent to" : "could not be sent to", action.suspect.pid,
                    texts[action.suspect]));
  }
}

}  // namespace vgpu::hypervisor

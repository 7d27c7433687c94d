// SPDX-License-Identifier: Apache-2.0
// Events for whoever has no daemon that keeps them; see sources.h. Pure.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <tuple>

#include "vgpu/survey/change.h"
#include "vgpu/tui/sources.h"

namespace vgpu::tui {
namespace {

using ProcessKey = std::tuple<std::int32_t, std::int32_t, std::string>;

bool is_same_quota(const Quota& a, const Quota& b) {
  return survey::change_text(a, b) == "as it was";
}

class Differences {
 public:
  Differences(const Model& before, const Model& now, std::uint64_t& sequence)
      : before_(before), now_(now), sequence_(sequence) {}

  std::vector<Event> all() {
    tenants();
    quotas();
    refusals();
    processes();
    return std::move(events_);
  }

 private:
  void say(const char* kind, std::string subject, std::string text) {
    events_.push_back({++sequence_, now_.time_ns, kind, std::move(subject), std::move(text)});
  }

  void tenants() {
    for (const auto& [id, facts] : now_.tenants) {
      const auto old = before_.tenants.find(id);
      if (old == before_.tenants.end()) {
        say("tenant_began", id, fmt::format("tenant {} began", facts.name));
      } else if (old->second.name != facts.name) {
        say("tenant_renamed", id,
            fmt::format("tenant {} is called {}", old->second.name, facts.name));
      }
    }
    for (const auto& [id, facts] : before_.tenants) {
      if (now_.tenants.count(id) == 0)
        say("tenant_ended", id, fmt::format("tenant {} ended", facts.name));
    }
  }

  void quotas() {
    for (const auto& gpu : now_.gpus) {
      for (const auto& tenant : gpu.tenants) {
        const auto* old = before_.row({gpu.gpu.uuid, tenant.id});
        if (old == nullptr || is_same_quota(old->quota, tenant.quota)) continue;
        say("quota_changed", tenant.id,
            fmt::format("{} GPU {}: {}", tenant.name, gpu.gpu.nvml_index,
                        survey::change_text(old->quota, tenant.quota)));
      }
    }
  }

  void refusals() {
    for (const auto& [id, facts] : now_.tenants) {
      const auto old = before_.tenants.find(id);
      if (old == before_.tenants.end()) continue;
      for (const auto& [gpu, refused] : facts.refused) {
        const auto was = old->second.refused.find(gpu);
        if (was == old->second.refused.end() || refused <= was->second) continue;
        const std::uint64_t more = refused - was->second;
        const auto* on = now_.gpu(gpu);
        say("memory_refused", id,
            fmt::format("{} GPU {}: {} allocation{} refused at its limit", facts.name,
                        on == nullptr ? "-" : std::to_string(on->gpu.nvml_index), more,
                        more == 1 ? "" : "s"));
      }
    }
  }

  static ProcessKey key_of(const Process& process) {
    return {process.pid, process.own_pid, process.tenant_id};
  }
  static std::set<ProcessKey> keys_of(const Model& model) {
    std::set<ProcessKey> keys;
    for (const auto& process : model.processes) keys.insert(key_of(process));
    return keys;
  }
  static std::string text_of(const Process& process) {
    return fmt::format("{} (pid {})", process.program.empty() ? "-" : process.program,
                       process.pid != 0 ? process.pid : process.own_pid);
  }
  static std::string places_of(const Process& process) {
    std::vector<std::string> names;
    for (const auto& on : process.gpus) names.push_back(fmt::format("GPU {}", on.index));
    return fmt::format("{}", fmt::join(names, ", "));
  }

  void processes() {
    const auto old = keys_of(before_), now = keys_of(now_);
    for (const auto& process : now_.processes) {
      if (old.count(key_of(process)) != 0) continue;
      if (!process.tenant_id.empty()) {
        say("process_joined", process.tenant_id,
            fmt::format("{} of {} joined", text_of(process), process.tenant));
      } else if (process.is_unlimited()) {
        say("unlimited_found", std::to_string(process.pid),
            fmt::format("{} is on {} without the limiter", text_of(process), places_of(process)));
      }
    }
    for (const auto& process : before_.processes) {
      if (now.count(key_of(process)) != 0) continue;
      if (!process.tenant_id.empty()) {
        say("process_ended", process.tenant_id,
            fmt::format("{} of {} ended", text_of(process), process.tenant));
      } else if (process.is_unlimited()) {
        say("unlimited_gone", std::to_string(process.pid),
            fmt::format("{} is gone from {}", text_of(process), places_of(process)));
      }
    }
  }

  const Model& before_;
  const Model& now_;
  std::uint64_t& sequence_;
  std::vector<Event> events_;
};

}  // namespace

std::vector<Event> differences(const Model& before, const Model& now, std::uint64_t& sequence) {
  return Differences(before, now, sequence).all();
}

}  // namespace vgpu::tui

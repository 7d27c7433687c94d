// SPDX-License-Identifier: Apache-2.0
// What can be asked of the daemon (control.h), carried out on the segments: running processes see a
// change at their next reservation or launch, as after `vgpu set`.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <set>
#include <string_view>
#include <utility>

#include "daemon.h"
#include "vgpu/platform/clock.h"
#include "vgpu/platform/file.h"
#include "vgpu/survey/change.h"
#include "vgpu/survey/gpus.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/quotas.h"
#include "vgpu/survey/shares.h"

namespace vgpu::hypervisor {
namespace {

struct Rule {
  std::string_view code;
  RefusalKind kind;
  std::string_view rule;
};
constexpr std::array<Rule, 15> kRules = {{
    {"VG1004", RefusalKind::bad_request, "quota"},
    {"VG1005", RefusalKind::bad_request, "name"},
    {"VG1010", RefusalKind::bad_request, "quota"},
    {"VG1011", RefusalKind::bad_request, "gpu"},
    {"VG1012", RefusalKind::bad_request, "gpu"},
    {"VG1013", RefusalKind::bad_request, "gpu"},
    {"VG1014", RefusalKind::no_room, "share_sum"},
    {"VG1017", RefusalKind::conflict, "memory_in_use"},
    {"VG1018", RefusalKind::conflict, "changed_meanwhile"},
    {"VG1021", RefusalKind::unavailable, "state_directory"},
    {"VG1022", RefusalKind::not_found, "tenant"},
    {"VG1023", RefusalKind::bad_request, "tenant"},
    {"VG1024", RefusalKind::conflict, "name_taken"},
    {"VG1025", RefusalKind::unavailable, "shares_lock"},
    {"VG1041", RefusalKind::unavailable, "driver"},
}};

Refusal refusal_of(const survey::Problem& problem) {
  Refusal refusal{RefusalKind::unavailable, problem.code, "failed", problem.what, problem.next, {}};
  for (const Rule& rule : kRules) {
    if (rule.code != problem.code) continue;
    refusal.kind = rule.kind;
    refusal.rule = rule.rule;
  }
  return refusal;
}

Refusal refuse_stranger(uid_t uid) {
  return {RefusalKind::forbidden,
          "VG1062",
          "owner",
          fmt::format("user {} may not change tenants of user {}", uid, geteuid()),
          "ask as that user, or as root",
          {}};
}

// What is left of each GPU's share.
std::vector<Room> room_on(const shm::StateDir& dir, const NodeState& state,
                          std::string_view except) {
  std::vector<Room> room;
  const auto live = survey::live_specs(dir);
  for (const auto& gpu : state.gpus) {
    const unsigned taken = survey::promised(live, gpu.uuid, except).sum_percent();
    room.push_back({gpu.uuid, gpu.index, std::nullopt, taken >= 100 ? 0 : 100 - taken});
  }
  return room;
}

// The daemon's own variables say nothing of a tenant that somebody asks for.
class NoVariables final : public vgpu::settings::Environment {
 public:
  const char* get(const char* /*name*/) const override { return nullptr; }
};

survey::Driver driver_of(const NodeState& state) {
  survey::Driver driver;
  driver.available = state.driver.available;
  driver.simulated = state.driver.simulated;
  for (const auto& gpu : state.gpus) {
    if (gpu.health == GpuHealth::lost) continue;
    survey::Gpu known;
    known.uuid = gpu.uuid;
    known.nvml_index = gpu.index;
    known.name = gpu.name;
    known.total_bytes = gpu.total_bytes;
    driver.gpus.push_back(std::move(known));
  }
  return driver;
}

std::string kept_file(const shm::StateDir& dir) {
  return fmt::format("{}/hypervisor.tenants", dir.path.view());
}

std::uint64_t inode_of(const shm::StateDir& dir, std::string_view id) {
  return platform::identity_of(fmt::format("{}/{}.tenant", dir.path.view(), id).c_str()).inode;
}

}  // namespace

StatePointer Daemon::state() const {
  const std::lock_guard lock(state_mutex_);
  return state_;
}

StatePointer Daemon::state_after(std::uint64_t sequence, std::chrono::milliseconds wait) const {
  std::unique_lock lock(state_mutex_);
  published_.wait_for(lock, wait, [&] { return stopping_ || state_->sequence > sequence; });
  return state_;
}

EventBatch Daemon::events_after(std::uint64_t sequence, std::size_t most,
                                std::chrono::milliseconds wait) const {
  return events_.after(sequence, most, wait);
}

std::vector<HistoryPoint> Daemon::history(const GpuUuid& gpu, std::string_view tenant,
                                          Resolution resolution) const {
  const std::lock_guard lock(history_mutex_);
  return history_.read(gpu, tenant, resolution);
}

bool Daemon::may(const Asker& asker) const { return asker.uid == 0 || asker.uid == geteuid(); }

Outcome<CreatedTenant> Daemon::create(const Asker& asker, const CreateRequest& request) {
  if (!may(asker)) return refuse_stranger(asker.uid);
  const std::lock_guard lock(change_mutex_);
  const StatePointer now = state();
  try {
    if (!now->driver.available)
      throw survey::Problem(survey::kExitFailed, "VG1041", now->driver.why, "");
    survey::TenantRequest wanted = request;
    if (wanted.program.empty()) wanted.program = "tenant";
    const survey::PlannedTenant planned =
        survey::plan_tenant(wanted, driver_of(*now), NoVariables(), Source::daemon);
    const std::string id(planned.spec.id.view()), name(planned.spec.name.view());
    survey::refuse_taken_name(dir_, name, survey::kExitFailed);
    survey::NewTenant made = survey::make_tenant(dir_, planned.spec, {request.oversubscribe});
    kept_.emplace(id, std::move(made.hold));
    write_kept_tenants();
    beat_soon();
    return CreatedTenant{id, name, planned.notices};
  } catch (const survey::Problem& problem) {
    Refusal refusal = refusal_of(problem);
    if (refusal.kind == RefusalKind::no_room) refusal.room = room_on(dir_, *now, "");
    return refusal;
  }
}

Outcome<ChangedTenant> Daemon::change(const Asker& asker, std::string_view tenant,
                                      const ChangeRequest& request) {
  if (!may(asker)) return refuse_stranger(asker.uid);
  const std::lock_guard lock(change_mutex_);
  std::string id;
  try {
    survey::TenantChange change(request, request.gpus,
                                {.oversubscribe = request.oversubscribe, .by = Source::daemon},
                                dir_, std::string(tenant));
    id = change.spec().id.view();
    change.apply();
    ChangedTenant changed{id, {}};
    for (const auto& one : change.changes()) {
      const shm::TenantGpu& gpu = change.spec().gpus[one.gpu];
      changed.gpus.push_back({gpu.uuid, gpu.nvml_index, one.before, one.after});
    }
    beat_soon();
    return changed;
  } catch (const survey::Problem& problem) {
    Refusal refusal = refusal_of(problem);
    if (refusal.kind == RefusalKind::no_room) refusal.room = room_on(dir_, *state(), id);
    return refusal;
  }
}

Outcome<EndedTenant> Daemon::end(const Asker& asker, std::string_view tenant,
                                 const EndRequest& request) {
  if (!may(asker)) return refuse_stranger(asker.uid);
  const std::lock_guard lock(change_mutex_);
  try {
    const survey::KnownTenant known =
        survey::find_tenant(dir_, std::string(tenant), survey::kExitFailed, "{}");
    EndedTenant ended{std::string(known.spec.id.view()), 0};
    const auto processes = survey::processes_of(known.tenant);
    if (!processes.empty() && !request.with_processes) {
      return Refusal{
          RefusalKind::conflict,
          "VG1063",
          "has_processes",
          fmt::format("{} processes are in tenant {}", processes.size(), known.spec.name.view()),
          "end it with its processes",
          {}};
    }
    const StatePointer now = state();
    for (const auto& process : now->processes) {
      if (process.tenant == ended.id && process.host_pid &&
          send_signal(*process.host_pid, process.start_time_ticks, SIGTERM))
        ++ended.processes_signalled;
    }
    if (!processes.empty()) {
      endings_[ended.id] = {
          platform::monotonic_ns() + static_cast<std::uint64_t>(request.grace.count()) * 1'000'000,
          false};
      beat_soon();
      return ended;
    }
    auto kept = kept_.extract(ended.id);
    if (!kept.empty()) {
      kept.mapped().end(dir_, known.tenant);
      write_kept_tenants();
    } else if (!survey::remove_left_behind(dir_, ended.id, known.tenant)) {
      return Refusal{RefusalKind::conflict,
                     "VG1063",
                     "has_keeper",
                     fmt::format("vgpu run looks after tenant {}, and none of its processes uses a "
                                 "GPU yet",
                                 known.spec.name.view()),
                     "end that vgpu run",
                     {}};
    }
    beat_soon();
    return ended;
  } catch (const survey::Problem& problem) {
    return refusal_of(problem);
  }
}

Outcome<RenamedTenant> Daemon::rename(const Asker& asker, std::string_view tenant,
                                      const std::string& name) {
  if (!may(asker)) return refuse_stranger(asker.uid);
  const std::lock_guard lock(change_mutex_);
  try {
    survey::KnownTenant known =
        survey::find_tenant(dir_, std::string(tenant), survey::kExitFailed, "{}");
    const std::string before(known.spec.name.view());
    const std::string after = survey::checked_name(name);
    if (before != after) survey::refuse_taken_name(dir_, after, survey::kExitFailed);
    known.tenant.rename(after);
    beat_soon();
    return RenamedTenant{std::string(known.spec.id.view()), before, after};
  } catch (const survey::Problem& problem) {
    return refusal_of(problem);
  }
}

// Tenants that are being ended: SIGKILL when their time is up, and away with those that are empty.
void Daemon::finish_endings(std::uint64_t now_ns) {
  const std::lock_guard lock(change_mutex_);
  for (auto at = endings_.begin(); at != endings_.end();) {
    const auto& [id, ending] = *at;
    const auto seen = segments_.tenants().find(id);
    if (seen != segments_.tenants().end() && !seen->second.processes.empty()) {
      if (now_ns >= ending.kill_at_ns && !ending.killed) {
        at->second.killed = true;
        const StatePointer now = state();
        for (const auto& process : now->processes) {
          if (process.tenant == id && process.host_pid)
            (void)send_signal(*process.host_pid, process.start_time_ticks, SIGKILL);
        }
      }
      ++at;
      continue;
    }
    shm::Tenant tenant;
    auto kept = kept_.extract(id);
    if (!kept.empty()) {
      if (shm::Tenant::open(dir_, id, tenant) == shm::Status::ok) kept.mapped().end(dir_, tenant);
      write_kept_tenants();
    }
    at = endings_.erase(at);
  }
}

// Those that an earlier daemon made, by a list beside the segments: id and inode.
void Daemon::adopt_kept_tenants() {
  const std::lock_guard lock(change_mutex_);
  std::ifstream list(kept_file(dir_));
  std::string id;
  std::uint64_t inode = 0;
  while (list >> id >> inode) {
    if (id.size() > shm::kMaxName || id.find('/') != std::string::npos) continue;
    if (inode == 0 || inode_of(dir_, id) != inode) continue;
    if (auto hold = survey::TenantHold::acquire(dir_, id)) kept_.emplace(id, std::move(*hold));
  }
  write_kept_tenants();
}

void Daemon::write_kept_tenants() const {
  const std::string path = kept_file(dir_), fresh = path + ".new";
  {
    std::ofstream list(fresh, std::ios::trunc);
    for (const auto& [id, hold] : kept_) list << id << ' ' << inode_of(dir_, id) << '\n';
    if (!list.flush()) return;
  }
  (void)std::rename(fresh.c_str(), path.c_str());
}

}  // namespace vgpu::hypervisor

// SPDX-License-Identifier: Apache-2.0
// What can be asked of the daemon (control.h), carried out on the segments: running processes see a
// change at their next reservation or launch, as after `vgpu set`. Who may have a new tenant is in
// daemon_admission.cpp.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string_view>
#include <utility>

#include "daemon.h"
#include "refusals.h"
#include "vgpu/platform/clock.h"
#include "vgpu/platform/file.h"
#include "vgpu/platform/process.h"
#include "vgpu/survey/change.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/quotas.h"

namespace vgpu::hypervisor {
namespace {

std::string made_file(const shm::StateDir& dir) {
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

Outcome<ChangedTenant> Daemon::change(const Asker& asker, std::string_view tenant,
                                      const ChangeRequest& request) {
  const std::lock_guard lock(change_mutex_);
  try {
    // What fits is admission's to say; the rest is as with `vgpu set`.
    survey::TenantChange change(
        request, request.gpus,
        {.oversubscribe = true, .when_free = request.when_free, .by = request.by}, dir_,
        std::string(tenant));
    if (auto refused = refuse_stranger(asker, change.spec())) return *refused;
    if (auto refused = refuse_change(asker, request, change)) return *refused;
    change.apply();
    const std::string id(change.spec().id.view());
    BookedTenant booked = TenantBook::booked(change.spec(), owner_of(id));
    ChangedTenant changed{id, std::string(change.spec().name.view()), {}};
    for (const auto& one : change.changes()) {
      const shm::TenantGpu& gpu = change.spec().gpus[one.gpu];
      ChangedQuota said{
          gpu.uuid, gpu.nvml_index, one.before, one.after, 0, one.after.memory_limit_bytes};
      if (request.when_free && one.memory_is_lowered()) {
        std::uint64_t limit = one.before.memory_limit_bytes;
        (void)change.lower(one, limit, said.held_bytes);
        said.after.memory_limit_bytes = limit;
      }
      for (auto& on : booked.gpus) {
        if (on.gpu == gpu.uuid) on.quota = said.after;
      }
      changed.gpus.push_back(said);
    }
    book_.put(id, std::move(booked), platform::monotonic_ns());
    serve_waiting();
    beat_soon();
    return changed;
  } catch (const survey::Problem& problem) {
    return refusal_of(problem);
  }
}

Outcome<EndedTenant> Daemon::end(const Asker& asker, std::string_view tenant,
                                 const EndRequest& request) {
  const std::lock_guard lock(change_mutex_);
  try {
    const survey::KnownTenant known =
        survey::find_tenant(dir_, std::string(tenant), survey::kExitFailed, "{}");
    if (auto refused = refuse_stranger(asker, known.spec)) return *refused;
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
    const auto made = made_.find(ended.id);
    if (made != made_.end() && made->second.hold) {
      unmake(ended.id);
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
    book_.remove(ended.id, platform::monotonic_ns());
    serve_waiting();
    beat_soon();
    return ended;
  } catch (const survey::Problem& problem) {
    return refusal_of(problem);
  }
}

Outcome<RenamedTenant> Daemon::rename(const Asker& asker, std::string_view tenant,
                                      const std::string& name) {
  const std::lock_guard lock(change_mutex_);
  try {
    survey::KnownTenant known =
        survey::find_tenant(dir_, std::string(tenant), survey::kExitFailed, "{}");
    if (auto refused = refuse_stranger(asker, known.spec)) return *refused;
    const std::string before(known.spec.name.view());
    const std::string after = survey::checked_name(name);
    if (before != after) survey::refuse_taken_name(dir_, after, survey::kExitFailed);
    known.tenant.rename(after);
    const std::string id(known.spec.id.view());
    BookedTenant booked = TenantBook::booked(known.spec, owner_of(id));
    booked.name = after;
    book_.put(id, std::move(booked), platform::monotonic_ns());
    beat_soon();
    return RenamedTenant{id, before, after};
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
    const auto made = made_.find(id);
    if (made != made_.end() && made->second.hold) {
      unmake(id);
      book_.remove(id, now_ns);
    }
    at = endings_.erase(at);
  }
}

// Lets go of a tenant, which goes with that unless it has processes or somebody else holds it.
void Daemon::unmake(const std::string& id) {
  auto made = made_.extract(id);
  if (made.empty()) return;
  shm::Tenant tenant;
  if (made.mapped().hold && shm::Tenant::open(dir_, id, tenant) == shm::Status::ok)
    made.mapped().hold->end(dir_, tenant);
  if (inode_of(dir_, id) == made.mapped().inode) {  // held by others: its owner stays known
    made.mapped().hold.reset();
    made.mapped().lifetime = Lifetime::run;
    made_.insert(std::move(made));
  }
  write_made_tenants();
}

// Those of Lifetime::run whose asker went before it took them, and those that are gone.
void Daemon::look_after_made() {
  std::vector<std::string> abandoned;
  bool some_gone = false;
  for (auto at = made_.begin(); at != made_.end();) {
    const auto& [id, made] = *at;
    if (segments_.tenants().count(id) == 0 && inode_of(dir_, id) != made.inode) {
      at = made_.erase(at);
      some_gone = true;
      continue;
    }
    if (made.hold && made.lifetime == Lifetime::run &&
        platform::life_of(made.asker, made.asker_start_ticks) == platform::Life::gone)
      abandoned.push_back(id);
    ++at;
  }
  for (const std::string& id : abandoned) unmake(id);
  if (some_gone) write_made_tenants();
}

// Those that an earlier daemon made, by a list beside the segments. A line: id, inode, owner,
// whether that one is trusted (1), and whether the daemon keeps it (kept) or only knows whose it is
// (run).
void Daemon::adopt_made_tenants() {
  const std::lock_guard lock(change_mutex_);
  std::ifstream list(made_file(dir_));
  std::string line;
  while (std::getline(list, line)) {
    std::istringstream words(line);
    std::string id, lifetime = "kept";
    Made made;
    made.owner = {geteuid(), true};
    if (!(words >> id >> made.inode)) continue;
    words >> made.owner.uid >> made.owner.trusted >> lifetime;
    if (id.size() > shm::kMaxName || id.find('/') != std::string::npos) continue;
    if (made.inode == 0 || inode_of(dir_, id) != made.inode) continue;
    made.lifetime = lifetime == "run" ? Lifetime::run : Lifetime::kept;
    if (made.lifetime == Lifetime::kept) {
      auto hold = survey::TenantHold::acquire(dir_, id);
      if (!hold) continue;
      made.hold.emplace(std::move(*hold));
    }
    made_.emplace(id, std::move(made));
  }
  write_made_tenants();
}

void Daemon::write_made_tenants() const {
  const std::string path = made_file(dir_), fresh = path + ".new";
  {
    std::ofstream list(fresh, std::ios::trunc);
    for (const auto& [id, made] : made_) {
      list << id << ' ' << made.inode << ' ' << made.owner.uid << ' ' << made.owner.trusted << ' '
           << (made.lifetime == Lifetime::kept ? "kept" : "run") << '\n';
    }
    if (!list.flush()) return;
  }
  (void)std::rename(fresh.c_str(), path.c_str());
}

}  // namespace vgpu::hypervisor

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
#include "times.h"
#include "vgpu/platform/clock.h"
#include "vgpu/platform/file.h"
#include "vgpu/platform/process.h"
#include "vgpu/survey/change.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/quotas.h"

namespace vgpu::hypervisor {
namespace {

// How long a tenant of processes that join stays without one: they come one after the other.
constexpr std::uint64_t kJoinedStayNs = 5 * kSecondNs;

const char* name_of(Lifetime lifetime) {
  switch (lifetime) {
    case Lifetime::kept:
      return "kept";
    case Lifetime::run:
      return "run";
    case Lifetime::joined:
      return "joined";
  }
  return "kept";
}

std::string made_file(const shm::StateDir& dir) {
  return fmt::format("{}/hypervisor.tenants", dir.path.view());
}

}  // namespace

std::uint64_t Daemon::Whereabouts::inode() const {
  return platform::identity_of(fmt::format("{}/{}.tenant", dir().path.view(), own_id).c_str())
      .inode;
}

// A file that somebody put into a cell is no tenant.
void Daemon::refuse_decoy(const Whereabouts& place) {
  if (place.directory->holds(place.own_id)) return;
  throw survey::Problem(survey::kExitFailed, "VG1022",
                        fmt::format("no tenant is called {}", place.own_id), "vgpu ls");
}

// By its id as the daemon says it; else by what its user calls it, those of the daemon's own user
// first.
Daemon::Whereabouts Daemon::find_place(std::string_view typed) {
  const auto& known = directories();
  const StatePointer now = state();
  std::vector<const TenantState*> exact, beginning;
  for (const auto& tenant : now->tenants) {
    if (tenant.directory == nullptr) continue;
    if (tenant.id == typed) return {tenant.directory, tenant.own_id};
    if (tenant.directory->is_own) continue;
    if (tenant.own_id == typed || tenant.name == typed) exact.push_back(&tenant);
    if (tenant.own_id.starts_with(typed) || tenant.name.starts_with(typed))
      beginning.push_back(&tenant);
  }
  const auto is_own = [&](const TenantState& tenant) {
    return tenant.directory != nullptr && tenant.directory->is_own &&
           (tenant.id.starts_with(typed) || tenant.name.starts_with(typed));
  };
  const auto& matches = exact.empty() ? beginning : exact;
  if (matches.empty() || std::any_of(now->tenants.begin(), now->tenants.end(), is_own))
    return {known.front(), std::string(typed)};
  if (matches.size() == 1) return {matches.front()->directory, matches.front()->own_id};
  throw survey::Problem(survey::kExitFailed, "VG1023",
                        fmt::format("{} tenants are called \"{}...\"; more of the name is needed",
                                    matches.size(), typed),
                        fmt::format("by its id: {}", matches.front()->id));
}

StatePointer Daemon::state() const {
  const std::lock_guard lock(state_mutex_);
  return state_;
}

StatePointer Daemon::state_with_changes() const {
  constexpr std::chrono::milliseconds kPatience(250);
  std::unique_lock lock(state_mutex_);
  const std::uint64_t changed_ns = changed_ns_;
  published_.wait_for(lock, kPatience,
                      [&] { return stopping_ || state_->monotonic_ns >= changed_ns; });
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

std::vector<survey::Explanation> Daemon::explain(std::string_view tenant_id) const {
  std::shared_ptr<const survey::Snapshot> before, now;
  {
    const std::lock_guard lock(history_mutex_);
    before = earlier_look_;
    now = latest_look_;
  }
  if (now == nullptr) return {};
  return survey::explain(before == nullptr ? *now : *before, *now, tenant_id);
}

Outcome<ChangedTenant> Daemon::change(const Asker& asker, std::string_view tenant,
                                      const ChangeRequest& request) {
  const std::lock_guard lock(change_mutex_);
  try {
    // What fits is admission's to say; the rest is as with `vgpu set`.
    Whereabouts place = find_place(tenant);
    ChangeRequest in_percent = request;
    put_percent_in(in_percent, place);
    survey::TenantChange change(
        in_percent, request.gpus,
        {.oversubscribe = true, .when_free = request.when_free, .by = request.by}, place.dir(),
        place.own_id);
    place.own_id = change.spec().id.view();
    refuse_decoy(place);
    const std::string id = place.public_id();
    if (auto refused = refuse_stranger(asker, id, change.spec().name.view())) return *refused;
    if (auto refused = refuse_change(asker, request, id, change)) return *refused;
    change.apply();
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
    shm::TenantSpec now_holds = change.spec();
    for (auto& gpu : now_holds.gpus) {
      for (const auto& on : booked.gpus) {
        if (on.gpu == gpu.uuid) gpu.quota = on.quota;
      }
    }
    keep_in_cell(place.directory, now_holds);
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
    Whereabouts place = find_place(tenant);
    const survey::KnownTenant known =
        survey::find_tenant(place.dir(), place.own_id, survey::kExitFailed, "{}");
    place.own_id = known.spec.id.view();
    refuse_decoy(place);
    EndedTenant ended{place.public_id(), 0};
    if (auto refused = refuse_stranger(asker, ended.id, known.spec.name.view())) return *refused;
    const std::size_t processes =
        survey::processes_of(known.tenant).size() + pod_processes_in(ended.id);
    if (processes != 0 && !request.with_processes) {
      return Refusal{
          RefusalKind::conflict,
          "VG1063",
          "has_processes",
          fmt::format("{} processes are in tenant {}", processes, known.spec.name.view()),
          "end it with its processes",
          {}};
    }
    const StatePointer now = state();
    for (const auto& process : now->processes) {
      if (process.tenant == ended.id && process.host_pid &&
          send_signal(*process.host_pid, process.start_time_ticks, SIGTERM))
        ++ended.processes_signalled;
    }
    if (processes != 0) {
      endings_[ended.id] = {
          platform::monotonic_ns() + static_cast<std::uint64_t>(request.grace.count()) * 1'000'000,
          false};
      beat_soon();
      return ended;
    }
    const auto made = made_.find(ended.id);
    if (made != made_.end() && made->second.hold) {
      unmake(ended.id);
    } else if (!survey::remove_left_behind(place.dir(), place.own_id, known.tenant)) {
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
    Whereabouts place = find_place(tenant);
    survey::KnownTenant known =
        survey::find_tenant(place.dir(), place.own_id, survey::kExitFailed, "{}");
    place.own_id = known.spec.id.view();
    refuse_decoy(place);
    const std::string id = place.public_id();
    if (auto refused = refuse_stranger(asker, id, known.spec.name.view())) return *refused;
    const std::string before(known.spec.name.view());
    const std::string after = survey::checked_name(name);
    if (before != after) survey::refuse_taken_name(place.dir(), after, survey::kExitFailed);
    known.tenant.rename(after);
    place.directory->keep_name(after);
    BookedTenant booked = TenantBook::booked(known.spec, owner_of(id));
    booked.name = after;
    book_.put(id, std::move(booked), platform::monotonic_ns());
    beat_soon();
    return RenamedTenant{id, before, after};
  } catch (const survey::Problem& problem) {
    return refusal_of(problem);
  }
}

Outcome<FoundProcess> Daemon::found_in_pod(const PodProcessRequest& request) {
  const DaemonOptions chosen = options();
  const auto refused = [](RefusalKind kind, std::string what) {
    Refusal refusal;
    refusal.kind = kind;
    refusal.what = std::move(what);
    return refusal;
  };
  const KeptPod* const pod =
      chosen.pod_files ? chosen.pod_files->pod(request.name_space, request.name) : nullptr;
  if (pod == nullptr || pod_processes_ == nullptr)
    return refused(RefusalKind::not_found, "no file is kept for the pod");
  if (request.uid.empty()) {
    return refused(RefusalKind::bad_request,
                   "the token doesn't say the pod's uid, by which its processes are found");
  }
  auto result = pod_processes_->enlist(request);
  if (auto* const why = std::get_if<std::string>(&result))
    return refused(RefusalKind::not_found, std::move(*why));
  beat_soon();
  return FoundProcess{std::get<PodProcess>(result).pid};
}

// Those that no slot tells of.
std::size_t Daemon::pod_processes_in(std::string_view tenant) const {
  const StatePointer now = state();
  return static_cast<std::size_t>(
      std::count_if(now->processes.begin(), now->processes.end(), [&](const ProcessState& process) {
        return process.tenant == tenant && process.limiter == LimiterPresence::predecessor;
      }));
}

// Tenants that are being ended: SIGKILL when their time is up, and away with those that are empty.
void Daemon::finish_endings(std::uint64_t now_ns) {
  const std::lock_guard lock(change_mutex_);
  for (auto at = endings_.begin(); at != endings_.end();) {
    const auto& [id, ending] = *at;
    const auto seen = segments_.tenants().find(id);
    if (seen != segments_.tenants().end() &&
        (!seen->second.processes.empty() || pod_processes_in(id) != 0)) {
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
  const Whereabouts place = made.mapped().place;
  shm::Tenant tenant;
  if (made.mapped().hold && shm::Tenant::open(place.dir(), place.own_id, tenant) == shm::Status::ok)
    made.mapped().hold->end(place.dir(), tenant);
  if (place.inode() == made.mapped().inode) {  // held by others: its owner stays known
    made.mapped().hold.reset();
    made.mapped().lifetime = Lifetime::run;
    made_.insert(std::move(made));
  }
  write_made_tenants();
}

// Those of Lifetime::run whose asker went before it took them.
void Daemon::unmake_abandoned() {
  std::vector<std::string> abandoned;
  for (const auto& [id, made] : made_) {
    if (made.hold && made.lifetime == Lifetime::run &&
        platform::life_of(made.asker, made.asker_start_ticks) == platform::Life::gone)
      abandoned.push_back(id);
  }
  for (const std::string& id : abandoned) {
    unmake(id);
    book_.remove(id, platform::monotonic_ns());
  }
}

// One that has come has a slot there.
bool Daemon::Told::is_on_its_way(std::uint64_t now_ns) const {
  return now_ns < told_ns + kJoinedStayNs &&
         platform::life_of(pid, start_ticks) != platform::Life::gone;
}

void Daemon::tell_where(const std::string& id, const Asker& asker) {
  const auto made = made_.find(id);
  if (made == made_.end() || made->second.lifetime != Lifetime::joined) return;
  const Told now{*asker.pid, platform::start_time_ticks(*asker.pid), platform::monotonic_ns()};
  auto& told = made->second.told;
  std::erase_if(told, [&](const Told& one) {
    return now.told_ns >= one.told_ns + kJoinedStayNs ||
           (one.pid == now.pid && one.start_ticks == now.start_ticks);
  });
  told.push_back(now);
}

// Those of Lifetime::joined that nobody is in any more and nobody is on the way to: they would stay
// for the next of theirs, but not where somebody else could have their room.
void Daemon::unmake_deserted(std::string_view spared) {
  const std::uint64_t now_ns = platform::monotonic_ns();
  std::vector<std::string> deserted;
  for (const auto& [id, made] : made_) {
    if (id == spared || !made.hold || made.lifetime != Lifetime::joined) continue;
    if (std::any_of(made.told.begin(), made.told.end(),
                    [&](const Told& one) { return one.is_on_its_way(now_ns); }))
      continue;
    shm::Tenant tenant;
    if (shm::Tenant::open(made.place.dir(), made.place.own_id, tenant) != shm::Status::ok) continue;
    tenant.reap();
    if (survey::processes_of(tenant).empty()) deserted.push_back(id);
  }
  for (const std::string& id : deserted) {
    unmake(id);
    if (made_.count(id) == 0) book_.remove(id, now_ns);  // else somebody holds it
  }
  if (!deserted.empty()) beat_soon();
}

// Those that nobody is in any more, and those that are gone.
void Daemon::look_after_made() {
  const std::uint64_t now_ns = platform::monotonic_ns();
  // Whoever was told where it belongs is there before that.
  const auto is_left = [this](const std::string& id, Made& made, std::uint64_t now) {
    const auto seen = segments_.tenants().find(id);
    const bool is_used = seen != segments_.tenants().end() && !seen->second.processes.empty();
    if (is_used || made.unused_since_ns == 0) made.unused_since_ns = now;
    return now >= made.unused_since_ns + kJoinedStayNs;
  };
  unmake_abandoned();
  std::vector<std::string> left;
  bool some_gone = false;
  for (auto at = made_.begin(); at != made_.end();) {
    const auto& [id, made] = *at;
    if (segments_.tenants().count(id) == 0 && made.place.inode() != made.inode) {
      at = made_.erase(at);
      some_gone = true;
      continue;
    }
    if (made.hold && made.lifetime == Lifetime::joined && is_left(id, at->second, now_ns))
      left.push_back(id);
    ++at;
  }
  for (const std::string& id : left) {
    unmake(id);
    book_.remove(id, now_ns);
  }
  if (some_gone) write_made_tenants();
}

// Those that an earlier daemon made, by a list beside the segments. A line: own id, inode, owner,
// whether that one is trusted (1), whether the daemon keeps it (kept, joined) or only knows whose
// it is (run), and its directory where that isn't the daemon's own.
void Daemon::adopt_made_tenants() {
  const std::lock_guard lock(change_mutex_);
  std::ifstream list(made_file(dir_));
  std::string line;
  while (std::getline(list, line)) {
    std::istringstream words(line);
    std::string id, lifetime = "kept", directory;
    Made made;
    made.owner = {geteuid(), true};
    if (!(words >> id >> made.inode)) continue;
    words >> made.owner.uid >> made.owner.trusted >> lifetime >> std::ws;
    std::getline(words, directory);
    if (id.size() > shm::kMaxName || id.find('/') != std::string::npos) continue;
    const auto& known = directories();
    const auto at = std::find_if(known.begin(), known.end(), [&](const auto& one) {
      return directory.empty() ? one->is_own : one->dir.path.view() == directory;
    });
    if (at == known.end()) continue;
    made.place = {*at, id};
    if (made.inode == 0 || made.place.inode() != made.inode) continue;
    made.lifetime = lifetime == "run"      ? Lifetime::run
                    : lifetime == "joined" ? Lifetime::joined
                                           : Lifetime::kept;
    if (made.lifetime != Lifetime::run) {
      auto hold = survey::TenantHold::acquire(made.place.dir(), id);
      if (!hold) continue;
      made.hold.emplace(std::move(*hold));
    }
    // Whom the daemon before told that it belongs there isn't known: it is waited for as long.
    made.told.push_back({getpid(), platform::start_time_ticks(getpid()), platform::monotonic_ns()});
    made_.emplace(made.place.public_id(), std::move(made));
  }
  write_made_tenants();
}

void Daemon::write_made_tenants() const {
  const std::string path = made_file(dir_), fresh = path + ".new";
  {
    std::ofstream list(fresh, std::ios::trunc);
    for (const auto& [id, made] : made_) {
      list << made.place.own_id << ' ' << made.inode << ' ' << made.owner.uid << ' '
           << made.owner.trusted << ' ' << name_of(made.lifetime);
      if (!made.place.directory->is_own) list << ' ' << made.place.dir().path.view();
      list << '\n';
    }
    if (!list.flush()) return;
  }
  (void)std::rename(fresh.c_str(), path.c_str());
}

}  // namespace vgpu::hypervisor

// SPDX-License-Identifier: Apache-2.0
// Who may have a new tenant, or more for an old one: what is asked, in admission's terms; its
// decision, carried out; and those who wait for room. All of it with change_mutex_ held.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <utility>

#include "daemon.h"
#include "refusals.h"
#include "times.h"
#include "vgpu/platform/clock.h"
#include "vgpu/platform/file.h"
#include "vgpu/platform/process.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/shares.h"

namespace vgpu::hypervisor {
namespace {

// How often a waiting thread looks whether whoever asked is still there.
constexpr std::chrono::milliseconds kLookEvery{250};

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
    known.mig_enabled = gpu.mig_enabled;
    known.mig_devices = gpu.mig_devices.size();
    driver.gpus.push_back(std::move(known));
  }
  return driver;
}

[[noreturn]] void refuse(const std::string& what, const std::string& next = "") {
  throw survey::Problem(survey::kExitFailed, "VG1003", what, next);
}

bool is_percent(std::uint8_t value) { return value <= 100; }

void check_exact(const Quota& quota) {
  if (!is_percent(quota.compute_share_percent) || !is_percent(quota.compute_limit_percent))
    throw survey::Problem(survey::kExitFailed, "VG1004", "a percent above 100");
}

bool any_for_one_gpu(const survey::QuotaFlags& flags) {
  const auto names_gpu = [](const std::string& text) {
    return text.find('=') != std::string::npos;
  };
  return names_gpu(flags.memory) || names_gpu(flags.compute) || names_gpu(flags.compute_limit) ||
         names_gpu(flags.policy) || names_gpu(flags.priority);
}

// Of a request by number: one quota for all GPUs.
Quota common_of(const shm::TenantSpec& spec) {
  return survey::common_quota(spec).value_or(Quota());
}

// The GPU of that quota among the spec's, which no other names.
shm::TenantGpu& exact_gpu(shm::TenantSpec& spec, const WantedQuota& wanted,
                          std::set<GpuUuid>& seen) {
  const auto gpu = std::find_if(spec.gpus.begin(), spec.gpus.end(),
                                [&](const auto& one) { return one.uuid == wanted.gpu; });
  if (gpu == spec.gpus.end() || !seen.insert(wanted.gpu).second) {
    throw survey::Problem(
        survey::kExitFailed, "VG1011",
        fmt::format("{}: no such GPU here, or named twice", wanted.gpu.text().data()), "vgpu ls");
  }
  return *gpu;
}

admission::Part part_of(std::size_t place, const Quota& quota) {
  return {place, quota.memory_limit_bytes, quota.compute_share_percent};
}

// Shares of a GPU as the tool names them.
survey::GpuShares shares_of(const BookedTenants& tenants, const GpuUuid& gpu,
                            std::string_view except) {
  survey::GpuShares shares;
  for (const auto& [id, tenant] : tenants) {
    if (id == except) continue;
    for (const auto& on : tenant.gpus) {
      if (on.gpu == gpu && on.quota.compute_share_percent != 0)
        shares.promises.push_back({tenant.name, on.quota.compute_share_percent});
    }
  }
  std::stable_sort(shares.promises.begin(), shares.promises.end(),
                   [](const auto& a, const auto& b) { return a.percent > b.percent; });
  return shares;
}

}  // namespace

const std::vector<DirectoryPointer>& Daemon::directories() {
  return directories_.look(platform::monotonic_ns());
}

// One that the daemon looks after and that belongs to whoever asks (or to anybody, for who may
// act for all).
DirectoryPointer Daemon::directory_for(const Asker& asker, const std::string& wanted) {
  const bool is_trusted = user_of(asker).trusted;
  const auto fits = [&](const DirectoryPointer& directory) {
    if (directory->is_cell()) return false;
    if (!wanted.empty()) {
      const bool is_it = directory->dir.path.view() == wanted ||
                         platform::identity_of(wanted.c_str()) ==
                             platform::identity_of(directory->dir.path.c_str());
      return is_it && (is_trusted || directory->user == asker.uid);
    }
    return is_trusted ? directory->is_own : directory->user == asker.uid;
  };
  const auto& known = directories();
  const auto found = std::find_if(known.begin(), known.end(), fits);
  if (found != known.end()) return *found;
  // A daemon that looks after one directory makes there what it is asked for.
  if (wanted.empty() && options().users_directories.empty()) return known.front();
  throw survey::Problem(
      survey::kExitFailed, "VG1075",
      wanted.empty()
          ? fmt::format("user {} has no state directory that this daemon looks after", asker.uid)
          : fmt::format("{} is no state directory of user {} that this daemon looks after", wanted,
                        asker.uid),
      "vgpu ls makes one; hypervisor config show says which are looked after");
}

admission::User Daemon::user_of(const Asker& asker) const {
  const std::optional<gid_t> group = options().admission.trusted_group;
  const bool is_member =
      group && std::find(asker.groups.begin(), asker.groups.end(), *group) != asker.groups.end();
  const bool is_trusted = asker.uid == 0 || asker.uid == geteuid() || is_member;
  // The numbers of users and groups are a container's own business.
  return {asker.uid, is_trusted && !asker.container};
}

admission::User Daemon::owner_of(std::string_view tenant) const {
  if (const auto made = made_.find(tenant); made != made_.end()) return made->second.owner;
  if (const auto user = user_in(tenant)) {
    // Root's number in a container isn't root.
    const StatePointer now = state();
    const TenantState* const seen = *user == 0 ? now->tenant(tenant) : nullptr;
    const bool is_contained =
        seen != nullptr && seen->directory != nullptr && seen->directory->is_cell();
    return {*user, *user == 0 && !is_contained};
  }
  return {geteuid(), true};
}

BookedTenants Daemon::booked(bool without_left_behind) {
  return book_.tenants(*state(), without_left_behind);
}

std::size_t Daemon::admission_place(const GpuUuid& gpu) {
  const auto found = std::find(admission_gpus_.begin(), admission_gpus_.end(), gpu);
  if (found != admission_gpus_.end())
    return static_cast<std::size_t>(found - admission_gpus_.begin());
  admission_gpus_.push_back(gpu);
  return admission_gpus_.size() - 1;
}

admission::Node Daemon::node_of(const BookedTenants& tenants) {
  const StatePointer now = state();
  for (const auto& gpu : now->gpus) (void)admission_place(gpu.uuid);
  return admission_node(*now, admission_gpus_, tenants, options().admission.rules);
}

std::optional<Refusal> Daemon::refuse_stranger(const Asker& asker, std::string_view id,
                                               std::string_view name) const {
  const admission::User owner = owner_of(id), user = user_of(asker);
  const admission::Node node{{}, {{std::string(name), owner, {}}}, {}};
  const auto refused = admission::check_owner(node, 0, user);
  if (!refused) return std::nullopt;
  Refusal refusal = refusal_of(*refused, node);
  refusal.what =
      fmt::format("tenant {} belongs to user {}, and this is user {}", name, owner.uid, user.uid);
  return refusal;
}

Refusal Daemon::refusal_of_room(const admission::Refusal& refusal, const admission::Node& node,
                                const BookedTenants& tenants, const admission::User& user,
                                std::string_view changing) {
  Refusal out = refusal_of(refusal, node);
  const StatePointer now = state();
  std::optional<std::size_t> leave_out;
  if (const auto at = tenants.find(changing); at != tenants.end())
    leave_out = static_cast<std::size_t>(std::distance(tenants.begin(), at));
  for (std::size_t place = 0; place < node.gpus.size(); ++place) {
    const GpuState* gpu = now->gpu(admission_gpus_[place]);
    if (!node.gpus[place].usable || gpu == nullptr) continue;
    const admission::Remaining left = admission::remaining(node, place, user, leave_out);
    out.room.push_back({gpu->uuid, gpu->index, left.memory_bytes, left.share_percent});
  }
  // On one GPU it is said as `vgpu run` says it alone: with the names of those that have the rest.
  if (refusal.rule == admission::Rule::share_room && refusal.fit.gpus == 0 &&
      refusal.gpu < admission_gpus_.size()) {
    const GpuState* gpu = now->gpu(admission_gpus_[refusal.gpu]);
    const survey::GpuShares others = shares_of(tenants, admission_gpus_[refusal.gpu], changing);
    shm::TenantGpu named;
    named.nvml_index = gpu != nullptr ? gpu->index : 0;
    const std::string why = survey::why_not(others, named, refusal.wanted.share_percent);
    if (!why.empty() && !refusal.oversubscribing) {
      out.what = why;
      out.next = survey::room_advice(others, false);
    }
  }
  return out;
}

Quota Daemon::with_rule_on(const QuotaRule* rule, const std::string& gpu, const Quota& own) const {
  if (rule == nullptr) return own;
  CreateRequest request;
  request.program = "tenant";
  request.gpus = gpu;
  fill_from(*rule, request, request.tflops);
  const TflopsFor form = gpu.empty() ? TflopsFor::any_gpu : TflopsFor::each_gpu;
  if (own.compute_source == Source::none)
    put_percent_in(request, form, request.tflops, {true, rule->name}, request);
  return with_rule(
      own,
      common_of(
          survey::plan_tenant(request, driver_of(*state()), NoVariables(), Source::daemon).spec));
}

// Puts in what `exact` says, each of its GPUs once.
void Daemon::set_exactly(shm::TenantSpec& spec, const CreateRequest& request,
                         const QuotaRule* rule) const {
  Quota each;
  if (request.exact_each) {
    check_exact(*request.exact_each);
    each = with_rule_on(rule, "", *request.exact_each);
  }
  for (auto& gpu : spec.gpus) {
    gpu.in_set = request.exact_each.has_value();
    gpu.quota = each;
  }
  std::set<GpuUuid> seen;
  for (const WantedQuota& wanted : request.exact) {
    shm::TenantGpu& gpu = exact_gpu(spec, wanted, seen);
    check_exact(wanted.quota);
    gpu.in_set = true;
    gpu.quota = with_rule_on(rule, wanted.gpu.text().data(), wanted.quota);
  }
}

void Daemon::put_percent_in(const CreateRequest& request, TflopsFor form, const TflopsQuota& tflops,
                            const TflopsPlace& place, survey::QuotaFlags& flags) const {
  if (!tflops.is_given()) return;
  const survey::Driver driver = driver_of(*state());
  std::vector<survey::Gpu> gpus = driver.gpus;
  if (!request.gpus.empty()) {
    gpus.clear();
    for (const auto at : survey::select_gpus(driver, request.gpus, survey::kExitFailed))
      gpus.push_back(driver.gpus[at]);
  }
  put_percent(tflops, gpus, form, *options().capacity, place, flags);
}

void Daemon::put_percent_in(ChangeRequest& request, const Whereabouts& place) const {
  if (!request.tflops.is_given()) return;
  const survey::TenantChange meant({}, request.gpus, {}, place.dir(), place.own_id);
  const StatePointer now = state();
  std::vector<survey::Gpu> gpus;
  for (const auto& one : meant.changes()) {
    const shm::TenantGpu& gpu = meant.spec().gpus[one.gpu];
    const GpuState* const seen = now->gpu(gpu.uuid);
    survey::Gpu& known = gpus.emplace_back();
    known.uuid = gpu.uuid;
    known.nvml_index = gpu.nvml_index;
    if (seen != nullptr) known.name = seen->name;
  }
  put_percent(request.tflops, gpus, TflopsFor::each_gpu, *options().capacity, {}, request);
}

Daemon::Wanted Daemon::wanted_of(const Asker& asker, const CreateRequest& request) {
  const StatePointer now = state();
  const DaemonOptions chosen = options();
  if (!now->driver.available)
    throw survey::Problem(survey::kExitFailed, "VG1041", now->driver.why, "");
  if (request.gpu_count != 0 && (!request.gpus.empty() || !request.exact.empty()))
    refuse("a number of GPUs, or their names: not both");
  if (request.gpu_count != 0 && any_for_one_gpu(request))
    refuse("with a number of GPUs a quota is for each of them: GPU=VALUE has no place in it");
  if (now->gpus.empty())
    throw survey::Problem(survey::kExitFailed, "VG1041", "the driver shows no GPU", "");
  if (request.exact_each.has_value() && request.gpu_count == 0)
    refuse("a quota for each GPU goes with a number of GPUs");

  Wanted wanted;
  if (request.lifetime != Lifetime::joined)
    wanted.directory = directory_for(asker, request.state_directory);
  wanted.asker = asker;
  wanted.lifetime = request.lifetime;
  if (request.lifetime == Lifetime::run) {
    wanted.asker_start_ticks = asker.pid ? platform::start_time_ticks(*asker.pid) : 0;
    if (wanted.asker_start_ticks == 0)
      refuse("a tenant for a run is for a process on this machine that can be seen from here");
  }
  const bool exactly = !request.exact.empty() || request.exact_each.has_value();
  if (exactly && request.tflops.is_given()) refuse("quotas, or one in TFLOPS: not both");
  survey::TenantRequest typed = request;
  TflopsQuota tflops = request.tflops;
  TflopsPlace tflops_place;
  if (typed.program.empty()) typed.program = "tenant";
  const QuotaRule* const rule =
      matching_rule(chosen.admission.quota_rules, asking_process(asker.uid, asker.pid));
  if (rule != nullptr) {
    wanted.rule = rule->name;
    if (!exactly && fill_from(*rule, typed, tflops)) tflops_place = {true, rule->name};
  }
  const survey::Driver driver = driver_of(*now);
  if (exactly) {
    survey::TenantRequest bare;
    bare.name = request.name;
    bare.program = typed.program;
    survey::PlannedTenant planned =
        survey::plan_tenant(bare, driver, NoVariables(), Source::daemon);
    set_exactly(planned.spec, request, rule);
    wanted.spec = planned.spec;
  } else {
    // Which GPUs a number of them will be isn't known yet.
    const TflopsFor form = request.gpu_count != 0 ? TflopsFor::any_gpu : TflopsFor::each_gpu;
    put_percent_in(request, form, tflops, tflops_place, typed);
    survey::PlannedTenant planned =
        survey::plan_tenant(typed, driver, NoVariables(), Source::daemon);
    wanted.spec = planned.spec;
    wanted.notices = std::move(planned.notices);
  }

  wanted.wish.user = user_of(asker);
  wanted.wish.oversubscribe = request.oversubscribe;
  wanted.wish.placement = chosen.admission.placement;
  wanted.wish.count = request.gpu_count;
  // Nobody but who is trusted goes first in the queue.
  Priority highest = Priority::low;
  for (const auto& gpu : wanted.spec.gpus) {
    if (gpu.in_set) highest = std::max(highest, gpu.quota.priority);
  }
  wanted.priority = wanted.wish.user.trusted ? highest : std::min(highest, Priority::normal);
  if (request.gpu_count != 0) {
    wanted.each = exactly ? wanted.spec.gpus[0].quota : common_of(wanted.spec);
    wanted.wish.each = part_of(0, wanted.each);
    return wanted;
  }
  for (const auto& gpu : wanted.spec.gpus) {
    if (gpu.in_set) wanted.wish.named.push_back(part_of(admission_place(gpu.uuid), gpu.quota));
  }
  return wanted;
}

// One whose processes have all been killed, and whoever looked after it, is in nobody's way.
bool Daemon::is_name_taken(const std::string& name, const DirectoryPointer& directory,
                           const BookedTenants& tenants) {
  const auto is_in = [&](const BookedTenants& among) {
    return std::any_of(among.begin(), among.end(), [&](const auto& one) {
      return user_in(one.first) == user_in(directory->public_id("-")) && one.second.name == name;
    });
  };
  if (!is_in(tenants)) return false;
  unmake_abandoned();
  return is_in(booked(true));
}

CreatedTenant Daemon::make(const Wanted& wanted, const std::vector<admission::Part>& parts,
                           const BookedTenants& tenants) {
  shm::TenantSpec spec = wanted.spec;
  if (const std::string wanted_name(spec.name.view());
      is_name_taken(wanted_name, wanted.directory, tenants)) {
    throw survey::Problem(survey::kExitFailed, "VG1024",
                          fmt::format("a tenant called {} is running", wanted_name),
                          fmt::format("vgpu exec {} -- PROGRAM, or another --name", wanted_name));
  }
  for (auto& gpu : spec.gpus) {
    const std::size_t place = admission_place(gpu.uuid);
    gpu.in_set = std::any_of(parts.begin(), parts.end(),
                             [&](const admission::Part& part) { return part.gpu == place; });
    if (!gpu.in_set) gpu.quota = {};
    if (gpu.in_set && wanted.wish.count != 0) gpu.quota = wanted.each;
  }
  const Whereabouts place{wanted.directory, std::string(spec.id.view())};
  const std::string id = place.public_id(), name(spec.name.view());
  // Admission has judged: nothing is left to refuse.
  survey::NewTenant made = survey::make_tenant(place.dir(), spec, {.oversubscribe = true});
  place.directory->keep_name(name);
  keep_quotas(place.directory, spec);
  made_.emplace(id,
                Made{wanted.wish.user, place, place.inode(), wanted.lifetime, std::move(made.hold),
                     wanted.asker.pid.value_or(0), wanted.asker_start_ticks});
  write_made_tenants();
  book_.put(id, TenantBook::booked(spec, wanted.wish.user), platform::monotonic_ns());
  beat_soon();
  CreatedTenant created{id, place.own_id, name, {}, wanted.notices, wanted.rule};
  for (auto& notice : survey::mig_notices(spec, driver_of(*state())))
    created.notices.push_back(std::move(notice));
  for (const auto& gpu : spec.gpus) {
    if (gpu.in_set) created.gpus.push_back({gpu.uuid, gpu.nvml_index, gpu.quota});
  }
  return created;
}

Outcome<CreatedTenant> Daemon::create(const Asker& asker, const CreateRequest& request) {
  std::unique_lock lock(change_mutex_);
  try {
    Wanted wanted = wanted_of(asker, request);
    if (wanted.lifetime == Lifetime::run) forget_untaken_of(wanted);
    for (const bool without_left_behind : {false, true}) {
      const BookedTenants tenants = booked(without_left_behind);
      const admission::Node node = node_of(tenants);
      const admission::Decision decision = queue_.ask(node, wanted.wish);
      if (decision.granted()) return make(wanted, decision.parts, tenants);
      if (!without_left_behind && decision.refusal->waiting_helps) {
        unmake_deserted();
        continue;
      }
      const Refusal refusal = refusal_of_room(*decision.refusal, node, tenants, wanted.wish.user);
      if (!request.wait || !refusal.waiting_helps) return refusal;
      return wait_for_room(lock, std::move(wanted), *request.wait, refusal);
    }
  } catch (const survey::Problem& problem) {
    return refusal_of(problem);
  }
  return refuse_request("nothing was decided");
}

// Who asks again for the run that it starts has not heard the first answer.
void Daemon::forget_untaken_of(const Wanted& wanted) {
  std::vector<std::string> untaken;
  for (const auto& [id, made] : made_) {
    if (made.lifetime == Lifetime::run && made.hold && made.asker == wanted.asker.pid &&
        made.asker_start_ticks == wanted.asker_start_ticks)
      untaken.push_back(id);
  }
  for (const std::string& id : untaken) {
    unmake(id);
    book_.remove(id, platform::monotonic_ns());
  }
}

Outcome<CreatedTenant> Daemon::wait_for_room(std::unique_lock<std::mutex>& lock, Wanted wanted,
                                             const Patience& patience, const Refusal& refusal) {
  using Clock = std::chrono::steady_clock;
  const Whereabouts place{wanted.directory, std::string(wanted.spec.id.view())};
  const std::string id = place.public_id(), name(wanted.spec.name.view());
  const auto ticket = queue_.wait(wanted.wish, wanted.priority);
  if (!ticket) {
    return Refusal{RefusalKind::unavailable,
                   "VG1067",
                   "queue_full",
                   fmt::format("{} tenants wait for room already", queue_.size()),
                   "later",
                   {}};
  }
  Waiter waiter{std::move(wanted), std::nullopt};
  waiters_.emplace(*ticket, &waiter);
  events_.add(realtime_ns(), EventKind::queued, id,
              fmt::format("tenant {} of user {} waits for room: {}", name, waiter.wanted.asker.uid,
                          refusal.what));
  const auto since = Clock::now();
  const auto is_over = [&] { return patience.until && Clock::now() >= *patience.until; };
  const auto is_there = [&] { return !patience.is_there || patience.is_there(); };
  const auto is_ending = [&] {
    return nobody_waits_any_more_ || (patience.is_ending && patience.is_ending());
  };
  while (!waiter.outcome && !is_ending() && !is_over() && is_there()) {
    auto look = Clock::now() + kLookEvery;
    if (patience.until) look = std::min(look, *patience.until);
    waiting_changed_.wait_until(lock, look,
                                [&] { return waiter.outcome || nobody_waits_any_more_; });
  }
  const double waited = std::chrono::duration<double>(Clock::now() - since).count();
  queue_.forget(*ticket);
  waiters_.erase(*ticket);
  if (waiter.outcome && (!waiter.outcome->ok() || is_there())) {
    if (waiter.outcome->ok()) {
      events_.add(realtime_ns(), EventKind::admitted, id,
                  fmt::format("tenant {} has room after {:.1f} s", name, waited));
    }
    return std::move(*waiter.outcome);
  }
  const bool was_admitted = waiter.outcome && waiter.outcome->ok();
  if (was_admitted) {  // too late: nobody is there to use it
    unmake(id);
    book_.remove(id, platform::monotonic_ns());
  }
  const bool ends = is_ending();
  const char* why = ends        ? "the daemon ends"
                    : is_over() ? "its time is up"
                                : "whoever asked has gone";
  events_.add(realtime_ns(), EventKind::withdrawn, id,
              fmt::format("tenant {} waits no more after {:.1f} s: {}", name, waited, why));
  serve_waiting();  // what was held for it
  Refusal late = refusal;
  if (ends) {
    late = {RefusalKind::unavailable, "VG1068", "daemon_ends", "the daemon ends", "again", {}};
  } else {
    late.what = fmt::format("no room within {:.1f} s: {}", waited, refusal.what);
  }
  return late;
}

void Daemon::serve_waiting() {
  while (!waiters_.empty()) {
    const BookedTenants tenants = booked(false);
    const auto admitted = queue_.admit(node_of(tenants));
    if (!admitted) return;
    const auto waiter = waiters_.find(admitted->ticket);
    if (waiter == waiters_.end()) continue;
    try {
      waiter->second->outcome = make(waiter->second->wanted, admitted->parts, tenants);
    } catch (const survey::Problem& problem) {
      waiter->second->outcome = refusal_of(problem);
    }
    waiting_changed_.notify_all();
  }
}

std::optional<Refusal> Daemon::refuse_change(const Asker& asker, const ChangeRequest& request,
                                             const std::string& id,
                                             const survey::TenantChange& change) {
  const admission::User user = user_of(asker);
  std::vector<admission::Part> parts;
  for (const auto& one : change.changes())
    parts.push_back(part_of(admission_place(change.spec().gpus[one.gpu].uuid), one.after));
  for (const bool without_left_behind : {false, true}) {
    BookedTenants tenants = booked(without_left_behind);
    // As the segment has it: others may have changed it since the last look.
    tenants[id] = TenantBook::booked(change.spec(), owner_of(id));
    const admission::Node node = node_of(tenants);
    const auto place = static_cast<std::size_t>(std::distance(tenants.begin(), tenants.find(id)));
    const auto refused = admission::check_change(node, place, user, parts, request.oversubscribe);
    if (!refused) return std::nullopt;
    if (!without_left_behind) {
      if (refused->waiting_helps) unmake_deserted(id);
      continue;
    }
    Refusal refusal = refusal_of_room(*refused, node, tenants, user, id);
    if (refused->rule == admission::Rule::share_room)
      refusal.next = "--oversubscribe: all are scaled down";
    return refusal;
  }
  return std::nullopt;
}

Outcome<TakenTenant> Daemon::taken(const Asker& asker, std::string_view tenant) {
  const std::lock_guard lock(change_mutex_);
  const auto made = made_.find(tenant);
  if (made == made_.end()) {
    return Refusal{RefusalKind::not_found,
                   "VG1022",
                   "tenant",
                   fmt::format("no tenant with the id {} was made here", tenant),
                   "vgpu ls",
                   {}};
  }
  if (auto refused = refuse_stranger(asker, tenant, tenant)) return *refused;
  if (made->second.lifetime != Lifetime::run)
    return refuse_request("only a tenant that was made for a run can be taken");
  made->second.hold.reset();
  return TakenTenant{std::string(tenant)};
}

}  // namespace vgpu::hypervisor

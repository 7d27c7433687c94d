// SPDX-License-Identifier: Apache-2.0
// Processes that have the limiter and no tenant of their own ask which one they belong to. What
// decides is what the kernel says of them, and a pod's token that the transport has verified; never
// what they say of themselves.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "daemon.h"
#include "detached_view.h"
#include "refusals.h"
#include "times.h"
#include "vgpu/core/driver_model.h"
#include "vgpu/platform/clock.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/quotas.h"

namespace vgpu::hypervisor {
namespace {

// "rule-NAME" or "rule-NAME-SCOPE"; a rule without a name has its place.
std::string id_by_rule(const QuotaRule& rule, std::size_t place, const std::string& scope) {
  std::string id = rule.name.empty() ? std::to_string(place) : rule.name;
  std::replace_if(
      id.begin(), id.end(),
      [](char c) {
        const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                              (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
        return !is_plain;
      },
      '-');
  constexpr std::size_t kMostOfName = 40;
  id = std::string(shm::kJoinedPrefix) + id.substr(0, kMostOfName);
  return scope.empty() ? id : id + "-" + scope;
}

Refusal unseen(const Asker& asker) {
  return {RefusalKind::unavailable,
          "VG1076",
          "identity",
          asker.pid
              ? fmt::format("process {} is gone, so nobody knows whose it was", *asker.pid)
              : "the process that asks is in a PID namespace that this daemon can't look into",
          asker.pid ? "" : "the daemon in the machine's PID namespace (hostPID)",
          {}};
}

JoinedTenant joined(const DirectoryPointer& directory, std::string id, std::string own_id,
                    std::string name, std::string rule) {
  return {std::move(id),
          std::move(own_id),
          std::move(name),
          std::move(rule),
          std::string(directory->dir.path.view()),
          std::string(directory->dir.quotas.view()),
          directory->is_cell()};
}

Refusal refuse_owner(std::string what, std::string next) {
  return {RefusalKind::forbidden, "VG1077", "owner", std::move(what), std::move(next), {}};
}

std::string in_mib(std::uint64_t bytes) {
  constexpr std::uint64_t kMiB = 1 << 20;
  return bytes == kNoLimit ? "none" : fmt::format("{}MiB", bytes / kMiB);
}

}  // namespace

// For a container a cell of that tenant's; else one of the asker's own, made where there is none
// and only root could put something in its way. Null: there is none.
DirectoryPointer Daemon::directory_to_join(const Asker& asker, const std::string& own_id) {
  if (asker.container) {
    DirectoryPointer cell = directories_.make_cell(asker.uid, own_id);
    // Before there is a tenant that it couldn't be handed.
    if (cell != nullptr &&
        detached_view(std::string(cell->dir.path.view()), View::to_write).is_open())
      return cell;
    throw survey::Problem(
        survey::kExitFailed, "VG1078",
        fmt::format("no directory can be handed to the container of tenant {}: {}", own_id,
                    std::strerror(errno)),
        "a daemon that is root, with CAP_SYS_ADMIN, on Linux 5.12");
  }
  const auto find = [&]() -> DirectoryPointer {
    for (const auto& directory : directories()) {
      if (directory->user == asker.uid && !directory->is_cell()) return directory;
    }
    return nullptr;
  };
  if (DirectoryPointer found = find()) return found;
  (void)directories_.make_for(asker.uid);
  directories_.look_anew();
  return find();
}

Outcome<JoinedTenant> Daemon::join(const Asker& asker, const JoinRequest& request) {
  const std::lock_guard lock(change_mutex_);
  try {
    if (!asker.pid || !asker.process) return unseen(asker);
    const AskingProcess who = asking_process(asker.uid, asker.pid);
    if (!asker.process->is_alive()) return unseen(asker);
    return request.tenant.empty() ? join_by_rule(asker, who) : join_pods(asker, request.tenant);
  } catch (const survey::Problem& problem) {
    return refusal_of(problem);
  }
}

// The moment that the token was looked up in is up to a beat old: it may lie in a cell since.
Daemon::Whereabouts Daemon::place_of_pods(const std::string& tenant) {
  const Whereabouts place = find_place(tenant);
  if (place.directory->is_cell() || place.inode() != 0) return place;
  for (const auto& [id, made] : made_) {
    if (made.place.directory->is_cell() && made.place.own_id == place.own_id) return made.place;
  }
  return place;
}

Outcome<JoinedTenant> Daemon::join_pods(const Asker& asker, const std::string& named) {
  Whereabouts place = place_of_pods(named);
  shm::Tenant tenant;
  if (shm::Tenant::open(place.dir(), place.own_id, tenant) != shm::Status::ok)
    return refuse_request(fmt::format("the pod's tenant {} isn't there any more", named));
  if (asker.container && !place.directory->is_cell()) {
    const auto made = made_.find(place.public_id());
    const bool is_operators = made != made_.end() && made->second.owner.trusted;
    if (!is_operators || !survey::processes_of(tenant).empty()) {
      return refuse_owner(fmt::format("tenant {} isn't for a container: {}", named,
                                      is_operators ? "processes outside of one are in it"
                                                   : "nobody made it who may make any tenant"),
                          "one for the pod alone, made over HTTP");
    }
    place = put_into_cell(asker, place, tenant);
  }
  if (place.directory->user != asker.uid) {
    return refuse_owner(fmt::format("tenant {} lies with user {}, and this process is user {}'s",
                                    named, place.directory->user, asker.uid),
                        fmt::format("make it in a state directory of user {}", asker.uid));
  }
  return joined(place.directory, place.public_id(), place.own_id,
                std::string(tenant.spec().name.view()), "");
}

// A tenant that nobody is in yet, for the container that it was made for: the same in a directory
// of its own.
Daemon::Whereabouts Daemon::put_into_cell(const Asker& asker, const Whereabouts& place,
                                          const shm::Tenant& tenant) {
  const shm::TenantSpec spec = tenant.spec();
  const Made& before = made_.at(place.public_id());
  const admission::User owner = before.owner;
  const Lifetime lifetime = before.lifetime;
  const Whereabouts cell{directory_to_join(asker, place.own_id), place.own_id};
  survey::NewTenant made = survey::make_tenant(cell.dir(), spec, {.oversubscribe = true});
  unmake(place.public_id());
  book_.remove(place.public_id(), platform::monotonic_ns());
  cell.directory->keep_name(std::string(spec.name.view()));
  keep_quotas(cell.directory, spec);
  made_.emplace(cell.public_id(),
                Made{owner, cell, cell.inode(), lifetime, std::move(made.hold), 0, 0});
  write_made_tenants();
  book_.put(cell.public_id(), TenantBook::booked(spec, owner), platform::monotonic_ns());
  beat_soon();
  return cell;
}

Outcome<JoinedTenant> Daemon::join_by_rule(const Asker& asker, const AskingProcess& who) {
  const DaemonOptions chosen = options();
  const auto& rules = chosen.admission.quota_rules;
  const QuotaRule* rule = matching_rule(rules, who);
  if (rule == nullptr) return JoinedTenant{};
  const auto number = static_cast<std::size_t>(rule - rules.data()) + 1;
  // A container is a tenant of its own, whatever the rule looks at.
  const std::string own_id =
      id_by_rule(*rule, number, asker.container ? *asker.container : scope_of(*rule, who));
  const DirectoryPointer directory = directory_to_join(asker, own_id);
  if (directory == nullptr)
    return JoinedTenant{{}, {}, {}, rule->name.empty() ? "a rule" : rule->name, {}, {}};
  const Whereabouts place{directory, own_id};
  shm::Tenant there;
  if (shm::Tenant::open(place.dir(), place.own_id, there) == shm::Status::ok) {
    tell_where(place.public_id(), asker);
    return joined(directory, place.public_id(), place.own_id, std::string(there.spec().name.view()),
                  rule->name);
  }
  CreateRequest request;
  request.program = place.own_id;
  request.lifetime = Lifetime::joined;
  Wanted wanted = wanted_of(asker, request);
  wanted.directory = directory;
  wanted.spec.id = FixedString<shm::kMaxName>(place.own_id);
  wanted.spec.name = wanted.spec.id;
  // Whoever wrote the rule is; but who looks at users only doesn't mean that each of theirs may
  // have it as often as they make containers.
  wanted.wish.user.trusted = !asker.container || !rule->container.empty();
  for (const bool without_left_behind : {false, true}) {
    const BookedTenants tenants = booked(without_left_behind);
    const admission::Node node = node_of(tenants);
    const admission::Decision decision = queue_.ask(node, wanted.wish);
    if (decision.granted()) {
      wanted.wish.user = user_of(asker);  // whose it is
      const CreatedTenant made = make(wanted, decision.parts, tenants);
      tell_where(made.id, asker);
      return joined(directory, made.id, made.own_id, made.name, rule->name);
    }
    if (without_left_behind || !decision.refusal->waiting_helps)
      return refusal_of_room(*decision.refusal, node, tenants, wanted.wish.user);
    unmake_deserted();
  }
  return refuse_request("nothing was decided");
}

// A rule fills in what the tenant leaves open; allowance and room cut what it took.
Daemon::Judged Daemon::judge(const TenantState& tenant) {
  Judged judged;
  const StatePointer now = state();
  const admission::User owner = owner_of(tenant.id);
  const std::vector<QuotaRule> rules = options().admission.quota_rules;
  const QuotaRule* rule = nullptr;
  for (const auto& process : now->processes) {
    if (process.tenant != tenant.id || !process.host_pid) continue;
    rule = matching_rule(rules, asking_process(owner.uid, *process.host_pid));
    if (rule == nullptr) continue;
    judged.why = fmt::format("rule {}", rule->name);
    break;
  }
  BookedTenants tenants = booked(false);
  const auto own = tenants.find(tenant.id);
  if (own == tenants.end()) return judged;
  const std::vector<BookedQuota> taken = own->second.gpus;
  for (auto& on : own->second.gpus) on.quota = Quota();
  admission::Node node = node_of(tenants);
  const auto place = static_cast<std::size_t>(std::distance(tenants.begin(), own));
  for (const auto& on : taken) {
    Quota fitting = on.quota;
    try {
      fitting = with_rule_on(rule, on.gpu.text().data(), on.quota);
    } catch (const survey::Problem& problem) {
      judged.refused = problem.what;
    }
    if (!owner.trusted) {
      const admission::Remaining left =
          admission::remaining(node, admission_place(on.gpu), owner, place);
      const std::uint64_t memory = std::max(left.memory_bytes, driver_model::kLeastLimitBytes);
      if (fitting.memory_limit_bytes > memory || fitting.compute_share_percent > left.share_percent)
        judged.why = fmt::format("what user {} may have", owner.uid);
      fitting.memory_limit_bytes = std::min(fitting.memory_limit_bytes, memory);
      fitting.compute_share_percent = std::min(fitting.compute_share_percent, left.share_percent);
    }
    ChangeRequest change;
    change.gpus = on.gpu.text().data();
    if (fitting.memory_limit_bytes != on.quota.memory_limit_bytes)
      change.memory = in_mib(fitting.memory_limit_bytes);
    if (fitting.compute_share_percent != on.quota.compute_share_percent) {
      change.compute = fitting.compute_share_percent == 0
                           ? "none"
                           : std::to_string(fitting.compute_share_percent);
    }
    if (fitting.compute_limit_percent != on.quota.compute_limit_percent)
      change.compute_limit = std::to_string(fitting.compute_limit_percent);
    if (fitting.policy != on.quota.policy) change.policy = survey::policy_name(fitting.policy);
    if (change.memory.empty() && change.compute.empty() && change.compute_limit.empty() &&
        change.policy.empty())
      continue;
    change.oversubscribe = true;  // it is cut to what fits
    change.when_free = true;
    judged.changes.push_back(std::move(change));
  }
  return judged;
}

// Tenants that began by variables, or by a `vgpu run` that asked nobody. Those that were there
// before the daemon keep what they have.
void Daemon::judge_uninvited(const NodeState& before) {
  const StatePointer now = state();
  for (const auto& tenant : now->tenants) {
    if (before.tenant(tenant.id) != nullptr) continue;
    Judged judged;
    {
      const std::lock_guard lock(change_mutex_);
      if (made_.count(tenant.id) != 0) continue;
      judged = judge(tenant);
    }
    if (!judged.refused.empty()) {
      events_.add(realtime_ns(), EventKind::quota_judged, tenant.id,
                  fmt::format("tenant {} asked nobody, and keeps what it took: {}", tenant.name,
                              judged.refused));
    }
    for (const ChangeRequest& change : judged.changes) {
      const Asker self{geteuid(), std::nullopt, "adoption", {}, nullptr, std::nullopt};
      const auto outcome = this->change(self, tenant.id, change);
      const std::string what = outcome.ok()
                                   ? fmt::format("gets {}", judged.why)
                                   : fmt::format("keeps what it took: {}", outcome.refusal().what);
      events_.add(realtime_ns(), EventKind::quota_judged, tenant.id,
                  fmt::format("tenant {} asked nobody, and {}", tenant.name, what));
    }
  }
}

}  // namespace vgpu::hypervisor

// SPDX-License-Identifier: Apache-2.0
// Processes that have the limiter and no tenant of their own ask which one they belong to. What
// decides is what the kernel says of them, and a pod's token that the transport has verified; never
// what they say of themselves.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "daemon.h"
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
          std::string(directory->dir.quotas.view())};
}

std::string in_mib(std::uint64_t bytes) {
  constexpr std::uint64_t kMiB = 1 << 20;
  return bytes == kNoLimit ? "none" : fmt::format("{}MiB", bytes / kMiB);
}

}  // namespace

// One of the asker's own, made where there is none and only root could put something in its way.
// Null: there is none.
DirectoryPointer Daemon::directory_to_join(const Asker& asker) {
  const auto find = [&]() -> DirectoryPointer {
    for (const auto& directory : directories()) {
      if (directory->user == asker.uid) return directory;
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
    if (!request.tenant.empty()) {
      const Whereabouts place = find_place(request.tenant);
      if (place.directory->user != asker.uid) {
        return Refusal{RefusalKind::forbidden,
                       "VG1077",
                       "owner",
                       fmt::format("tenant {} lies with user {}, and this process is user {}'s",
                                   request.tenant, place.directory->user, asker.uid),
                       fmt::format("make it in a state directory of user {}", asker.uid),
                       {}};
      }
      shm::Tenant tenant;
      if (shm::Tenant::open(place.dir(), place.own_id, tenant) == shm::Status::ok) {
        return joined(place.directory, place.public_id(), place.own_id,
                      std::string(tenant.spec().name.view()), "");
      }
    }
    return join_by_rule(asker, who);
  } catch (const survey::Problem& problem) {
    return refusal_of(problem);
  }
}

Outcome<JoinedTenant> Daemon::join_by_rule(const Asker& asker, const AskingProcess& who) {
  const DaemonOptions chosen = options();
  const auto& rules = chosen.admission.quota_rules;
  const QuotaRule* rule = matching_rule(rules, who);
  if (rule == nullptr) return JoinedTenant{};
  const DirectoryPointer directory = directory_to_join(asker);
  if (directory == nullptr)
    return JoinedTenant{{}, {}, {}, rule->name.empty() ? "a rule" : rule->name, {}, {}};
  const auto number = static_cast<std::size_t>(rule - rules.data()) + 1;
  const Whereabouts place{directory, id_by_rule(*rule, number, scope_of(*rule, who))};
  shm::Tenant there;
  if (shm::Tenant::open(place.dir(), place.own_id, there) == shm::Status::ok) {
    return joined(directory, place.public_id(), place.own_id, std::string(there.spec().name.view()),
                  rule->name);
  }
  CreateRequest request;
  request.program = place.own_id;
  request.lifetime = Lifetime::joined;
  request.state_directory = directory->dir.path.view();
  Wanted wanted = wanted_of(asker, request);
  wanted.spec.id = FixedString<shm::kMaxName>(place.own_id);
  wanted.spec.name = wanted.spec.id;
  wanted.wish.user.trusted = true;  // whoever wrote the rule is
  for (const bool without_left_behind : {false, true}) {
    const BookedTenants tenants = booked(without_left_behind);
    const admission::Node node = node_of(tenants);
    const admission::Decision decision = queue_.ask(node, wanted.wish);
    if (decision.granted()) {
      wanted.wish.user = user_of(asker);  // whose it is
      const CreatedTenant made = make(wanted, decision.parts, tenants);
      return joined(directory, made.id, made.own_id, made.name, rule->name);
    }
    if (without_left_behind || !decision.refusal->waiting_helps)
      return refusal_of_room(*decision.refusal, node, tenants, wanted.wish.user);
  }
  return refuse_request("nothing was decided");
}

// A rule fills in what the tenant leaves open; allowance and room cut what it took.
Daemon::Judged Daemon::judge(const TenantState& tenant) {
  Judged judged;
  const StatePointer now = state();
  const admission::User owner = owner_of(tenant.id);
  Quota by_rule;
  for (const auto& process : now->processes) {
    if (process.tenant != tenant.id || !process.host_pid) continue;
    const DaemonOptions chosen = options();
    const QuotaRule* rule =
        matching_rule(chosen.admission.quota_rules, asking_process(owner.uid, *process.host_pid));
    if (rule == nullptr) continue;
    by_rule = quota_by(*rule);
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
    Quota fitting = with_rule(on.quota, by_rule);
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
    if (fitting.policy != on.quota.policy && by_rule.compute_source != Source::none)
      change.policy = survey::policy_name(fitting.policy);
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
    for (const ChangeRequest& change : judged.changes) {
      const Asker self{geteuid(), std::nullopt, "adoption", {}, nullptr};
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

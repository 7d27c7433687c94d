// SPDX-License-Identifier: Apache-2.0
// Room, allowance and placement.
#include "vgpu/admission/admission.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <tuple>

namespace vgpu::admission {
namespace {

// Sums of limits that others wrote: they stop at the top instead of going round.
std::uint64_t plus(std::uint64_t a, std::uint64_t b) {
  return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}
std::uint64_t minus(std::uint64_t a, std::uint64_t b) { return a > b ? a - b : 0; }

struct Amount {
  std::uint64_t memory_bytes = 0;
  std::uint64_t share_percent = 0;

  void add(const Part& part) {
    if (part.memory_bytes != kNoLimit) memory_bytes = plus(memory_bytes, part.memory_bytes);
    share_percent = plus(share_percent, part.share_percent);
  }
};

// What is taken of a GPU: by all, and by the tenants of one user. `without`: a tenant to leave out.
struct Taken {
  Amount by_all;
  Amount by_user;
};

Taken taken(const Node& node, std::size_t gpu, const User& user,
            std::optional<std::size_t> without = std::nullopt) {
  Taken sum;
  for (std::size_t i = 0; i < node.tenants.size(); ++i) {
    if (without == i) continue;
    for (const Part& part : node.tenants[i].parts) {
      if (part.gpu != gpu) continue;
      sum.by_all.add(part);
      if (node.tenants[i].owner.uid == user.uid) sum.by_user.add(part);
    }
  }
  return sum;
}

std::uint64_t percent_of(std::uint64_t bytes, std::uint64_t percent) {
  return bytes / 100 * percent + bytes % 100 * percent / 100;
}

// What `user` could still be granted of a GPU, by each rule.
struct Left {
  Amount allowance{kNoLimit, 100};
  Amount room;
  bool has_allowance = false;  // false: trusted, or the whole GPU is allowed

  Amount least() const {
    return {std::min(allowance.memory_bytes, room.memory_bytes),
            std::min(allowance.share_percent, room.share_percent)};
  }
};

Left left(const Node& node, std::size_t gpu, const User& user, bool oversubscribe,
          std::optional<std::size_t> without = std::nullopt) {
  const Taken used = taken(node, gpu, user, without);
  const std::uint64_t total = node.gpus[gpu].total_bytes;
  Left rest;
  rest.room = {
      oversubscribe && node.rules.oversubscribe_memory ? total
                                                       : minus(total, used.by_all.memory_bytes),
      oversubscribe && node.rules.oversubscribe_share ? 100
                                                      : minus(100, used.by_all.share_percent)};
  if (user.trusted) return rest;
  const std::uint64_t percent = allowance_percent(node, gpu, user);
  rest.has_allowance = percent < 100;
  rest.allowance = {minus(percent_of(total, percent), used.by_user.memory_bytes),
                    minus(percent, used.by_user.share_percent)};
  return rest;
}

// The rule that keeps `part` from its GPU, if one does.
std::optional<Rule> obstacle(const Node& node, const Part& part, const Left& rest) {
  const bool limited = part.memory_bytes != kNoLimit;
  if (limited && part.memory_bytes > node.gpus[part.gpu].total_bytes)
    return Rule::more_memory_than_a_gpu;
  if (!limited && rest.has_allowance) return Rule::memory_limit_needed;
  if (limited && part.memory_bytes > rest.allowance.memory_bytes) return Rule::memory_allowance;
  if (part.share_percent > rest.allowance.share_percent) return Rule::share_allowance;
  if (limited && part.memory_bytes > rest.room.memory_bytes) return Rule::memory_room;
  if (part.share_percent > rest.room.share_percent) return Rule::share_room;
  if (!node.gpus[part.gpu].closed.empty()) return Rule::gpu_closed;
  return std::nullopt;
}

std::uint64_t bound_of(Rule rule, const Node& node, std::size_t gpu, const User& user) {
  switch (rule) {
    case Rule::memory_allowance:
    case Rule::memory_limit_needed:
      return percent_of(node.gpus[gpu].total_bytes, allowance_percent(node, gpu, user));
    case Rule::share_allowance:
      return allowance_percent(node, gpu, user);
    case Rule::more_memory_than_a_gpu:
    case Rule::memory_room:
      return node.gpus[gpu].total_bytes;
    case Rule::share_above_100:
    case Rule::share_room:
      return 100;
    case Rule::nothing_asked:
    case Rule::unknown_gpu:
    case Rule::gpu_twice:
    case Rule::more_gpus_than_there_are:
    case Rule::oversubscription_off:
    case Rule::gpu_closed:
    case Rule::gpus_held:
    case Rule::not_yours:
      return 0;
  }
  return 0;
}

// How full a GPU is: the fuller of its two quantities, so that neither runs out unseen.
double fullness(const Node& node, std::size_t gpu) {
  const Amount used = taken(node, gpu, {}).by_all;
  const auto total = static_cast<double>(std::max<std::uint64_t>(node.gpus[gpu].total_bytes, 1));
  return std::max(static_cast<double>(used.memory_bytes) / total,
                  static_cast<double>(used.share_percent) / 100);
}

Part part_on(const Wish& wish, std::size_t gpu) {
  Part part = wish.each;
  part.gpu = gpu;
  return part;
}

Refusal refuse(Rule rule, const Part& wanted, std::uint64_t bound = 0) {
  Refusal refusal;
  refusal.rule = rule;
  refusal.gpu = wanted.gpu;
  refusal.wanted = wanted;
  refusal.bound = bound;
  return refusal;
}

// What is wrong with a wish whatever the node holds.
std::optional<Refusal> malformed(const Node& node, const Wish& wish) {
  const std::size_t usable = static_cast<std::size_t>(
      std::count_if(node.gpus.begin(), node.gpus.end(), [](const Gpu& gpu) { return gpu.usable; }));
  if (wish.oversubscribe && !node.rules.oversubscribe_memory && !node.rules.oversubscribe_share)
    return refuse(Rule::oversubscription_off, wish.each);
  if (wish.named.empty()) {
    if (wish.count == 0) return refuse(Rule::nothing_asked, wish.each);
    if (wish.each.share_percent > 100) return refuse(Rule::share_above_100, wish.each, 100);
    if (wish.count > usable) {
      Refusal refusal = refuse(Rule::more_gpus_than_there_are, wish.each, usable);
      refusal.fit.gpus = usable;
      return refusal;
    }
    return std::nullopt;
  }
  std::set<std::size_t> seen;
  for (const Part& part : wish.named) {
    if (part.gpu >= node.gpus.size() || !node.gpus[part.gpu].usable)
      return refuse(Rule::unknown_gpu, part);
    if (!seen.insert(part.gpu).second) return refuse(Rule::gpu_twice, part);
    if (part.share_percent > 100) return refuse(Rule::share_above_100, part, 100);
  }
  return std::nullopt;
}

bool is_held(const std::vector<bool>& held, std::size_t gpu) {
  return gpu < held.size() && held[gpu];
}

Decision decide_named(const Node& node, const Wish& wish, const std::vector<bool>& held) {
  for (const Part& part : wish.named) {
    const Left rest = left(node, part.gpu, wish.user, wish.oversubscribe);
    std::optional<Rule> rule = obstacle(node, part, rest);
    if (!rule && is_held(held, part.gpu)) rule = Rule::gpus_held;
    if (!rule) continue;
    Refusal refusal = refuse(*rule, part, bound_of(*rule, node, part.gpu, wish.user));
    refusal.oversubscribing = wish.oversubscribe;
    if (*rule != Rule::gpus_held && node.gpus[part.gpu].closed.empty()) {
      const Amount most = rest.least();
      refusal.fit.memory_bytes = part.share_percent <= most.share_percent ? most.memory_bytes : 0;
      if (part.memory_bytes == kNoLimit ? !rest.has_allowance
                                        : part.memory_bytes <= most.memory_bytes)
        refusal.fit.share_percent = static_cast<std::uint8_t>(most.share_percent);
    }
    return {{}, refusal};
  }
  return {wish.named, std::nullopt};
}

// What would have fitted on `count` GPUs: the count-th best of each quantity, the other as asked.
Fit fit_of(const Node& node, const Wish& wish, const std::vector<bool>& held) {
  std::vector<std::uint64_t> memory, share;
  Fit fit;
  for (std::size_t gpu = 0; gpu < node.gpus.size(); ++gpu) {
    if (!node.gpus[gpu].usable || !node.gpus[gpu].closed.empty() || is_held(held, gpu)) continue;
    const Left rest = left(node, gpu, wish.user, wish.oversubscribe);
    const Amount most = rest.least();
    const Part part = part_on(wish, gpu);
    if (part.share_percent <= most.share_percent) memory.push_back(most.memory_bytes);
    if (part.memory_bytes == kNoLimit ? !rest.has_allowance
                                      : part.memory_bytes <= most.memory_bytes)
      share.push_back(most.share_percent);
    if (!obstacle(node, part, rest)) ++fit.gpus;
  }
  std::sort(memory.rbegin(), memory.rend());
  std::sort(share.rbegin(), share.rend());
  if (memory.size() >= wish.count) fit.memory_bytes = memory[wish.count - 1];
  if (share.size() >= wish.count)
    fit.share_percent = static_cast<std::uint8_t>(share[wish.count - 1]);
  return fit;
}

Decision decide_counted(const Node& node, const Wish& wish, const std::vector<bool>& held) {
  struct Candidate {
    std::size_t gpu;
    double fullness;
  };
  std::vector<Candidate> candidates;
  std::optional<Refusal> nearest;  // the rule that was met last on the way to a yes
  bool some_held = false;
  for (std::size_t gpu = 0; gpu < node.gpus.size(); ++gpu) {
    if (!node.gpus[gpu].usable) continue;
    const Part part = part_on(wish, gpu);
    const auto rule = obstacle(node, part, left(node, gpu, wish.user, wish.oversubscribe));
    if (rule) {
      if (!nearest || *rule > nearest->rule)
        nearest = refuse(*rule, part, bound_of(*rule, node, gpu, wish.user));
    } else if (is_held(held, gpu)) {
      some_held = true;
    } else {
      candidates.push_back({gpu, fullness(node, gpu)});
    }
  }
  if (candidates.size() < wish.count) {
    Refusal refusal = some_held || !nearest ? refuse(Rule::gpus_held, wish.each) : *nearest;
    refusal.oversubscribing = wish.oversubscribe;
    refusal.fit = fit_of(node, wish, held);
    return {{}, refusal};
  }
  const bool binpack = wish.placement == Placement::binpack;
  std::sort(candidates.begin(), candidates.end(), [&](const Candidate& a, const Candidate& b) {
    return std::tuple(binpack ? -a.fullness : a.fullness, a.gpu) <
           std::tuple(binpack ? -b.fullness : b.fullness, b.gpu);
  });
  Decision decision;
  for (std::size_t i = 0; i < wish.count; ++i)
    decision.parts.push_back(part_on(wish, candidates[i].gpu));
  return decision;
}

Decision decide_now(const Node& node, const Wish& wish, const std::vector<bool>& held) {
  if (auto refusal = malformed(node, wish)) return {{}, refusal};
  return wish.named.empty() ? decide_counted(node, wish, held) : decide_named(node, wish, held);
}

std::string size(std::uint64_t bytes) {
  constexpr std::uint64_t kMiB = 1 << 20, kGiB = 1 << 30;
  if (bytes == kNoLimit) return "no limit";
  // Rounded down: what is said to fit does.
  if (bytes % kGiB == 0 && bytes != 0) return fmt::format("{} GiB", bytes / kGiB);
  if (bytes >= kMiB || bytes == 0) return fmt::format("{} MiB", bytes / kMiB);
  return fmt::format("{} B", bytes);
}

}  // namespace

Remaining remaining(const Node& node, std::size_t gpu, const User& user,
                    std::optional<std::size_t> without) {
  const Amount most = left(node, gpu, user, false, without).least();
  return {most.memory_bytes, static_cast<std::uint8_t>(most.share_percent)};
}

std::string_view rule_name(Rule rule) {
  switch (rule) {
    case Rule::nothing_asked:
      return "nothing_asked";
    case Rule::unknown_gpu:
      return "unknown_gpu";
    case Rule::gpu_twice:
      return "gpu_twice";
    case Rule::more_gpus_than_there_are:
      return "more_gpus_than_there_are";
    case Rule::share_above_100:
      return "share_above_100";
    case Rule::more_memory_than_a_gpu:
      return "more_memory_than_a_gpu";
    case Rule::oversubscription_off:
      return "oversubscription_off";
    case Rule::memory_limit_needed:
      return "memory_limit_needed";
    case Rule::memory_allowance:
      return "memory_allowance";
    case Rule::share_allowance:
      return "share_allowance";
    case Rule::memory_room:
      return "memory_room";
    case Rule::share_room:
      return "share_room";
    case Rule::gpu_closed:
      return "gpu_closed";
    case Rule::gpus_held:
      return "gpus_held";
    case Rule::not_yours:
      return "not_yours";
  }
  return "";
}

std::uint8_t allowance_percent(const Node& node, std::size_t gpu, const User& user) {
  if (user.trusted) return 100;
  if (node.rules.allowance_percent) return *node.rules.allowance_percent;
  std::set<std::uint32_t> users{user.uid};
  for (const Tenant& tenant : node.tenants) {
    if (tenant.owner.trusted) continue;
    for (const Part& part : tenant.parts) {
      if (part.gpu == gpu) users.insert(tenant.owner.uid);
    }
  }
  return static_cast<std::uint8_t>(100 / std::min<std::size_t>(users.size(), 100));
}

Decision decide(const Node& node, const Wish& wish, const std::vector<bool>& held) {
  Decision decision = decide_now(node, wish, held);
  if (!decision.granted()) {
    Node empty{node.gpus, {}, node.rules};
    for (Gpu& gpu : empty.gpus) gpu.closed.clear();
    decision.refusal->waiting_helps = decide_now(empty, wish, {}).granted();
  }
  return decision;
}

std::optional<Refusal> check_owner(const Node& node, std::size_t tenant, const User& user) {
  if (user.trusted || node.tenants[tenant].owner.uid == user.uid) return std::nullopt;
  return refuse(Rule::not_yours, {});
}

std::optional<Refusal> check_change(const Node& node, std::size_t tenant, const User& user,
                                    const std::vector<Part>& parts, bool oversubscribe) {
  if (auto refusal = check_owner(node, tenant, user)) return refusal;
  Wish wish;
  wish.user = user;
  wish.named = parts;
  wish.oversubscribe = oversubscribe;
  if (auto refusal = malformed(node, wish)) return refusal;
  const std::vector<Part>& before = node.tenants[tenant].parts;
  for (const Part& part : parts) {
    const auto old = std::find_if(before.begin(), before.end(),
                                  [&](const Part& p) { return p.gpu == part.gpu; });
    // Only what rises is judged; where it doesn't, the tenant may keep what it has. A first memory
    // limit is a promise of that much, so it rises too.
    Part raised = part;
    const bool memory_rises =
        old == before.end() ||
        (part.memory_bytes != old->memory_bytes &&
         (old->memory_bytes == kNoLimit || part.memory_bytes > old->memory_bytes));
    const bool share_rises = old == before.end() || part.share_percent > old->share_percent;
    if (!memory_rises && !share_rises) continue;
    const Left rest = left(node, part.gpu, user, oversubscribe, tenant);
    if (!memory_rises) raised.memory_bytes = 0;
    if (!share_rises) raised.share_percent = 0;
    if (const auto rule = obstacle(node, raised, rest)) {
      Refusal refusal = refuse(*rule, part, bound_of(*rule, node, part.gpu, user));
      refusal.oversubscribing = oversubscribe;
      if (!node.gpus[part.gpu].closed.empty()) return refusal;
      const Amount most = rest.least();
      refusal.fit.memory_bytes = most.memory_bytes;
      refusal.fit.share_percent = static_cast<std::uint8_t>(most.share_percent);
      return refusal;
    }
  }
  return std::nullopt;
}

namespace {

std::string rule_text(const Refusal& refusal, const Node& node) {
  const std::string gpu = refusal.gpu < node.gpus.size() ? node.gpus[refusal.gpu].name
                                                         : fmt::format("GPU {}", refusal.gpu);
  const std::string memory = size(refusal.wanted.memory_bytes);
  const unsigned share = refusal.wanted.share_percent;
  const std::string memory_fits =
      refusal.fit.memory_bytes == 0 ? "; nothing fits now"
                                    : fmt::format("; {} would fit", size(refusal.fit.memory_bytes));
  const std::string share_fits = refusal.fit.share_percent == 0
                                     ? "; nothing fits now"
                                     : fmt::format("; {} % would fit", refusal.fit.share_percent);
  switch (refusal.rule) {
    case Rule::nothing_asked:
      return "neither a GPU nor a number of GPUs is asked for";
    case Rule::unknown_gpu:
      return fmt::format("{} isn't there, or can't be used", gpu);
    case Rule::gpu_twice:
      return fmt::format("{} is named twice", gpu);
    case Rule::more_gpus_than_there_are:
      return fmt::format("more GPUs than the {} that there are", refusal.bound);
    case Rule::share_above_100:
      return fmt::format("a share of {} %: 100 is all of a GPU", share);
    case Rule::more_memory_than_a_gpu:
      return fmt::format("{} is more than {} has: {}", memory, gpu, size(refusal.bound));
    case Rule::oversubscription_off:
      return "oversubscription is switched off (admission.oversubscribe-memory, -compute)";
    case Rule::memory_limit_needed:
      return fmt::format(
          "a memory limit is needed: a user may have {} of {} while others are on it{}",
          size(refusal.bound), gpu, memory_fits);
    case Rule::memory_allowance:
      return fmt::format("{} on {} passes the user's allowance of {}{}", memory, gpu,
                         size(refusal.bound), memory_fits);
    case Rule::share_allowance:
      return fmt::format("{} % of {} passes the user's allowance of {} %{}", share, gpu,
                         refusal.bound, share_fits);
    case Rule::memory_room:
      return fmt::format("{} more than is left of the {} of {}{}", memory, size(refusal.bound), gpu,
                         memory_fits);
    case Rule::share_room:
      return fmt::format("shares on {} would add up to more than 100 with {} %{}", gpu, share,
                         share_fits);
    case Rule::gpu_closed:
      return fmt::format("nothing new is admitted to {} while {}", gpu,
                         node.gpus[refusal.gpu].closed);
    case Rule::gpus_held:
      return "the room is kept for a tenant that has waited longer";
    case Rule::not_yours:
      return "the tenant belongs to another user";
  }
  return "refused";
}

}  // namespace

std::string describe(const Refusal& refusal, const Node& node) {
  const std::size_t gpus = refusal.rule == Rule::more_gpus_than_there_are ? 0 : refusal.fit.gpus;
  std::string switched_off;
  if (refusal.oversubscribing && refusal.rule == Rule::memory_room)
    switched_off = "; oversubscription of memory is switched off";
  if (refusal.oversubscribing && refusal.rule == Rule::share_room)
    switched_off = "; oversubscription of shares is switched off";
  return rule_text(refusal, node) + switched_off +
         (gpus == 0 ? ""
                    : fmt::format("; {} GPU{} room for it", gpus, gpus == 1 ? " has" : "s have"));
}

}  // namespace vgpu::admission

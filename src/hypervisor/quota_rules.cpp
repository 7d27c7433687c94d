// SPDX-License-Identifier: Apache-2.0
#include "quota_rules.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <iterator>

namespace vgpu::hypervisor {
namespace {

constexpr std::size_t kIdDigits = 64;

bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

bool is_at_or_below(std::string_view path, std::string_view above) {
  while (above.size() > 1 && above.back() == '/') above.remove_suffix(1);
  if (above == "/") return true;
  return path.starts_with(above) && (path.size() == above.size() || path[above.size()] == '/');
}

bool matches(const QuotaRule& rule, const AskingProcess& who) {
  if (rule.user && *rule.user != who.user) return false;
  const auto any = [&](auto holds) {
    return std::any_of(who.cgroups.begin(), who.cgroups.end(), holds);
  };
  if (!rule.cgroup.empty() &&
      !any([&](const std::string& path) { return is_at_or_below(path, rule.cgroup); }))
    return false;
  return rule.container.empty() || any([&](const std::string& path) {
           const std::string id = container_of(path);
           return !id.empty() && (rule.container == "*" || id.starts_with(rule.container));
         });
}

}  // namespace

std::vector<std::string> cgroups_in(std::string_view text) {
  std::vector<std::string> paths;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    // "HIERARCHY:CONTROLLERS:PATH"
    const auto first = line.find(':');
    const auto second = first == line.npos ? first : line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string_view path = line.substr(second + 1);
    if (path.starts_with('/')) paths.emplace_back(path);
  }
  return paths;
}

std::string container_of(std::string_view cgroup) {
  // The innermost: a container may run in another.
  std::string found;
  for (std::size_t at = 0; at < cgroup.size();) {
    if (!is_hex(cgroup[at])) {
      ++at;
      continue;
    }
    std::size_t end = at;
    while (end < cgroup.size() && is_hex(cgroup[end])) ++end;
    if (end - at == kIdDigits) found = cgroup.substr(at, kIdDigits);
    at = end;
  }
  return found;
}

AskingProcess asking_process(uid_t user, std::optional<pid_t> pid) {
  AskingProcess who{user, {}};
  if (!pid || *pid <= 0) return who;
  std::ifstream file(fmt::format("/proc/{}/cgroup", *pid));
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  // Read first, then asked whose it is: a pid that another user's process got meanwhile tells
  // nothing.
  struct stat owner {};
  if (stat(fmt::format("/proc/{}", *pid).c_str(), &owner) == 0 && owner.st_uid == user)
    who.cgroups = cgroups_in(text);
  return who;
}

std::string scope_of(const QuotaRule& rule, const AskingProcess& who) {
  constexpr std::size_t kShownDigits = 12;  // as docker ps shows them
  if (rule.container.empty()) return "";
  for (const std::string& path : who.cgroups) {
    const std::string id = container_of(path);
    if (!id.empty() && (rule.container == "*" || id.starts_with(rule.container)))
      return id.substr(0, kShownDigits);
  }
  return "";
}

Quota with_rule(Quota quota, const Quota& by_rule) {
  if (quota.memory_source == Source::none && by_rule.memory_source != Source::none) {
    quota.memory_limit_bytes = by_rule.memory_limit_bytes;
    quota.memory_source = by_rule.memory_source;
  }
  if (quota.compute_source == Source::none && by_rule.compute_source != Source::none) {
    const std::uint64_t memory = quota.memory_limit_bytes;
    const Source memory_source = quota.memory_source;
    quota = by_rule;
    quota.memory_limit_bytes = memory;
    quota.memory_source = memory_source;
  }
  return quota;
}

const QuotaRule* matching_rule(const std::vector<QuotaRule>& rules, const AskingProcess& who) {
  const auto found = std::find_if(rules.begin(), rules.end(),
                                  [&](const QuotaRule& rule) { return matches(rule, who); });
  return found == rules.end() ? nullptr : &*found;
}

bool fill_from(const QuotaRule& rule, survey::QuotaFlags& flags, TflopsQuota& tflops) {
  if (flags.memory.empty()) flags.memory = rule.quota.memory;
  const bool is_open = flags.compute.empty() && flags.compute_limit.empty() &&
                       flags.policy.empty() && !tflops.is_given();
  if (is_open) {
    flags.compute = rule.quota.compute;
    flags.compute_limit = rule.quota.compute_limit;
    flags.policy = rule.quota.policy;
    tflops = rule.tflops;
  }
  if (flags.priority.empty()) flags.priority = rule.quota.priority;
  return is_open && tflops.is_given();
}

}  // namespace vgpu::hypervisor

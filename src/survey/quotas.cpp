// SPDX-License-Identifier: Apache-2.0
// Overlaying flags on variables, and saying the result; see quotas.h.
#include "vgpu/survey/quotas.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <span>
#include <utility>

#include "vgpu/core/driver_model.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/snapshot.h"
#include "vgpu/survey/text.h"

namespace vgpu::survey {
namespace {

struct MirroredFlag {
  const char* variable;
  const char* flag;
  const std::string QuotaFlags::*value;
};
constexpr MirroredFlag kMirrored[] = {
    {"VGPU_MEMORY_LIMIT", "--memory", &QuotaFlags::memory},
    {"VGPU_COMPUTE", "--compute", &QuotaFlags::compute},
    {"VGPU_COMPUTE_LIMIT", "--compute-limit", &QuotaFlags::compute_limit},
    {"VGPU_POLICY", "--policy", &QuotaFlags::policy},
    {"VGPU_PRIORITY", "--priority", &QuotaFlags::priority},
};

// The flags as the settings parser sees them: variables of the same meaning, above `below`
// (nullptr: nothing else set).
class FlagEnvironment final : public settings::Environment {
 public:
  FlagEnvironment(const QuotaFlags& flags, const settings::Environment* below)
      : flags_(flags), below_(below) {}
  const char* get(const char* name) const override {
    for (const auto& mirrored : kMirrored) {
      const std::string& value = flags_.*mirrored.value;
      if (std::string_view(mirrored.variable) == name && !value.empty()) return value.c_str();
    }
    return below_ != nullptr ? below_->get(name) : nullptr;
  }

 private:
  const QuotaFlags& flags_;
  const settings::Environment* below_;
};

// Messages name the flag where a flag was given.
std::string in_terms_of_flags(std::string text, const QuotaFlags& flags) {
  std::vector<const MirroredFlag*> given;
  for (const auto& mirrored : kMirrored) {
    if (!(flags.*mirrored.value).empty()) given.push_back(&mirrored);
  }
  // The longer name first: VGPU_COMPUTE is the beginning of another one.
  std::sort(given.begin(), given.end(),
            [](auto* a, auto* b) { return std::strlen(a->variable) > std::strlen(b->variable); });
  for (const auto* mirrored : given) {
    const std::string_view variable = mirrored->variable, flag = mirrored->flag;
    for (auto at = text.find(variable); at != std::string::npos;
         at = text.find(variable, at + flag.size())) {
      const std::size_t end = at + variable.size();
      if (end < text.size() && text[end] == '_') {
        at = end;
        continue;
      }
      text.replace(at, variable.size(), flag);
    }
  }
  return text;
}

bool any_compute_flag(const QuotaFlags& flags) {
  return !flags.compute.empty() || !flags.compute_limit.empty() || !flags.policy.empty() ||
         !flags.priority.empty();
}

std::string random_suffix() {
  std::array<unsigned char, 3> bytes{};
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) bytes.fill(0);
  return fmt::format("{:02x}{:02x}{:02x}", bytes[0], bytes[1], bytes[2]);
}

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == '-';
}

std::string name_of_program(const std::string& program) {
  std::string name = program.substr(program.rfind('/') + 1);
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !is_name_char(c); }, '-');
  while (!name.empty() && (name.front() == '.' || name.front() == '-')) name.erase(0, 1);
  if (name.size() > 24) name.resize(24);
  return name.empty() ? "run" : name;
}

void refuse_errors(const settings::Messages& messages, const char* code, const QuotaFlags& flags) {
  if (messages.errors.empty()) return;
  const std::string what(messages.errors[0].view());
  const std::string shown = in_terms_of_flags(what, flags);
  throw Problem(kExitNotStarted, code, shown,
                shown.starts_with("--") ? "vgpu run --help" : "vgpu doctor");
}

// No limit is more than the GPU has (0: not known).
std::uint64_t held_to(std::uint64_t total_bytes, std::uint64_t limit_bytes) {
  const bool is_more = limit_bytes != kNoLimit && total_bytes != 0 && limit_bytes > total_bytes;
  return is_more ? total_bytes : limit_bytes;
}

std::string gpu_quota_text(const shm::TenantGpu& gpu, const Driver& driver) {
  std::string name;
  for (const auto& known : driver.gpus) {
    if (known.uuid == gpu.uuid) name = known.name;
  }
  std::string out =
      fmt::format("GPU {}{}: ", gpu.nvml_index, name.empty() ? "" : " (" + name + ")");
  out += gpu.quota.limits_memory()
             ? fmt::format("{} of {}", size_text(gpu.quota.memory_limit_bytes),
                           size_text(gpu.total_bytes))
             : fmt::format("no memory limit ({})", size_text(gpu.total_bytes));
  if (const std::string compute = compute_text(gpu.quota); !compute.empty()) out += ", " + compute;
  return out;
}

}  // namespace

std::string checked_name(const std::string& name) {
  if (name.empty() || name.size() > shm::kMaxName - 8 ||
      !std::all_of(name.begin(), name.end(), is_name_char) || name.front() == '.' ||
      name.front() == '-') {
    throw Problem(
        kExitNotStarted, "VG1005",
        fmt::format(
            "--name: \"{}\" is no name; letters, digits, dots, dashes and underscores, {} at most",
            name, shm::kMaxName - 8));
  }
  return name;
}

void refuse_unreadable(const QuotaFlags& flags, const settings::Environment& environment) {
  settings::Messages by_variables, by_flags;
  settings::check_syntax(environment, by_variables);
  refuse_errors(by_variables, "VG1010", QuotaFlags());
  settings::check_syntax(FlagEnvironment(flags, nullptr), by_flags);
  refuse_errors(by_flags, "VG1004", flags);
}

const char* ProcessEnvironment::get(const char* name) const { return std::getenv(name); }

PlannedTenant plan_tenant(const TenantRequest& request, const Driver& driver,
                          const settings::Environment& environment, Source by) {
  PlannedTenant planned;
  std::vector<settings::GpuIdentity> all;
  for (const auto& gpu : driver.gpus)
    all.push_back({gpu.uuid, gpu.nvml_index, gpu.total_bytes.value_or(0)});

  std::vector<bool> in_set(all.size(), false);
  settings::Messages messages;
  if (request.gpus.empty()) {
    FixedVector<std::uint32_t, settings::kMaxGpus> positions;
    settings::resolve_gpu_set(environment, all, positions, messages);
    refuse_errors(messages, "VG1010", request);
    for (const auto position : positions) in_set[position] = true;
  } else {
    for (const auto position : select_gpus(driver, request.gpus, kExitNotStarted))
      in_set[position] = true;
  }

  // Variables may speak of GPUs outside the set: they are there, this tenant just doesn't see them.
  // Three readings: the variables alone (their mistakes keep their names), the memory flag alone
  // (which GPUs it decides), and flags above variables, where share, limit and policy combine.
  settings::ResolvedQuotas by_variables, by_flags, together;
  settings::Messages unused;
  const QuotaFlags no_flags;
  settings::resolve_quotas(environment, all, driver_model::kLeastLimitBytes, by_variables,
                           messages);
  refuse_errors(messages, "VG1010", no_flags);
  settings::Messages combined;
  settings::resolve_quotas(FlagEnvironment(request, &environment), all,
                           driver_model::kLeastLimitBytes, together, combined);
  refuse_errors(combined, "VG1004", request);
  QuotaFlags memory_alone;
  memory_alone.memory = request.memory;
  settings::resolve_quotas(FlagEnvironment(memory_alone, nullptr), all,
                           driver_model::kLeastLimitBytes, by_flags, unused);
  for (const auto& notice : combined.notices)
    planned.notices.push_back(in_terms_of_flags(std::string(notice.view()), request));

  shm::TenantSpec& spec = planned.spec;
  const std::string name =
      request.name.empty() ? name_of_program(request.program) : checked_name(request.name);
  spec.id = FixedString<shm::kMaxName>(name + "-" + random_suffix());
  spec.name = request.name.empty() ? spec.id : FixedString<shm::kMaxName>(name);
  spec.made_by_run = true;
  for (std::size_t i = 0; i < all.size(); ++i) {
    shm::TenantGpu gpu{all[i].uuid, all[i].nvml_index, all[i].total_bytes, {}, in_set[i]};
    if (in_set[i]) {
      gpu.quota = together.per_gpu[i];
      const Quota& flags = by_flags.per_gpu[i];
      const bool memory_by_flag = flags.memory_source != Source::none;
      const Quota& memory = memory_by_flag ? flags : by_variables.per_gpu[i];
      gpu.quota.memory_limit_bytes = memory.memory_limit_bytes;
      gpu.quota.memory_source = memory_by_flag ? by : memory.memory_source;
      if (any_compute_flag(request)) gpu.quota.compute_source = by;
      const std::uint64_t asked = gpu.quota.memory_limit_bytes;
      gpu.quota.memory_limit_bytes = held_to(gpu.total_bytes, asked);
      if (gpu.quota.memory_limit_bytes != asked) {
        planned.notices.push_back(
            fmt::format("a memory limit of {} is more than GPU {} has; its {} are the limit",
                        size_text(asked), gpu.nvml_index, size_text(gpu.total_bytes)));
      }
    }
    spec.gpus.push_back(gpu);
  }
  return planned;
}

namespace {

std::string percent_word(std::uint8_t percent) {
  return percent == 0 ? "none" : std::to_string(percent);
}

// The first error of `flags` on these GPUs, under the flags' names.
void refuse_change(const settings::Messages& messages) {
  if (messages.errors.empty()) return;
  static const QuotaFlags all{"?", "?", "?", "?", "?"};
  throw Problem(kExitFailed, "VG1004",
                in_terms_of_flags(std::string(messages.errors[0].view()), all), "vgpu set --help");
}

// One flag read by itself: what it says, and of which GPUs.
settings::ResolvedQuotas read_alone(const QuotaFlags& flag,
                                    std::span<const settings::GpuIdentity> gpus) {
  settings::ResolvedQuotas read;
  settings::Messages messages;
  settings::resolve_quotas(FlagEnvironment(flag, nullptr), gpus, driver_model::kLeastLimitBytes,
                           read, messages);
  refuse_change(messages);
  return read;
}

// A tenant's GPUs as the driver would name them: a change needs no driver.
Driver as_driver(const shm::TenantSpec& spec) {
  Driver driver;
  for (const auto& gpu : spec.gpus) {
    Gpu known;
    known.uuid = gpu.uuid;
    known.nvml_index = gpu.nvml_index;
    driver.gpus.push_back(known);
  }
  return driver;
}

std::vector<std::uint32_t> chosen_gpus(const std::string& gpus, const shm::TenantSpec& spec) {
  std::vector<std::uint32_t> places;
  if (gpus.empty() || gpus == "all") {
    for (std::uint32_t i = 0; i < spec.gpus.size(); ++i) {
      if (spec.gpus[i].in_set) places.push_back(i);
    }
    return places;
  }
  for (const std::size_t place : select_gpus(as_driver(spec), gpus, kExitFailed)) {
    if (!spec.gpus[place].in_set) {
      throw Problem(kExitFailed, "VG1012",
                    fmt::format("--gpu: GPU {} is none of {}'s", spec.gpus[place].nvml_index,
                                spec.name.view()),
                    "vgpu ls");
    }
    places.push_back(static_cast<std::uint32_t>(place));
  }
  return places;
}

// What each flag says by itself; what it says together with the rest is decided for each GPU.
struct ReadFlags {
  settings::ResolvedQuotas memory, share, limit, policy, priority;
};

ReadFlags read_flags(const QuotaFlags& flags, std::span<const settings::GpuIdentity> gpus) {
  const auto alone = [&](std::string QuotaFlags::*flag) {
    QuotaFlags one;
    one.*flag = flags.*flag;
    // A policy says something only beside a share.
    if (flag == &QuotaFlags::policy) one.compute = "50";
    return read_alone(one, gpus);
  };
  return {alone(&QuotaFlags::memory), alone(&QuotaFlags::compute),
          alone(&QuotaFlags::compute_limit), alone(&QuotaFlags::policy),
          alone(&QuotaFlags::priority)};
}

// The quota of the i-th GPU with the flags applied, by the rules that a new tenant's is made by.
Quota changed(const Quota& before, const ReadFlags& read, std::size_t i,
              const settings::GpuIdentity& gpu, Source by) {
  const bool share_set = read.share.set[i].share, limit_set = read.limit.set[i].limit;
  const bool policy_set = read.policy.set[i].policy, priority_set = read.priority.set[i].priority;
  const Quota& share = share_set ? read.share.per_gpu[i] : before;
  const Policy policy = policy_set ? read.policy.per_gpu[i].policy : before.policy;
  std::uint8_t limit = before.compute_limit_percent;
  // A fixed tenant's limit is its share, not something that was asked for by itself.
  if (before.policy == Policy::fixed || (policy_set && policy == Policy::fixed)) limit = 0;
  if (limit_set) limit = read.limit.per_gpu[i].compute_limit_percent;

  QuotaFlags merged;
  merged.compute = percent_word(share.compute_share_percent);
  merged.compute_limit = limit == 0 ? "" : percent_word(limit);
  merged.policy = policy_name(policy);
  settings::ResolvedQuotas resolved;
  settings::Messages messages;
  settings::resolve_quotas(FlagEnvironment(merged, nullptr), std::span(&gpu, 1), 0, resolved,
                           messages);
  refuse_change(messages);

  Quota after = before;
  after.compute_share_percent = resolved.per_gpu[0].compute_share_percent;
  after.compute_limit_percent = resolved.per_gpu[0].compute_limit_percent;
  after.policy = resolved.per_gpu[0].policy;
  if (priority_set) after.priority = read.priority.per_gpu[i].priority;
  if (share_set || limit_set || policy_set || priority_set) after.compute_source = by;
  if (read.memory.set[i].memory) {
    after.memory_limit_bytes = held_to(gpu.total_bytes, read.memory.per_gpu[i].memory_limit_bytes);
    after.memory_source = by;
  }
  return after;
}

}  // namespace

std::vector<QuotaChange> plan_change(const QuotaFlags& flags, const std::string& gpus,
                                     const shm::TenantSpec& spec, Source by) {
  std::vector<QuotaChange> changes;
  std::vector<settings::GpuIdentity> identities;
  for (const std::uint32_t place : chosen_gpus(gpus, spec)) {
    const shm::TenantGpu& gpu = spec.gpus[place];
    identities.push_back({gpu.uuid, gpu.nvml_index, gpu.total_bytes});
    changes.push_back({place, gpu.quota, gpu.quota});
  }
  const ReadFlags read = read_flags(flags, identities);
  for (std::size_t i = 0; i < changes.size(); ++i)
    changes[i].after = changed(changes[i].before, read, i, identities[i], by);
  return changes;
}

std::optional<Quota> common_quota(const shm::TenantSpec& spec) {
  Quota common;
  std::uint64_t most = 0;
  for (const auto& gpu : spec.gpus) {
    if (!gpu.in_set || gpu.quota.memory_limit_bytes < most) continue;
    most = gpu.quota.memory_limit_bytes;
    common = gpu.quota;
  }
  for (const auto& gpu : spec.gpus) {
    const Quota& own = gpu.quota;
    const bool same = own.memory_limit_bytes == held_to(gpu.total_bytes, most) &&
                      own.compute_share_percent == common.compute_share_percent &&
                      own.compute_limit_percent == common.compute_limit_percent &&
                      own.policy == common.policy && own.priority == common.priority;
    if (gpu.in_set && !same) return std::nullopt;
  }
  return common;
}

std::string compute_text(const Quota& quota) {
  if (!quota.limits_compute() && quota.priority == Priority::normal) return "";
  const auto percent = [](std::uint8_t value) {
    return value == 0 ? std::string("none") : fmt::format("{} %", value);
  };
  return fmt::format("share {}, limit {}, {}, priority {}", percent(quota.compute_share_percent),
                     percent(quota.compute_limit_percent), policy_name(quota.policy),
                     priority_name(quota.priority));
}

std::string quota_line(const shm::TenantSpec& spec, const Driver& driver) {
  std::vector<std::string> parts;
  for (const auto& gpu : spec.gpus) {
    if (gpu.in_set) parts.push_back(gpu_quota_text(gpu, driver));
  }
  return fmt::format("vgpu: tenant {}: {}", spec.name.view(),
                     parts.empty() ? "no GPU" : fmt::format("{}", fmt::join(parts, "; ")));
}

std::vector<std::string> mig_notices(const shm::TenantSpec& spec, const Driver& driver) {
  std::vector<std::string> notices;
  for (const auto& gpu : driver.gpus) {
    const auto own = own_gpu(spec, gpu.uuid);
    if (!gpu.mig_enabled || !own || !spec.gpus[*own].in_set) continue;
    notices.push_back(
        fmt::format("GPU {}: {}: {}", gpu.nvml_index, mig_text(gpu), kEnforcedOnMig.why));
  }
  return notices;
}

std::string visible_devices_value(const shm::TenantSpec& spec,
                                  const std::vector<GpuUuid>& cuda_order) {
  std::string value;
  for (const auto& uuid : cuda_order) {
    for (const auto& gpu : spec.gpus) {
      if (gpu.in_set && gpu.uuid == uuid)
        value += (value.empty() ? "" : ",") + std::string(uuid.text().data());
    }
  }
  return value;
}

std::string_view source_name(Source source) {
  switch (source) {
    case Source::none:
      return "none";
    case Source::daemon:
      return "daemon";
    case Source::run:
      return "run";
    case Source::vgpu:
      return "VGPU_*";
    case Source::tensor_fusion:
      return "TENSOR_FUSION_*";
    case Source::hami:
      return "HAMi";
    case Source::vgpu_manager:
      return "vgpu-manager";
  }
  return "none";
}

std::string_view policy_name(Policy policy) {
  switch (policy) {
    case Policy::elastic:
      return "elastic";
    case Policy::fixed:
      return "fixed";
  }
  return "elastic";
}

std::string_view priority_name(Priority priority) {
  switch (priority) {
    case Priority::low:
      return "low";
    case Priority::normal:
      return "normal";
    case Priority::high:
      return "high";
  }
  return "normal";
}

}  // namespace vgpu::survey

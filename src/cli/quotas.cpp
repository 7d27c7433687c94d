// SPDX-License-Identifier: Apache-2.0
// Overlaying flags on variables, and saying the result; see quotas.h.
#include "quotas.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "problem.h"
#include "text.h"
#include "vgpu/core/driver_model.h"

namespace vgpu::cli {
namespace {

struct MirroredFlag {
  const char* variable;
  const char* flag;
  const std::string RunOptions::*value;
};
constexpr MirroredFlag kMirrored[] = {
    {"VGPU_MEMORY_LIMIT", "--memory", &RunOptions::memory},
    {"VGPU_COMPUTE", "--compute", &RunOptions::compute},
    {"VGPU_COMPUTE_LIMIT", "--compute-limit", &RunOptions::compute_limit},
    {"VGPU_POLICY", "--policy", &RunOptions::policy},
    {"VGPU_PRIORITY", "--priority", &RunOptions::priority},
};

// The flags as the settings parser sees them: variables of the same meaning, above `below`
// (nullptr: nothing else set).
class FlagEnvironment final : public settings::Environment {
 public:
  FlagEnvironment(const RunOptions& options, const settings::Environment* below)
      : options_(options), below_(below) {}
  const char* get(const char* name) const override {
    for (const auto& mirrored : kMirrored) {
      const std::string& value = options_.*mirrored.value;
      if (std::string_view(mirrored.variable) == name && !value.empty()) return value.c_str();
    }
    return below_ != nullptr ? below_->get(name) : nullptr;
  }

 private:
  const RunOptions& options_;
  const settings::Environment* below_;
};

// Messages name the flag where a flag was given.
std::string in_terms_of_flags(std::string text, const RunOptions& options) {
  std::vector<const MirroredFlag*> given;
  for (const auto& mirrored : kMirrored) {
    if (!(options.*mirrored.value).empty()) given.push_back(&mirrored);
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

bool any_compute_flag(const RunOptions& options) {
  return !options.compute.empty() || !options.compute_limit.empty() || !options.policy.empty() ||
         !options.priority.empty();
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

std::string checked_name(const std::string& name) {
  if (name.size() > shm::kMaxName - 8 || !std::all_of(name.begin(), name.end(), is_name_char) ||
      name.front() == '.' || name.front() == '-') {
    throw Problem(
        kExitNotStarted, "VG1005",
        fmt::format(
            "--name: \"{}\" is no name; letters, digits, dots, dashes and underscores, {} at most",
            name, shm::kMaxName - 8));
  }
  return name;
}

std::string name_of_program(const std::string& program) {
  std::string name = program.substr(program.rfind('/') + 1);
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !is_name_char(c); }, '-');
  while (!name.empty() && (name.front() == '.' || name.front() == '-')) name.erase(0, 1);
  if (name.size() > 24) name.resize(24);
  return name.empty() ? "run" : name;
}

void refuse_errors(const settings::Messages& messages, const char* code,
                   const RunOptions& options) {
  if (messages.errors.empty()) return;
  const std::string what(messages.errors[0].view());
  const std::string shown = in_terms_of_flags(what, options);
  throw Problem(kExitNotStarted, code, shown,
                shown.starts_with("--") ? "vgpu run --help" : "vgpu doctor");
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
  if (gpu.quota.limits_compute()) {
    std::string share = gpu.quota.compute_share_percent != 0
                            ? fmt::format("{} %", gpu.quota.compute_share_percent)
                            : "";
    if (gpu.quota.compute_limit_percent != 0) {
      share +=
          fmt::format("{}at most {} %", share.empty() ? "" : ", ", gpu.quota.compute_limit_percent);
    }
    out += fmt::format(", compute {} (not enforced yet)", share);
  }
  return out;
}

}  // namespace

const char* ProcessEnvironment::get(const char* name) const { return std::getenv(name); }

PlannedTenant plan_tenant(const RunOptions& options, const Driver& driver,
                          const settings::Environment& environment) {
  PlannedTenant planned;
  std::vector<settings::GpuIdentity> all;
  for (const auto& gpu : driver.gpus)
    all.push_back({gpu.uuid, gpu.nvml_index, gpu.total_bytes.value_or(0)});

  std::vector<bool> in_set(all.size(), false);
  settings::Messages messages;
  if (options.gpus.empty()) {
    FixedVector<std::uint32_t, settings::kMaxGpus> positions;
    settings::resolve_gpu_set(environment, all, positions, messages);
    refuse_errors(messages, "VG1010", options);
    for (const auto position : positions) in_set[position] = true;
  } else {
    for (const auto position : select_gpus(driver, options.gpus)) in_set[position] = true;
  }

  // Variables may speak of GPUs outside the set: they are there, this tenant just doesn't see them.
  // Three readings: the variables alone (their mistakes keep their names), the memory flag alone
  // (which GPUs it decides), and flags above variables, where share, limit and policy combine.
  settings::ResolvedQuotas by_variables, by_flags, together;
  settings::Messages unused;
  const RunOptions no_flags;
  settings::resolve_quotas(environment, all, driver_model::kLeastLimitBytes, by_variables,
                           messages);
  refuse_errors(messages, "VG1010", no_flags);
  settings::Messages combined;
  settings::resolve_quotas(FlagEnvironment(options, &environment), all,
                           driver_model::kLeastLimitBytes, together, combined);
  refuse_errors(combined, "VG1004", options);
  RunOptions memory_alone;
  memory_alone.memory = options.memory;
  settings::resolve_quotas(FlagEnvironment(memory_alone, nullptr), all,
                           driver_model::kLeastLimitBytes, by_flags, unused);
  for (const auto& notice : combined.notices)
    planned.notices.push_back(in_terms_of_flags(std::string(notice.view()), options));

  shm::TenantSpec& spec = planned.spec;
  const std::string name =
      options.name.empty() ? name_of_program(options.command.front()) : checked_name(options.name);
  spec.id = FixedString<shm::kMaxName>(name + "-" + random_suffix());
  spec.name = options.name.empty() ? spec.id : FixedString<shm::kMaxName>(name);
  spec.made_by_run = true;
  for (std::size_t i = 0; i < all.size(); ++i) {
    shm::TenantGpu gpu{all[i].uuid, all[i].nvml_index, all[i].total_bytes, {}, in_set[i]};
    if (in_set[i]) {
      gpu.quota = together.per_gpu[i];
      const Quota& flags = by_flags.per_gpu[i];
      const bool memory_by_flag = flags.memory_source != Source::none;
      const Quota& memory = memory_by_flag ? flags : by_variables.per_gpu[i];
      gpu.quota.memory_limit_bytes = memory.memory_limit_bytes;
      gpu.quota.memory_source = memory_by_flag ? Source::run : memory.memory_source;
      if (any_compute_flag(options)) gpu.quota.compute_source = Source::run;
    }
    spec.gpus.push_back(gpu);
  }
  return planned;
}

std::string quota_line(const shm::TenantSpec& spec, const Driver& driver) {
  std::vector<std::string> parts;
  for (const auto& gpu : spec.gpus) {
    if (gpu.in_set) parts.push_back(gpu_quota_text(gpu, driver));
  }
  return fmt::format("vgpu: tenant {}: {}", spec.name.view(),
                     parts.empty() ? "no GPU" : fmt::format("{}", fmt::join(parts, "; ")));
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

}  // namespace vgpu::cli

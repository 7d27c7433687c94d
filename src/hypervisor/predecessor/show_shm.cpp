// SPDX-License-Identifier: Apache-2.0
// hypervisor show-shm: what a predecessor's file, or one of our own tenants, says of itself. Writes
// nothing; its exit status is what monitoring asks for.
#include "show_shm.h"

#include <fmt/format.h>
#include <time.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <stdexcept>

#include "commands.h"
#include "vgpu/settings/settings.h"
#include "vgpu/survey/json.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/quotas.h"
#include "vgpu/survey/tenants.h"
#include "vgpu/survey/text.h"

namespace vgpu::hypervisor {
namespace {

using survey::Json;
using survey::Problem;

struct Options {
  std::string tenant, pod_namespace, pod, base = "/run/tensor-fusion/shm";
  bool json = false;
};

const char* health_word(PodHealth health) {
  switch (health) {
    case PodHealth::healthy:
      return "healthy";
    case PodHealth::stale:
      return "stale";
    case PodHealth::never:
      return "never";
    case PodHealth::in_the_future:
      return "in_the_future";
  }
  return "";
}

std::string percent_text(std::optional<std::uint32_t> percent) {
  return percent ? fmt::format("{}%", *percent) : "-";
}

std::string number_text(const std::optional<double>& value) {
  return value ? fmt::format("{:.6g}", *value) : "-";
}

Json number_json(const std::optional<double>& value) {
  return value ? Json(*value) : Json(nullptr);
}

int print(const std::string& text, ShmStatus status) {
  std::fputs(text.c_str(), stdout);
  return static_cast<int>(status);
}

int show_pod(const Options& options) {
  const std::string name = options.pod_namespace + "/" + options.pod;
  std::string path;
  try {
    path = pod_file_path(options.base, options.pod_namespace, options.pod);
  } catch (const std::invalid_argument& error) {
    throw Problem(survey::kExitUsage, "VG1001", error.what());
  }
  std::string why;
  bool missing = false;
  const auto now_s = static_cast<std::uint64_t>(::time(nullptr));
  const auto reading = read_pod_file(path, now_s, why, missing);
  if (!reading) {
    const bool unreadable = why.find("denied") != std::string::npos;
    const ShmStatus status = missing      ? ShmStatus::missing
                             : unreadable ? ShmStatus::failed
                                          : ShmStatus::damaged;
    throw Problem(static_cast<int>(status), "VG1101", survey::visible(path) + ": " + why);
  }
  return print(
      options.json ? pod_json(*reading, name, path, now_s) : pod_table(*reading, name, now_s),
      status_of(*reading));
}

int show_tenant(const Options& options) {
  const shm::StateDir dir = survey::state_directory(true, survey::kExitFailed);
  const survey::KnownTenant known = survey::find_tenant(
      dir, options.tenant, static_cast<int>(ShmStatus::missing), "hypervisor show-shm {}");
  const shm::TenantSpec& spec = known.spec;
  const auto processes = survey::processes_of(known.tenant);
  if (options.json) {
    Json gpus = Json::array(), pids = Json::array();
    for (std::uint32_t i = 0; i < spec.gpus.size(); ++i) {
      const shm::TenantGpu& gpu = spec.gpus[i];
      if (!gpu.in_set) continue;
      gpus.push_back(
          {{"index", gpu.nvml_index},
           {"uuid", gpu.uuid.text().data()},
           {"memory_limit_bytes",
            gpu.quota.limits_memory() ? Json(gpu.quota.memory_limit_bytes) : Json(nullptr)},
           {"memory_used_bytes", known.tenant.charged_bytes(i)},
           {"share_percent", survey::percent_json(gpu.quota.compute_share_percent)},
           {"limit_percent", survey::percent_json(gpu.quota.compute_limit_percent)},
           {"denied", known.tenant.denied_count(i)}});
    }
    for (const auto& process : processes) pids.push_back(process.pid);
    survey::print_json({{"format", "tenant"},
                        {"id", std::string(spec.id.view())},
                        {"name", std::string(spec.name.view())},
                        {"health", "healthy"},
                        {"gpus", gpus},
                        {"pids", pids}});
    return 0;
  }
  std::string text =
      fmt::format("tenant {} ({}): {} processes\n", survey::visible(spec.name.view()),
                  survey::visible(spec.id.view()), processes.size());
  std::vector<std::vector<std::string>> rows = {
      {"GPU", "MEMORY", "LIMIT", "SHARE", "CEILING", "REFUSED", "UUID"}};
  for (std::uint32_t i = 0; i < spec.gpus.size(); ++i) {
    const shm::TenantGpu& gpu = spec.gpus[i];
    if (!gpu.in_set) continue;
    const auto percent = [](std::uint8_t value) {
      return value == 0 ? "-" : fmt::format("{}%", value);
    };
    rows.push_back(
        {fmt::format("{}", gpu.nvml_index), survey::size_text(known.tenant.charged_bytes(i)),
         gpu.quota.limits_memory() ? survey::size_text(gpu.quota.memory_limit_bytes) : "none",
         percent(gpu.quota.compute_share_percent), percent(gpu.quota.compute_limit_percent),
         fmt::format("{}", known.tenant.denied_count(i)), gpu.uuid.text().data()});
  }
  text += survey::table(rows, "  ");
  std::string pids;
  for (const auto& process : processes) pids += fmt::format(" {}", process.pid);
  if (!pids.empty()) text += "  pids:" + pids + "\n";
  return print(text, ShmStatus::healthy);
}

int show(const Options& options) {
  const bool is_pod = !options.pod.empty() || !options.pod_namespace.empty();
  if (is_pod == !options.tenant.empty()) {
    throw Problem(survey::kExitUsage, "VG1001",
                  "either TENANT, or --namespace and --pod-name, is expected",
                  "hypervisor show-shm --namespace default --pod-name worker-0");
  }
  if (!is_pod) return show_tenant(options);
  if (options.pod.empty() || options.pod_namespace.empty()) {
    throw Problem(survey::kExitUsage, "VG1001", "--namespace and --pod-name belong together",
                  "hypervisor show-shm --namespace default --pod-name worker-0");
  }
  return show_pod(options);
}

}  // namespace

ShmStatus status_of(const PodReading& reading) {
  if (!reading.faults.empty()) return ShmStatus::damaged;
  return reading.health == PodHealth::healthy ? ShmStatus::healthy : ShmStatus::unhealthy;
}

std::string health_text(const PodReading& reading, std::uint64_t now_s) {
  switch (reading.health) {
    case PodHealth::healthy:
      return fmt::format("healthy, heartbeat {} s ago", now_s - reading.last_heartbeat_s);
    case PodHealth::stale:
      return fmt::format("unhealthy: heartbeat {} s ago, limiters let everything through",
                         now_s - reading.last_heartbeat_s);
    case PodHealth::never:
      return "unhealthy: no heartbeat yet, limiters let everything through";
    case PodHealth::in_the_future:
      return "unhealthy: heartbeat in the future, limiters let everything through";
  }
  return "";
}

std::string pod_table(const PodReading& reading, const std::string& name, std::uint64_t now_s) {
  std::string text = fmt::format("{}: V{}, {}\n", survey::visible(name), reading.version,
                                 health_text(reading, now_s));
  std::vector<std::vector<std::string>> rows = {
      {"GPU", "LIMIT", "MEMORY", "OF", "TOKENS", "CAPACITY", "RATE/s", "ACTIVE", "UUID"}};
  if (reading.version == 1)
    rows = {{"GPU", "LIMIT", "MEMORY", "OF", "CORES", "TOTAL", "ACTIVE", "UUID"}};
  for (const auto& device : reading.devices) {
    std::vector<std::string> row = {
        fmt::format("{}", device.index), percent_text(device.up_limit_percent),
        survey::size_text(device.memory_used_bytes), survey::size_text(device.memory_limit_bytes)};
    if (const auto* tokens = std::get_if<PodTokens>(&device.compute)) {
      row.insert(row.end(), {number_text(tokens->tokens), number_text(tokens->capacity),
                             number_text(tokens->refill_rate)});
    } else {
      row.insert(row.end(), {fmt::format("{}", std::get<PodCores>(device.compute).available),
                             fmt::format("{}", device.total_cuda_cores)});
    }
    row.push_back(device.is_active ? "yes" : "no");
    row.push_back(device.uuid.empty() ? "-" : device.uuid);
    rows.push_back(std::move(row));
  }
  text += survey::table(rows, "  ");
  std::string pids;
  for (const auto pid : reading.pids) pids += fmt::format(" {}", pid);
  text += fmt::format("  pids:{}\n", pids.empty() ? " none" : pids);
  for (const auto& fault : reading.faults) text += "  damaged: " + fault + "\n";
  return text;
}

std::string pod_json(const PodReading& reading, const std::string& name, const std::string& path,
                     std::uint64_t now_s) {
  Json devices = Json::array();
  for (const auto& device : reading.devices) {
    Json row = {
        {"index", device.index},
        {"uuid", survey::text_json(device.uuid)},
        {"active", device.is_active},
        {"limit_percent", device.up_limit_percent ? Json(*device.up_limit_percent) : Json(nullptr)},
        {"memory_limit_bytes", device.memory_limit_bytes},
        {"memory_used_bytes", device.memory_used_bytes},
        {"total_cuda_cores", device.total_cuda_cores}};
    if (const auto* tokens = std::get_if<PodTokens>(&device.compute)) {
      row["refill_rate_per_s"] = number_json(tokens->refill_rate);
      row["capacity"] = number_json(tokens->capacity);
      row["tokens"] = number_json(tokens->tokens);
      row["updated_s"] = number_json(tokens->last_update_s);
    } else {
      row["available_cores"] = std::get<PodCores>(device.compute).available;
    }
    devices.push_back(std::move(row));
  }
  const bool past = reading.last_heartbeat_s != 0 && reading.last_heartbeat_s <= now_s;
  const Json json = {
      {"format", fmt::format("v{}", reading.version)},
      {"pod", name},
      {"path", path},
      {"health", health_word(reading.health)},
      {"heartbeat_s", past ? Json(reading.last_heartbeat_s) : Json(nullptr)},
      {"heartbeat_age_s", past ? Json(now_s - reading.last_heartbeat_s) : Json(nullptr)},
      {"devices", devices},
      {"pids", reading.pids},
      {"faults", reading.faults}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

void add_show_shm_command(CLI::App& app, Run& run) {
  auto* command =
      app.add_subcommand("show-shm", "Show a tenant's shared memory; exit status is its health.");
  const auto options = std::make_shared<Options>();
  command->add_option("tenant", options->tenant, "A tenant of this machine, by name or id")
      ->type_name("TENANT");
  command->add_option("--namespace", options->pod_namespace,
                      "A pod's namespace, for tensor-fusion's V1 and V2 files");
  command->add_option("--pod-name", options->pod, "Its name");
  command->add_option("--shm-base-path", options->base, "Where those files are")
      ->envname("SHM_BASE_PATH")
      ->capture_default_str();
  command->add_flag("--json", options->json, "Machine-readable");
  command->footer(
      "Exit status: 0 healthy, 1 it couldn't be read, 2 usage, 3 unhealthy (no heartbeat within 2 "
      "s, or "
      "one from the future),\n4 there is none, 5 damaged.");
  command->callback([options, &run] { run = [options] { return show(*options); }; });
}

}  // namespace vgpu::hypervisor

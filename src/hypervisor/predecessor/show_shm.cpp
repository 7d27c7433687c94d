// SPDX-License-Identifier: Apache-2.0
// hypervisor show-shm: what a predecessor's file, or one of our own tenants, says of itself. Writes
// nothing; its exit status is what monitoring asks for.
#include "show_shm.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>

#include "commands.h"
#include "settings/apply.h"
#include "settings/setting_flags.h"
#include "state_directories.h"
#include "vgpu/platform/clock.h"
#include "vgpu/settings/settings.h"
#include "vgpu/shm/tenant_view.h"
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
  std::string tenant, state_directory, pod_namespace, pod, base = "/run/tensor-fusion/shm";
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

// Whose tenants are looked at: one directory, or the caller's own and those that a daemon of this
// user looks after.
std::vector<DirectoryPointer> directories_of(const Options& options) {
  shm::StateDir own =
      shm::existing_state_dir([](const char* name) -> const char* { return std::getenv(name); });
  if (!options.state_directory.empty()) {
    struct stat facts {};
    if (::lstat(options.state_directory.c_str(), &facts) != 0 || !S_ISDIR(facts.st_mode)) {
      throw Problem(
          static_cast<int>(ShmStatus::failed), "VG1021",
          fmt::format("--state-dir: {} is no directory", survey::visible(options.state_directory)));
    }
    UserDirectory one{own, facts.st_uid, facts.st_uid == ::geteuid()};
    one.dir.path = FixedString<255>(options.state_directory);
    one.dir.owner = facts.st_uid;
    one.dir.error = one.dir.path.truncated() ? ENAMETOOLONG : 0;
    return {std::make_shared<UserDirectory>(one)};
  }
  // What is wrong with settings doesn't keep anybody from looking.
  const settings::Loaded loaded = settings::load_settings({});
  std::vector<std::string> patterns;
  if (loaded.faults.empty()) patterns = settings::options_of(loaded).users_directories;
  StateDirectories known(own, std::move(patterns), std::string(own.quotas.view()));
  std::vector<DirectoryPointer> directories = known.only_look();
  // The daemon's own directory has its own pages; this process's may have another daemon's.
  auto first = std::make_shared<UserDirectory>(*directories.front());
  first->dir = own;
  directories.front() = std::move(first);
  return directories;
}

struct FoundTenant {
  DirectoryPointer directory;
  std::string id;  // its user's
  shm::Status status = shm::Status::ok;
  shm::TenantView view;
  std::vector<shm::ProcessView> processes;
};

FoundTenant looked_at(const DirectoryPointer& directory, const std::string& id) {
  FoundTenant found{directory, id, shm::Status::ok, {}, {}};
  found.processes.resize(shm::kMaxSlots);
  found.status = shm::view_tenant(directory->dir, id, found.view, found.processes);
  found.processes.resize(std::min(found.view.processes, found.processes.size()));
  return found;
}

constexpr std::size_t kMostListed = 4'096;

std::vector<FoundTenant> tenants_in(const DirectoryPointer& directory) {
  std::vector<FoundTenant> tenants;
  std::vector<FixedString<shm::kMaxName>> ids(kMostListed);
  ids.resize(std::min(directory->list_tenants(ids), ids.size()));
  for (const auto& id : ids) {
    FoundTenant found = looked_at(directory, std::string(id.view()));
    if (found.status != shm::Status::not_found) tenants.push_back(std::move(found));
  }
  return tenants;
}

// By id or name, as its user or the daemon says it, or the unique beginning of one.
FoundTenant find_shown(const Options& options) {
  const std::string& typed = options.tenant;
  std::vector<FoundTenant> exact, beginning;
  std::vector<std::string> names;
  for (const DirectoryPointer& directory : directories_of(options)) {
    for (FoundTenant& found : tenants_in(directory)) {
      const std::string name(found.view.spec.name.view()), full = directory->public_id(found.id);
      names.push_back(name.empty() ? found.id : name);
      if (found.id == typed || name == typed || full == typed ||
          (!directory->is_own && directory->public_id(name) == typed)) {
        exact.push_back(std::move(found));
      } else if (found.id.starts_with(typed) || name.starts_with(typed)) {
        beginning.push_back(std::move(found));
      }
    }
  }
  auto& matches = exact.empty() ? beginning : exact;
  if (matches.size() == 1) return std::move(matches.front());
  if (matches.empty()) {
    const std::string_view guess = survey::nearest(typed, names);
    throw Problem(static_cast<int>(ShmStatus::missing), "VG1022",
                  fmt::format("no tenant is called \"{}\"", survey::visible(typed)),
                  guess.empty() ? "vgpu ls" : fmt::format("hypervisor show-shm {}", guess));
  }
  throw Problem(
      survey::kExitUsage, "VG1023",
      fmt::format("{} tenants are called \"{}\"; more of the name is needed", matches.size(),
                  survey::visible(typed)),
      fmt::format("by its id: {}", matches.back().directory->public_id(matches.back().id)));
}

constexpr std::uint64_t kMillisecondNs = 1'000'000;
// As long as the predecessor's limiters wait for a heartbeat.
constexpr std::uint64_t kPatienceNs = 2'000 * kMillisecondNs;

std::vector<std::string> faults_of(const shm::TenantView& view) {
  std::vector<std::string> faults;
  for (std::uint32_t i = 0; i < view.spec.gpus.size(); ++i) {
    if (view.has_odd_quota[i])
      faults.push_back(
          fmt::format("GPU {}: its quota can't be true", view.spec.gpus[i].nvml_index));
  }
  return faults;
}

struct TenantHealth {
  ShmStatus status = ShmStatus::healthy;
  std::string text;
  std::optional<shm::HostView> host;  // none: nobody used a GPU there yet
  std::vector<std::string> faults;
};

TenantHealth tenant_health(const FoundTenant& found) {
  TenantHealth health{ShmStatus::healthy, "healthy", std::nullopt, faults_of(found.view)};
  shm::HostView host;
  const shm::Status seen =
      shm::view_host(found.directory->dir, found.id, platform::monotonic_ns(), host);
  if (seen == shm::Status::ok) health.host = host;
  if (seen == shm::Status::corrupt)
    health.faults.push_back("the seats of its processes (node.seats) are damaged");
  if (!health.faults.empty()) {
    health.status = ShmStatus::damaged;
    health.text = "damaged";
  } else if (host.is_missed(kPatienceNs)) {
    health.status = ShmStatus::unhealthy;
    health.text = fmt::format("unhealthy: a launch waits for {:.1f} s, and {}",
                              static_cast<double>(host.waited_ns) / 1e9,
                              host.late_ns ? fmt::format("the arbiter's host is {:.1f} s late",
                                                         static_cast<double>(*host.late_ns) / 1e9)
                                           : "nobody hosts the arbiter");
  }
  return health;
}

int show_tenant_json(const FoundTenant& found, const TenantHealth& health) {
  const shm::TenantSpec& spec = found.view.spec;
  Json gpus = Json::array(), pids = Json::array();
  for (std::uint32_t i = 0; i < spec.gpus.size(); ++i) {
    const shm::TenantGpu& gpu = spec.gpus[i];
    if (!gpu.in_set) continue;
    gpus.push_back(
        {{"index", gpu.nvml_index},
         {"uuid", gpu.uuid.text().data()},
         {"memory_limit_bytes",
          gpu.quota.limits_memory() ? Json(gpu.quota.memory_limit_bytes) : Json(nullptr)},
         {"memory_used_bytes", found.view.charged_bytes[i]},
         {"share_percent", survey::percent_json(gpu.quota.compute_share_percent)},
         {"limit_percent", survey::percent_json(gpu.quota.compute_limit_percent)},
         {"denied", found.view.denied[i]}});
  }
  for (const auto& process : found.processes) pids.push_back(process.pid);
  const auto ms = [](std::uint64_t ns) { return Json(ns / kMillisecondNs); };
  const char* const word = health.status == ShmStatus::healthy     ? "healthy"
                           : health.status == ShmStatus::unhealthy ? "unhealthy"
                                                                   : "damaged";
  survey::print_json(
      {{"format", "tenant"},
       {"id", found.id},
       {"name", survey::text_json(std::string(spec.name.view()))},
       {"user", found.directory->user},
       {"directory", std::string(found.directory->dir.path.view())},
       {"health", word},
       {"waiting_ms", health.host ? ms(health.host->waited_ns) : Json(nullptr)},
       {"host_late_ms",
        health.host && health.host->late_ns ? ms(*health.host->late_ns) : Json(nullptr)},
       {"gpus", gpus},
       {"pids", pids},
       {"gone_processes", found.view.gone},
       {"faults", health.faults}});
  return static_cast<int>(health.status);
}

std::string tenant_table(const FoundTenant& found, const TenantHealth& health) {
  const shm::TenantSpec& spec = found.view.spec;
  std::string text = fmt::format(
      "tenant {} ({}): {}, {} processes\n", survey::visible(spec.name.view()),
      survey::visible(found.directory->public_id(found.id)), health.text, found.view.processes);
  std::vector<std::vector<std::string>> rows = {
      {"GPU", "MEMORY", "LIMIT", "SHARE", "CEILING", "REFUSED", "UUID"}};
  for (std::uint32_t i = 0; i < spec.gpus.size(); ++i) {
    const shm::TenantGpu& gpu = spec.gpus[i];
    if (!gpu.in_set) continue;
    const auto percent = [](std::uint8_t value) {
      return value == 0 ? "-" : fmt::format("{}%", value);
    };
    rows.push_back(
        {fmt::format("{}", gpu.nvml_index), survey::size_text(found.view.charged_bytes[i]),
         gpu.quota.limits_memory() ? survey::size_text(gpu.quota.memory_limit_bytes) : "none",
         percent(gpu.quota.compute_share_percent), percent(gpu.quota.compute_limit_percent),
         fmt::format("{}", found.view.denied[i]), gpu.uuid.text().data()});
  }
  text += survey::table(rows, "  ");
  std::string pids;
  for (const auto& process : found.processes) pids += fmt::format(" {}", process.pid);
  if (!pids.empty()) text += "  pids:" + pids + "\n";
  if (found.view.gone != 0)
    text += fmt::format(
        "  gone: {} processes, which count until the next look of vgpu ls or the "
        "daemon\n",
        found.view.gone);
  for (const auto& fault : health.faults) text += "  damaged: " + fault + "\n";
  return text;
}

int show_tenant(const Options& options) {
  const FoundTenant found = find_shown(options);
  if (found.status != shm::Status::ok) {
    const ShmStatus status =
        found.status == shm::Status::corrupt ? ShmStatus::damaged : ShmStatus::failed;
    throw Problem(
        static_cast<int>(status), "VG1101",
        fmt::format("tenant {}: {}", survey::visible(found.id), survey::status_text(found.status)));
  }
  const TenantHealth health = tenant_health(found);
  if (options.json) return show_tenant_json(found, health);
  return print(tenant_table(found, health), health.status);
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
  auto* const tenant =
      command->add_option("tenant", options->tenant, "A tenant of this machine, by name or id")
          ->type_name("TENANT");
  command
      ->add_option("--state-dir", options->state_directory,
                   "The state directory that it is in. Default: the caller's own, and those that "
                   "its daemon looks after; for root, of all users")
      ->type_name("PATH")
      ->needs(tenant);
  command->add_option("--namespace", options->pod_namespace,
                      "A pod's namespace, for tensor-fusion's V1 and V2 files");
  command->add_option("--pod-name", options->pod, "Its name");
  command->add_option("--shm-base-path", options->base, "Where those files are")
      ->envname("SHM_BASE_PATH")
      ->capture_default_str();
  command->add_flag("--json", options->json, "Machine-readable");
  command->footer(
      "Exit status: 0 healthy, 1 it couldn't be read, 2 usage, 3 unhealthy (no heartbeat within 2 "
      "s, or one from the future;\nof a tenant: launches wait, and the arbiter's host is gone), 4 "
      "there is none, 5 damaged.");
  command->callback([options, &run] { run = [options] { return show(*options); }; });
}

}  // namespace vgpu::hypervisor

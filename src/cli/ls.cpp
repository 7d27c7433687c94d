// SPDX-License-Identifier: Apache-2.0
// vgpu ls: GPUs, the tenants on them, their processes, and whoever is on a GPU without a limiter.
// First a snapshot in plain values, then either of two views of it.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "gpus.h"
#include "problem.h"
#include "process_tree.h"
#include "quotas.h"
#include "tenants.h"
#include "text.h"
#include "verbs.h"

namespace vgpu::cli {
namespace {

using Json = nlohmann::ordered_json;

struct ListedTenant {
  shm::TenantSpec spec;
  std::vector<std::uint64_t> charged_bytes;  // by the spec's GPUs
  std::vector<std::uint64_t> denied;
  std::vector<shm::ProcessView> processes;
};

// Does a process that is in none of the tenants shown have the limiter in it? Another user's may,
// or one under another state directory; `unknown` where it can't be looked into.
enum class Limiter : unsigned char { absent, present, unknown };

struct UnlimitedProcess {
  std::uint32_t pid = 0;
  std::string program;
  std::optional<std::uint64_t> used_bytes;
  Limiter limiter = Limiter::unknown;
};

struct Snapshot {
  Driver driver;
  std::vector<ListedTenant> tenants;
  std::map<std::uint32_t, std::vector<UnlimitedProcess>> unlimited;  // by NVML index
  std::vector<std::string> notes;
};

// A tenant's process as the pid that NVML would show here. 0: in a namespace that can't be looked
// into.
class PidTranslator {
 public:
  std::uint32_t outer_pid(const shm::ProcessView& process) {
    if (process.pid_namespace == own_ || process.pid_namespace == 0)
      return static_cast<std::uint32_t>(process.pid);
    if (!scanned_) scan();
    const auto found = by_inner_.find({process.pid_namespace, process.pid});
    return found == by_inner_.end() ? 0 : static_cast<std::uint32_t>(found->second);
  }

 private:
  void scan() {
    scanned_ = true;
    for (const pid_t pid : descendants_of(1)) {
      const std::uint64_t name_space = pid_namespace_of(pid);
      if (name_space != 0 && name_space != own_)
        by_inner_[{name_space, pid_in_own_namespace(pid)}] = pid;
    }
  }
  std::uint64_t own_ = pid_namespace_of(getpid());
  bool scanned_ = false;
  std::map<std::pair<std::uint64_t, pid_t>, pid_t> by_inner_;
};

bool is_wanted(const std::string& only, const shm::TenantSpec& spec) {
  return only.empty() || spec.id.view().starts_with(only) || spec.name.view().starts_with(only);
}

bool is_wanted(const std::string& only, const Gpu& gpu) {
  if (only.empty() || only == std::to_string(gpu.nvml_index)) return true;
  std::string lower(only);
  std::transform(lower.begin(), lower.end(), lower.begin(), GpuUuid::lower);
  return gpu.uuid_text().starts_with(lower) || gpu.uuid_text().substr(4).starts_with(lower);
}

Limiter limiter_of(std::uint32_t pid) {
  if (pid == 0) return Limiter::unknown;
  const auto id = static_cast<pid_t>(pid);
  if (has_mapped(id, "libcuda_limiter.so")) return Limiter::present;
  // Every process has its program mapped: if not even that shows, the list can't be read.
  return has_mapped(id, "/") ? Limiter::absent : Limiter::unknown;
}

Snapshot take_snapshot(const ListOptions& options) {
  Snapshot snapshot;
  const Installation installation = find_installation();
  const shm::StateDir dir = state_directory(false);
  std::vector<std::string> skipped;
  for (auto& known : known_tenants(dir, skipped)) {
    if (known.stale) {
      // What a killed keeper left behind.
      if (auto hold = TenantHold::acquire(dir, known.spec.id.view())) hold->end(dir, known.tenant);
      continue;
    }
    ListedTenant listed;
    listed.spec = known.spec;
    for (std::uint32_t gpu = 0; gpu < known.tenant.gpu_count(); ++gpu) {
      listed.charged_bytes.push_back(known.tenant.charged_bytes(gpu));
      listed.denied.push_back(known.tenant.denied_count(gpu));
    }
    listed.charged_bytes.resize(listed.spec.gpus.size());
    listed.denied.resize(listed.spec.gpus.size());
    listed.processes = processes_of(known.tenant);
    std::erase_if(listed.processes, [](const auto& process) { return process.pid == getpid(); });
    snapshot.tenants.push_back(std::move(listed));
  }
  for (const auto& line : skipped) snapshot.notes.push_back("tenant " + line);
  snapshot.driver = read_driver(installation, simulation_wanted(options.simulated), true);

  PidTranslator translator;
  std::set<std::uint32_t> limited{static_cast<std::uint32_t>(getpid())};
  for (const auto& tenant : snapshot.tenants) {
    for (const auto& process : tenant.processes) limited.insert(translator.outer_pid(process));
  }
  for (const auto& gpu : snapshot.driver.gpus) {
    for (const auto& process : gpu.processes) {
      if (limited.count(process.pid) != 0) continue;
      snapshot.unlimited[gpu.nvml_index].push_back({process.pid,
                                                    program_name(static_cast<pid_t>(process.pid)),
                                                    process.used_bytes, limiter_of(process.pid)});
    }
  }
  const bool gpu_named = std::any_of(snapshot.driver.gpus.begin(), snapshot.driver.gpus.end(),
                                     [&](const Gpu& gpu) { return is_wanted(options.only, gpu); });
  const bool tenant_named =
      std::any_of(snapshot.tenants.begin(), snapshot.tenants.end(),
                  [&](const auto& tenant) { return is_wanted(options.only, tenant.spec); });
  if (!options.only.empty() && !gpu_named && !tenant_named) {
    throw Problem(kExitFailed, "VG1022",
                  fmt::format("no tenant and no GPU is called \"{}\"", options.only), "vgpu ls");
  }
  if (tenant_named && !options.only.empty()) {
    std::erase_if(snapshot.tenants,
                  [&](const auto& tenant) { return !is_wanted(options.only, tenant.spec); });
    snapshot.unlimited.clear();
    std::erase_if(snapshot.driver.gpus, [&](const Gpu& gpu) {
      return std::none_of(
          snapshot.tenants.begin(), snapshot.tenants.end(), [&](const auto& tenant) {
            return std::any_of(tenant.spec.gpus.begin(), tenant.spec.gpus.end(),
                               [&](const auto& own) { return own.in_set && own.uuid == gpu.uuid; });
          });
    });
  } else {
    std::erase_if(snapshot.driver.gpus,
                  [&](const Gpu& gpu) { return !is_wanted(options.only, gpu); });
  }
  return snapshot;
}

Json optional_json(const std::optional<std::uint64_t>& value) {
  return value ? Json(*value) : Json(nullptr);
}
Json text_json(const std::string& text) {
  return text.empty() || text == "-" ? Json(nullptr) : Json(text);
}
Json percent_json(std::uint8_t percent) { return percent == 0 ? Json(nullptr) : Json(percent); }
Json source_json(Source source) {
  return source == Source::none ? Json(nullptr) : Json(std::string(source_name(source)));
}

Json tenant_json(const ListedTenant& tenant) {
  Json gpus = Json::array();
  for (std::size_t i = 0; i < tenant.spec.gpus.size(); ++i) {
    const shm::TenantGpu& gpu = tenant.spec.gpus[i];
    if (!gpu.in_set) continue;
    const Quota& quota = gpu.quota;
    gpus.push_back(
        {{"index", gpu.nvml_index},
         {"uuid", gpu.uuid.text().data()},
         {"memory",
          {{"used_bytes", tenant.charged_bytes[i]},
           {"limit_bytes", quota.limits_memory() ? Json(quota.memory_limit_bytes) : Json(nullptr)},
           {"source", source_json(quota.memory_source)},
           {"enforced", quota.limits_memory()},
           {"denied", tenant.denied[i]}}},
         {"compute",
          {{"share_percent", percent_json(quota.compute_share_percent)},
           {"limit_percent", percent_json(quota.compute_limit_percent)},
           {"policy", std::string(policy_name(quota.policy))},
           {"priority", std::string(priority_name(quota.priority))},
           {"source", source_json(quota.compute_source)},
           {"enforced", false}}}});
  }
  Json processes = Json::array();
  for (const auto& process : tenant.processes) {
    Json used = Json::object();
    for (std::size_t i = 0; i < tenant.spec.gpus.size(); ++i) {
      if (tenant.spec.gpus[i].in_set)
        used[tenant.spec.gpus[i].uuid.text().data()] = process.charged_bytes[i];
    }
    processes.push_back({{"pid", process.pid},
                         {"pid_namespace", process.pid_namespace},
                         {"program", text_json(std::string(process.program.view()))},
                         {"used_bytes", used}});
  }
  return {{"id", std::string(tenant.spec.id.view())},
          {"name", std::string(tenant.spec.name.view())},
          {"made_by", tenant.spec.made_by_run ? "run" : "variables"},
          {"gpus", gpus},
          {"processes", processes}};
}

Json snapshot_json(const Snapshot& snapshot) {
  const Driver& driver = snapshot.driver;
  Json gpus = Json::array();
  for (const auto& gpu : driver.gpus) {
    Json unlimited = Json::array(), others = Json::array();
    const auto found = snapshot.unlimited.find(gpu.nvml_index);
    if (found != snapshot.unlimited.end()) {
      for (const auto& process : found->second) {
        const Json shown = {{"pid", process.pid == 0 ? Json(nullptr) : Json(process.pid)},
                            {"program", text_json(process.program)},
                            {"used_bytes", optional_json(process.used_bytes)},
                            {"limited", process.limiter == Limiter::unknown
                                            ? Json(nullptr)
                                            : Json(process.limiter == Limiter::present)}};
        (process.limiter == Limiter::absent ? unlimited : others).push_back(shown);
      }
    }
    gpus.push_back({{"index", gpu.nvml_index},
                    {"uuid", gpu.uuid_text()},
                    {"name", text_json(gpu.name)},
                    {"total_bytes", optional_json(gpu.total_bytes)},
                    {"used_bytes", optional_json(gpu.used_bytes)},
                    {"unlimited", unlimited},
                    {"others", others}});
  }
  Json tenants = Json::array();
  for (const auto& tenant : snapshot.tenants) tenants.push_back(tenant_json(tenant));
  return {{"version", 1},
          {"driver",
           {{"available", driver.available},
            {"simulated", driver.simulated},
            {"version", text_json(driver.version)},
            {"why", text_json(driver.why)}}},
          {"gpus", gpus},
          {"tenants", tenants},
          {"notes", snapshot.notes}};
}

std::optional<double> fraction_of(std::uint64_t used, std::uint64_t limit) {
  if (limit == 0 || limit == kNoLimit) return std::nullopt;
  return static_cast<double>(used) / static_cast<double>(limit);
}

std::string compute_text(const Quota& quota) {
  if (!quota.limits_compute()) return "compute -";
  std::string out = "compute";
  if (quota.compute_share_percent != 0) out += fmt::format(" {} %", quota.compute_share_percent);
  if (quota.compute_limit_percent != 0)
    out += fmt::format(" (at most {} %)", quota.compute_limit_percent);
  return out + ", not enforced yet";
}

using Rows = std::vector<std::vector<std::string>>;

void add_tenant_rows(const ListedTenant& tenant, std::size_t i, Rows& rows) {
  constexpr unsigned kBarWidth = 20;
  const shm::TenantGpu& gpu = tenant.spec.gpus[i];
  const Quota& quota = gpu.quota;
  const std::uint64_t used = tenant.charged_bytes[i];
  const std::string limit =
      quota.limits_memory() ? size_text(quota.memory_limit_bytes) : "no limit";
  rows.push_back(
      {std::string(tenant.spec.name.view()),
       bar(fraction_of(used, quota.memory_limit_bytes), kBarWidth),
       fmt::format("{} of {}", size_text(used), limit), compute_text(quota),
       fmt::format("by {}",
                   quota.memory_source == Source::none ? "-" : source_name(quota.memory_source))});
  for (const auto& process : tenant.processes) {
    if (process.charged_bytes[i] == 0 && i != 0) continue;
    rows.push_back({fmt::format("  {}", process.pid), std::string(process.program.view()),
                    size_text(process.charged_bytes[i])});
  }
}

void add_unlimited_rows(const std::vector<UnlimitedProcess>& processes, Rows& rows) {
  for (const auto& process : processes) {
    const char* title = process.limiter == Limiter::absent    ? "UNLIMITED"
                        : process.limiter == Limiter::present ? "another tenant"
                                                              : "another user's";
    rows.push_back(
        {title, process.pid == 0 ? "pid -" : fmt::format("pid {} {}", process.pid, process.program),
         size_text(process.used_bytes)});
  }
}

std::string snapshot_text(const Snapshot& snapshot, const Style& style) {
  std::string out;
  const Driver& driver = snapshot.driver;
  std::set<GpuUuid> shown;
  auto add_gpu = [&](const std::string& title, const GpuUuid& uuid,
                     const std::vector<UnlimitedProcess>* unlimited) {
    shown.insert(uuid);
    Rows rows;
    for (const auto& tenant : snapshot.tenants) {
      for (std::size_t i = 0; i < tenant.spec.gpus.size(); ++i) {
        if (tenant.spec.gpus[i].in_set && tenant.spec.gpus[i].uuid == uuid)
          add_tenant_rows(tenant, i, rows);
      }
    }
    if (unlimited != nullptr) add_unlimited_rows(*unlimited, rows);
    if (rows.empty()) rows.push_back({"no tenant"});
    std::string body = table(rows, "  ");
    if (!style.red.empty()) {
      for (auto at = body.find("UNLIMITED"); at != std::string::npos;
           at = body.find("UNLIMITED", at + style.red.size() + 9)) {
        body.insert(at + 9, style.plain);
        body.insert(at, style.red);
      }
    }
    out += fmt::format("{}{}{}\n{}", style.bold, title, style.plain, body);
  };
  for (const auto& gpu : driver.gpus) {
    const auto found = snapshot.unlimited.find(gpu.nvml_index);
    add_gpu(fmt::format("GPU {}  {}  {}  {} of {} used", gpu.nvml_index,
                        gpu.name.empty() ? "-" : gpu.name, gpu.uuid_text(),
                        size_text(gpu.used_bytes), size_text(gpu.total_bytes)),
            gpu.uuid, found == snapshot.unlimited.end() ? nullptr : &found->second);
  }
  // Tenants of a driver that isn't the one asked: the simulated GPU's, or a GPU that is gone.
  for (const auto& tenant : snapshot.tenants) {
    for (const auto& gpu : tenant.spec.gpus) {
      if (!gpu.in_set || shown.count(gpu.uuid) != 0) continue;
      add_gpu(fmt::format("GPU {}  {}  {}", gpu.nvml_index, gpu.uuid.text().data(),
                          driver.simulated ? "not simulated" : "not on this driver"),
              gpu.uuid, nullptr);
    }
  }
  return out;
}

}  // namespace

int list_verb(const ListOptions& options) {
  const Snapshot snapshot = take_snapshot(options);
  if (options.json) {
    fmt::print("{}\n", snapshot_json(snapshot).dump(2, ' ', false, Json::error_handler_t::replace));
    return 0;
  }
  if (!snapshot.driver.available) fmt::print(stderr, "vgpu: {}\n", snapshot.driver.why);
  for (const auto& note : snapshot.notes) fmt::print(stderr, "vgpu: note: {}\n", note);
  const char* inside = std::getenv("VGPU_TENANT");
  if (inside != nullptr && *inside != '\0')
    fmt::print(stderr, "vgpu: note: seen from inside tenant {}\n", inside);
  fmt::print("{}", snapshot_text(snapshot, Style::for_descriptor(STDOUT_FILENO)));
  if (!snapshot.driver.available && snapshot.tenants.empty()) fmt::print("no tenant\n");
  return 0;
}

}  // namespace vgpu::cli

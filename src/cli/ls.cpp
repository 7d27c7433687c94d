// SPDX-License-Identifier: Apache-2.0
// vgpu ls: GPUs, the tenants on them, their processes, and whoever is on a GPU without a limiter.
// First a snapshot in plain values, then either of two views of it.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>

#include "look.h"
#include "verbs.h"
#include "vgpu/survey/json.h"
#include "vgpu/survey/quotas.h"
#include "vgpu/survey/shares.h"
#include "vgpu/survey/snapshot.h"
#include "vgpu/survey/text.h"

namespace vgpu::cli {

using survey::bar, survey::compute_text, survey::Driver, survey::GpuShares, survey::Json,
    survey::keep_only, survey::Limiter, survey::ListedTenant, survey::optional_json,
    survey::Outsider, survey::percent_json, survey::policy_name, survey::print_json,
    survey::priority_name, survey::share_notes, survey::shares_on, survey::simulation_wanted,
    survey::size_text, survey::Snapshot, survey::source_name, survey::Style, survey::table,
    survey::text_json, survey::visible;

namespace {

// What is said of the GPUs' shares, from the whole machine even where only a part is shown.
using SharesByGpu = std::map<GpuUuid, GpuShares>;

SharesByGpu shares_of_all(const Snapshot& snapshot) {
  SharesByGpu shares;
  for (const auto& tenant : snapshot.tenants) {
    for (const auto& gpu : tenant.spec.gpus) {
      if (gpu.in_set && shares.count(gpu.uuid) == 0)
        shares.emplace(gpu.uuid, shares_on(snapshot, gpu.uuid));
    }
  }
  for (const auto& gpu : snapshot.driver.gpus) {
    if (shares.count(gpu.uuid) == 0) shares.emplace(gpu.uuid, shares_on(snapshot, gpu.uuid));
  }
  return shares;
}

Json source_json(Source source) {
  return source == Source::none ? Json(nullptr) : Json(std::string(source_name(source)));
}

Json compute_json(const Quota& quota, const GpuShares& shares) {
  // A limit holds whatever others do; a share beside strangers is as good as they leave it.
  const bool vouched = quota.compute_share_percent == 0 || shares.best_effort.empty();
  return {{"share_percent", percent_json(quota.compute_share_percent)},
          {"limit_percent", percent_json(quota.compute_limit_percent)},
          {"policy", std::string(policy_name(quota.policy))},
          {"priority", std::string(priority_name(quota.priority))},
          {"source", source_json(quota.compute_source)},
          {"enforced", quota.limits_compute() && vouched},
          {"best_effort", vouched ? Json(nullptr) : Json(shares.best_effort)}};
}

Json shares_json(const GpuShares& shares) {
  return {{"sum_percent", shares.sum_percent()},
          {"oversubscribed", shares.oversubscribed()},
          {"best_effort", text_json(shares.best_effort)}};
}

Json tenant_json(const ListedTenant& tenant, const SharesByGpu& shares) {
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
         {"compute", compute_json(quota, shares.at(gpu.uuid))}});
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

Json snapshot_json(const Snapshot& snapshot, const SharesByGpu& shares) {
  const Driver& driver = snapshot.driver;
  Json gpus = Json::array();
  for (const auto& gpu : driver.gpus) {
    Json unlimited = Json::array(), others = Json::array();
    const auto found = snapshot.outsiders.find(gpu.uuid);
    if (found != snapshot.outsiders.end()) {
      for (const auto& process : found->second) {
        const Json shown = {{"pid", process.pid == 0 ? Json(nullptr) : Json(process.pid)},
                            {"program", text_json(process.program)},
                            {"used_bytes", optional_json(process.used_bytes)},
                            {"limited", process.limiter == Limiter::unknown
                                            ? Json(nullptr)
                                            : Json(process.limiter != Limiter::absent)}};
        (process.limiter == Limiter::absent ? unlimited : others).push_back(shown);
      }
    }
    gpus.push_back({{"index", gpu.nvml_index},
                    {"uuid", gpu.uuid_text()},
                    {"name", text_json(gpu.name)},
                    {"total_bytes", optional_json(gpu.total_bytes)},
                    {"used_bytes", optional_json(gpu.used_bytes)},
                    {"shares", shares_json(shares.at(gpu.uuid))},
                    {"unlimited", unlimited},
                    {"others", others}});
  }
  Json tenants = Json::array();
  for (const auto& tenant : snapshot.tenants) tenants.push_back(tenant_json(tenant, shares));
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

using Rows = std::vector<std::vector<std::string>>;

// "run", "VGPU_*"; both where memory and compute come from two.
std::string sources_text(const Quota& quota) {
  std::string memory(source_name(quota.memory_source));
  const std::string compute(source_name(quota.compute_source));
  if (quota.memory_source == Source::none && quota.compute_source == Source::none) return "-";
  if (quota.compute_source == Source::none || memory == compute) return memory;
  return quota.memory_source == Source::none ? compute : memory + ", compute by " + compute;
}

void add_tenant_rows(const ListedTenant& tenant, std::size_t i, Rows& rows) {
  constexpr unsigned kBarWidth = 20;
  const shm::TenantGpu& gpu = tenant.spec.gpus[i];
  const Quota& quota = gpu.quota;
  const std::uint64_t used = tenant.charged_bytes[i];
  const std::string compute = compute_text(quota);
  const std::string limit =
      quota.limits_memory() ? size_text(quota.memory_limit_bytes) : "no limit";
  rows.push_back({std::string(tenant.spec.name.view()),
                  bar(fraction_of(used, quota.memory_limit_bytes), kBarWidth),
                  fmt::format("{} of {}", size_text(used), limit),
                  compute.empty() ? "share none" : compute,
                  fmt::format("by {}", sources_text(quota))});
  for (const auto& process : tenant.processes) {
    if (process.charged_bytes[i] == 0 && i != 0) continue;
    rows.push_back({fmt::format("  {}", process.pid), visible(process.program.view()),
                    size_text(process.charged_bytes[i])});
  }
}

void add_outsider_rows(const std::vector<Outsider>& processes, Rows& rows) {
  for (const auto& process : processes) {
    const char* title = process.limiter == Limiter::absent    ? "UNLIMITED"
                        : process.limiter == Limiter::present ? "another tenant"
                                                              : "another user's";
    rows.push_back({title,
                    process.pid == 0
                        ? "pid -"
                        : fmt::format("pid {} {}", process.pid, visible(process.program)),
                    size_text(process.used_bytes)});
  }
}

std::string snapshot_text(const Snapshot& snapshot, const SharesByGpu& shares, const Style& style) {
  std::string out;
  const Driver& driver = snapshot.driver;
  std::set<GpuUuid> shown;
  auto add_gpu = [&](const std::string& title, const GpuUuid& uuid,
                     const std::vector<Outsider>* outsiders) {
    shown.insert(uuid);
    Rows rows;
    for (const auto& tenant : snapshot.tenants) {
      for (std::size_t i = 0; i < tenant.spec.gpus.size(); ++i) {
        if (tenant.spec.gpus[i].in_set && tenant.spec.gpus[i].uuid == uuid)
          add_tenant_rows(tenant, i, rows);
      }
    }
    if (outsiders != nullptr) add_outsider_rows(*outsiders, rows);
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
    const GpuShares& standing = shares.at(uuid);
    if (standing.promises.empty()) return;
    for (const auto& note : share_notes(standing))
      out += fmt::format("  {}{}{}\n", style.yellow, note, style.plain);
  };
  for (const auto& gpu : driver.gpus) {
    const auto found = snapshot.outsiders.find(gpu.uuid);
    add_gpu(fmt::format("GPU {}  {}  {}  {} of {} used", gpu.nvml_index,
                        gpu.name.empty() ? "-" : gpu.name, gpu.uuid_text(),
                        size_text(gpu.used_bytes), size_text(gpu.total_bytes)),
            gpu.uuid, found == snapshot.outsiders.end() ? nullptr : &found->second);
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
  Snapshot snapshot = look(simulation_wanted(options.simulated));
  const SharesByGpu shares = shares_of_all(snapshot);
  keep_only(snapshot, options.only);
  if (options.json) {
    print_json(snapshot_json(snapshot, shares));
    return 0;
  }
  if (!snapshot.driver.available) fmt::print(stderr, "vgpu: {}\n", snapshot.driver.why);
  for (const auto& note : snapshot.notes) fmt::print(stderr, "vgpu: note: {}\n", note);
  const char* inside = std::getenv("VGPU_TENANT");
  if (inside != nullptr && *inside != '\0')
    fmt::print(stderr, "vgpu: note: seen from inside tenant {}\n", inside);
  fmt::print("{}", snapshot_text(snapshot, shares, Style::for_descriptor(STDOUT_FILENO)));
  if (!snapshot.driver.available && snapshot.tenants.empty()) fmt::print("no tenant\n");
  return 0;
}

}  // namespace vgpu::cli

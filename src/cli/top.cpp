// SPDX-License-Identifier: Apache-2.0
// vgpu top: the terminal interface (src/tui), and without a terminal one table or one snapshot, all
// of the same source: the daemon where one answers, else the tenants' segments.
#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "verbs.h"
#include "vgpu/client/address.h"
#include "vgpu/survey/figures.h"
#include "vgpu/survey/gpus.h"
#include "vgpu/survey/json.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/quotas.h"
#include "vgpu/tui/overview.h"
#include "vgpu/tui/sources.h"
#include "vgpu/tui/terminal.h"

namespace vgpu::cli {

using survey::GpuFigures, survey::Json, survey::kExitUsage, survey::optional_json,
    survey::percent_json, survey::policy_name, survey::print_json, survey::priority_name,
    survey::Problem, survey::simulation_wanted, survey::TenantFigures, survey::text_json,
    survey::UseFigures;
using tui::Model;

namespace {

// A tenant's or a GPU's part of what another source says.
class Part final : public tui::DataSource {
 public:
  Part(std::unique_ptr<DataSource> all, std::string only)
      : all_(std::move(all)), only_(std::move(only)) {}
  Model look(const tui::Wanted& wanted) override {
    Model model = all_->look(wanted);
    keep_only(model, only_);
    return model;
  }
  tui::ChangeResult change(const tui::Change& change) override { return all_->change(change); }

 private:
  const std::unique_ptr<DataSource> all_;
  const std::string only_;
};

std::unique_ptr<tui::DataSource> source_for(const TopOptions& options) {
  tui::SourceOptions wanted;
  wanted.addresses = client::usual_addresses();
  wanted.simulated = simulation_wanted(options.simulated);
  wanted.of_this_user = true;
  return std::make_unique<Part>(tui::open_source(wanted), options.only);
}

tui::State state_for(const TopOptions& options) {
  tui::State state;
  if (!options.interval.empty())
    state.interval_s = tui::interval_of(options.interval, "--interval", "vgpu top --interval 2");
  if (options.sort.empty()) return state;
  const auto column = tui::column_called(options.sort);
  if (!column) {
    throw Problem(kExitUsage, "VG1009",
                  fmt::format("--sort: there is no column \"{}\"; name, share, got, wait, debt or "
                              "memory",
                              options.sort),
                  "vgpu top --sort wait");
  }
  state.sort = *column;
  return state;
}

// What the figures don't show: said once, before them.
void say_what_is_missing(const Model& model) {
  if (!model.no_driver.empty()) fmt::print(stderr, "vgpu: {}\n", model.no_driver);
  for (const auto& note : model.notes) fmt::print(stderr, "vgpu: note: {}\n", note);
}

Json use_json(const UseFigures& use) {
  return {{"got_1s_percent", use.got_1s},
          {"got_10s_percent", use.got_10s},
          {"waited_percent",
           {{"turn", use.turn_1s}, {"limit", use.limit_1s}, {"in_flight", use.in_flight_1s}}},
          {"debt_ms", static_cast<double>(use.debt_ns) / 1e6},
          {"history_percent", use.history}};
}

// A daemon says no more of a process than what it got in the last second.
Json process_use_json(const survey::ProcessFigures& process) {
  if (process.use) return use_json(*process.use);
  if (!process.got_1s) return nullptr;
  return {{"got_1s_percent", *process.got_1s},
          {"got_10s_percent", nullptr},
          {"waited_percent", nullptr},
          {"debt_ms", nullptr},
          {"history_percent", nullptr}};
}

Json tenant_json(const TenantFigures& tenant) {
  Json processes = Json::array();
  for (const auto& process : tenant.processes) {
    processes.push_back({{"pid", process.pid},
                         {"program", text_json(process.program)},
                         {"used_bytes", process.used_bytes},
                         {"use", process_use_json(process)}});
  }
  const Quota& quota = tenant.quota;
  Json json = {{"id", tenant.id},
               {"name", tenant.name},
               {"share_percent", percent_json(quota.compute_share_percent)},
               {"limit_percent", percent_json(quota.compute_limit_percent)},
               {"policy", std::string(policy_name(quota.policy))},
               {"priority", std::string(priority_name(quota.priority))},
               {"owed_percent", tenant.owed ? Json(*tenant.owed) : Json(nullptr)}};
  json.update(use_json(tenant.use));
  json["memory"] = {
      {"used_bytes", tenant.used_bytes},
      {"limit_bytes", quota.limits_memory() ? Json(quota.memory_limit_bytes) : Json(nullptr)}};
  json["processes"] = processes;
  return json;
}

Json figures_json(const std::vector<GpuFigures>& figures) {
  Json gpus = Json::array();
  for (const auto& gpu : figures) {
    Json tenants = Json::array();
    for (const auto& tenant : gpu.tenants) tenants.push_back(tenant_json(tenant));
    gpus.push_back({{"index", gpu.gpu.nvml_index},
                    {"uuid", gpu.gpu.uuid_text()},
                    {"name", text_json(gpu.gpu.name)},
                    {"used_bytes", optional_json(gpu.gpu.used_bytes)},
                    {"total_bytes", optional_json(gpu.gpu.total_bytes)},
                    {"got_1s_percent", gpu.got_1s},
                    {"notes", gpu.notes},
                    {"tenants", tenants}});
  }
  return {{"version", 1}, {"gpus", gpus}};
}

}  // namespace

int top_verb(const TopOptions& options) {
  const tui::State state = state_for(options);
  const auto source = source_for(options);
  const Model model = source->look({});
  if (options.json) {
    print_json(figures_json(model.gpus));
    return 0;
  }
  say_what_is_missing(model);
  if (options.once || !tui::is_terminal()) {
    tui::print_table(model, state);
    return 0;
  }
  if (const auto status = tui::watch(*source, state)) return *status;
  fmt::print(stderr, "vgpu: note: {}: one table only\n", tui::no_terminal_text());
  tui::print_table(model, state);
  return 0;
}

}  // namespace vgpu::cli

// SPDX-License-Identifier: Apache-2.0
// vgpu run: a new tenant for one program. Everything that can be refused is refused before the
// tenant exists.
#include <fmt/format.h>

#include <cstdio>
#include <utility>

#include "admit.h"
#include "launch.h"
#include "look.h"
#include "tenant_environment.h"
#include "verbs.h"
#include "vgpu/survey/change.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/program.h"
#include "vgpu/survey/quotas.h"
#include "vgpu/survey/shares.h"
#include "vgpu/survey/text.h"

namespace vgpu::cli {

using survey::check_command, survey::Command, survey::cuda_order, survey::Driver,
    survey::find_installation, survey::GpuFiles, survey::Installation, survey::kExitNotStarted,
    survey::plan_tenant, survey::PlannedTenant, survey::Problem, survey::ProcessEnvironment,
    survey::quota_line, survey::read_driver, survey::shares_on, survey::simulated_state_folder,
    survey::simulation_wanted, survey::Snapshot, survey::state_directory,
    survey::visible_devices_value;

namespace {

Driver required_driver(const Installation& installation, bool simulated) {
  Driver driver = read_driver(installation, simulated, false);
  if (!driver.available) {
    throw Problem(kExitNotStarted, "VG1041", driver.why,
                  simulated ? "vgpu doctor --simulated" : "vgpu run --simulated ...");
  }
  if (driver.gpus.empty()) {
    throw Problem(kExitNotStarted, "VG1042", "the driver shows no GPU here",
                  simulated ? "vgpu doctor --simulated" : "vgpu doctor");
  }
  return driver;
}

// --require-share asks for a promise; this is what would make it an empty one.
void refuse_empty_promise(const RunOptions& options, const PlannedTenant& planned) {
  if (!options.require_share) return;
  if (options.oversubscribe) {
    throw Problem(kExitNotStarted, "VG1016",
                  "--require-share and --oversubscribe exclude each other: a share that is scaled "
                  "down isn't kept",
                  "vgpu run --require-share --compute 30 -- PROGRAM");
  }
  if (!survey::wants_share(planned.spec)) {
    throw Problem(kExitNotStarted, "VG1016", "--require-share wants a share: --compute isn't given",
                  "vgpu run --require-share --compute 30 -- PROGRAM");
  }
}

// Where a share can't be vouched for: refused if it has to be, else said.
void judge_best_effort(const RunOptions& options, const shm::TenantSpec& spec, bool simulated) {
  if (!survey::wants_share(spec)) return;
  if (options.quiet && !options.require_share) return;
  const Snapshot snapshot = look(simulated);
  for (const auto& gpu : spec.gpus) {
    if (!survey::has_share(gpu)) continue;
    const std::string why = shares_on(snapshot, gpu.uuid).best_effort;
    if (why.empty()) continue;
    if (options.require_share) {
      throw Problem(kExitNotStarted, "VG1015",
                    fmt::format("GPU {}: a share can't be vouched for: {}", gpu.nvml_index, why),
                    "another GPU by --gpu, or without --require-share");
    }
    fmt::print(stderr, "vgpu: note: GPU {}: shares are best effort: {}\n", gpu.nvml_index, why);
  }
}

}  // namespace

int run_verb(const RunOptions& options) {
  if (options.command.empty()) {
    throw Problem(kExitNotStarted, "VG1003", "vgpu run wants a program",
                  "vgpu run --memory 4GiB -- python train.py");
  }
  refuse_inherited_settings();
  survey::refuse_unreadable(options, ProcessEnvironment());
  const Installation installation = find_installation();
  const bool simulated = simulation_wanted(options.simulated);
  const Command command = check_command(options.command, search_path(installation, simulated));
  Launch launch;
  launch.limiter = required_limiter(installation);
  const Driver driver = required_driver(installation, simulated);
  survey::TenantRequest request = options;
  request.program = options.command.front();
  if (gpu_count_of(options) != 0) request.gpus = "all";
  const PlannedTenant planned = plan_tenant(request, driver, ProcessEnvironment());
  refuse_empty_promise(options, planned);

  launch.dir = state_directory(true);
  if (!options.name.empty()) survey::refuse_taken_name(launch.dir, planned.spec.name.view());
  const bool only_some = !request.gpus.empty();
  const std::vector<GpuUuid> order =
      only_some ? cuda_order(installation, driver) : std::vector<GpuUuid>();
  const bool is_placed = gpu_count_of(options) != 0;
  if (!is_placed) judge_best_effort(options, planned.spec, simulated);
  AdmittedTenant admitted = admit(options, planned, driver, launch.dir);
  const shm::TenantSpec spec = admitted.made.tenant.spec();
  if (is_placed) {
    try {
      judge_best_effort(options, spec, simulated);
    } catch (const Problem&) {
      admitted.made.hold.end(launch.dir, admitted.made.tenant);
      throw;
    }
  }

  TenantEnvironment wanted;
  wanted.tenant_id = spec.id.view();
  wanted.simulated = simulated;
  if (only_some) wanted.visible_devices = visible_devices_value(spec, order);
  if (!options.quiet) {
    for (const auto& notice : planned.notices) fmt::print(stderr, "vgpu: note: {}\n", notice);
    for (const auto& notice : admitted.notices) fmt::print(stderr, "vgpu: note: {}\n", notice);
    fmt::print(stderr, "{}\n", quota_line(spec, driver));
  }
  launch.path = command.path;
  launch.argv = command.argv;
  launch.environment = tenant_environment(wanted, installation);
  launch.gpu_files = GpuFiles(simulated ? simulated_state_folder() : "");
  launch.tenant_id = wanted.tenant_id;
  launch.remove_at_end = true;
  return run_to_end(launch, admitted.made.tenant, std::move(admitted.made.hold));
}

}  // namespace vgpu::cli

// SPDX-License-Identifier: Apache-2.0
// vgpu exec: one more program in a tenant that is there.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "launch.h"
#include "tenant_environment.h"
#include "verbs.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/program.h"
#include "vgpu/survey/quotas.h"
#include "vgpu/survey/tenants.h"

namespace vgpu::cli {

using survey::check_command, survey::Command, survey::cuda_order, survey::Driver,
    survey::find_installation, survey::find_tenant, survey::GpuFiles, survey::Installation,
    survey::kExitNotStarted, survey::KnownTenant, survey::Problem, survey::quota_line,
    survey::read_driver, survey::simulated_state_folder, survey::simulation_wanted,
    survey::state_directory, survey::TenantHold, survey::visible_devices_value;

namespace {

bool knows_gpus_of(const Driver& driver, const shm::TenantSpec& spec) {
  return std::any_of(driver.gpus.begin(), driver.gpus.end(), [&](const survey::Gpu& gpu) {
    return std::any_of(spec.gpus.begin(), spec.gpus.end(),
                       [&](const auto& own) { return own.uuid == gpu.uuid; });
  });
}

// The driver that shows the tenant's GPUs: the real one, or the simulated one if the tenant is of
// that.
Driver driver_of(const Installation& installation, const shm::TenantSpec& spec) {
  Driver driver = read_driver(installation, simulation_wanted(false), false);
  if (knows_gpus_of(driver, spec)) return driver;
  Driver other = read_driver(installation, !driver.simulated, false);
  return knows_gpus_of(other, spec) ? other : driver;
}

}  // namespace

int exec_verb(const ExecOptions& options) {
  if (options.tenant.empty() || options.command.empty()) {
    throw Problem(kExitNotStarted, "VG1003", "vgpu exec wants a tenant and a program",
                  "vgpu exec TENANT -- bash");
  }
  refuse_inherited_settings();
  const Installation installation = find_installation();
  Launch launch;
  launch.limiter = required_limiter(installation);
  launch.dir = state_directory(true);
  KnownTenant known =
      find_tenant(launch.dir, options.tenant, kExitNotStarted, "vgpu exec {} -- PROGRAM");
  const auto id = known.spec.id.view();
  auto hold = TenantHold::acquire(launch.dir, id);
  if (!hold)
    throw Problem(kExitNotStarted, "VG1022",
                  fmt::format("tenant {} has just ended", options.tenant), "vgpu ls");

  const Driver driver = driver_of(installation, known.spec);
  const Command command =
      check_command(options.command, search_path(installation, driver.simulated));
  TenantEnvironment wanted;
  wanted.tenant_id = id;
  wanted.simulated = driver.simulated;
  const bool whole = std::all_of(known.spec.gpus.begin(), known.spec.gpus.end(),
                                 [](const auto& gpu) { return gpu.in_set; });
  if (!whole)
    wanted.visible_devices = visible_devices_value(known.spec, cuda_order(installation, driver));
  if (!options.quiet) fmt::print(stderr, "{}\n", quota_line(known.spec, driver));
  launch.path = command.path;
  launch.argv = command.argv;
  launch.environment = tenant_environment(wanted, installation);
  launch.gpu_files = GpuFiles(driver.simulated ? simulated_state_folder() : "");
  launch.tenant_id = wanted.tenant_id;
  launch.remove_at_end = known.spec.made_by_run;
  return run_to_end(launch, known.tenant, std::move(*hold));
}

}  // namespace vgpu::cli

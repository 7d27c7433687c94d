// SPDX-License-Identifier: Apache-2.0
// vgpu run: a new tenant for one program. Everything that can be refused is refused before the
// tenant exists.
#include <fmt/format.h>

#include <cstdio>

#include "launch.h"
#include "problem.h"
#include "program.h"
#include "quotas.h"
#include "tenant_environment.h"
#include "tenants.h"
#include "text.h"
#include "verbs.h"

namespace vgpu::cli {
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

void refuse_taken_name(const shm::StateDir& dir, const shm::TenantSpec& spec) {
  std::vector<std::string> skipped;
  for (const auto& known : known_tenants(dir, skipped)) {
    if (!known.stale && known.spec.name.view() == spec.name.view()) {
      throw Problem(kExitNotStarted, "VG1024",
                    fmt::format("a tenant called {} is running", spec.name.view()),
                    fmt::format("vgpu exec {} -- PROGRAM, or another --name", spec.name.view()));
    }
  }
}

shm::Tenant create_tenant(const shm::StateDir& dir, const shm::TenantSpec& spec) {
  shm::Tenant tenant;
  if (shm::Tenant::create(dir, spec, tenant) != shm::Status::ok) {
    throw Problem(kExitNotStarted, "VG1021",
                  fmt::format("no tenant can be made in the state directory {}", dir.path.view()),
                  "VGPU_STATE_DIR=DIRECTORY vgpu ..., with one that you can write");
  }
  return tenant;
}

}  // namespace

int run_verb(const RunOptions& options) {
  if (options.command.empty()) {
    throw Problem(kExitNotStarted, "VG1003", "vgpu run wants a program",
                  "vgpu run --memory 4GiB -- python train.py");
  }
  refuse_inherited_settings();
  const Installation installation = find_installation();
  const bool simulated = simulation_wanted(options.simulated);
  const Command command = check_command(options.command, search_path(installation, simulated));
  Launch launch;
  launch.limiter = required_limiter(installation);
  const Driver driver = required_driver(installation, simulated);
  const PlannedTenant planned = plan_tenant(options, driver, ProcessEnvironment());

  launch.dir = state_directory(true);
  if (!options.name.empty()) refuse_taken_name(launch.dir, planned.spec);
  TenantEnvironment wanted;
  wanted.tenant_id = planned.spec.id.view();
  wanted.simulated = simulated;
  if (!options.gpus.empty())
    wanted.visible_devices = visible_devices_value(planned.spec, cuda_order(installation, driver));
  shm::Tenant tenant = create_tenant(launch.dir, planned.spec);
  auto hold = TenantHold::acquire(launch.dir, planned.spec.id.view());
  if (!hold)
    throw Problem(kExitNotStarted, "VG1021", "the tenant that was just made is gone",
                  "vgpu run again");

  if (!options.quiet) {
    for (const auto& notice : planned.notices) {
      // Of what isn't enforced yet the line itself says so.
      if (notice.find("not enforced yet") == std::string::npos)
        fmt::print(stderr, "vgpu: note: {}\n", notice);
    }
    fmt::print(stderr, "{}\n", quota_line(planned.spec, driver));
  }
  launch.path = command.path;
  launch.argv = command.argv;
  launch.environment = tenant_environment(wanted, installation);
  launch.gpu_files = GpuFiles(simulated ? simulated_state_folder() : "");
  launch.tenant_id = wanted.tenant_id;
  launch.remove_at_end = true;
  return run_to_end(launch, tenant, std::move(*hold));
}

}  // namespace vgpu::cli

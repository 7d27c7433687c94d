// SPDX-License-Identifier: Apache-2.0
// hypervisor daemon.
#include <CLI/CLI.hpp>
#include <map>
#include <memory>
#include <string>

#include "commands.h"
#include "run_daemon.h"

namespace vgpu::hypervisor {

void add_daemon_command(CLI::App& app, Run& run) {
  auto options = std::make_shared<DaemonOptions>();
  auto grace_s = std::make_shared<double>(5);
  CLI::App* command = app.add_subcommand("daemon", "Looks after the GPUs until it is ended.");
  const std::map<std::string, GuardPolicy> policies = {{"report", GuardPolicy::report},
                                                       {"signal", GuardPolicy::signal},
                                                       {"kill", GuardPolicy::kill}};
  command->add_flag("--simulated", options->simulated, "The simulated GPU");
  command->add_option("--node-name", options->node_name, "Default: the host's name");
  command
      ->add_option("--unlimited-processes", options->unlimited_policy,
                   "What is done about a process on a GPU without the limiter")
      ->transform(CLI::CheckedTransformer(policies));
  command
      ->add_option("--over-memory", options->over_memory_policy,
                   "What is done about a tenant over its limit by the driver's count")
      ->transform(CLI::CheckedTransformer(policies));
  command->add_option("--guard-grace", *grace_s, "Seconds until that, and from SIGTERM to SIGKILL")
      ->check(CLI::Range(0.0, 3'600.0));
  command->add_option("--exempt", options->exempt_programs,
                      "Program files that may do without the limiter");
  command->callback([&run, options, grace_s] {
    options->guard_grace = std::chrono::milliseconds(static_cast<long>(*grace_s * 1000));
    run = [options] { return run_daemon(*options, [options] { return *options; }); };
  });
}

}  // namespace vgpu::hypervisor

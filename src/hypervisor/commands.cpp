// SPDX-License-Identifier: Apache-2.0
#include "commands.h"

#include <CLI/CLI.hpp>

namespace vgpu::hypervisor {

#define VGPU_COMMAND(name) void add_##name##_command(CLI::App& app, Run& run);
#include "commands.inc"
#undef VGPU_COMMAND

std::shared_ptr<CLI::App> declare_commands([[maybe_unused]] Run& run) {
  auto app = std::make_shared<CLI::App>("Looks after the GPUs of this machine.", "hypervisor");
  app->set_version_flag("--version", "hypervisor " VGPU_VERSION);
  app->require_subcommand(0, 1);
#define VGPU_COMMAND(name) add_##name##_command(*app, run);
#include "commands.inc"
#undef VGPU_COMMAND
  return app;
}

}  // namespace vgpu::hypervisor

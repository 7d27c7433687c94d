// SPDX-License-Identifier: Apache-2.0
// The subcommands of `hypervisor`. Each is declared by a function of its own file, void
// add_NAME_command(CLI::App&, Run&), which CMake is told of (vgpu_hypervisor_command); it sets
// `run` when it is the one that was typed.
#pragma once

#include <functional>
#include <memory>

namespace CLI {
class App;
}

namespace vgpu::hypervisor {

using Run = std::function<int()>;  // returns the exit status; may throw survey::Problem

std::shared_ptr<CLI::App> declare_commands(Run& run);

}  // namespace vgpu::hypervisor

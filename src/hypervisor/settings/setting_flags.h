// SPDX-License-Identifier: Apache-2.0
// The settings as flags of a subcommand, and settings read for one.
#pragma once

#include <string>

#include "settings.h"

namespace CLI {
class App;
}

namespace vgpu::hypervisor::settings {

struct TypedFlags {
  std::string config;  // --config
  GivenFlags flags;
};

// Those of the predecessor too, hidden: whoever types one learns why it isn't kept.
void add_setting_flags(CLI::App& command, TypedFlags& typed);

// With the process's environment and all checks.
Loaded load_settings(const TypedFlags& typed);

// Says all faults on standard error but the last, which it throws as a survey::Problem.
void refuse_faults(const Loaded& loaded);

}  // namespace vgpu::hypervisor::settings

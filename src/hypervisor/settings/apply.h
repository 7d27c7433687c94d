// SPDX-License-Identifier: Apache-2.0
// From settings to what the daemon is told, and what only the parts that use them can judge.
#pragma once

#include "daemon_options.h"
#include "settings.h"

namespace vgpu::hypervisor::settings {

// Adds faults for values that each read well and don't work, alone or together.
void check_meaning(Loaded& loaded);

// `loaded` has no faults.
DaemonOptions options_of(const Loaded& loaded);

}  // namespace vgpu::hypervisor::settings

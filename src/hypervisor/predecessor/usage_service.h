// SPDX-License-Identifier: Apache-2.0
// Writes what the daemon knows into the usage log, one sample a second, a batch of lines every so
// many. Samples are taken by a pure function; the rest is a thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "control.h"
#include "services.h"
#include "usage_lines.h"
#include "usage_options.h"

namespace vgpu::hypervisor {

// `before`: the sample before it, or nullptr; counts are differences.
void add_usage(const NodeState* before, const NodeState& now, const UsageOptions& options,
               UsageBatch& batch);

// `say` gets what is worth a line in the daemon's log; it may be called from the thread.
std::unique_ptr<Service> start_usage_log(Control& control, UsageOptions options,
                                         std::function<void(const std::string&)> say);

}  // namespace vgpu::hypervisor

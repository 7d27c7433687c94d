// SPDX-License-Identifier: Apache-2.0
// The daemon as a process: signals, the services beside it, log lines, systemd.
#pragma once

#include <functional>

#include "daemon_options.h"

namespace vgpu::hypervisor {

// Until SIGTERM or SIGINT. SIGHUP calls `read_again` and takes what it answers; what it throws
// (survey::Problem) is said, and everything stays. Returns the exit status.
int run_daemon(const DaemonOptions& options, const std::function<DaemonOptions()>& read_again);

}  // namespace vgpu::hypervisor

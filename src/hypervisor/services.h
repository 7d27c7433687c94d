// SPDX-License-Identifier: Apache-2.0
// What runs beside the daemon's own threads and serves what it knows. A part gives one function
// that starts it; services.cpp calls them, a line each. They know Control and nothing else of the
// daemon.
#pragma once

#include <memory>
#include <vector>

#include "control.h"
#include "daemon_options.h"

namespace vgpu::hypervisor {

class Service {
 public:
  virtual ~Service() = default;
  // Answers nobody any more and has joined its threads when this returns.
  virtual void stop() = 0;
  // After SIGHUP: takes from the options what may change while it runs.
  virtual void reload(const DaemonOptions& options) = 0;
};

// In order; stopped in the opposite one. Throws survey::Problem for what can't be started.
std::vector<std::unique_ptr<Service>> start_services(Control& control,
                                                     const DaemonOptions& options);

}  // namespace vgpu::hypervisor

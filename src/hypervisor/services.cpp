// SPDX-License-Identifier: Apache-2.0
#include "services.h"

namespace vgpu::hypervisor {

std::vector<std::unique_ptr<Service>> start_services(
    [[maybe_unused]] Control& control, [[maybe_unused]] const DaemonOptions& options) {
  std::vector<std::unique_ptr<Service>> services;
  // services.push_back(start_NAME(control, options)), one line for each part.
  return services;
}

}  // namespace vgpu::hypervisor

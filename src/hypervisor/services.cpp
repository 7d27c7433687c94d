// SPDX-License-Identifier: Apache-2.0
#include "services.h"

#include "http/service.h"

namespace vgpu::hypervisor {

std::vector<std::unique_ptr<Service>> start_services(Control& control,
                                                     const DaemonOptions& options) {
  std::vector<std::unique_ptr<Service>> services;
  services.push_back(start_http(control, options));
  return services;
}

}  // namespace vgpu::hypervisor

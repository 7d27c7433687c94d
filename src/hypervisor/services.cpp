// SPDX-License-Identifier: Apache-2.0
#include "services.h"

#include <fmt/format.h>

#include <cstdio>

#include "http/service.h"
#include "predecessor/pod_files.h"
#include "predecessor/usage_service.h"
#include "vgpu/survey/text.h"

namespace vgpu::hypervisor {

std::vector<std::unique_ptr<Service>> start_services(Control& control,
                                                     const DaemonOptions& options) {
  std::vector<std::unique_ptr<Service>> services;
  services.push_back(start_http(control, options));
  if (options.usage_log) {
    services.push_back(start_usage_log(control, *options.usage_log, [](const std::string& line) {
      fmt::print(stderr, "hypervisor: {}\n", line);
    }));
  }
  if (options.pod_files) {
    services.push_back(start_pod_files(control, *options.pod_files, [](const std::string& line) {
      fmt::print(stderr, "hypervisor: {}\n", survey::visible(line));
    }));
  }
  return services;
}

}  // namespace vgpu::hypervisor

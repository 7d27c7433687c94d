// SPDX-License-Identifier: Apache-2.0
// All of HTTP as one service of the daemon: listeners, callers, routes.
#pragma once

#include <functional>
#include <memory>

#include "http_options.h"
#include "services.h"

namespace vgpu::hypervisor {

// Throws survey::Problem for settings that can't be kept. `control` outlives it.
std::unique_ptr<Service> start_http(Control& control, const DaemonOptions& options);

namespace http {
class Router;
class Server;
// Every route; `server` is asked for its figures when /metrics is.
void add_all_routes(Router& router, Control& control, const HttpOptions& options,
                    std::function<const Server*()> server);
}  // namespace http

}  // namespace vgpu::hypervisor

// SPDX-License-Identifier: Apache-2.0
// The endpoints of vgpu.rs's hypervisor, field for field, and its health checks. A pod is the
// tenant that the settings declare for it, else the one named NAMESPACE.POD. Who the pod is says
// its token, which is verified here.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "control.h"
#include "http_options.h"
#include "router.h"

namespace vgpu::hypervisor::http {

// Why the node can't be relied on at this moment; empty: it can. `now_ns`: CLOCK_REALTIME. Pure.
std::string not_ready(const NodeState& state, std::uint64_t now_ns);

const TenantState* tenant_of(const NodeState& state, const PodIdentity& pod,
                             const std::vector<DeclaredPod>& declared);

// Bodies of `GET /api/v1/pod`, purely, and `POST /api/v1/process`.
std::string pod_body(const NodeState& state, const PodIdentity& pod,
                     const std::vector<DeclaredPod>& declared);
std::string process_body(Control& control, const PodIdentity& pod,
                         const std::vector<DeclaredPod>& declared,
                         const std::string& container_name, std::uint32_t container_pid);

void add_predecessor_routes(Router& router, Control& control, std::vector<DeclaredPod> declared);

}  // namespace vgpu::hypervisor::http

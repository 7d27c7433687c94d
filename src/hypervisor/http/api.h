// SPDX-License-Identifier: Apache-2.0
// Our own API under /api/v2, as openapi.yaml describes it.
#pragma once

#include <vector>

#include "control.h"
#include "http_options.h"
#include "router.h"

namespace vgpu::hypervisor::http {

// `control` outlives the router. `own_uid`: for whom callers with a token act. `declared`: whose
// tenants aren't called NAMESPACE.NAME.
void add_api_routes(Router& router, Control& control, uid_t own_uid,
                    std::vector<DeclaredPod> declared);

// By id, name, or the unique beginning of one; null: none or several.
const TenantState* find_tenant(const NodeState& state, std::string_view typed);
// By UUID or the unique beginning of one, in any case, or by index.
const GpuState* find_gpu(const NodeState& state, std::string_view typed);

// Events as server-sent events, from after `sequence` on. `run` is the daemon's (NodeState).
std::string event_text(const Event& event, std::string_view run);
// "RUN:SEQUENCE" of an event id that came back; 0: of another run, so everything is new.
std::uint64_t sequence_in(std::string_view event_id, std::string_view run);

}  // namespace vgpu::hypervisor::http

// SPDX-License-Identifier: Apache-2.0
// The one place that writes what node_state.h and control.h hold as JSON: for the API, for scripts,
// for files. Units are in the names, times are RFC 3339 in UTC, what isn't known is null, text is
// UTF-8 whatever processes call themselves.
#pragma once

#include <nlohmann/json.hpp>

#include "control.h"
#include "node_state.h"

namespace vgpu::hypervisor {

using Json = nlohmann::ordered_json;

Json node_json(const NodeState& state);  // without lists: identity, driver, ages, counts
Json gpu_json(const GpuState& gpu);
Json tenant_json(const TenantState& tenant);
Json process_json(const ProcessState& process);
Json event_json(const Event& event);
Json history_json(const std::vector<HistoryPoint>& points);
// What was got, the last second first, at most so many; `tenant` empty: by the whole GPU.
Json recent_json(const GpuUuid& gpu, const std::string& tenant,
                 const std::vector<HistoryPoint>& oldest_first, std::size_t seconds);
Json quota_json(const Quota& quota);

// {"node": ..., "gpus": [...], "tenants": [...], "processes": [...]}
Json state_json(const NodeState& state);

Json refusal_json(const Refusal& refusal);
Json created_json(const CreatedTenant& created);
Json changed_json(const ChangedTenant& changed);
Json ended_json(const EndedTenant& ended);
Json renamed_json(const RenamedTenant& renamed);

// "2026-11-25T23:04:05.678Z"
std::string time_text(std::uint64_t realtime_ns);

// In one line, with what isn't UTF-8 replaced. What goes out goes through here.
std::string dumped(const Json& json);

}  // namespace vgpu::hypervisor

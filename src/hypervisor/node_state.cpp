// SPDX-License-Identifier: Apache-2.0
// The words for what node_state.h and control.h count, and looking things up.
#include "node_state.h"

#include <algorithm>
#include <array>

#include "control.h"

namespace vgpu::hypervisor {
namespace {

struct ThrottleBit {
  std::uint64_t bit;
  std::string_view name;
};
// nvmlClocksThrottleReason* that hold clocks back; idle, applications' clocks, sync boost and
// display clocks are choices.
constexpr std::array<ThrottleBit, 5> kThrottleBits = {{
    {0x04, "software_power_cap"},
    {0x08, "hardware_slowdown"},
    {0x20, "software_thermal_slowdown"},
    {0x40, "hardware_thermal_slowdown"},
    {0x80, "hardware_power_brake"},
}};

}  // namespace

std::string_view health_name(GpuHealth health) {
  switch (health) {
    case GpuHealth::ok:
      return "ok";
    case GpuHealth::unreadable:
      return "unreadable";
    case GpuHealth::lost:
      return "lost";
  }
  return "";
}

std::vector<std::string> throttle_names(std::uint64_t reasons) {
  std::vector<std::string> names;
  for (const auto& one : kThrottleBits) {
    if ((reasons & one.bit) != 0) names.emplace_back(one.name);
  }
  return names;
}

std::string_view presence_name(LimiterPresence presence) {
  switch (presence) {
    case LimiterPresence::absent:
      return "absent";
    case LimiterPresence::present:
      return "present";
    case LimiterPresence::elsewhere:
      return "elsewhere";
    case LimiterPresence::predecessor:
      return "predecessor";
    case LimiterPresence::unknown:
      return "unknown";
  }
  return "";
}

std::string_view event_name(EventKind kind) {
  switch (kind) {
    case EventKind::daemon_started:
      return "daemon_started";
    case EventKind::hosting_taken:
      return "hosting_taken";
    case EventKind::hosting_lost:
      return "hosting_lost";
    case EventKind::tenant_began:
      return "tenant_began";
    case EventKind::tenant_ended:
      return "tenant_ended";
    case EventKind::tenant_renamed:
      return "tenant_renamed";
    case EventKind::process_joined:
      return "process_joined";
    case EventKind::process_ended:
      return "process_ended";
    case EventKind::quota_restored:
      return "quota_restored";
    case EventKind::quota_judged:
      return "quota_judged";
    case EventKind::quota_changed:
      return "quota_changed";
    case EventKind::memory_refused:
      return "memory_refused";
    case EventKind::unlimited_found:
      return "unlimited_found";
    case EventKind::unlimited_gone:
      return "unlimited_gone";
    case EventKind::over_memory:
      return "over_memory";
    case EventKind::within_memory:
      return "within_memory";
    case EventKind::guard_acted:
      return "guard_acted";
    case EventKind::gpu_lost:
      return "gpu_lost";
    case EventKind::gpu_back:
      return "gpu_back";
    case EventKind::gpu_unreadable:
      return "gpu_unreadable";
    case EventKind::xid_error:
      return "xid_error";
    case EventKind::throttled:
      return "throttled";
    case EventKind::throttle_ended:
      return "throttle_ended";
    case EventKind::driver_found:
      return "driver_found";
    case EventKind::driver_lost:
      return "driver_lost";
    case EventKind::settings_reloaded:
      return "settings_reloaded";
    case EventKind::queued:
      return "queued";
    case EventKind::admitted:
      return "admitted";
    case EventKind::withdrawn:
      return "withdrawn";
  }
  return "";
}

std::string_view refusal_name(RefusalKind kind) {
  switch (kind) {
    case RefusalKind::bad_request:
      return "bad_request";
    case RefusalKind::forbidden:
      return "forbidden";
    case RefusalKind::not_found:
      return "not_found";
    case RefusalKind::conflict:
      return "conflict";
    case RefusalKind::no_room:
      return "no_room";
    case RefusalKind::unavailable:
      return "unavailable";
  }
  return "";
}

const TenantState* NodeState::tenant(std::string_view id) const {
  const auto at = std::find_if(tenants.begin(), tenants.end(),
                               [&](const TenantState& each) { return each.id == id; });
  return at == tenants.end() ? nullptr : &*at;
}

const TenantState* NodeState::tenant_for_pods(std::string_view name) const {
  const auto at = std::find_if(tenants.begin(), tenants.end(), [&](const TenantState& each) {
    return each.name == name && (each.directory == nullptr || each.directory->is_own ||
                                 each.directory->is_cell() || each.owner_is_trusted);
  });
  return at == tenants.end() ? nullptr : &*at;
}

const GpuState* NodeState::gpu(const GpuUuid& uuid) const {
  const auto at = std::find_if(gpus.begin(), gpus.end(),
                               [&](const GpuState& each) { return each.uuid == uuid; });
  return at == gpus.end() ? nullptr : &*at;
}

}  // namespace vgpu::hypervisor

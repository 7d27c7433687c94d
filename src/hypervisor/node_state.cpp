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

constexpr std::string_view kEventNames[] = {
#define VGPU_EVENT(name) #name,
#include "event_kinds.def"
#undef VGPU_EVENT
};

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

std::uint64_t holding_back(std::uint64_t throttle_reasons) {
  std::uint64_t known = 0;
  for (const auto& one : kThrottleBits) known |= one.bit;
  return throttle_reasons & known;
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

std::string_view event_name(EventKind kind) { return kEventNames[static_cast<std::size_t>(kind)]; }

std::span<const std::string_view> event_names() { return kEventNames; }

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

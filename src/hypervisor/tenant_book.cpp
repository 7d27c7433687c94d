// SPDX-License-Identifier: Apache-2.0
#include "tenant_book.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <span>
#include <utility>

#include "vgpu/survey/tenants.h"

namespace vgpu::hypervisor {
namespace {

BookedTenant booked_of(const TenantState& tenant, admission::User owner) {
  BookedTenant booked{tenant.name, owner, {}};
  for (const auto& gpu : tenant.gpus) booked.gpus.push_back({gpu.gpu, gpu.quota});
  return booked;
}

}  // namespace

TenantBook::TenantBook(const shm::StateDir& dir,
                       std::function<admission::User(std::string_view)> owner_of)
    : dir_(dir), owner_of_(std::move(owner_of)), ids_(256) {}

BookedTenant TenantBook::booked(const shm::TenantSpec& spec, admission::User owner) {
  BookedTenant booked{std::string(spec.name.view()), owner, {}};
  for (const auto& gpu : spec.gpus) {
    if (gpu.in_set) booked.gpus.push_back({gpu.uuid, gpu.quota});
  }
  return booked;
}

void TenantBook::put(const std::string& id, BookedTenant tenant, std::uint64_t now_ns) {
  changes_[id] = {std::move(tenant), false, now_ns};
}

void TenantBook::remove(const std::string& id, std::uint64_t now_ns) {
  changes_[id] = {{}, true, now_ns};
}

std::vector<std::string> TenantBook::present_ids() {
  std::size_t count = shm::list_tenants(dir_, ids_);
  if (count > ids_.size()) {
    ids_.resize(count + 64);
    count = std::min(shm::list_tenants(dir_, ids_), ids_.size());
  }
  std::vector<std::string> ids;
  for (const auto& id : std::span(ids_).first(count)) ids.emplace_back(id.view());
  return ids;
}

BookedTenants TenantBook::tenants(const NodeState& moment, bool without_left_behind) {
  std::erase_if(changes_,
                [&](const auto& entry) { return entry.second.since_ns < moment.monotonic_ns; });
  std::map<std::string_view, const TenantState*> known;
  for (const auto& tenant : moment.tenants) known.emplace(tenant.id, &tenant);
  BookedTenants tenants;
  for (const std::string& id : present_ids()) {
    const auto change = changes_.find(id);
    if (change != changes_.end()) {
      if (!change->second.gone) tenants.emplace(id, change->second.tenant);
      continue;
    }
    const auto at = known.find(id);
    const bool may_be_left = at == known.end() || at->second->process_count == 0;
    if (at != known.end() && !(without_left_behind && may_be_left)) {
      tenants.emplace(id, booked_of(*at->second, owner_of_(id)));
      continue;
    }
    shm::Tenant tenant;
    if (shm::Tenant::open(dir_, id, tenant) != shm::Status::ok) continue;
    if (without_left_behind && survey::is_left_behind(dir_, id, tenant)) continue;
    tenants.emplace(id, booked(tenant.spec(), owner_of_(id)));
  }
  return tenants;
}

admission::Node admission_node(const NodeState& moment, const std::vector<GpuUuid>& gpus,
                               const BookedTenants& tenants, const admission::Rules& rules) {
  admission::Node node;
  node.rules = rules;
  std::map<GpuUuid, std::size_t> places;
  for (const GpuUuid& uuid : gpus) {
    const GpuState* state = moment.gpu(uuid);
    const bool usable = state != nullptr && state->health != GpuHealth::lost && state->total_bytes;
    places.emplace(uuid, node.gpus.size());
    node.gpus.push_back(
        {state != nullptr ? fmt::format("GPU {}", state->index) : std::string(uuid.text().data()),
         usable ? *state->total_bytes : 0, usable});
  }
  for (const auto& [id, tenant] : tenants) {
    admission::Tenant one{tenant.name, tenant.owner, {}};
    for (const auto& gpu : tenant.gpus) {
      const auto place = places.find(gpu.gpu);
      if (place == places.end()) continue;
      one.parts.push_back(
          {place->second, gpu.quota.memory_limit_bytes, gpu.quota.compute_share_percent});
    }
    node.tenants.push_back(std::move(one));
  }
  return node;
}

}  // namespace vgpu::hypervisor

// SPDX-License-Identifier: Apache-2.0
#include "tenant_book.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <span>
#include <utility>

#include "vgpu/platform/process.h"
#include "vgpu/survey/tenants.h"

namespace vgpu::hypervisor {
namespace {

BookedTenant booked_of(const TenantState& tenant, admission::User owner) {
  BookedTenant booked{tenant.name, owner, {}};
  for (const auto& gpu : tenant.gpus) booked.gpus.push_back({gpu.gpu, gpu.quota});
  return booked;
}

}  // namespace

TenantBook::TenantBook(std::function<std::vector<DirectoryPointer>()> directories,
                       std::function<admission::User(std::string_view)> owner_of)
    : directories_(std::move(directories)), owner_of_(std::move(owner_of)), ids_(256) {}

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

std::map<std::string, TenantBook::Present> TenantBook::present() {
  std::map<std::string, Present> all;
  for (const DirectoryPointer& directory : directories_()) {
    std::size_t count = directory->list_tenants(ids_);
    if (count > ids_.size()) {
      ids_.resize(count + 64);
      count = std::min(directory->list_tenants(ids_), ids_.size());
    }
    for (const auto& id : std::span(ids_).first(count))
      all[directory->public_id(id.view())] = {directory, std::string(id.view())};
  }
  return all;
}

namespace {

// Tenants that have a process which lives at this instant, by the moment's word on who there was.
std::set<std::string_view> alive_in(const NodeState& moment) {
  std::set<std::string_view> alive;
  for (const auto& process : moment.processes) {
    if (process.tenant.empty() || alive.count(process.tenant) != 0) continue;
    const bool is_dead =
        process.host_pid &&
        platform::life_of(*process.host_pid, process.start_time_ticks) == platform::Life::gone;
    if (!is_dead) alive.insert(process.tenant);
  }
  return alive;
}

}  // namespace

BookedTenants TenantBook::tenants(const NodeState& moment, bool without_left_behind) {
  std::erase_if(changes_,
                [&](const auto& entry) { return entry.second.since_ns < moment.monotonic_ns; });
  std::map<std::string_view, const TenantState*> known;
  for (const auto& tenant : moment.tenants) known.emplace(tenant.id, &tenant);
  const std::set<std::string_view> alive =
      without_left_behind ? alive_in(moment) : std::set<std::string_view>();
  BookedTenants tenants;
  for (const auto& [id, place] : present()) {
    const auto change = changes_.find(id);
    if (change != changes_.end()) {
      if (!change->second.gone) tenants.emplace(id, change->second.tenant);
      continue;
    }
    const auto at = known.find(id);
    if (at != known.end() && (!without_left_behind || alive.count(id) != 0)) {
      tenants.emplace(id, booked_of(*at->second, owner_of_(id)));
      continue;
    }
    shm::Tenant tenant;
    const shm::StateDir& dir = place.directory->dir;
    if (shm::Tenant::open(dir, place.own_id, tenant) != shm::Status::ok) continue;
    if (without_left_behind && survey::is_left_behind(dir, place.own_id, tenant)) continue;
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
         usable ? *state->total_bytes : 0, usable, state != nullptr ? state->closed : ""});
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

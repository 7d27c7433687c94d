// SPDX-License-Identifier: Apache-2.0
// What admission judges by: each tenant's quotas at this instant. The daemon's moment is up to a
// beat old; the book adds what the daemon itself has changed since, what others have made in the
// directory meanwhile, and leaves out what is gone. One thread at a time.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "node_state.h"
#include "vgpu/admission/admission.h"
#include "vgpu/shm/tenant.h"

namespace vgpu::hypervisor {

struct BookedQuota {
  GpuUuid gpu;
  Quota quota;
};

struct BookedTenant {
  std::string name;
  admission::User owner;
  std::vector<BookedQuota> gpus;  // of its set
};
using BookedTenants = std::map<std::string, BookedTenant, std::less<>>;  // by id

class TenantBook {
 public:
  // `owner_of`: whose a tenant is, by its id.
  TenantBook(const shm::StateDir& dir, std::function<admission::User(std::string_view)> owner_of);

  // The daemon has made or changed a tenant, or has seen it end, at that CLOCK_MONOTONIC time. It
  // counts until a moment that began later says the same.
  void put(const std::string& id, BookedTenant tenant, std::uint64_t now_ns);
  void remove(const std::string& id, std::uint64_t now_ns);

  // `without_left_behind`: tenants without a process and without anybody who could start one don't
  // count either. Dearer, and only of use where room is short: such a tenant is gone within
  // seconds.
  BookedTenants tenants(const NodeState& moment, bool without_left_behind);

  static BookedTenant booked(const shm::TenantSpec& spec, admission::User owner);

 private:
  struct Change {
    BookedTenant tenant;
    bool gone = false;
    std::uint64_t since_ns = 0;
  };
  std::vector<std::string> present_ids();

  shm::StateDir dir_;
  std::function<admission::User(std::string_view)> owner_of_;
  std::map<std::string, Change, std::less<>> changes_;
  std::vector<FixedString<shm::kMaxName>> ids_;
};

// The node as admission sees it. `gpus`: the numbering that stays the same while the daemon lives.
admission::Node admission_node(const NodeState& moment, const std::vector<GpuUuid>& gpus,
                               const BookedTenants& tenants, const admission::Rules& rules);

}  // namespace vgpu::hypervisor

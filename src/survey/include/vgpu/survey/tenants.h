// SPDX-License-Identifier: Apache-2.0
// Tenants as the tool meets them: found by what people type, held while a run lasts, removed when
// their last process is gone. A keeper (launch.h) holds a shared lock on the segment's file;
// whoever can have it alone may remove the tenant.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "vgpu/shm/tenant.h"
#include "vgpu/survey/problem.h"

namespace vgpu::survey {

struct KnownTenant {
  shm::TenantSpec spec;
  shm::Tenant tenant;
  bool stale = false;  // without processes, and no keeper that could still start one
};

// Where tenants are. Throws Problem when the directory can't be used and `must_work`.
shm::StateDir state_directory(bool must_work, int exit_code = kExitNotStarted);

// All tenants of this user; unreadable ones (another version) are named in `skipped`.
std::vector<KnownTenant> known_tenants(const shm::StateDir& dir, std::vector<std::string>& skipped);

// Identity and quotas of those that are alive.
std::vector<shm::TenantSpec> live_specs(const shm::StateDir& dir);

// By id, name, or the unique beginning of one. Throws Problem with that exit status; `command`,
// with the name that was probably meant in place of {}, is what it advises.
KnownTenant find_tenant(const shm::StateDir& dir, const std::string& typed, int exit_code,
                        const std::string& command);

// "damaged", "made by another version of vgpu": what a segment is that can't be used.
std::string status_text(shm::Status status);

std::vector<shm::ProcessView> processes_of(const shm::Tenant& tenant);

// The segment's file, locked for as long as this object lives.
class TenantHold {
 public:
  static std::optional<TenantHold> acquire(const shm::StateDir& dir, std::string_view id);
  TenantHold(TenantHold&& other) noexcept;
  TenantHold& operator=(TenantHold&&) = delete;
  ~TenantHold();

  int descriptor() const { return descriptor_; }
  // Removes the tenant if nobody else holds it. The lock is gone afterwards either way.
  void end(const shm::StateDir& dir, const shm::Tenant& tenant);

 private:
  TenantHold(int descriptor, std::string_view id) : descriptor_(descriptor), id_(id) {}
  int descriptor_;
  std::string id_;
};

// No process is in it, and no keeper could still start one.
bool is_left_behind(const shm::StateDir& dir, std::string_view id, const shm::Tenant& tenant);

// Removes a tenant without processes and without a keeper that could still start one. False: it has
// either.
bool remove_left_behind(const shm::StateDir& dir, std::string_view id, const shm::Tenant& tenant);

}  // namespace vgpu::survey

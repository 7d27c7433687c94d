// SPDX-License-Identifier: Apache-2.0
// Making tenants, and changing what a running one may have: for `vgpu run`, `vgpu set` and the
// daemon. The limits lie in the tenant's segment, where every reservation and every launch reads
// them; ringing the node's doorbell makes the arbiter's host look at once. All is checked before
// anything is changed.
#pragma once

#include <string>
#include <vector>

#include "vgpu/survey/quotas.h"
#include "vgpu/survey/tenants.h"

namespace vgpu::survey {

// Throws Problem where a live tenant has that name.
void refuse_taken_name(const shm::StateDir& dir, std::string_view name,
                       int exit_code = kExitNotStarted);

// Is a share asked for?
bool has_share(const shm::TenantGpu& gpu);
bool wants_share(const shm::TenantSpec& spec);

struct NewTenant {
  shm::Tenant tenant;
  TenantHold hold;  // the tenant stays while this is kept
};
struct NewTenantTerms {
  bool oversubscribe = false;
  bool share_is_required = false;  // for the advice: scaling down won't do
};
// Publishes the tenant; from then on others see its share. Throws Problem where it doesn't fit.
NewTenant make_tenant(const shm::StateDir& dir, const shm::TenantSpec& spec,
                      const NewTenantTerms& terms);

// Throws Problem in a process of a tenant: who can change a quota is not the tenant.
void refuse_from_inside();

struct ChangeTerms {
  bool oversubscribe = false;
  bool when_free = false;  // a lower memory limit is left to lower(), again and again
  Source by = Source::run;
};

// One tenant and what is to become of it.
class TenantChange {
 public:
  // Finds the tenant and reads the flags. Throws Problem.
  TenantChange(QuotaFlags flags, const std::string& gpus, const ChangeTerms& terms,
               const shm::StateDir& dir, const std::string& tenant);

  const std::vector<QuotaChange>& changes() const { return changes_; }
  const shm::TenantSpec& spec() const { return known_.spec; }
  std::string gpu_name(const QuotaChange& change) const;

  // Throws Problem, with nothing changed.
  void apply();

  // The limit follows what is held down to the wanted one, so what the tenant frees it doesn't get
  // back. `limit`: as this wait left it last. True: the wanted one is reached.
  bool lower(const QuotaChange& change, std::uint64_t& limit, std::uint64_t& held);
  bool has_ended() const;
  void restore();

 private:
  void refuse_too_much() const;
  [[noreturn]] void refuse_memory(const QuotaChange& change, std::uint64_t held) const;
  void refuse_memory_in_use() const;
  void put(std::uint32_t gpu, const Quota& quota);
  void set_at_once(const QuotaChange& change);
  void ring() const;

  QuotaFlags flags_;
  ChangeTerms terms_;
  shm::StateDir dir_;
  KnownTenant known_;
  std::vector<QuotaChange> changes_;
};

std::string limit_text(std::uint64_t bytes);  // "4 GiB", "none"

// "memory 4 GiB -> 2 GiB"; what stayed is left out, "as it was" where all did.
std::string change_text(const Quota& before, const Quota& after);

}  // namespace vgpu::survey

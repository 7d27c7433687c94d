// SPDX-License-Identifier: Apache-2.0
#include "vgpu/survey/change.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>

#include "vgpu/platform/clock.h"
#include "vgpu/shm/node.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/shares.h"
#include "vgpu/survey/text.h"

namespace vgpu::survey {
namespace {

bool same_compute(const Quota& a, const Quota& b) {
  return a.compute_share_percent == b.compute_share_percent &&
         a.compute_limit_percent == b.compute_limit_percent && a.policy == b.policy &&
         a.priority == b.priority;
}

// Who gives some of it back isn't asked whether the rest fits.
bool raises_share(const QuotaChange& change) {
  return change.after.compute_share_percent > change.before.compute_share_percent;
}

shm::Tenant create_tenant(const shm::StateDir& dir, const shm::TenantSpec& spec) {
  shm::Tenant tenant;
  if (shm::Tenant::create(dir, spec, tenant) != shm::Status::ok) {
    throw Problem(kExitNotStarted, "VG1021",
                  fmt::format("no tenant can be made in the state directory {}", dir.path.view()),
                  "VGPU_STATE_DIR=DIRECTORY vgpu ..., with one that you can write");
  }
  return tenant;
}

void refuse_new_share(const shm::StateDir& dir, const shm::TenantSpec& spec,
                      const NewTenantTerms& terms) {
  const auto live = live_specs(dir);
  for (const auto& gpu : spec.gpus) {
    const unsigned share = gpu.in_set ? gpu.quota.compute_share_percent : 0;
    const GpuShares others = promised(live, gpu.uuid);
    if (const std::string why = why_not(others, gpu, share); !why.empty())
      throw Problem(kExitNotStarted, "VG1014", why, room_advice(others, terms.share_is_required));
  }
}

}  // namespace

void refuse_taken_name(const shm::StateDir& dir, std::string_view name, int exit_code) {
  std::vector<std::string> skipped;
  for (const auto& known : known_tenants(dir, skipped)) {
    if (!known.stale && known.spec.name.view() == name) {
      throw Problem(exit_code, "VG1024", fmt::format("a tenant called {} is running", name),
                    fmt::format("vgpu exec {} -- PROGRAM, or another --name", name));
    }
  }
}

bool has_share(const shm::TenantGpu& gpu) {
  return gpu.in_set && gpu.quota.compute_share_percent != 0;
}

bool wants_share(const shm::TenantSpec& spec) {
  return std::any_of(spec.gpus.begin(), spec.gpus.end(), has_share);
}

NewTenant make_tenant(const shm::StateDir& dir, const shm::TenantSpec& spec,
                      const NewTenantTerms& terms) {
  std::optional<SharesLock> lock;
  if (wants_share(spec) && !terms.oversubscribe) {
    lock.emplace(dir, kExitNotStarted);
    refuse_new_share(dir, spec, terms);
  }
  shm::Tenant tenant = create_tenant(dir, spec);
  auto hold = TenantHold::acquire(dir, spec.id.view());
  if (!hold) {
    throw Problem(kExitNotStarted, "VG1021", "the tenant that was just made is gone",
                  "vgpu run again");
  }
  return {std::move(tenant), std::move(*hold)};
}

void refuse_from_inside() {
  const char* inside = std::getenv("VGPU_TENANT");
  if (inside == nullptr || *inside == '\0') return;
  throw Problem(kExitFailed, "VG1007",
                fmt::format("this is inside tenant {}: quotas are changed from outside", inside),
                "a shell that isn't a tenant's");
}

TenantChange::TenantChange(QuotaFlags flags, const std::string& gpus, const ChangeTerms& terms,
                           const shm::StateDir& dir, const std::string& tenant)
    : flags_(std::move(flags)),
      terms_(terms),
      dir_(dir),
      known_(find_tenant(dir, tenant, kExitFailed, "vgpu set {} ...")),
      changes_(plan_change(flags_, gpus, known_.spec, terms.by)) {}

std::string TenantChange::gpu_name(const QuotaChange& change) const {
  return fmt::format("GPU {}", known_.spec.gpus[change.gpu].nvml_index);
}

void TenantChange::apply() {
  {
    std::optional<SharesLock> lock;
    if (!terms_.oversubscribe && std::any_of(changes_.begin(), changes_.end(), raises_share)) {
      lock.emplace(dir_, kExitFailed);
      refuse_too_much();
    }
    if (!terms_.when_free) refuse_memory_in_use();
    for (const auto& change : changes_) set_at_once(change);
  }
  ring();
}

void TenantChange::refuse_too_much() const {
  const auto live = live_specs(dir_);
  for (const auto& change : changes_) {
    if (!raises_share(change)) continue;
    const shm::TenantGpu& gpu = known_.spec.gpus[change.gpu];
    const GpuShares others = promised(live, gpu.uuid, known_.spec.id.view());
    const std::string why = why_not(others, gpu, change.after.compute_share_percent);
    if (!why.empty())
      throw Problem(kExitFailed, "VG1014", why, "--oversubscribe: all are scaled down");
  }
}

void TenantChange::refuse_memory(const QuotaChange& change, std::uint64_t held) const {
  throw Problem(
      kExitFailed, "VG1017",
      fmt::format("{}: {} holds {}, more than {}", gpu_name(change), known_.spec.name.view(),
                  size_text(held), limit_text(change.after.memory_limit_bytes)),
      fmt::format("vgpu set {} --memory {} --when-free", known_.spec.name.view(), flags_.memory));
}

void TenantChange::refuse_memory_in_use() const {
  for (const auto& change : changes_) {
    const std::uint64_t held = known_.tenant.charged_bytes(change.gpu);
    if (change.memory_is_lowered() && held > change.after.memory_limit_bytes)
      refuse_memory(change, held);
  }
}

// The tenant reads its quota at each reservation and launch, the arbiter what its seats say.
void TenantChange::put(std::uint32_t gpu, const Quota& quota) {
  if (known_.tenant.set_quota(gpu, quota) != shm::Status::ok)
    throw Problem(kExitFailed, "VG1069",
                  fmt::format("the quota of {} is the hypervisor's, which can't be asked",
                              known_.spec.name.view()),
                  "start the hypervisor, or ask where it listens: VGPU_SOCKET=PATH vgpu set ...");
  shm::Node node;
  if (shm::Node::look(dir_, node) == shm::Status::ok)
    node.set_terms(known_.spec.id.view(), known_.spec.gpus[gpu].uuid, quota);
}

void TenantChange::set_at_once(const QuotaChange& change) {
  Quota quota = change.after;
  if (terms_.when_free && change.memory_is_lowered()) {
    quota.memory_limit_bytes = change.before.memory_limit_bytes;
    quota.memory_source = change.before.memory_source;
  }
  put(change.gpu, quota);
  if (terms_.when_free || !change.memory_is_lowered()) return;
  // An allocation that was granted under the old limit while we changed it.
  const std::uint64_t held = known_.tenant.charged_bytes(change.gpu);
  if (held <= change.after.memory_limit_bytes) return;
  for (const auto& all : changes_) put(all.gpu, all.before);
  refuse_memory(change, held);
}

// A host takes a millisecond; without one, whoever is alone on a GPU would go on as before.
void TenantChange::ring() const {
  constexpr std::uint64_t kHostAnswersWithinNs = 50'000'000;
  shm::Node node;
  if (shm::Node::look(dir_, node) != shm::Status::ok) return;
  node.ring();
  const std::string_view tenant = known_.spec.id.view();
  const std::uint64_t rung_ns = platform::monotonic_ns();
  while (node.goes_past_its_limit(tenant)) {
    if (platform::monotonic_ns() > rung_ns + kHostAnswersWithinNs)
      return node.withdraw_free_grants(tenant);
    usleep(1'000);
  }
}

bool TenantChange::has_ended() const {
  shm::Tenant again;
  return shm::Tenant::open(dir_, known_.spec.id.view(), again) == shm::Status::not_found;
}

bool TenantChange::lower(const QuotaChange& change, std::uint64_t& limit, std::uint64_t& held) {
  const std::uint64_t wanted = change.after.memory_limit_bytes;
  Quota quota = known_.tenant.quota(change.gpu);
  if (quota.memory_limit_bytes != limit) {
    throw Problem(kExitFailed, "VG1018",
                  fmt::format("{}: somebody else has changed the memory limit to {} meanwhile",
                              gpu_name(change), limit_text(quota.memory_limit_bytes)),
                  "vgpu ls");
  }
  held = known_.tenant.charged_bytes(change.gpu);
  limit = std::min(limit, std::max(wanted, held));
  quota.memory_limit_bytes = limit;
  quota.memory_source = change.after.memory_source;
  put(change.gpu, quota);
  return limit == wanted && held <= wanted;
}

void TenantChange::restore() {
  for (const auto& change : changes_) put(change.gpu, change.before);
  ring();
}

std::string limit_text(std::uint64_t bytes) {
  return bytes == kNoLimit ? "none" : size_text(bytes);
}

std::string change_text(const Quota& before, const Quota& after) {
  std::vector<std::string> parts;
  if (before.memory_limit_bytes != after.memory_limit_bytes) {
    parts.push_back(fmt::format("memory {} -> {}", limit_text(before.memory_limit_bytes),
                                limit_text(after.memory_limit_bytes)));
  }
  if (!same_compute(before, after)) {
    const auto words = [](const Quota& quota) {
      const std::string text = compute_text(quota);
      return text.empty() ? std::string("share none") : text;
    };
    parts.push_back(fmt::format("{} -> {}", words(before), words(after)));
  }
  return parts.empty() ? "as it was" : fmt::format("{}", fmt::join(parts, "; "));
}

}  // namespace vgpu::survey

// SPDX-License-Identifier: Apache-2.0
// Finding, holding and ending tenants; see tenants.h.
#include "vgpu/survey/tenants.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>

#include "vgpu/survey/problem.h"
#include "vgpu/survey/text.h"

namespace vgpu::survey {
namespace {

std::string segment_path(const shm::StateDir& dir, std::string_view id) {
  return fmt::format("{}/{}.tenant", dir.path.view(), id);
}

// Whoever looks has the lock for an instant, in which others would take them for a keeper: the
// threads of a process look one after the other.
bool is_held(const shm::StateDir& dir, std::string_view id) {
  static std::mutex looking;
  const std::lock_guard lock(looking);
  const int descriptor =
      open(segment_path(dir, id).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (descriptor < 0) return false;
  const bool held = flock(descriptor, LOCK_EX | LOCK_NB) != 0;
  close(descriptor);
  return held;
}

}  // namespace

std::string status_text(shm::Status status) {
  switch (status) {
    case shm::Status::bad_version:
      return "made by another version of vgpu";
    case shm::Status::corrupt:
      return "damaged";
    case shm::Status::unavailable:
      return "not readable";
    case shm::Status::not_found:
      return "gone";
    case shm::Status::ok:
    case shm::Status::over_quota:
    case shm::Status::ledger_full:
    case shm::Status::exists:
      break;
  }
  return "not usable";
}

shm::StateDir state_directory(bool must_work, int exit_code) {
  const shm::StateDir dir =
      shm::state_dir([](const char* name) -> const char* { return std::getenv(name); });
  if (must_work && dir.error != 0) {
    throw Problem(exit_code, "VG1021",
                  fmt::format("the state directory {} can't be used: {}", dir.path.view(),
                              std::strerror(dir.error)),
                  "VGPU_STATE_DIR=DIRECTORY vgpu ..., with one that you can write");
  }
  return dir;
}

namespace {

shm::Status read_tenant(const shm::StateDir& dir, std::string_view id, KnownTenant& known) {
  const shm::Status status = shm::Tenant::open(dir, id, known.tenant);
  if (status != shm::Status::ok) return status;
  known.tenant.reap();
  known.spec = known.tenant.spec();
  known.spec.id = FixedString<shm::kMaxName>(id);  // whatever it says of itself
  known.stale = is_left_behind(dir, id, known.tenant);
  return status;
}

}  // namespace

std::vector<KnownTenant> known_tenants(const shm::StateDir& dir,
                                       std::vector<std::string>& skipped) {
  std::vector<KnownTenant> tenants;
  if (dir.error != 0) return tenants;
  std::vector<FixedString<shm::kMaxName>> ids(256);
  std::size_t count = shm::list_tenants(dir, ids);
  if (count > ids.size()) {
    ids.resize(count + 64);
    count = std::min(shm::list_tenants(dir, ids), ids.size());
  }
  ids.resize(count);
  std::sort(ids.begin(), ids.end(),
            [](const auto& a, const auto& b) { return a.view() < b.view(); });
  for (const auto& id : ids) {
    KnownTenant known;
    const shm::Status status = read_tenant(dir, id.view(), known);
    if (status == shm::Status::not_found) continue;  // ended meanwhile
    if (status != shm::Status::ok) {
      skipped.push_back(fmt::format("{}: {}", id.view(), status_text(status)));
      continue;
    }
    tenants.push_back(std::move(known));
  }
  return tenants;
}

std::vector<shm::TenantSpec> live_specs(const shm::StateDir& dir) {
  std::vector<std::string> skipped;
  std::vector<shm::TenantSpec> specs;
  for (const auto& known : known_tenants(dir, skipped)) {
    if (!known.stale) specs.push_back(known.spec);
  }
  return specs;
}

KnownTenant find_tenant(const shm::StateDir& dir, const std::string& typed, int exit_code,
                        const std::string& command) {
  // An id says which file it is; only what is typed in part needs all of them.
  KnownTenant by_id;
  if (read_tenant(dir, typed, by_id) == shm::Status::ok && !by_id.stale) return by_id;
  std::vector<std::string> skipped;
  auto tenants = known_tenants(dir, skipped);
  std::erase_if(tenants, [](const auto& known) { return known.stale; });
  std::vector<std::size_t> exact, beginning;
  std::vector<std::string> names;
  for (std::size_t i = 0; i < tenants.size(); ++i) {
    const auto id = tenants[i].spec.id.view(), name = tenants[i].spec.name.view();
    names.emplace_back(name);
    if (name == typed) exact.push_back(i);
    if (id.starts_with(typed) || name.starts_with(typed)) beginning.push_back(i);
  }
  const auto& matches = exact.empty() ? beginning : exact;
  if (matches.size() == 1) return std::move(tenants[matches.front()]);
  if (matches.size() > 1) {
    throw Problem(exit_code, "VG1023",
                  fmt::format("{} tenants are called \"{}...\"; more of the name is needed",
                              matches.size(), typed),
                  "vgpu ls");
  }
  const std::string_view guess = nearest(typed, names);
  throw Problem(exit_code, "VG1022", fmt::format("no tenant is called \"{}\"", typed),
                guess.empty() ? "vgpu ls" : fmt::format(fmt::runtime(command), guess));
}

std::vector<shm::ProcessView> processes_of(const shm::Tenant& tenant) {
  std::vector<shm::ProcessView> processes(shm::kMaxSlots);
  processes.resize(tenant.processes(processes));
  return processes;
}

std::optional<TenantHold> TenantHold::acquire(const shm::StateDir& dir, std::string_view id) {
  const std::string path = segment_path(dir, id);
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (descriptor < 0) return std::nullopt;
  TenantHold hold(descriptor, id);
  struct stat by_descriptor {
  }, by_path{};
  // Between open and lock the last keeper may have removed it: then the path names nothing, or a
  // newer file.
  if (flock(descriptor, LOCK_SH | LOCK_NB) != 0 || fstat(descriptor, &by_descriptor) != 0 ||
      stat(path.c_str(), &by_path) != 0 || by_descriptor.st_ino != by_path.st_ino) {
    return std::nullopt;
  }
  return hold;
}

TenantHold::TenantHold(TenantHold&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), id_(std::move(other.id_)) {}

TenantHold::~TenantHold() {
  if (descriptor_ >= 0) close(descriptor_);
}

void TenantHold::end(const shm::StateDir& dir, const shm::Tenant& tenant) {
  // Two keepers that end at once: each lets its shared lock go before it asks for the other kind,
  // so one of them gets it.
  if (descriptor_ >= 0 && flock(descriptor_, LOCK_EX | LOCK_NB) == 0 && tenant.is_open() &&
      processes_of(tenant).empty()) {
    (void)shm::Tenant::remove(dir, id_);
  }
  if (descriptor_ >= 0) close(std::exchange(descriptor_, -1));
}

bool is_left_behind(const shm::StateDir& dir, std::string_view id, const shm::Tenant& tenant) {
  return processes_of(tenant).empty() && !is_held(dir, id);
}

bool remove_left_behind(const shm::StateDir& dir, std::string_view id, const shm::Tenant& tenant) {
  if (!is_left_behind(dir, id, tenant)) return false;
  auto hold = TenantHold::acquire(dir, id);
  if (!hold) return false;
  hold->end(dir, tenant);
  return access(segment_path(dir, id).c_str(), F_OK) != 0;
}

}  // namespace vgpu::survey

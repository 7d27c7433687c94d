// SPDX-License-Identifier: Apache-2.0
#include "directory_segments.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <span>
#include <utility>

#include "times.h"
#include "vgpu/platform/process.h"
#include "vgpu/shm/quota_page.h"
#include "vgpu/survey/tenants.h"

namespace vgpu::hypervisor {
namespace {

// Between its creation and its keeper's lock a tenant looks left behind.
constexpr std::uint64_t kLeftBehindNs = 3 * kSecondNs;
// For those whose pid means nothing here, or another process by now.
constexpr std::uint64_t kReapEveryNs = kSecondNs;  // a zombie, too
constexpr std::uint64_t kLivesEveryNs = kSecondNs / 4;
constexpr std::size_t kMostTenants = 4'096;

std::string path_of(const shm::StateDir& dir, std::string_view name) {
  return fmt::format("{}/{}", dir.path.view(), name);
}

std::uint64_t birth_ns(const std::string& path) {
  struct statx info {};
  if (statx(AT_FDCWD, path.c_str(), 0, STATX_BTIME | STATX_CTIME, &info) != 0) return 0;
  const statx_timestamp& time =
      (info.stx_mask & STATX_BTIME) != 0 ? info.stx_btime : info.stx_ctime;
  return static_cast<std::uint64_t>(time.tv_sec) * kSecondNs + time.tv_nsec;
}

shm::Status open_page(const shm::StateDir& dir, const std::string& path,
                      const platform::FileIdentity& file, const shm::TenantSpec& spec,
                      shm::Tenant& tenant, shm::QuotaPage& page) {
  const shm::Status kept =
      shm::QuotaPage::open(dir.quotas.view(), file, birth_ns(path), spec, page);
  if (kept == shm::Status::ok) tenant.announce_quota_page();
  return kept;
}

}  // namespace

void keep_quotas(const DirectoryPointer& directory, const shm::TenantSpec& spec) {
  const std::string id(spec.id.view());
  const std::string path = path_of(directory->dir, id + ".tenant");
  shm::Tenant tenant;
  shm::QuotaPage page;
  if (shm::Tenant::open(directory->dir, id, tenant) == shm::Status::ok)
    (void)open_page(directory->dir, path, platform::identity_of(path.c_str()), spec, tenant, page);
  keep_in_cell(directory, spec);
}

void keep_in_cell(const DirectoryPointer& directory, const shm::TenantSpec& spec) {
  if (!directory->is_cell()) return;
  std::vector<Quota> quotas;
  for (const auto& gpu : spec.gpus) quotas.push_back(gpu.quota);
  directory->kept->keep(std::move(quotas));
}

struct DirectorySegments::Open {
  shm::Tenant tenant;
  platform::FileIdentity file;
  shm::QuotaPage page;
  std::uint64_t put_right = 0;
  std::string name;  // as the daemon keeps it; empty: as the segment says
  std::uint64_t made_ns = 0;
  std::uint64_t looked_ns = 0;  // that all its processes live
  std::uint64_t reaped_ns = 0;
  std::uint64_t empty_since_ns = 0;  // 0: it has processes
};

DirectorySegments::DirectorySegments(DirectoryPointer directory)
    : directory_(std::move(directory)),
      dir_(directory_->dir),
      own_namespace_(platform::pid_namespace()),
      buffer_(shm::kMaxSlots),
      ids_(256) {}

DirectorySegments::~DirectorySegments() = default;

bool DirectorySegments::open(const std::string& id, std::uint64_t now_ns) {
  const std::string path = path_of(dir_, id + ".tenant");
  auto fresh = std::make_unique<Open>();
  fresh->file = platform::identity_of(path.c_str());
  if (const auto bad = unreadable_.find(id);
      bad != unreadable_.end() && bad->second == fresh->file.inode)
    return false;
  const shm::Status status = shm::Tenant::open(dir_, id, fresh->tenant);
  if (status == shm::Status::not_found) return false;
  // Another file meanwhile: the next look finds it.
  if (!(platform::identity_of(path.c_str()) == fresh->file)) return false;
  if (status != shm::Status::ok) {
    unreadable_[id] = fresh->file.inode;
    return false;
  }
  fresh->made_ns = birth_ns(path);
  // In a cell only what was made here counts: another file of that name is the container's idea.
  const shm::Status kept =
      directory_->is_cell()
          ? shm::QuotaPage::take(dir_.quotas.view(), fresh->file, fresh->tenant.spec(), fresh->page)
          : open_page(dir_, path, fresh->file, fresh->tenant.spec(), fresh->tenant, fresh->page);
  if (directory_->is_cell() && kept != shm::Status::ok) {
    unreadable_[id] = fresh->file.inode;
    return false;
  }
  if (kept != shm::Status::ok && pages_unusable_.empty()) {
    pages_unusable_ = fmt::format("{}: quotas can't be kept apart from the tenants: {}",
                                  dir_.quotas.view(), survey::status_text(kept));
  }
  fresh->empty_since_ns = now_ns;
  open_[id] = std::move(fresh);
  return true;
}

// Its name is another's, or nobody's, by now.
void DirectorySegments::close(const std::string& id) {
  const auto at = open_.find(id);
  if (at == open_.end()) return;
  shm::QuotaPage::remove(dir_.quotas.view(), at->second->file);
  open_.erase(at);
}

// The page holds whatever the segment says; the copy is for who knows no page, and for people.
void DirectorySegments::keep_quota(const std::string& id, Open& open) {
  SegmentTenant& seen = tenants_[id];
  seen.page_name = shm::QuotaPage::name(open.file).view();
  if (!open.page.is_open()) return;
  bool is_other = false;
  std::vector<Quota> kept;
  if (directory_->is_cell()) {
    kept = directory_->kept->quotas();
    // An earlier daemon made it: what the page says at our first look is what that one said.
    if (kept.empty()) {
      for (std::uint32_t gpu = 0; gpu < seen.spec.gpus.size(); ++gpu)
        kept.push_back(open.page.quota(gpu));
      directory_->kept->keep(kept);
    }
  }
  for (std::uint32_t gpu = 0; gpu < seen.spec.gpus.size(); ++gpu) {
    if (gpu < kept.size() && !(open.page.quota(gpu) == kept[gpu])) {
      open.page.set_quota(gpu, kept[gpu]);
      is_other = true;
    }
    const Quota holds = open.page.quota(gpu);
    seen.spec.gpus[gpu].quota = holds;
    if (open.tenant.copied_quota(gpu) == holds) continue;
    open.tenant.copy_quota(gpu, holds);
    is_other = true;
  }
  if (is_other) ++open.put_right;
  seen.put_right = open.put_right;
}

// False: it is gone.
bool DirectorySegments::look_at(const std::string& id, Open& open, std::uint64_t now_ns) {
  std::size_t count = open.tenant.processes(buffer_);
  const bool is_due = now_ns >= open.looked_ns + kLivesEveryNs;
  if (is_due) open.looked_ns = now_ns;
  if (is_due) open.name = directory_->kept_name();
  const bool may_be_gone =
      is_due &&
      std::any_of(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(count),
                  [&](const shm::ProcessView& process) {
                    // In another namespace only its lock tells.
                    return process.pid_namespace != own_namespace_ ||
                           (process.pid > 0 && kill(process.pid, 0) != 0 && errno == ESRCH);
                  });
  // A full look is dear: /proc and a lock for each slot.
  if (may_be_gone || now_ns >= open.reaped_ns + kReapEveryNs) {
    open.reaped_ns = now_ns;
    if (open.tenant.reap() != 0) count = open.tenant.processes(buffer_);
  }
  if (count != 0) {
    open.empty_since_ns = 0;
  } else if (open.empty_since_ns == 0) {
    open.empty_since_ns = now_ns;
  } else if (now_ns >= open.empty_since_ns + kLeftBehindNs) {
    open.empty_since_ns = now_ns;
    if (survey::remove_left_behind(dir_, id, open.tenant)) return false;
  }

  SegmentTenant& seen = tenants_[id];
  seen.directory = directory_;
  seen.spec = open.tenant.spec();
  seen.spec.id = FixedString<shm::kMaxName>(id);  // whatever it says of itself
  if (!open.name.empty()) seen.spec.name = FixedString<shm::kMaxName>(open.name);
  keep_quota(id, open);
  seen.made_ns = open.made_ns;
  seen.inode = open.file.inode;
  const std::size_t gpus = seen.spec.gpus.size();
  seen.charged_bytes.assign(gpus, 0);
  seen.denied.assign(gpus, 0);
  for (std::uint32_t gpu = 0; gpu < gpus; ++gpu) {
    seen.charged_bytes[gpu] = open.tenant.unreaped_bytes(gpu);
    seen.denied[gpu] = open.tenant.denied_count(gpu);
  }
  seen.processes.assign(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(count));
  return true;
}

void DirectorySegments::read(std::uint64_t now_ns) {
  notes_.clear();
  std::size_t count = directory_->list_tenants(ids_);
  if (count > ids_.size()) {
    ids_.resize(std::min(count + 64, kMostTenants));
    count = std::min(directory_->list_tenants(ids_), ids_.size());
  }
  std::vector<std::string> present;
  for (const auto& id : std::span(ids_).first(count)) present.emplace_back(id.view());
  std::sort(present.begin(), present.end());
  const auto is_there = [&](const std::string& id) {
    return std::binary_search(present.begin(), present.end(), id);
  };
  std::vector<std::string> gone;
  for (const auto& [id, each] : open_) {
    if (!is_there(id)) gone.push_back(id);
  }
  for (const std::string& id : gone) close(id);
  std::erase_if(unreadable_, [&](const auto& entry) { return !is_there(entry.first); });
  for (const std::string& id : present) {
    const auto known = open_.find(id);
    if (known != open_.end()) {
      const std::string path = path_of(dir_, id + ".tenant");
      if (platform::identity_of(path.c_str()) == known->second->file) continue;
      close(id);
    }
    (void)open(id, now_ns);
  }
  gone.clear();
  for (const auto& [id, each] : open_) {
    if (!look_at(id, *each, now_ns)) gone.push_back(id);
  }
  for (const std::string& id : gone) close(id);
  std::erase_if(tenants_, [&](const auto& entry) { return open_.count(entry.first) == 0; });
  for (const auto& [id, inode] : unreadable_)
    notes_.push_back(fmt::format("tenant {}: damaged, or made by another version of vgpu",
                                 directory_->public_id(id)));
  if (!pages_unusable_.empty()) notes_.push_back(pages_unusable_);
}

void DirectorySegments::open_node() {
  const platform::FileIdentity file = platform::identity_of(path_of(dir_, "node.seats").c_str());
  if (node_ != nullptr && file == node_file_) return;
  node_ = std::make_unique<shm::Node>();
  node_file_ = file;
  const shm::Status status = shm::Node::look(dir_, *node_);
  seats_unreadable_ = status == shm::Status::ok || status == shm::Status::not_found
                          ? ""
                          : survey::status_text(status);
  if (status != shm::Status::ok) node_.reset();
}

void DirectorySegments::read_seats(std::uint64_t now_ns) {
  open_node();
  seats_.clear();
  if (node_ == nullptr) return;
  for (std::uint32_t seat = 0; seat < node_->seats(); ++seat) {
    seats_.emplace_back();
    if (!node_->facts(seat, now_ns, seats_.back())) seats_.pop_back();
  }
}

}  // namespace vgpu::hypervisor

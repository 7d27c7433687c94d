// SPDX-License-Identifier: Apache-2.0
#include "segments.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>

#include "vgpu/shm/quota_page.h"

namespace vgpu::hypervisor {

namespace {

// For everybody to read, for the daemon to write.
void make_folder(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (!error) (void)chmod(path.c_str(), 0755);
}

}  // namespace

void Segments::read(std::uint64_t now_ns, const std::vector<DirectoryPointer>& directories) {
  std::erase_if(parts_, [&](const auto& part) {
    return std::find(directories.begin(), directories.end(), part->directory()) ==
           directories.end();
  });
  for (const DirectoryPointer& directory : directories) {
    const bool is_known = std::any_of(parts_.begin(), parts_.end(), [&](const auto& part) {
      return part->directory() == directory;
    });
    if (is_known) continue;
    make_folder(std::string(directory->dir.quotas.view()));
    parts_.push_back(std::make_unique<DirectorySegments>(directory));
  }
  tenants_.clear();
  notes_.clear();
  for (const auto& part : parts_) {
    part->read(now_ns);
    for (const auto& [id, tenant] : part->tenants())
      tenants_.emplace(part->directory()->public_id(id), tenant);
    notes_.insert(notes_.end(), part->notes().begin(), part->notes().end());
  }
  std::sort(notes_.begin(), notes_.end());
  notes_.erase(std::unique(notes_.begin(), notes_.end()), notes_.end());
  for (const DirectoryPointer& directory : directories) {
    const std::string folder(directory->dir.quotas.view());
    if (folders_.insert(folder).second) remove_pages_of_nobody(folder);
  }
}

// Of tenants that ended while no daemon was there.
void Segments::remove_pages_of_nobody(const std::string& folder) const {
  std::set<std::string> used;
  for (const auto& [id, tenant] : tenants_) used.insert(tenant.page_name);
  std::error_code error;
  for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end;
       at.increment(error)) {
    const std::filesystem::path& path = at->path();
    std::error_code ignored;
    if (path.extension() == ".quota" && used.count(path.filename()) == 0)
      std::filesystem::remove(path, ignored);
  }
}

void Segments::read_seats(std::uint64_t now_ns) {
  seats_.clear();
  seats_unreadable_.clear();
  for (const auto& part : parts_) {
    part->read_seats(now_ns);
    if (!part->seats_unreadable().empty()) seats_unreadable_ = part->seats_unreadable();
    for (shm::SeatFacts seat : part->seats()) {
      seat.tenant = FixedString<shm::kMaxName>(part->directory()->public_id(seat.tenant.view()));
      seats_.push_back(seat);
    }
  }
}

}  // namespace vgpu::hypervisor

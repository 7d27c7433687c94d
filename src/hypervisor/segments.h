// SPDX-License-Identifier: Apache-2.0
// Tenants and seats of all the directories that the daemon looks after, by ids that are one user's
// only (UserDirectory::public_id). One thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "directory_segments.h"
#include "state_directories.h"

namespace vgpu::hypervisor {

class Segments {
 public:
  // Takes the present state; `now_ns` is CLOCK_MONOTONIC.
  void read(std::uint64_t now_ns, const std::vector<DirectoryPointer>& directories);
  void read_seats(std::uint64_t now_ns);

  const std::map<std::string, SegmentTenant>& tenants() const { return tenants_; }
  // With the ids of tenants as in tenants().
  const std::vector<shm::SeatFacts>& seats() const { return seats_; }
  // What can't be read, in words.
  const std::vector<std::string>& notes() const { return notes_; }
  const std::string& seats_unreadable() const { return seats_unreadable_; }

 private:
  void remove_pages_of_nobody(const std::string& folder) const;

  std::set<std::string> folders_;  // of quota pages
  std::vector<std::unique_ptr<DirectorySegments>> parts_;
  std::map<std::string, SegmentTenant> tenants_;
  std::vector<shm::SeatFacts> seats_;
  std::vector<std::string> notes_;
  std::string seats_unreadable_;
};

}  // namespace vgpu::hypervisor

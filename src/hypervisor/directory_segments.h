// SPDX-License-Identifier: Apache-2.0
// Tenants and seats as the segments of one state directory tell them, kept open between looks: one
// look costs reading memory, not opening files. Keeps each tenant's quota on a page of its own
// (shm/quota_page.h), and what else writes into the segment's copy is put right again. Also removes
// what ended tenants leave behind, as `vgpu ls` does. One thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "state_directories.h"
#include "vgpu/platform/file.h"
#include "vgpu/shm/node.h"
#include "vgpu/shm/tenant.h"

namespace vgpu::hypervisor {

struct SegmentTenant {
  DirectoryPointer directory;
  shm::TenantSpec spec;       // with the id that its user knows, and the quotas that hold
  std::uint64_t made_ns = 0;  // CLOCK_REALTIME
  std::uint64_t inode = 0;    // a tenant made again under the same id has another
  std::vector<std::uint64_t> charged_bytes;  // by the spec's GPUs
  std::vector<std::uint64_t> denied;         // likewise
  std::vector<shm::ProcessView> processes;
  std::string page_name;        // the page's file
  std::uint64_t put_right = 0;  // how often somebody else had written its quota
};

// Makes the page of a tenant's quotas at once, by the word of whoever made the tenant: until there
// is one, its user could write other quotas into the segment, and the page would have them.
void keep_quotas(const DirectoryPointer& directory, const shm::TenantSpec& spec);
// After a change: what holds in a cell whatever its page comes to say.
void keep_in_cell(const DirectoryPointer& directory, const shm::TenantSpec& spec);

class DirectorySegments {
 public:
  explicit DirectorySegments(DirectoryPointer directory);
  ~DirectorySegments();

  // Takes the present state; `now_ns` is CLOCK_MONOTONIC.
  void read(std::uint64_t now_ns);
  void read_seats(std::uint64_t now_ns);

  const DirectoryPointer& directory() const { return directory_; }
  const std::map<std::string, SegmentTenant>& tenants() const { return tenants_; }  // by own id
  const std::vector<shm::SeatFacts>& seats() const { return seats_; }
  // What can't be read, in words.
  const std::vector<std::string>& notes() const { return notes_; }
  const std::string& seats_unreadable() const { return seats_unreadable_; }

 private:
  struct Open;
  bool open(const std::string& id, std::uint64_t now_ns);
  void close(const std::string& id);
  void keep_quota(const std::string& id, Open& open);
  bool look_at(const std::string& id, Open& open, std::uint64_t now_ns);
  void open_node();

  DirectoryPointer directory_;
  const shm::StateDir& dir_;
  std::uint64_t own_namespace_;
  std::map<std::string, std::unique_ptr<Open>> open_;
  std::map<std::string, SegmentTenant> tenants_;
  std::map<std::string, std::uint64_t> unreadable_;  // id: inode that couldn't be opened
  std::unique_ptr<shm::Node> node_;
  platform::FileIdentity node_file_;
  std::vector<shm::SeatFacts> seats_;
  std::vector<shm::ProcessView> buffer_;
  std::vector<FixedString<shm::kMaxName>> ids_;
  std::vector<std::string> notes_;
  std::string pages_unusable_;
  std::string seats_unreadable_;
};

}  // namespace vgpu::hypervisor

// SPDX-License-Identifier: Apache-2.0
// Tenants and seats as the segments tell them, kept open between looks: one look costs reading
// memory, not opening files. Also removes what ended tenants leave behind, as `vgpu ls` does. One
// thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "vgpu/platform/file.h"
#include "vgpu/shm/node.h"
#include "vgpu/shm/tenant.h"

namespace vgpu::hypervisor {

struct SegmentTenant {
  shm::TenantSpec spec;
  std::uint64_t made_ns = 0;                 // CLOCK_REALTIME
  std::uint64_t inode = 0;                   // a tenant made again under the same id has another
  std::vector<std::uint64_t> charged_bytes;  // by the spec's GPUs
  std::vector<std::uint64_t> denied;         // likewise
  std::vector<shm::ProcessView> processes;
};

class Segments {
 public:
  explicit Segments(const shm::StateDir& dir);
  ~Segments();

  // Takes the present state; `now_ns` is CLOCK_MONOTONIC.
  void read(std::uint64_t now_ns);
  void read_seats(std::uint64_t now_ns);

  const std::map<std::string, SegmentTenant>& tenants() const { return tenants_; }
  const std::vector<shm::SeatFacts>& seats() const { return seats_; }
  // What can't be read, in words.
  const std::vector<std::string>& notes() const { return notes_; }
  const std::string& seats_unreadable() const { return seats_unreadable_; }

 private:
  struct Open;
  bool open(const std::string& id, std::uint64_t now_ns);
  bool look_at(const std::string& id, Open& open, std::uint64_t now_ns);
  void open_node();

  shm::StateDir dir_;
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
  std::string seats_unreadable_;
};

}  // namespace vgpu::hypervisor

// SPDX-License-Identifier: Apache-2.0
// What a Tenant object knows beside the segment. Two parts: State is inherited by forked children
// as it is; ProcessPart lies on a page that the kernel zeroes in a child, so a child finds itself
// without slot, lock and descriptor of its own, and with a free mutex, whatever the parent's
// threads were doing.
#pragma once

#include <atomic>
#include <cstdint>

#include "quota_layout.h"
#include "segment.h"
#include "vgpu/platform/file.h"
#include "vgpu/shm/tenant.h"

namespace vgpu::shm {

inline constexpr std::uint32_t kNoSlot = UINT32_MAX;

struct ProcessPart {
  std::atomic<std::uint32_t> mutex;          // 1: a thread of this process joins, leaves or shares
  std::atomic<std::uint32_t> slot_plus_one;  // 0: not joined
  std::atomic<std::uint32_t> has_own_file;  // State::fd is a file description of this process alone
  std::atomic<std::int32_t> pid;            // where the kernel can't zero the page: whose it is
  std::atomic<std::uint64_t> reap_began_ns;
  std::atomic<std::uint64_t> reap_took_ns;
};

struct Tenant::State {
  Segment segment;
  void* base = nullptr;
  std::size_t byte_size = 0;
  ProcessPart* process = nullptr;
  bool process_part_is_wiped = false;
  platform::FileIdentity file;
  SegmentPath path;                                          // empty: the segment has no name
  FixedString<255> quota_folders[2];                         // where to look for a quota page
  std::atomic<const QuotaPageRecord*> quota_page = nullptr;  // never unmapped before the State
  std::atomic<std::uint32_t> quota_pages_seen = 0;  // Header::quota_pages when it was looked for
  std::atomic<int> fd = -1;  // may be closed or reused by the program: check `file` before use

  std::uint32_t slot() const {
    if (!process_part_is_wiped && !is_own_process()) return kNoSlot;
    // Acquire: pairs with the release in join(), after which the slot's lines are ours.
    return process->slot_plus_one.load(std::memory_order_acquire) - 1;
  }
  bool is_own_process() const;
  // Null: the segment's own words hold.
  const QuotaPageRecord* quotas();
  // The calling process's own description of the segment's file, -1 if it can't be had. Under
  // ProcessLock.
  int own_file();
};

// Threads of one process only. Nobody else waits for it, so a stopped or killed holder harms
// nobody.
class ProcessLock {
 public:
  explicit ProcessLock(Tenant::State& state);
  ~ProcessLock();
  ProcessLock(const ProcessLock&) = delete;
  ProcessLock& operator=(const ProcessLock&) = delete;

 private:
  ProcessPart& process_;
};

// Of a slot that isn't free; `fd`: of the segment's file.
bool slot_is_dead(const Segment& segment, std::uint32_t slot, const Owner& owner, int fd,
                  std::uint64_t own_namespace);
void view_slot(const Segment& segment, std::uint32_t slot, const Owner& owner, ProcessView& view);
std::uint32_t reap_dead_slots(Tenant::State& state);
// The same unless it was done less than `interval_ns` ago, or would take more than a tenth of the
// time.
std::uint32_t reap_if_due(Tenant::State& state, std::uint64_t interval_ns);

}  // namespace vgpu::shm

// SPDX-License-Identifier: Apache-2.0
// Which processes carry the library: one word each, in a row of the table that follows from the
// pid. A row that is full gives up the words of the dead first, so a living process keeps its own
// however many come after it.
#include <errno.h>
#include <signal.h>

#include <cstdint>

#include "segment.h"
#include "state.h"
#include "vgpu/platform/process.h"
#include "vgpu/shm/tenant.h"

namespace vgpu::shm {
namespace {

constexpr std::uint64_t kPresent = std::uint64_t{1} << 63;
constexpr std::uint64_t kProcessMask = (std::uint64_t{1} << 48) - 1;
constexpr std::uint64_t kFingerprintMask = 0x7fff;

std::uint64_t process_bits(std::int32_t pid, std::uint64_t start_ticks) {
  return (static_cast<std::uint64_t>(pid) & 0x3fffff) | ((start_ticks & 0x3ffffff) << 22);
}

std::uint64_t fingerprint_bits(std::uint32_t fingerprint) {
  return (fingerprint & kFingerprintMask) << 48;
}

std::int32_t pid_of(std::uint64_t entry) { return static_cast<std::int32_t>(entry & 0x3fffff); }

std::uint32_t row_of(std::int32_t pid) {
  return static_cast<std::uint32_t>(pid) % kAcknowledgementRows;
}

bool has_slot(const Segment& segment, std::int32_t pid, std::uint64_t start_ticks) {
  for (std::uint32_t slot = 0; slot < segment.slots(); ++slot) {
    const Owner owner = Owner::unpack(segment.owner(slot).load());
    if (owner.state == SlotState::live && owner.pid == pid &&
        owner.start_ticks_low == (start_ticks & Owner::kStartMask)) {
      return true;
    }
  }
  return false;
}

bool is_gone(std::int32_t pid) { return ::kill(pid, 0) != 0 && errno == ESRCH; }

}  // namespace

void Tenant::acknowledge() {
  if (state_ == nullptr) return;
  const std::int32_t pid = platform::self_pid();
  const std::uint64_t entry = process_bits(pid, platform::start_time_ticks(pid)) |
                              fingerprint_bits(platform::program_fingerprint(pid)) | kPresent;
  AcknowledgementRow& row = state_->segment.acknowledgements(row_of(pid));
  for (int tries = 0; tries < 64; ++tries) {
    Word* best = nullptr;
    std::uint64_t best_seen = 0;
    int best_rank = -1;
    for (Word& word : row.entries) {
      std::uint64_t seen = word.load();
      if (seen == entry) return;
      // The same pid: ours before an exec, or a process that is no more. Then a free word, then a
      // dead process's, and if all of them live (thousands of processes with one limit) the first.
      const int rank = (seen & kPresent) != 0 && pid_of(seen) == pid ? 3
                       : (seen & kPresent) == 0                      ? 2
                       : is_gone(pid_of(seen))                       ? 1
                                                                     : 0;
      if (rank > best_rank) {
        best = &word;
        best_seen = seen;
        best_rank = rank;
      }
    }
    if (best->compare_exchange_strong(best_seen, entry)) return;
  }
}

bool Tenant::has_acknowledged(std::int32_t pid, std::uint64_t start_time_ticks) const {
  if (state_ == nullptr || pid <= 0) return false;
  const Segment& segment = state_->segment;
  const std::uint64_t wanted = process_bits(pid, start_time_ticks);
  for (const Word& word : segment.acknowledgements(row_of(pid)).entries) {
    const std::uint64_t entry = word.load();
    if ((entry & kPresent) == 0 || (entry & kProcessMask) != wanted) continue;
    // Zero where a program file can't be looked at: then the process alone counts.
    const std::uint64_t now = fingerprint_bits(platform::program_fingerprint(pid));
    const std::uint64_t then = entry & fingerprint_bits(kFingerprintMask);
    if (now == 0 || then == 0 || now == then) return true;
  }
  if (!has_slot(segment, pid, start_time_ticks)) return false;
  // It may be left from before an exec of something else.
  ProcessLock lock(*state_);
  (void)reap_dead_slots(*state_);
  return has_slot(segment, pid, start_time_ticks);
}

}  // namespace vgpu::shm

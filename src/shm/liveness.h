// SPDX-License-Identifier: Apache-2.0
// Whether the process behind an owner word is gone. Slots of a tenant and seats of a node say so in
// the same way: the lock on a byte of the file, and the pid where both see the same namespace.
#pragma once

#include <cstdint>

#include "layout.h"
#include "vgpu/platform/file.h"
#include "vgpu/platform/process.h"

namespace vgpu::shm {

struct Self {
  std::int32_t pid = platform::self_pid();
  std::uint64_t start_ticks = platform::start_time_ticks(pid);
  std::uint64_t pid_namespace = platform::pid_namespace();
};

// Takes the byte and turns a free word into a claim of this process. False: somebody else has it.
// `before_claim` runs between the two, so that a claimant that dies is where reapers look.
template <class BeforeClaim>
bool claim_owner(Word& word, int fd, std::uint64_t byte, const Self& self, Owner& owner,
                 BeforeClaim before_claim) {
  std::uint64_t seen = word.load();
  if (Owner::unpack(seen).state != SlotState::free) return false;
  const platform::ByteLock lock =
      fd >= 0 ? platform::try_lock_byte(fd, byte) : platform::ByteLock::unsupported;
  if (lock == platform::ByteLock::held_elsewhere) return false;
  owner = Owner::unpack(seen);
  owner.state = SlotState::claimed;
  owner.lockless = lock == platform::ByteLock::unsupported;
  owner.generation += 1;
  owner.start_ticks_low = static_cast<std::uint32_t>(self.start_ticks & Owner::kStartMask);
  owner.pid = self.pid;
  before_claim();
  if (word.compare_exchange_strong(seen, owner.pack())) return true;
  platform::unlock_byte(fd, byte);
  return false;
}

// `start_ticks` and `pid_namespace` as the owner wrote them; meant only once it is live.
inline bool owner_is_dead(const Owner& owner, int fd, std::uint64_t byte, std::uint64_t start_ticks,
                          std::uint64_t pid_namespace, std::uint64_t own_namespace) {
  const platform::ByteLock lock =
      fd >= 0 ? platform::look_at_byte(fd, byte) : platform::ByteLock::unsupported;
  if (lock == platform::ByteLock::held_elsewhere) return false;
  // Held by someone whom we can't see, for all we know.
  if (lock == platform::ByteLock::unsupported && !owner.lockless) return false;
  // A claimant writes its identity after the claim, so of one that died there only the lock tells.
  const bool is_named = owner.state == SlotState::live;
  if (!is_named || own_namespace == 0 || pid_namespace != own_namespace) return !owner.lockless;
  switch (platform::life_of(owner.pid, start_ticks)) {
    case platform::Life::gone:
      return true;
    case platform::Life::exiting:
      return false;
    case platform::Life::alive:
      return !owner.lockless;  // it runs another program now: its files went with exec
    case platform::Life::unknown:
      return !owner.lockless;  // the lock alone
  }
  return false;
}

}  // namespace vgpu::shm

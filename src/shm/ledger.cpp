// SPDX-License-Identifier: Apache-2.0
// Reserving, releasing and sharing memory: core's protocol on the calling process's slot, with the
// patience and the reaping around it. Hot: a reservation of a lone process is a handful of atomic
// operations and no system call.
#include "vgpu/core/ledger.h"

#include <sched.h>

#include <algorithm>
#include <cstdint>

#include "atomic_memory.h"
#include "segment.h"
#include "state.h"
#include "vgpu/core/shared_objects.h"
#include "vgpu/platform/clock.h"
#include "vgpu/shm/tenant.h"

namespace vgpu::shm {
namespace {

// A dead process's memory must be found again within 100 ms; looking costs a system call a slot.
constexpr std::uint64_t kReapBeforeRefusalNs = 2'000'000;
constexpr std::uint64_t kReapForViewNs = 50'000'000;
// Larger than any memory, small enough that sums of asks don't reach the flags of a charge word.
// 256 TiB.
constexpr std::uint64_t kLargestReservation = std::uint64_t{1} << 48;

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield" ::: "memory");
#endif
}

// How long to go on when others want the same last bytes: each round one of them gets on, so a
// handful is plenty, and the bound only matters where a schedule is as bad as can be.
class Patience {
 public:
  // Different slots wait differently long, or they would collide again.
  explicit Patience(std::uint32_t slot) : spread_(slot * 7 % 31) {}

  // From then on the asks of everybody else are revoked, also of those who stopped in the middle of
  // theirs.
  bool insists() const { return rounds_ >= 8; }
  // Waits a little; false when it is enough.
  bool wait() {
    constexpr int kRoundsAtLeast = 200;
    constexpr std::uint64_t kAtMostNs = 1'000'000;
    if (rounds_ == 0) began_ns_ = platform::monotonic_ns();
    if (++rounds_ >= kRoundsAtLeast && platform::monotonic_ns() - began_ns_ > kAtMostNs)
      return false;
    const std::uint32_t spins =
        (1u << std::min(rounds_, 9)) + spread_ * static_cast<std::uint32_t>(rounds_ & 7);
    for (std::uint32_t i = 0; i < spins; ++i) relax();
    if (rounds_ > 4) ::sched_yield();  // the one in front may want this very core
    return true;
  }

 private:
  int rounds_ = 0;
  std::uint32_t spread_;
  std::uint64_t began_ns_ = 0;
};

Status refuse(const Segment& segment, std::uint32_t gpu) {
  // Relaxed: a count that people read.
  segment.gpu(gpu).denied.fetch_add(1, std::memory_order_relaxed);
  return Status::over_quota;
}

}  // namespace

Status Tenant::reserve(std::uint32_t gpu, std::uint64_t bytes, std::uint64_t keep_free) {
  if (gpu >= gpu_count()) return Status::not_found;
  std::uint32_t slot = state_->slot();
  if (slot == kNoSlot) [[unlikely]] {
    const Status joined = join();
    if (joined != Status::ok) return joined;
    slot = state_->slot();
  }
  if (bytes == 0) return Status::ok;
  const Segment& segment = state_->segment;
  const std::uint64_t whole_limit = memory_limit_bytes(gpu);
  const std::uint64_t limit =
      whole_limit == kNoLimit ? kNoLimit : whole_limit - std::min(whole_limit, keep_free);
  AtomicMemory memory(segment, gpu);
  if (bytes > limit || bytes > kLargestReservation) return refuse(segment, gpu);
  if (limit == kNoLimit) {
    core::raise_charge(memory, slot, bytes);
    return Status::ok;
  }
  Patience patience(slot);
  bool has_reaped = false;
  for (;;) {
    switch (core::try_reserve(memory, slot, bytes, limit, patience.insists())) {
      case core::Attempt::granted:
        return Status::ok;
      case core::Attempt::full:
        if (has_reaped) return refuse(segment, gpu);
        (void)reap_if_due(*state_, kReapBeforeRefusalNs);
        has_reaped = true;
        break;
      case core::Attempt::contended:
        if (!patience.wait()) return refuse(segment, gpu);
        break;
    }
  }
}

void Tenant::charge(std::uint32_t gpu, std::uint64_t bytes) {
  if (gpu >= gpu_count()) return;
  if (state_->slot() == kNoSlot && join() != Status::ok) {
    state_->segment.count_anomaly();
    return;
  }
  AtomicMemory memory(state_->segment, gpu);
  core::raise_charge(memory, state_->slot(), bytes);
}

void Tenant::release(std::uint32_t gpu, std::uint64_t bytes) {
  if (gpu >= gpu_count() || bytes == 0) return;
  const std::uint32_t slot = state_->slot();
  step(core::Step::release_begun);
  AtomicMemory memory(state_->segment, gpu);
  if (slot == kNoSlot || core::lower_charge(memory, slot, bytes) != 0)
    state_->segment.count_anomaly();
  step(core::Step::release_lowered);
}

std::uint64_t Tenant::charged_bytes(std::uint32_t gpu) const {
  if (gpu >= gpu_count()) return 0;
  (void)reap_if_due(*state_, kReapForViewNs);
  return unreaped_bytes(gpu);
}

std::uint64_t Tenant::unreaped_bytes(std::uint32_t gpu) const {
  if (gpu >= gpu_count()) return 0;
  AtomicMemory memory(state_->segment, gpu);
  // Granted cells are charged in all but name: their owner will do nothing else next.
  const core::Totals totals = core::add_up(memory);
  return core::add_saturating(totals.charged, totals.granted);
}

std::uint64_t Tenant::own_charged_bytes(std::uint32_t gpu) const {
  if (gpu >= gpu_count() || state_->slot() == kNoSlot) return 0;
  return core::charge_bytes(state_->segment.line(gpu, state_->slot()).charge.load());
}

std::uint64_t Tenant::denied_count(std::uint32_t gpu) const {
  return gpu < gpu_count() ? state_->segment.gpu(gpu).denied.load(std::memory_order_relaxed) : 0;
}

Status Tenant::share(std::uint64_t key_high, std::uint64_t key_low, std::uint32_t gpu,
                     std::uint64_t bytes) {
  if (gpu >= gpu_count()) return Status::not_found;
  const Status joined = join();
  if (joined != Status::ok) return joined;
  ProcessLock lock(*state_);
  AtomicMemory memory(state_->segment, gpu);
  const core::Shared shared = core::share_object(memory, state_->slot(), {key_high, key_low},
                                                 std::min(bytes, core::kMaxCharge));
  if (shared.object == core::kNoObject) return Status::ledger_full;
  if (shared.uncharged_bytes != 0) state_->segment.count_anomaly();
  return Status::ok;
}

Status Tenant::hold_shared(std::uint64_t key_high, std::uint64_t key_low, std::uint64_t& bytes) {
  const Status joined = join();
  if (joined != Status::ok) return joined;
  ProcessLock lock(*state_);
  AtomicMemory memory(state_->segment, 0);
  const std::uint32_t object = core::hold_object(memory, state_->slot(), {key_high, key_low});
  if (object == core::kNoObject) return Status::not_found;
  bytes = state_->segment.object(object).bytes.load();
  return Status::ok;
}

void Tenant::release_shared(std::uint64_t key_high, std::uint64_t key_low) {
  if (!joined()) return;
  ProcessLock lock(*state_);
  AtomicMemory memory(state_->segment, 0);
  if (core::unhold_object(memory, state_->slot(), {key_high, key_low}) == 0)
    state_->segment.count_anomaly();
}

bool Tenant::find_shared_by_size(std::uint32_t gpu, std::uint64_t bytes, std::uint64_t& key_high,
                                 std::uint64_t& key_low) const {
  if (gpu >= gpu_count()) return false;
  AtomicMemory memory(state_->segment, gpu);
  const std::uint32_t slot = state_->slot();
  for (std::uint32_t object = 0; object < memory.objects(); ++object) {
    if (memory.object_charge(object) != bytes || bytes == 0) continue;
    if (slot != kNoSlot && memory.holds(slot, object)) continue;
    const core::ObjectKey key = memory.object_key(object);
    key_high = key.high;
    key_low = key.low;
    return true;
  }
  return false;
}

}  // namespace vgpu::shm

// SPDX-License-Identifier: Apache-2.0
// Slots: taken by a process, given back or reaped. layout.h has the life of a slot. Any process may
// be stopped or killed between any two steps here; nobody else ever waits for it.
//
// When a slot is dead: nobody holds the lock on its byte (the process, or a forked child that may
// keep the memory alive, would) and, where pids mean the same to both, its process has exited or
// become another program. Between the closing of its files and its end a process says that it is
// exiting; until then its driver's files may still be open.
#include <cstring>

#include "atomic_memory.h"
#include "liveness.h"
#include "segment.h"
#include "state.h"
#include "vgpu/core/shared_objects.h"
#include "vgpu/platform/clock.h"
#include "vgpu/platform/file.h"
#include "vgpu/platform/process.h"
#include "vgpu/shm/step.h"
#include "vgpu/shm/tenant.h"

namespace vgpu::shm {
namespace {

void name_slot(SlotIdentity& identity, const Self& self) {
  // Relaxed: published by the owner word's change to live.
  identity.pid_namespace.store(self.pid_namespace, std::memory_order_relaxed);
  identity.start_ticks.store(self.start_ticks, std::memory_order_relaxed);
  const FixedString<kMaxName> program = platform::program_name();
  char text[kMaxName + 1] = {};
  std::memcpy(text, program.c_str(), program.size());
  for (std::size_t i = 0; i < sizeof text / 8; ++i) {
    std::uint64_t word = 0;
    std::memcpy(&word, text + i * 8, 8);
    identity.program[i].store(word, std::memory_order_relaxed);
  }
}

// What the former owner left. Relaxed: published by the owner word too.
void clear_slot(const Segment& segment, std::uint32_t slot) {
  for (std::uint32_t gpu = 0; gpu < segment.gpu_count(); ++gpu) {
    ChargeLine& line = segment.line(gpu, slot);
    line.charge.store(0, std::memory_order_relaxed);
    for (Word& cell : line.ask) cell.store(0, std::memory_order_relaxed);
    line.moving_object.store(core::kNoObject, std::memory_order_relaxed);
  }
  for (Word& word : segment.held(slot).bits) word.store(0, std::memory_order_relaxed);
  AtomicMemory memory(segment, 0);
  core::sweep_buildings(memory, slot);
}

// Takes the slot if it is free; its number is ours when this returns true.
bool take_slot(const Segment& segment, std::uint32_t slot, int fd, const Self& self) {
  Word& word = segment.owner(slot);
  Owner owner;
  const bool claimed = claim_owner(word, fd, kLockBase + slot, self, owner, [&] {
    step(core::Step::join_locked);
    AtomicMemory::raise(segment.header().slot_high_water, slot + 1);
  });
  if (!claimed) return false;
  step(core::Step::join_claimed);
  name_slot(segment.identity(slot), self);
  step(core::Step::join_named);
  clear_slot(segment, slot);
  step(core::Step::join_cleared);
  std::uint64_t seen = owner.pack();
  owner.state = SlotState::live;
  const bool ours = word.compare_exchange_strong(seen, owner.pack());
  if (!ours) {
    platform::unlock_byte(fd, kLockBase + slot);
    return false;
  }
  step(core::Step::join_live);
  return true;
}

void free_slot(const Segment& segment, std::uint32_t slot, int fd) {
  Word& word = segment.owner(slot);
  word.store(Owner::unpack(word.load()).freed());
  step(core::Step::leave_freed);
  if (fd >= 0) platform::unlock_byte(fd, kLockBase + slot);
  step(core::Step::leave_unlocked);
}

void collect_all(const Segment& segment) {
  AtomicMemory memory(segment, 0);
  for (std::uint32_t object = 0; object < memory.objects(); ++object) {
    core::collect_object(memory, object);
  }
}

void copy_program(const SlotIdentity& identity, FixedString<kMaxName>& out) {
  char text[kMaxName + 1] = {};
  for (std::size_t i = 0; i < sizeof text / 8; ++i) {
    const std::uint64_t word = identity.program[i].load(std::memory_order_relaxed);
    std::memcpy(text + i * 8, &word, 8);
  }
  out = FixedString<kMaxName>(std::string_view(text, ::strnlen(text, kMaxName)));
}

}  // namespace

bool slot_is_dead(const Segment& segment, std::uint32_t slot, const Owner& owner, int fd,
                  std::uint64_t own_namespace) {
  const SlotIdentity& identity = segment.identity(slot);
  return owner_is_dead(owner, fd, kLockBase + slot, identity.start_ticks.load(),
                       identity.pid_namespace.load(), own_namespace);
}

void view_slot(const Segment& segment, std::uint32_t slot, const Owner& owner, ProcessView& view) {
  view.slot = slot;
  view.pid = owner.pid;
  view.pid_namespace = segment.identity(slot).pid_namespace.load();
  view.start_time_ticks = segment.identity(slot).start_ticks.load();
  copy_program(segment.identity(slot), view.program);
  for (std::uint32_t gpu = 0; gpu < segment.gpu_count(); ++gpu) {
    view.charged_bytes[gpu] = core::charge_bytes(segment.line(gpu, slot).charge.load());
  }
}

Status Tenant::join() {
  if (state_ == nullptr) return Status::not_found;
  if (state_->slot() != kNoSlot) return Status::ok;
  ProcessLock lock(*state_);
  if (state_->slot() != kNoSlot) return Status::ok;
  const Segment& segment = state_->segment;
  const int fd = state_->own_file();
  const Self self;
  for (int pass = 0; pass < 2; ++pass) {
    for (std::uint32_t slot = 0; slot < kMaxSlots; ++slot) {
      if (!take_slot(segment, slot, fd, self)) continue;
      // After the slot is live: see remove_segment().
      if (segment.header().removed.load() != 0) {
        free_slot(segment, slot, fd);
        return Status::not_found;
      }
      state_->process->slot_plus_one.store(slot + 1, std::memory_order_release);
      return Status::ok;
    }
    if (pass == 0) (void)reap_dead_slots(*state_);
  }
  return Status::ledger_full;
}

bool Tenant::joined() const { return state_ != nullptr && state_->slot() != kNoSlot; }

void Tenant::leave() {
  if (state_ == nullptr) return;
  ProcessLock lock(*state_);
  const std::uint32_t slot = state_->slot();
  if (slot == kNoSlot) return;
  state_->process->slot_plus_one.store(0, std::memory_order_release);
  free_slot(state_->segment, slot, state_->own_file());
  collect_all(state_->segment);
}

std::uint32_t reap_dead_slots(Tenant::State& state) {
  const Segment& segment = state.segment;
  const int fd = state.own_file();
  const std::uint32_t own_slot = state.slot();
  const std::uint64_t own_namespace = platform::pid_namespace();
  std::uint32_t count = 0;
  for (std::uint32_t slot = 0; slot < segment.slots(); ++slot) {
    if (slot == own_slot) continue;
    std::uint64_t seen = segment.owner(slot).load();
    const Owner owner = Owner::unpack(seen);
    if (owner.state == SlotState::free) continue;
    if (!slot_is_dead(segment, slot, owner, fd, own_namespace)) continue;
    step(core::Step::reap_judged);
    // The dead don't come back, and a successor has another generation: so if the word is the same,
    // so is the verdict.
    if (segment.owner(slot).compare_exchange_strong(seen, owner.freed())) ++count;
    step(core::Step::reap_freed);
  }
  // Also when nobody died now: an earlier reaper may have died before this.
  collect_all(segment);
  step(core::Step::reap_collected);
  return count;
}

std::uint32_t reap_if_due(Tenant::State& state, std::uint64_t interval_ns) {
  ProcessPart& process = *state.process;
  const std::uint64_t now = platform::monotonic_ns();
  // Relaxed: only this process's threads, and two that reap at once do no harm.
  const std::uint64_t began = process.reap_began_ns.load(std::memory_order_relaxed);
  const std::uint64_t took = process.reap_took_ns.load(std::memory_order_relaxed);
  if (began != 0 && now - began < std::max(interval_ns, 10 * took)) return 0;
  ProcessLock lock(state);
  process.reap_began_ns.store(now, std::memory_order_relaxed);
  const std::uint32_t count = reap_dead_slots(state);
  process.reap_took_ns.store(platform::monotonic_ns() - now, std::memory_order_relaxed);
  return count;
}

std::uint32_t Tenant::reap() {
  if (state_ == nullptr) return 0;
  ProcessLock lock(*state_);
  return reap_dead_slots(*state_);
}

std::size_t Tenant::processes(std::span<ProcessView> out) const {
  if (state_ == nullptr) return 0;
  const Segment& segment = state_->segment;
  std::size_t count = 0;
  for (std::uint32_t slot = 0; slot < segment.slots() && count < out.size(); ++slot) {
    const std::uint64_t seen = segment.owner(slot).load();
    const Owner owner = Owner::unpack(seen);
    if (owner.state != SlotState::live) continue;
    ProcessView view;
    view_slot(segment, slot, owner, view);
    // All of it is of one process, or of none that we show.
    if (segment.owner(slot).load() != seen) continue;
    out[count++] = view;
  }
  return count;
}

}  // namespace vgpu::shm

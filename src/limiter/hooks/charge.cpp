// SPDX-License-Identifier: Apache-2.0
// The one path from hooks to the tenant's ledger; see charge.h.
#include "charge.h"

#include <sched.h>

#include "settle.h"
#include "vgpu/core/driver_model.h"
#include "vgpu/platform/clock.h"

namespace vgpu::limiter {

namespace {

std::uint64_t handle_of(CUcontext context) { return reinterpret_cast<std::uint64_t>(context); }

GpuAccount& account(int gpu) { return ledger().gpus[gpu]; }
std::uint32_t position(int gpu) { return static_cast<std::uint32_t>(gpu); }

void count(int gpu, std::uint64_t bytes, Charge kind) {
  switch (kind) {
    case Charge::explicit_memory:
      account(gpu).visible_bytes.fetch_add(bytes, std::memory_order_release);
      return;
    case Charge::implicit:
      account(gpu).implicit.add_estimate(bytes);
      note_implicit_change(gpu);
      return;
    case Charge::promised:
      account(gpu).implicit.add_promise(bytes);
      note_implicit_change(gpu);
      return;
    case Charge::unseen:
      return;
  }
}

}  // namespace

int gpu_of(CUdevice device) { return Limiter::active()->position_of(device); }

Place place_of(CUcontext context) {
  Context known;
  if (ledger().contexts.find(handle_of(context), known)) {
    return {
        .gpu = static_cast<int>(known.gpu), .owner = known.owner, .context = handle_of(context)};
  }
  return {.gpu = kNoGpu, .owner = 0, .context = handle_of(context)};
}

Place current_place() {
  CUcontext context = nullptr;
  if (real().cuCtxGetCurrent(&context) != CUDA_SUCCESS || context == nullptr) return {};
  Place place = place_of(context);
  if (place.gpu != kNoGpu) return place;
  place.gpu = Limiter::active()->position_of_current_context();
  if (place.gpu == kNoGpu) return place;
  // Made by a way that no hook saw (an interop library): its own memory is found by the next
  // measurement.
  ledger().contexts.add(place.context, {.gpu = position(place.gpu)});
  note_implicit_change(place.gpu);
  return place_of(context);
}

Charge charge_of(AllocationKind kind) {
  switch (kind) {
    case AllocationKind::linear:
    case AllocationKind::in_block:
    case AllocationKind::array:
    case AllocationKind::small_array:
      return Charge::explicit_memory;
    case AllocationKind::managed:
    case AllocationKind::imported:
    case AllocationKind::held:
    case AllocationKind::in_pool:
      return Charge::unseen;
  }
  __builtin_unreachable();  // written by this process's own hooks only
}

bool reserve(int gpu, std::uint64_t bytes) {
  return tenant().reserve(position(gpu), bytes, driver_model::kAttemptBytes) == shm::Status::ok;
}

bool Patience::wait() {
  constexpr std::uint64_t kAtMostNs = 1'000'000;
  const std::uint64_t now_ns = platform::monotonic_ns();
  if (began_ns_ == 0) began_ns_ = now_ns;
  if (now_ns - began_ns_ > kAtMostNs) return false;
  sched_yield();
  return true;
}

// The change begins when everything is decided: a thread that waits for room changes nothing.
Reservation::Reservation(int gpu, std::uint64_t bytes, Charge charge, Room room)
    : gpu_(gpu), bytes_(gpu == kNoGpu ? 0 : bytes), charge_(charge) {
  if (bytes_ != 0 && room == Room::attempt) {
    // There is room for one attempt of the tenant at a time.
    Patience patience;
    do {
      refused_ = tenant().reserve(position(gpu_), bytes_) != shm::Status::ok;
    } while (refused_ && patience.wait());
  } else if (bytes_ != 0 && !reserve(gpu_, bytes_)) {
    settle_and_reserve();
  }
  if (refused_) {
    bytes_ = 0;
  } else {
    ledger().changes.begin();
  }
}

// Only now is it worth asking the driver what pools and contexts really take. What is known to be
// charged too high is worth waiting for a quiet moment.
void Reservation::settle_and_reserve() {
  Patience patience;
  do {
    if (settle(gpu_) && reserve(gpu_, bytes_)) return;
  } while (is_inexact(gpu_) && patience.wait());
  refused_ = true;
}

Reservation::~Reservation() {
  if (bytes_ != 0) tenant().release(position(gpu_), bytes_);
  if (!refused_) ledger().changes.end();
}

void Reservation::keep(std::uint64_t bytes) {
  if (gpu_ == kNoGpu) return;
  if (bytes > bytes_) tenant().charge(position(gpu_), bytes - bytes_);
  if (bytes < bytes_) tenant().release(position(gpu_), bytes_ - bytes);
  bytes_ = 0;
  count(gpu_, bytes, charge_);
}

void Reservation::keep_part(std::uint64_t bytes, Charge charge) {
  if (gpu_ == kNoGpu || bytes == 0) return;
  if (bytes > bytes_) tenant().charge(position(gpu_), bytes - bytes_);
  bytes_ -= bytes < bytes_ ? bytes : bytes_;
  count(gpu_, bytes, charge);
}

void charge(int gpu, std::uint64_t bytes, Charge kind) {
  if (gpu == kNoGpu || bytes == 0) return;
  tenant().charge(position(gpu), bytes);
  count(gpu, bytes, kind);
}

void release(int gpu, std::uint64_t bytes, Charge kind) {
  if (gpu == kNoGpu || bytes == 0) return;
  switch (kind) {
    case Charge::explicit_memory:
      account(gpu).visible_bytes.fetch_sub(bytes, std::memory_order_release);
      break;
    case Charge::implicit:
      release_implicit(gpu, bytes, bytes);
      return;
    case Charge::promised:
      withdraw_promise(gpu, bytes);
      return;
    case Charge::unseen:
      break;
  }
  if (bytes != 0) tenant().release(position(gpu), bytes);
}

void release_implicit(int gpu, std::uint64_t known_bytes, std::uint64_t estimated_bytes) {
  const std::uint64_t released = account(gpu).implicit.remove(known_bytes, estimated_bytes);
  if (released != 0) tenant().release(position(gpu), released);
  note_inexact_charge(gpu);
}

std::uint64_t withdraw_promise(int gpu, std::uint64_t bytes) {
  if (gpu == kNoGpu || bytes == 0) return 0;
  const std::uint64_t withdrawn = account(gpu).implicit.withdraw_promise(bytes);
  if (withdrawn != 0) tenant().release(position(gpu), withdrawn);
  return withdrawn;
}

void release(const Freed& freed) {
  const int gpu = static_cast<int>(freed.gpu);
  if (!freed.key.is_set()) return release(gpu, freed.bytes, charge_of(freed.kind));
  // The tenant's object carries the charge; only this process's own counts change.
  if (charge_of(freed.kind) == Charge::explicit_memory) {
    account(gpu).visible_bytes.fetch_sub(freed.bytes, std::memory_order_release);
  }
  tenant().release_shared(freed.key.high, freed.key.low);
}

void release_when_gone(const Freed& freed) {
  const int gpu = static_cast<int>(freed.gpu);
  note_inexact_charge(gpu);
  if (charge_of(freed.kind) != Charge::explicit_memory) return release(freed);
  if (freed.key.is_set()) {
    // Out of the tenant's object, which may be at its end, into this process's own charge.
    charge(gpu, freed.bytes, Charge::implicit);
    return release(freed);
  }
  account(gpu).implicit.add_estimate(freed.bytes);
  account(gpu).visible_bytes.fetch_sub(freed.bytes, std::memory_order_release);
}

}  // namespace vgpu::limiter

// SPDX-License-Identifier: Apache-2.0
// How a hook charges: find the place (GPU and context), reserve before the driver is called, keep
// or let go after. Used by every hook body in this folder; any thread. A place that isn't the
// tenant's charges nothing.
#pragma once

#include <cstdint>

#include "../ledger/process_ledger.h"
#include "../limiter.h"
#include "vgpu/api/cuda_abi.h"
#include "vgpu/driver/dispatch.h"

namespace vgpu::limiter {

inline constexpr int kNoGpu = Limiter::kNoPosition;

struct Place {
  int gpu = kNoGpu;           // position in the tenant
  std::uint64_t owner = 0;    // what memory made here dies with (Context::owner)
  std::uint64_t context = 0;  // the current one
};

Place current_place();
Place place_of(CUcontext context);
int gpu_of(CUdevice device);

// What a reservation is for: how it shows in NVML decides how a measurement counts it.
enum class Charge : std::uint8_t {
  explicit_memory,  // NVML shows it
  unseen,           // NVML doesn't show it here: managed memory, imports
  implicit,         // contexts, code, stacks: measured, not counted
  promised,         // implicit memory that comes at a later launch
};

Charge charge_of(AllocationKind kind);

// From before the driver's call to after its record: tells measurements that a change is in flight.
class ChangeScope {
 public:
  ChangeScope() { ledger().changes.begin(); }
  ~ChangeScope() { ledger().changes.end(); }
  ChangeScope(const ChangeScope&) = delete;
  ChangeScope& operator=(const ChangeScope&) = delete;
};

// Reserves beside what is left to attempts; without settling first.
bool reserve(int gpu, std::uint64_t bytes);

// A bounded wait for others who are about to leave room, for at most a millisecond: they are in the
// driver for some microseconds, unless they were stopped there.
class Patience {
 public:
  bool wait();  // false when it is enough

 private:
  std::uint64_t began_ns_ = 0;
};

// What of the limit a reservation may use.
enum class Room : std::uint8_t {
  ordinary,  // all but what is left to attempts
  attempt,   // that as well: for what is given back at once if it turns out to be needed
};

// Reserves in its constructor, settling this process's own pools and estimates before it gives up;
// unless it is refused a change is open from then on. What isn't kept is given back by the
// destructor.
class Reservation {
 public:
  Reservation(int gpu, std::uint64_t bytes, Charge charge, Room room = Room::ordinary);
  ~Reservation();
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;

  bool refused() const { return refused_; }
  // Keeps `bytes` of it; more than was reserved is charged without asking, because it is there
  // already.
  void keep(std::uint64_t bytes);
  void keep() { keep(bytes_); }
  // Keeps a part for what may be another purpose, and goes on.
  void keep_part(std::uint64_t bytes, Charge charge);

 private:
  void settle_and_reserve();

  int gpu_;
  std::uint64_t bytes_;
  Charge charge_;
  bool refused_ = false;
};

// Without the driver's say: what was found to be there, what is known to be gone.
void charge(int gpu, std::uint64_t bytes, Charge kind);
void release(int gpu, std::uint64_t bytes, Charge kind);
void release(const Freed& freed);
// What was charged as implicit memory is gone: `known_bytes` of it for sure
// (ImplicitAccount::remove).
void release_implicit(int gpu, std::uint64_t known_bytes, std::uint64_t estimated_bytes);
// Takes back up to `bytes` that were promised; returns how many.
std::uint64_t withdraw_promise(int gpu, std::uint64_t bytes);
// Memory whose end can't be seen (freed in stream order, exported, left behind by a destroyed
// pool): from now on it is charged as long as a measurement shows it.
void release_when_gone(const Freed& freed);

}  // namespace vgpu::limiter

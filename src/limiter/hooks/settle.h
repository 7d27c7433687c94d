// SPDX-License-Identifier: Apache-2.0
// Bringing what this process is charged to what the driver says: pools and graphs by their RESERVED
// attributes (40 ns each), implicit memory by NVML's figure for this process (about 25 us). Called
// before a refusal, for views, after a synchronisation that may have shrunk a pool, and at a slow
// beat; never on the launch path. Any thread; the driver is asked with the thread's capture mode
// relaxed.
#pragma once

#include <cstdint>

#include "../ledger/process_ledger.h"
#include "vgpu/api/cuda_abi.h"

namespace vgpu::limiter {

// Everything of this process on a GPU. False: nothing was unsettled, so asking the ledger again
// can't help.
bool settle(int gpu);
// `spare_bytes` may stay charged for requests to come. False: the pool isn't known to be as this
// call found it, because another settlement came in between or it couldn't be read.
bool settle_pool(Pool& pool, std::uint64_t spare_bytes = 0);
// Pools only, and only if something changed since: what views and synchronising calls can afford.
void settle_changed_pools();

// Implicit memory may have changed (code loaded, a context made, a kernel launched for the first
// time).
void note_implicit_change(int gpu);
bool any_measurement_wanted();
// The charge is known to be too high until it is measured (memory freed in stream order, or left by
// a destroyed pool): no view and no beat shall show it.
void note_inexact_charge(int gpu);
// It is so, and a reading will tell, as soon as nothing changes around one.
bool is_inexact(int gpu);
// Measures if something may have changed. False: not measured, or something was changing meanwhile.
bool measure(int gpu);
// measure(), at most every 100 ms a GPU, and once a second without a known reason; for calls that
// take long anyway.
void measure_at_beat(int gpu);

// What NVML shows of this process beyond its explicit allocations and pools.
struct Reading {
  std::uint64_t implicit_bytes = 0;
  ChangeCount::Moment moment;
  bool is_exact = false;  // nothing was changing around it, and the account has been settled by it
};
Reading read_implicit(int gpu);

// What one operation took, by readings before and after it: made before the operation opens its
// change, asked after it has ended that.
class Growth {
 public:
  explicit Growth(int gpu) : gpu_(gpu), before_(read_implicit(gpu)) {}
  // False: not known, because something else changed meanwhile. Settles the account either way, if
  // it can.
  bool find(std::uint64_t& bytes);
  // Nothing has begun since it was found. Asked under the lock of what the answer changes: whatever
  // begins after that comes to the lock later.
  bool is_recent() const { return ledger().changes.is_still(after_.moment); }

 private:
  int gpu_;
  Reading before_;
  Reading after_;
};

// Whose entry in NVML's list is this process's? Told by the lists before and after its first
// context, because in a PID namespace NVML speaks of other numbers.
class OwnPidSearch {
 public:
  explicit OwnPidSearch(int gpu);
  void finish();

 private:
  static constexpr unsigned kMost = 256;
  int gpu_;
  unsigned count_ = 0;
  unsigned pids_[kMost];
};

}  // namespace vgpu::limiter

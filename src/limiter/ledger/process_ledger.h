// SPDX-License-Identifier: Apache-2.0
// What this process holds and is charged: the tables of its memory, and one account per GPU.
// Everything that changes the tenant's ledger goes through reserve(), charge() and release() here,
// so that the account and the tenant's slot always say the same. Any thread; no lock is held across
// a driver call.
#pragma once

#include <atomic>
#include <cstdint>

#include "allocation_table.h"
#include "change_count.h"
#include "code_table.h"
#include "context_table.h"
#include "graph_table.h"
#include "implicit_account.h"
#include "physical_table.h"
#include "pool_table.h"
#include "vgpu/shm/tenant.h"

namespace vgpu::limiter {

// One GPU as this process uses it. The counters are statistics and inputs of a measurement; the
// tenant's slot is the account.
struct GpuAccount {
  // What NVML shows for this process because of explicit allocations: not managed memory, not
  // pools, not imports (which it shows for the exporter, as long as that lives).
  std::atomic<std::uint64_t> visible_bytes{0};
  ImplicitAccount implicit;
  // Something may have changed what NVML shows beyond explicit allocations; when it was last read.
  std::atomic<bool> wants_measurement{false};
  // The charge is too high until it is measured: don't wait for the beat.
  std::atomic<bool> wants_it_now{false};
  std::atomic<std::uint64_t> measured_at_ns{0};
  // A pool was destroyed with allocations in it: any free may be the end of its memory.
  std::atomic<bool> has_orphans{false};
  // The most and the least that a context was measured to take here; 0: none was yet.
  std::atomic<std::uint64_t> most_context_bytes{0};
  std::atomic<std::uint64_t> least_context_bytes{0};
  // Managed memory was allocated here: what the first of it takes is charged.
  std::atomic<bool> has_managed{false};
  // What stack and local memory are multiplied by; 0: not asked yet.
  std::atomic<std::uint64_t> resident_threads{0};
};

struct ProcessLedger {
  AllocationTable allocations;
  PhysicalTable physical;
  PoolTable pools;
  GraphTable graphs;
  ContextTable contexts;
  CodeTable code;
  GpuAccount gpus[shm::kMaxGpus];
  // Everything that changes what NVML shows for this process, but growth and shrinking of pools.
  ChangeCount changes;
  // This process in NVML's eyes, which in a PID namespace is another number; 0: not known yet.
  std::atomic<unsigned> nvml_pid{0};

  // In a forked child, before it uses the GPU: the parent's memory is the parent's.
  void reset_after_fork();
};

ProcessLedger& ledger();

}  // namespace vgpu::limiter

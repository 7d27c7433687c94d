// SPDX-License-Identifier: Apache-2.0
// The one process ledger: constant-initialised (hooks may run before this library's constructors)
// and never destroyed (other threads may still call the driver while the process exits).
#include "process_ledger.h"

#include <type_traits>

namespace vgpu::limiter {

namespace {

constinit ProcessLedger g_ledger;
static_assert(std::is_trivially_destructible_v<ProcessLedger>);

}  // namespace

ProcessLedger& ledger() { return g_ledger; }

void ProcessLedger::reset_after_fork() {
  allocations.reset_after_fork();
  physical.reset_after_fork();
  pools.reset_after_fork();
  graphs.reset_after_fork();
  contexts.reset_after_fork();
  code.reset_after_fork();
  for (GpuAccount& gpu : gpus) {
    gpu.visible_bytes.store(0, std::memory_order_relaxed);
    gpu.implicit.reset_after_fork();
    gpu.wants_measurement.store(false, std::memory_order_relaxed);
    gpu.wants_it_now.store(false, std::memory_order_relaxed);
    gpu.measured_at_ns.store(0, std::memory_order_relaxed);
    gpu.has_orphans.store(false, std::memory_order_relaxed);
    gpu.has_managed.store(false, std::memory_order_relaxed);
    gpu.most_context_bytes.store(0, std::memory_order_relaxed);
    gpu.least_context_bytes.store(0, std::memory_order_relaxed);
    gpu.resident_threads.store(0, std::memory_order_relaxed);
  }
  changes.reset_after_fork();
  nvml_pid.store(0, std::memory_order_relaxed);
}

}  // namespace vgpu::limiter

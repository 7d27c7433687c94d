// SPDX-License-Identifier: Apache-2.0
// Settlement of pools and measurement of implicit memory; see settle.h.
#include "settle.h"

#include <time.h>
#include <unistd.h>

#include <atomic>

#include "../enter.h"
#include "charge.h"
#include "vgpu/core/driver_model.h"

namespace vgpu::limiter {

namespace {

constexpr std::uint64_t kBeatNs = 100'000'000;
// Without a known reason too: streams, events and graphs take a little that no call asks for.
constexpr std::uint64_t kIdleBeatNs = 1'000'000'000;
constexpr std::uint64_t kRefusalBeatNs = 10'000'000;
constexpr unsigned kMostProcesses = 256;

constinit std::atomic<nvmlDevice_t> g_nvml_devices[shm::kMaxGpus] = {};

std::uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000ULL +
         static_cast<std::uint64_t>(now.tv_nsec);
}

std::uint64_t since_measured_ns(int gpu) {
  return now_ns() - ledger().gpus[gpu].measured_at_ns.load(std::memory_order_relaxed);
}

bool read_reserved(Pool& pool, std::uint64_t& bytes) {
  const std::uint64_t handle = pool.handle.load(std::memory_order_relaxed);
  if (handle == 0) return false;
  cuuint64_t value = 0;
  if (pool.of_graphs) {
    if (real().cuDeviceGetGraphMemAttribute == nullptr) return false;
    const auto device = static_cast<CUdevice>(handle - 1);
    if (real().cuDeviceGetGraphMemAttribute(device, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT,
                                            &value) != CUDA_SUCCESS) {
      return false;
    }
  } else {
    if (real().cuMemPoolGetAttribute == nullptr) return false;
    const auto driver_pool = reinterpret_cast<CUmemoryPool>(handle);
    if (real().cuMemPoolGetAttribute(driver_pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &value) !=
        CUDA_SUCCESS) {
      return false;
    }
  }
  bytes = value;
  return true;
}

bool settle_pool_relaxed(Pool& pool, std::uint64_t spare_bytes = 0) {
  if (!pool.charged) return false;
  const auto settlement = pool.account.begin_settlement();
  std::uint64_t reserved = 0;
  if (!read_reserved(pool, reserved)) return false;
  const PoolAccount::Settled settled =
      pool.account.end_settlement(settlement, reserved, spare_bytes);
  shm::Tenant& tenant = Limiter::active()->tenant();
  if (settled.missing_bytes != 0) tenant.charge(pool.gpu, settled.missing_bytes);
  if (settled.released_bytes != 0) tenant.release(pool.gpu, settled.released_bytes);
  return settled.is_done;
}

// What this process's pools on a GPU hold, and what they were asked until then.
struct PoolsReading {
  std::uint64_t bytes = 0;
  std::uint64_t begun = 0;
  bool is_quiet = true;
  bool operator==(const PoolsReading&) const = default;
};

PoolsReading read_pools(int gpu) {
  PoolsReading sum;
  ledger().pools.for_each([&](Pool& pool) {
    std::uint64_t bytes = 0;
    if (static_cast<int>(pool.gpu) != gpu || !pool.charged || pool.managed) return;
    const auto moment = pool.account.moment();
    if (!read_reserved(pool, bytes)) return;
    sum.bytes += bytes;
    sum.begun += moment.begun;
    sum.is_quiet = sum.is_quiet && moment.is_quiet;
  });
  return sum;
}

nvmlDevice_t nvml_device(int gpu) {
  std::atomic<nvmlDevice_t>& cached = g_nvml_devices[gpu];
  nvmlDevice_t device = cached.load(std::memory_order_acquire);
  if (device != nullptr) return device;
  if (!Limiter::active()->ensure_nvml() || real_nvml().nvmlDeviceGetHandleByUUID == nullptr)
    return nullptr;
  const auto text =
      Limiter::active()->tenant().spec().gpus[static_cast<std::size_t>(gpu)].uuid.text();
  if (real_nvml().nvmlDeviceGetHandleByUUID(text.data(), &device) != NVML_SUCCESS) return nullptr;
  cached.store(device, std::memory_order_release);
  return device;
}

// Calls visit(pid, bytes) for each process that NVML lists. False: it can't say.
template <class Visit>
bool for_each_process(int gpu, Visit visit) {
  const nvmlDevice_t device = nvml_device(gpu);
  if (device == nullptr) return false;
  nvmlProcessInfo_t processes[kMostProcesses];
  unsigned count = kMostProcesses;
  const auto list = real_nvml().nvmlDeviceGetComputeRunningProcesses_v3;
  if (list == nullptr || list(device, &count, processes) != NVML_SUCCESS) return false;
  for (unsigned i = 0; i < count && i < kMostProcesses; ++i)
    visit(processes[i].pid, processes[i].usedGpuMemory);
  return true;
}

// A process without a context is in no list, and holds nothing.
bool own_nvml_bytes(int gpu, std::uint64_t& bytes) {
  const unsigned known = ledger().nvml_pid.load(std::memory_order_relaxed);
  const unsigned wanted = known != 0 ? known : static_cast<unsigned>(getpid());
  bool found = false;
  const bool listed = for_each_process(gpu, [&](unsigned pid, unsigned long long used) {
    if (pid != wanted || used == static_cast<unsigned long long>(NVML_VALUE_NOT_AVAILABLE)) return;
    bytes = used;
    found = true;
  });
  return found || (listed && ledger().contexts.size() == 0);
}

// False: something was changing. Else the account has been settled by it, and `release_bytes` are
// the tenant's.
bool read_quiet(int gpu, Reading& reading, std::uint64_t& release_bytes) {
  GpuAccount& account = ledger().gpus[gpu];
  reading.moment = ledger().changes.now();
  if (!reading.moment.is_quiet) return false;
  // Acquire: whoever sees what a change did sees that it has begun.
  const std::uint64_t visible = account.visible_bytes.load(std::memory_order_acquire);
  const PoolsReading pools = read_pools(gpu);
  std::uint64_t shown = 0;
  if (!pools.is_quiet || !own_nvml_bytes(gpu, shown) || shown < visible + pools.bytes) return false;
  if (pools != read_pools(gpu)) return false;
  reading.implicit_bytes = shown - visible - pools.bytes;
  // What the driver keeps for a process with a context beyond the figure that it shows.
  const std::uint64_t unshown = shown != 0 ? driver_model::kUnshownProcessBytes : 0;
  return account.implicit.settle(reading.implicit_bytes + unshown, ledger().changes, reading.moment,
                                 release_bytes, [gpu](std::uint64_t bytes) {
                                   Limiter::active()->tenant().charge(
                                       static_cast<std::uint32_t>(gpu), bytes);
                                 });
}

}  // namespace

bool settle_pool(Pool& pool, std::uint64_t spare_bytes) {
  RelaxedCapture relaxed;
  return settle_pool_relaxed(pool, spare_bytes);
}

void settle_changed_pools() {
  if (!ledger().pools.has_changes()) return;
  RelaxedCapture relaxed;
  ledger().pools.clear_changes();
  ledger().pools.for_each([](Pool& pool) { settle_pool_relaxed(pool); });
  for (int gpu = 0; gpu < static_cast<int>(shm::kMaxGpus); ++gpu) {
    if (ledger().gpus[gpu].has_orphans.load(std::memory_order_relaxed)) note_inexact_charge(gpu);
  }
}

bool settle(int gpu) {
  const std::uint64_t before =
      Limiter::active()->tenant().own_charged_bytes(static_cast<std::uint32_t>(gpu));
  RelaxedCapture relaxed;
  ledger().pools.for_each([&](Pool& pool) {
    if (static_cast<int>(pool.gpu) == gpu) settle_pool_relaxed(pool);
  });
  if (since_measured_ns(gpu) >= kRefusalBeatNs) note_implicit_change(gpu);
  measure(gpu);
  return Limiter::active()->tenant().own_charged_bytes(static_cast<std::uint32_t>(gpu)) < before;
}

void note_implicit_change(int gpu) {
  // Relaxed: only decides whether the next settlement measures.
  std::atomic<bool>& wanted = ledger().gpus[gpu].wants_measurement;
  if (!wanted.load(std::memory_order_relaxed)) wanted.store(true, std::memory_order_relaxed);
}

bool any_measurement_wanted() {
  for (const GpuAccount& account : ledger().gpus) {
    if (account.wants_measurement.load(std::memory_order_relaxed)) return true;
  }
  return false;
}

bool measure(int gpu) {
  return ledger().gpus[gpu].wants_measurement.load(std::memory_order_relaxed) &&
         read_implicit(gpu).is_exact;
}

Reading read_implicit(int gpu) {
  if (gpu == kNoGpu) return {};
  GpuAccount& account = ledger().gpus[gpu];
  account.measured_at_ns.store(now_ns(), std::memory_order_relaxed);
  // Taken back before the reading, so that what wants another one meanwhile isn't forgotten.
  const bool wanted = account.wants_measurement.exchange(false, std::memory_order_relaxed);
  const bool wanted_now = account.wants_it_now.exchange(false, std::memory_order_relaxed);
  Reading reading;
  std::uint64_t release_bytes = 0;
  {
    RelaxedCapture relaxed;
    reading.is_exact = read_quiet(gpu, reading, release_bytes);
  }
  if (!reading.is_exact) {
    if (wanted) account.wants_measurement.store(true, std::memory_order_relaxed);
    if (wanted_now) account.wants_it_now.store(true, std::memory_order_relaxed);
    return reading;
  }
  if (release_bytes != 0)
    Limiter::active()->tenant().release(static_cast<std::uint32_t>(gpu), release_bytes);
  return reading;
}

bool Growth::find(std::uint64_t& bytes) {
  after_ = read_implicit(gpu_);
  const std::uint64_t before = before_.implicit_bytes;
  bytes = after_.implicit_bytes > before ? after_.implicit_bytes - before : 0;
  return before_.is_exact && after_.is_exact && after_.moment.begun == before_.moment.begun + 1;
}

void note_inexact_charge(int gpu) {
  note_implicit_change(gpu);
  ledger().gpus[gpu].wants_it_now.store(true, std::memory_order_relaxed);
}

bool is_inexact(int gpu) {
  GpuAccount& account = ledger().gpus[gpu];
  return account.wants_it_now.load(std::memory_order_relaxed) && account.implicit.was_read();
}

void measure_at_beat(int gpu) {
  const GpuAccount& account = ledger().gpus[gpu];
  const std::uint64_t since_ns = since_measured_ns(gpu);
  if (since_ns >= kIdleBeatNs) note_implicit_change(gpu);
  if (account.wants_it_now.load(std::memory_order_relaxed) || since_ns >= kBeatNs) measure(gpu);
}

OwnPidSearch::OwnPidSearch(int gpu) : gpu_(gpu) {
  if (gpu_ == kNoGpu || ledger().nvml_pid.load(std::memory_order_relaxed) != 0) {
    gpu_ = kNoGpu;
    return;
  }
  const bool listed = for_each_process(gpu_, [&](unsigned pid, unsigned long long) {
    if (count_ < kMost) pids_[count_++] = pid;
  });
  if (!listed) gpu_ = kNoGpu;
}

void OwnPidSearch::finish() {
  if (gpu_ == kNoGpu) return;
  const auto own = static_cast<unsigned>(getpid());
  unsigned found = 0;
  unsigned fresh = 0;
  for_each_process(gpu_, [&](unsigned pid, unsigned long long) {
    bool old = false;
    for (unsigned i = 0; i < count_; ++i) old = old || pids_[i] == pid;
    if (old) return;
    ++fresh;
    found = pid;
    if (pid == own) fresh = 1, found = own;
  });
  // Two new processes at once can't be told apart; another context will tell.
  if (fresh == 1 || found == own) ledger().nvml_pid.store(found, std::memory_order_relaxed);
}

}  // namespace vgpu::limiter

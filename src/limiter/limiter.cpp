// SPDX-License-Identifier: Apache-2.0
#include "limiter.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <new>

#include "birth.h"
#include "compute/service.h"
#include "compute/submit.h"
#include "enter.h"
#include "ledger/process_ledger.h"
#include "pod.h"
#include "vgpu/driver/dispatch.h"

namespace vgpu::limiter {

constinit thread_local std::uint32_t t_depth = 0;

std::atomic<Phase> Limiter::phase_{Phase::unstarted};

namespace {

// Not destroyed at exit: threads may be inside a hook then.
alignas(Limiter) std::byte g_storage[sizeof(Limiter)];

// The process whose thread is in start(); 0: none. A child that was forked meanwhile has another
// pid.
std::atomic<std::int32_t> g_starter{0};

GpuUuid uuid_of(const CUuuid& uuid) {
  GpuUuid out;
  static_assert(sizeof(uuid.bytes) == sizeof(out.bytes));
  __builtin_memcpy(out.bytes.data(), uuid.bytes, sizeof(uuid.bytes));
  return out;
}

}  // namespace

Limiter* Limiter::instance() { return std::launder(reinterpret_cast<Limiter*>(g_storage)); }

Phase Limiter::start() {
  Phase phase = start_alone(nullptr);
  if (phase == Phase::unstarted) phase = start_with_inventory();
  if (phase == Phase::limited && PodFollower::get().follows()) {
    ++t_depth;
    Service::get().follow();
    --t_depth;
  }
  return phase;
}

// NVML is asked before this thread is one that others wait for: opening a library waits for a
// thread that is inside a library's constructor, and that constructor may be waiting for start().
// Threads that come at the same time all ask; one makes the tenant. Out of line for its stack.
[[gnu::noinline]] Phase Limiter::start_with_inventory() {
  ++t_depth;  // what NVML and the dynamic linker do meanwhile isn't the program's doing
  const GpuInventory inventory = take_inventory();
  --t_depth;
  return start_alone(&inventory);
}

Phase Limiter::start_alone(const GpuInventory* inventory) {
  const auto is_settled = [](Phase phase) {
    return phase == Phase::limited || phase == Phase::unlimited || phase == Phase::refused;
  };
  for (;;) {
    Phase phase = phase_.load(std::memory_order_acquire);
    if (is_settled(phase)) return phase;
    std::int32_t starter = g_starter.load(std::memory_order_relaxed);
    const std::int32_t self = getpid();
    if (starter == self ||
        !g_starter.compare_exchange_strong(starter, self, std::memory_order_acq_rel)) {
      sched_yield();
      continue;
    }
    // Another thread may have started and finished between the two looks.
    phase = phase_.load(std::memory_order_acquire);
    if (is_settled(phase)) {
      g_starter.store(0, std::memory_order_release);
      return phase;
    }
    // Alone from here, and others wait: no call of NVML, no library is opened. A child that was
    // forked by another thread's start() begins anew.
    const bool child = phase_.exchange(Phase::starting, std::memory_order_acq_rel) == Phase::forked;
    ++t_depth;  // an interposed open() may use the GPU: it must not wait for itself
    phase = child ? instance()->rejoin() : Birth::of(*new (g_storage) Limiter, inventory);
    --t_depth;
    static bool handles_fork = false;
    if (!handles_fork) handles_fork = pthread_atfork(nullptr, nullptr, after_fork_in_child) == 0;
    phase_.store(phase, std::memory_order_release);  // pairs with phase(): the object is complete
    g_starter.store(0, std::memory_order_release);
    return phase;
  }
}

void Limiter::after_fork_in_child() {
  Phase phase = Phase::limited;
  phase_.compare_exchange_strong(phase, Phase::forked, std::memory_order_acq_rel);
}

Phase Limiter::rejoin() {
  ledger().reset_after_fork();
  reset_compute_after_fork();
  PodFollower::get().reset_after_fork();
  nvml_state_.store(0, std::memory_order_relaxed);  // NVML isn't initialised in a child
  return tenant_.join() == shm::Status::ok ? Phase::limited : Phase::refused;
}

void Limiter::stop() {
  Limiter* limiter = active();
  if (limiter == nullptr) return;
  release_hosting();
  shm::Tenant& tenant = limiter->tenant_;
  for (std::uint32_t gpu = 0; gpu < tenant.gpu_count(); ++gpu) {
    // The driver holds the memory until the kernel has closed its files: until then it stays
    // charged.
    if (tenant.own_charged_bytes(gpu) != 0) return;
  }
  Phase expected = Phase::limited;
  if (phase_.compare_exchange_strong(expected, Phase::forked, std::memory_order_acq_rel))
    tenant.leave();
}

int Limiter::position_of(CUdevice device) {
  if (device < 0 || static_cast<std::size_t>(device) >= kMaxDevices) return kNoPosition;
  std::atomic<std::uint8_t>& cached = position_by_device_[device];
  if (const std::uint8_t known = cached.load(std::memory_order_relaxed); known != 0)
    return known - 2;

  const driver::DriverDispatch& cuda = real();
  CUuuid uuid{};
  int position = kNoPosition;
  CUresult result = CUDA_ERROR_NOT_FOUND;
  // The second form names a MIG instance, the first the GPU that it is a part of.
  if (cuda.cuDeviceGetUuid_v2 != nullptr) result = cuda.cuDeviceGetUuid_v2(&uuid, device);
  if (result == CUDA_SUCCESS) position = tenant_.gpu_position(uuid_of(uuid));
  if (position == kNoPosition && cuda.cuDeviceGetUuid != nullptr) {
    result = cuda.cuDeviceGetUuid(&uuid, device);
    if (result == CUDA_SUCCESS) position = tenant_.gpu_position(uuid_of(uuid));
  }
  if (result == CUDA_SUCCESS)
    cached.store(static_cast<std::uint8_t>(position + 2), std::memory_order_relaxed);
  return position;
}

int Limiter::position_of_current_context() {
  CUdevice device = -1;
  if (real().cuCtxGetDevice == nullptr || real().cuCtxGetDevice(&device) != CUDA_SUCCESS)
    return kNoPosition;
  return position_of(device);
}

int Limiter::position_of(nvmlDevice_t device) {
  char text[96] = "";
  if (real_nvml().nvmlDeviceGetUUID == nullptr ||
      real_nvml().nvmlDeviceGetUUID(device, text, sizeof(text)) != NVML_SUCCESS) {
    return kNoPosition;
  }
  const auto uuid = GpuUuid::parse(text);
  return uuid.has_value() ? tenant_.gpu_position(*uuid) : kNoPosition;
}

CUdevice Limiter::device_of(int position) {
  int count = 0;
  if (position < 0 || real().cuDeviceGetCount == nullptr ||
      real().cuDeviceGetCount(&count) != CUDA_SUCCESS)
    return -1;
  for (CUdevice device = 0; device < count; ++device) {
    if (position_of(device) == position) return device;
  }
  return -1;
}

bool Limiter::ensure_nvml() {
  constexpr std::uint8_t kReady = 1;
  constexpr std::uint8_t kFailed = 2;
  std::uint8_t state = nvml_state_.load(std::memory_order_relaxed);
  if (state == 0) {
    // Threads that come at the same time initialise it twice: NVML counts.
    state = real_nvml().nvmlInit_v2 != nullptr && real_nvml().nvmlInit_v2() == NVML_SUCCESS
                ? kReady
                : kFailed;
    nvml_state_.store(state, std::memory_order_relaxed);
  }
  return state == kReady;
}

Phase settle_phase(Phase phase) { return phase == Phase::refused ? phase : Limiter::start(); }

}  // namespace vgpu::limiter

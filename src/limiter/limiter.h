// SPDX-License-Identifier: Apache-2.0
// The one object that stands for "this process is a tenant's": its birth at the first use of the
// GPU, its copy in a forked child, its end at exit. Hooks ask it for the tenant and for the
// position of a GPU in it, nothing else. Any thread. Invariant: active() is the same pointer for
// the rest of the process once it isn't null.
#pragma once

#include <atomic>
#include <cstdint>

#include "vgpu/api/cuda_abi.h"
#include "vgpu/api/nvml_abi.h"
#include "vgpu/base/gpu_uuid.h"
#include "vgpu/shm/tenant.h"

namespace vgpu::limiter {

// Where a process stands.
enum class Phase : std::uint32_t {
  unstarted,  // the GPU hasn't been used yet
  starting,   // a thread is in start()
  limited,    // a tenant's process: hooks act
  unlimited,  // no limit, or one that was refused under VGPU_ON_ERROR=open: straight to the driver
  refused,    // a setting is wrong: initialisation fails, now and every time
  forked,     // child of a limited process that hasn't used the GPU itself
};

struct GpuInventory;

class Limiter {
 public:
  // nullptr: this process isn't limited, call the driver. One load.
  static Limiter* active() { return phase() == Phase::limited ? instance() : nullptr; }
  static Phase phase() { return phase_.load(std::memory_order_acquire); }

  // The first use of the GPU comes here: settings, list of GPUs, tenant, slot. Later calls return
  // at once; threads that arrive meanwhile wait. Gives limited, unlimited or refused.
  static Phase start();
  // At exit: gives the slot back if nothing is charged to it, else the kernel's end of the process
  // does.
  static void stop();

  shm::Tenant& tenant() { return tenant_; }
  // Where its tenant's segment is, and the node's.
  const shm::StateDir& state_directory() const { return directory_; }

  static constexpr int kNoPosition = -1;
  // Position in the tenant of a CUDA ordinal, of the current context's device, of an NVML handle.
  // kNoPosition when there is none: such a GPU isn't the tenant's, or no context is current.
  int position_of(CUdevice device);
  int position_of_current_context();
  int position_of(nvmlDevice_t device);
  // The CUDA ordinal of a position; -1 when CUDA doesn't show that GPU to this process.
  CUdevice device_of(int position);

  // False where ENABLE_CUDA_HOOKS or ENABLE_NVML_HOOKS is `false` (bare variables only).
  bool hooks_cuda() const { return hooks_cuda_; }
  bool hooks_nvml() const { return hooks_nvml_; }

  // Initialises NVML for the limiter's own questions, once; false where it can't be.
  bool ensure_nvml();

 private:
  friend struct Birth;
  Limiter() = default;
  static Limiter* instance();
  // unstarted: the list of GPUs is needed, and `inventory` is null.
  static Phase start_alone(const GpuInventory* inventory);
  static Phase start_with_inventory();
  static void after_fork_in_child();
  Phase rejoin();

  static constexpr std::size_t kMaxDevices = 4 * std::size_t{shm::kMaxGpus};
  static std::atomic<Phase> phase_;

  shm::Tenant tenant_;
  shm::StateDir directory_;
  bool hooks_cuda_ = true;
  bool hooks_nvml_ = true;
  std::atomic<std::uint8_t> nvml_state_{0};
  // By CUDA ordinal: 0 unknown, else position + 2. Ordinals don't change their GPU while a process
  // lives.
  std::atomic<std::uint8_t> position_by_device_[kMaxDevices] = {};
};

// Of a process that is limited: hook bodies run only in those.
inline shm::Tenant& tenant() { return Limiter::active()->tenant(); }

}  // namespace vgpu::limiter

// SPDX-License-Identifier: Apache-2.0
// This process in a pod of tensor-fusion: where the pod's limits are found before there is a
// tenant, and that the tenant's quotas follow them afterwards. The file is read by each process,
// ten times a second on the service's thread; the daemon is asked by one process of the tenant, on
// a thread of its own that ends with the answer. A launch costs nothing more.
#pragma once

#include <atomic>
#include <cstdint>

#include "vgpu/pod/limits.h"
#include "vgpu/pod/variables.h"
#include "vgpu/shm/tenant.h"

namespace vgpu::limiter {

struct PodFindings {
  pod::Limits limits;  // none: `why` has what was tried
  bool from_daemon = false;
  FixedString<500> why;
};

// Whether these variables mean a pod whose limits hold.
bool speaks(const pod::Variables& variables);

// Waits for the daemon where there is no file: nobody may wait for the caller.
PodFindings find_pod_limits(const pod::Variables& variables);

// What a tenant is given for what is said of a GPU. `before`: what it had, where nothing is said.
Quota quota_of(const pod::GpuLimits& said, bool has_compute, const Quota& before,
               std::uint64_t total_bytes);

class PodFollower {
 public:
  static PodFollower& get();

  // At birth, and at most once: from now on the tenant's quotas are what the pod's limits say.
  void begin(const pod::Variables& variables, shm::Tenant& tenant);
  bool follows() const { return tenant_.load(std::memory_order_acquire) != nullptr; }

  // For the service's thread: looks for news where it is time to. Gives when it is time again.
  std::uint64_t look(std::uint64_t now_ns);
  // When quotas were changed that nobody took note of yet; 0: never.
  std::uint64_t take_change() { return changed_ns_.exchange(0, std::memory_order_acq_rel); }

  // In a forked child, which has no thread: what it follows stays.
  void reset_after_fork();

 private:
  PodFollower() = default;
  friend struct PodFollowerStorage;
  void apply(const pod::Limits& limits);
  void ask_daemon(std::uint64_t now_ns);
  static void* asking_main(void* self);
  void ask();
  void register_process();

  std::atomic<shm::Tenant*> tenant_{nullptr};
  pod::Variables variables_;
  std::uint64_t due_ns_ = 0;  // of the service's thread
  std::atomic<std::uint64_t> changed_ns_{0};
  std::atomic<bool> is_asking_{false};  // a thread is; what follows is that one's
  bool asks_limits_ = false;
  bool has_failed_ = false;
  std::uint32_t registrations_left_ = 0;
  std::uint64_t register_due_ns_ = 0;
};

}  // namespace vgpu::limiter

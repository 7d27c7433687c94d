// SPDX-License-Identifier: Apache-2.0
// The daemon as the arbiter's host: takes the lease over from whoever has it and keeps it. When the
// daemon ends or dies, a tenant's process takes it over as it does without a daemon.
#pragma once

#include <atomic>
#include <string>
#include <thread>

#include "vgpu/shm/tenant.h"

namespace vgpu::hypervisor {

class Hosting {
 public:
  explicit Hosting(const shm::StateDir& dir);
  ~Hosting();
  Hosting(const Hosting&) = delete;
  Hosting& operator=(const Hosting&) = delete;

  bool hosts() const { return hosts_.load(std::memory_order_relaxed); }
  // How often the lease was taken; more than once: somebody else had it in between.
  std::uint64_t takings() const { return takings_.load(std::memory_order_relaxed); }
  void stop();

 private:
  void run();
  void serve();  // one segment, until it is replaced by another file or we stop

  shm::StateDir dir_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> hosts_{false};
  std::atomic<std::uint64_t> takings_{0};
  std::thread thread_;
};

}  // namespace vgpu::hypervisor

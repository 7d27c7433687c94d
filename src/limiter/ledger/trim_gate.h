// SPDX-License-Identifier: Apache-2.0
// Keeps two things apart that would spoil each other: synchronisations, in which the driver gives
// unused memory of pools back, and requests to a pool that rely on such memory. A request that
// meets a synchronisation isn't made; a synchronisation that meets such a request waits for it a
// little (some microseconds of another thread). Any thread.
#pragma once

#include <atomic>
#include <cstdint>

namespace vgpu::limiter {

class TrimGate {
 public:
  void enter_synchronisation() { synchronisations_.fetch_add(1, std::memory_order_seq_cst); }
  void leave_synchronisation() { synchronisations_.fetch_sub(1, std::memory_order_release); }
  bool has_request() const { return requests_.load(std::memory_order_seq_cst) != 0; }

  // Sequentially consistent, like its counterpart above: of a request and a synchronisation that
  // begin together, at least one sees the other.
  void enter_request() { requests_.fetch_add(1, std::memory_order_seq_cst); }
  void leave_request() { requests_.fetch_sub(1, std::memory_order_release); }
  bool has_synchronisation() const {
    return synchronisations_.load(std::memory_order_seq_cst) != 0;
  }

  void reset_after_fork() {
    synchronisations_.store(0, std::memory_order_relaxed);
    requests_.store(0, std::memory_order_relaxed);
  }

 private:
  std::atomic<std::uint32_t> synchronisations_{0};
  std::atomic<std::uint32_t> requests_{0};
};

}  // namespace vgpu::limiter

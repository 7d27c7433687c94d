// SPDX-License-Identifier: Apache-2.0
// This process's part in the arbitration: the node segment, and a thread that hosts the arbiter for
// all processes when nobody else does. The thread is born with the first launch, or with the first
// use of the GPU in a pod whose limits it follows (../pod.h). It has all signals blocked, never
// calls the driver, and sleeps unless it hosts or follows. Any thread may call.
#pragma once

#include <atomic>
#include <cstdint>

#include "vgpu/shm/node.h"

namespace vgpu::limiter {

class Service {
 public:
  static Service& get();

  // The node segment; nullptr where there is none (said once): then nobody shares with this process
  // by agreement. The first call opens it and begins the thread.
  shm::Node* node();
  // The same in a process that hasn't launched anything, for what it follows: it hosts nothing yet.
  void follow();
  // Somebody has waited since then. Sees to it that a host answers: the present one, or this
  // process. Cheap where a host is in office.
  void expect_answer(std::uint64_t now_ns, std::uint64_t waiting_since_ns);
  // At exit: another process is to host.
  void release();
  // In a forked child, before it uses the GPU: the parent's seats and thread are the parent's.
  void reset_after_fork();

 private:
  Service() = default;
  friend struct ServiceStorage;
  enum class State : std::uint32_t { unopened, opening, open, unavailable };

  void open();
  static void* thread_main(void* self);
  [[noreturn]] void serve();
  std::uint64_t replace_absent_host(std::uint64_t now_ns);

  std::atomic<State> state_{State::unopened};
  std::atomic<std::uint32_t> prods_{0};  // futex: counts up when the thread is to look
  std::atomic<std::uint64_t> waiting_since_ns_{0};
  std::atomic<bool> only_follows_{false};  // when the thread was born
  std::uint64_t rung_ns_ = 0;              // of the thread; 0: nothing is to be looked after
};

// All signals blocked, nobody joins it.
bool begin_detached_thread(void* (*main)(void*), void* argument);

}  // namespace vgpu::limiter

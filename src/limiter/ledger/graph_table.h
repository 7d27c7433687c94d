// SPDX-License-Identifier: Apache-2.0
// Executable graphs whose nodes allocate memory, with the most that one launch can take on each
// GPU, and those whose kernels' local memory is only promised yet. Most programs have none: then a
// launch costs one load here.
#pragma once

#include <atomic>
#include <cstdint>

#include "handle_map.h"
#include "vgpu/shm/tenant.h"

namespace vgpu::limiter {

struct GraphMemory {
  std::uint64_t bytes[shm::kMaxGpus] = {};
  std::uint64_t trims =
      0;  // the count of trims when it was launched last, plus one; 0: never launched
  // What its kernels need for the threads of their context, while that is only promised: its next
  // launch takes it.
  std::uint64_t local_context = 0;
  std::uint64_t local_bytes = 0;
  bool takes_any() const {
    for (const std::uint64_t each : bytes) {
      if (each != 0) return true;
    }
    return false;
  }
};

class GraphTable {
 public:
  // Relaxed: an exec that another thread has just made is launched only after that thread handed it
  // over.
  bool has_any() const { return count_.load(std::memory_order_relaxed) != 0; }

  void add(std::uint64_t exec, const GraphMemory& memory) {
    execs_.upsert(exec, [&](GraphMemory& slot, bool fresh) {
      slot = memory;
      if (fresh) count_.fetch_add(1, std::memory_order_relaxed);
    });
  }
  bool find(std::uint64_t exec, GraphMemory& out) { return has_any() && execs_.find(exec, out); }
  void remove(std::uint64_t exec) {
    GraphMemory taken;
    if (has_any() && execs_.take(exec, taken)) count_.fetch_sub(1, std::memory_order_relaxed);
  }
  // One of its kernels became another, which needs so much.
  void add_local(std::uint64_t exec, std::uint64_t context, std::uint64_t bytes) {
    execs_.upsert(exec, [&](GraphMemory& memory, bool fresh) {
      memory.local_context = context;
      memory.local_bytes = memory.local_bytes > bytes ? memory.local_bytes : bytes;
      if (fresh) count_.fetch_add(1, std::memory_order_relaxed);
    });
  }
  void note_launch(std::uint64_t exec) {
    const std::uint64_t trims = trims_.load(std::memory_order_relaxed) + 1;
    execs_.update(exec, [&](GraphMemory& memory) {
      memory.trims = trims;
      return true;
    });
  }
  // Its kernels have run. Where that was all there was to know, it is forgotten.
  void note_local_taken(std::uint64_t exec) {
    bool forgotten = false;
    execs_.update(exec, [&](GraphMemory& memory) {
      memory.local_context = memory.local_bytes = 0;
      forgotten = !memory.takes_any();
      return !forgotten;
    });
    if (forgotten) count_.fetch_sub(1, std::memory_order_relaxed);
  }
  // Launched before, and nothing was trimmed since: the driver may still hold all that it needs.
  bool may_be_resident(const GraphMemory& memory) const {
    return memory.trims == trims_.load(std::memory_order_relaxed) + 1;
  }
  void note_trim() { trims_.fetch_add(1, std::memory_order_relaxed); }

  // Whether any graph of this process can hold allocation nodes: once a node was added or an
  // asynchronous allocation made (which a capture turns into a node).
  void note_possible() {
    if (!possible_.load(std::memory_order_relaxed))
      possible_.store(true, std::memory_order_relaxed);
  }
  bool is_possible() const { return possible_.load(std::memory_order_relaxed); }

  void reset_after_fork() {
    execs_.reset_after_fork();
    count_.store(0, std::memory_order_relaxed);
    trims_.store(0, std::memory_order_relaxed);
    possible_.store(false, std::memory_order_relaxed);
  }

 private:
  HandleMap<GraphMemory, 1> execs_;
  std::atomic<std::uint64_t> count_{0};
  std::atomic<std::uint64_t> trims_{0};
  std::atomic<bool> possible_{false};
};

}  // namespace vgpu::limiter

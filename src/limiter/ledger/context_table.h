// SPDX-License-Identifier: Apache-2.0
// The contexts of this process: which GPU each is on, what it was charged for, and how much local
// memory for its threads is already paid for. Allocations remember their context by the `owner`
// here, so that what dies with a context is known; memory made under a green context belongs to the
// primary one below it.
#pragma once

#include <atomic>
#include <cstdint>

#include "handle_map.h"
#include "vgpu/shm/tenant.h"

namespace vgpu::limiter {

enum class ContextKind : std::uint8_t { primary, created, green };

// Calls that change one limit of a context: how many are in the driver, how many there ever were.
struct LimitChanges {
  std::uint32_t open = 0;
  std::uint32_t begun = 0;
};

struct Context {
  std::uint64_t owner = 0;  // memory made here dies with this: an id, because handles come again
  std::uint64_t charged_bytes = 0;  // for the context itself
  std::uint64_t known_bytes = 0;    // what it really took; 0: that wasn't measured
  std::uint64_t stack_bytes = 0;    // per thread, as set; 0: the driver's default
  std::uint64_t local_bytes = 0;    // per thread, the most that any function launched here needs
  // What stacks and local memory of all threads are charged beyond an empty context's; how much of
  // that the driver holds by launches that were made; and how much is a promise still, never more
  // than the difference. A charge is claimed here before the driver's call that needs it, so
  // another thread may rely on it from then on.
  std::uint64_t local_charged_bytes = 0;
  std::uint64_t local_taken_bytes = 0;
  std::uint64_t local_promised_bytes = 0;
  std::uint64_t heap_promised_bytes = 0;  // where beyond the default
  std::uint64_t printf_promised_bytes = 0;
  LimitChanges stack_changes{};
  LimitChanges heap_changes{};
  LimitChanges printf_changes{};
  std::uint32_t gpu = 0;
  std::uint32_t refs = 1;  // cuCtxAttach, cuCtxDetach
  ContextKind kind = ContextKind::created;
};

class ContextTable {
 public:
  // False when the context is known already, or can't be recorded. An owner of 0 becomes one of its
  // own.
  bool add(std::uint64_t handle, Context context) {
    if (context.owner == 0) context.owner = owners_.fetch_add(1, std::memory_order_relaxed) + 1;
    bool is_new = false;
    contexts_.upsert(handle, [&](Context& slot, bool fresh) {
      is_new = fresh;
      if (fresh) slot = context;
    });
    return is_new;
  }
  bool find(std::uint64_t handle, Context& out) { return contexts_.find(handle, out); }
  bool take(std::uint64_t handle, Context& out) { return contexts_.take(handle, out); }
  template <class Edit>
  bool edit(std::uint64_t handle, Edit change) {
    return contexts_.update(handle, [&](Context& context) {
      change(context);
      return true;
    });
  }
  // Forgets the contexts that lie in `owner` (green ones): they end with it.
  void drop_inside(std::uint64_t owner) {
    contexts_.sweep([&](std::uint64_t, Context& context) { return context.owner != owner; });
  }
  // The handle of a GPU's primary context; 0: not seen yet.
  std::uint64_t primary(std::uint32_t gpu) const {
    return primary_[gpu].load(std::memory_order_acquire);
  }
  void set_primary(std::uint32_t gpu, std::uint64_t handle) {
    primary_[gpu].store(handle, std::memory_order_release);
  }
  std::size_t size() { return contexts_.size(); }
  void reset_after_fork() {
    contexts_.reset_after_fork();
    for (auto& handle : primary_) handle.store(0, std::memory_order_relaxed);
  }

 private:
  HandleMap<Context, 2> contexts_;
  std::atomic<std::uint64_t> owners_{0};
  std::atomic<std::uint64_t> primary_[shm::kMaxGpus] = {};
};

}  // namespace vgpu::limiter

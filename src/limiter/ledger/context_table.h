// SPDX-License-Identifier: Apache-2.0
// The contexts of this process: which GPU each is on, what it was charged for, and how much local memory for its
// threads is already paid for. Allocations remember their context by the `owner` here, so that what dies with a
// context is known; memory made under a green context belongs to the primary one below it.
#pragma once

#include <cstdint>

#include "handle_map.h"
#include "vgpu/core/driver_model.h"

namespace vgpu::limiter {

enum class ContextKind : std::uint8_t { primary, created, green };

struct Context {
  std::uint64_t owner = 0;           // the context that memory made here dies with
  std::uint64_t charged_bytes = 0;   // for the context itself
  std::uint64_t stack_bytes = 0;     // per thread, as set; 0: the driver's default
  std::uint64_t local_bytes = 0;     // per thread, the most that any function launched here needs
  std::uint64_t local_charged_bytes = 0;  // for all threads, beyond what an empty context holds
  std::uint64_t heap_charged_bytes = 0;   // malloc heap and printf buffer beyond their defaults
  std::uint32_t gpu = 0;
  std::uint32_t refs = 1;  // cuCtxAttach, cuCtxDetach
  ContextKind kind = ContextKind::created;
};

class ContextTable {
 public:
  bool add(std::uint64_t handle, const Context& context) { return contexts_.insert(handle, context); }
  bool find(std::uint64_t handle, Context& out) { return contexts_.find(handle, out); }
  bool take(std::uint64_t handle, Context& out) { return contexts_.take(handle, out); }
  template <class Edit>
  bool edit(std::uint64_t handle, Edit change) {
    return contexts_.update(handle, [&](Context& context) {
      change(context);
      return true;
    });
  }
  // Contexts that lie in `owner` (green ones) end with it.
  template <class Release>
  void drop_inside(std::uint64_t owner, Release release) {
    contexts_.sweep([&](std::uint64_t handle, Context& context) {
      if (context.owner != owner || handle == owner) return true;
      release(context);
      return false;
    });
  }
  std::size_t size() { return contexts_.size(); }
  void reset_after_fork() { contexts_.reset_after_fork(); }

 private:
  HandleMap<Context, 2> contexts_;
};

}  // namespace vgpu::limiter

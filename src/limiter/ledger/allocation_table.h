// SPDX-License-Identifier: Apache-2.0
// What this process holds by pointer or array handle, and what each of it was charged. Small
// allocations share 2 MiB blocks with others: the block is charged, once, while anything in it
// lives.
//
// Order around the driver's free: begin_free() takes the record away BEFORE the driver is called
// (afterwards the driver may hand the same address to another thread), end_free() says what to
// release when it succeeded, undo_free() puts the record back when it didn't. A block's count falls
// after the driver's free, so that an allocation which the driver places in the block meanwhile
// finds it charged.
#pragma once

#include <atomic>
#include <cstdint>

#include "array_packing.h"
#include "handle_map.h"
#include "vgpu/core/driver_model.h"
#include "vgpu/shm/tenant.h"

namespace vgpu::limiter {

struct Pool;

enum class AllocationKind : std::uint8_t {
  linear,       // pages of its own
  in_block,     // a part of a shared block: the block carries the charge
  managed,      // NVML doesn't show it
  array,        // pages of its own
  small_array,  // in a page with others, see ArrayPacking
  in_pool,      // of a memory pool, which carries the charge
  imported,     // from outside the tenant: charged here
  held,         // from another process of the tenant: charged there, held here under a key
};

struct ShareKey {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  bool is_set() const { return (high | low) != 0; }
};

struct Allocation {
  std::uint64_t bytes = 0;    // the charge; in a block or a pool its size, which that carries
  std::uint64_t context = 0;  // dies with it; 0: outlives every context
  ShareKey key{};             // set once it is shared: then the tenant's object carries the charge
  std::uint32_t gpu = 0;
  std::uint32_t place = 0;  // of a small array
  std::uint32_t refs = 1;   // opened that often (imports)
  AllocationKind kind = AllocationKind::linear;
  Pool* pool = nullptr;
  std::uint64_t born = 0;  // in a pool: see PoolAccount::end()
};

// What a removal leaves to be undone at the tenant's ledger.
struct Freed {
  std::uint64_t bytes = 0;  // what it took of the device
  ShareKey key{};           // set: the tenant's shared object carries the charge, release that
  std::uint32_t gpu = 0;
  AllocationKind kind = AllocationKind::linear;
  bool nothing() const { return bytes == 0 && !key.is_set(); }
};

class AllocationTable {
 public:
  // False: no memory to record it in; the caller leaves it charged.
  bool add(std::uint64_t handle, const Allocation& allocation) {
    return allocations_.insert(handle, allocation);
  }

  // Records a small allocation. True when its block is new, so that the caller's reservation of a
  // page stays.
  bool add_in_block(std::uint64_t address, std::uint64_t bytes, std::uint32_t gpu,
                    std::uint64_t context) {
    bool fresh_block = false;
    blocks_.upsert(block_key(address), [&](Block& block, bool fresh) {
      fresh_block = fresh;
      if (fresh) block = {.context = context, .key = {}, .gpu = gpu, .refs = 0};
      ++block.refs;
    });
    const std::uint64_t taken = driver_model::round_up(bytes, driver_model::kSmallAlignBytes);
    spare_bytes_[gpu].fetch_add((fresh_block ? driver_model::kPageBytes : 0) - taken,
                                std::memory_order_relaxed);
    allocations_.insert(address, {.bytes = taken,
                                  .context = context,
                                  .key = {},
                                  .gpu = gpu,
                                  .refs = 1,
                                  .kind = AllocationKind::in_block});
    return fresh_block;
  }
  // Whether the blocks of a GPU may have a place for this many bytes. A hint: holes may be too
  // small each.
  bool may_have_place(std::uint32_t gpu, std::uint64_t bytes) const {
    return spare_bytes_[gpu].load(std::memory_order_relaxed) >= bytes;
  }

  // The same for an array of up to 1 MiB.
  bool add_small_array(std::uint64_t handle, std::uint64_t bytes, std::uint32_t gpu,
                       std::uint64_t context) {
    bool fresh_page = true;
    const std::uint32_t place = packing_.add(bytes, gpu, context, fresh_page);
    allocations_.insert(handle, {.bytes = bytes,
                                 .context = context,
                                 .key = {},
                                 .gpu = gpu,
                                 .place = place,
                                 .refs = 1,
                                 .kind = AllocationKind::small_array});
    return fresh_page;
  }

  bool has_place_for_array(std::uint64_t bytes, std::uint32_t gpu, std::uint64_t context) {
    return packing_.has_place(bytes, gpu, context);
  }

  bool find(std::uint64_t handle, Allocation& out) { return allocations_.find(handle, out); }
  bool begin_free(std::uint64_t handle, Allocation& out) { return allocations_.take(handle, out); }
  void undo_free(std::uint64_t handle, const Allocation& taken) {
    allocations_.insert(handle, taken);
  }

  Freed end_free(std::uint64_t handle, const Allocation& taken) {
    if (taken.kind == AllocationKind::small_array) return end_small_array(taken);
    if (taken.kind == AllocationKind::in_pool) return {};
    if (taken.kind != AllocationKind::in_block) {
      return {.bytes = taken.bytes, .key = taken.key, .gpu = taken.gpu, .kind = taken.kind};
    }
    Freed freed;
    spare_bytes_[taken.gpu].fetch_add(taken.bytes, std::memory_order_relaxed);
    blocks_.update(block_key(handle), [&](Block& block) {
      if (--block.refs != 0) return true;
      spare_bytes_[block.gpu].fetch_sub(driver_model::kPageBytes, std::memory_order_relaxed);
      freed = {.bytes = driver_model::kPageBytes,
               .key = block.key,
               .gpu = block.gpu,
               .kind = AllocationKind::in_block};
      return false;
    });
    return freed;
  }

  // Imports that are opened more than once: one more or one fewer. `last` is set when none is left.
  bool add_ref(std::uint64_t handle) {
    return allocations_.update(handle, [](Allocation& allocation) {
      ++allocation.refs;
      return true;
    });
  }
  bool drop_ref(std::uint64_t handle, Allocation& out, bool& last) {
    return allocations_.update(handle, [&](Allocation& allocation) {
      out = allocation;
      last = --allocation.refs == 0;
      return !last;
    });
  }

  // Marks an allocation (its block, if it lies in one) as shared under `key`. Returns the bytes
  // that the caller moves from its own charge into the shared object: 0 when it is shared already
  // or unknown.
  std::uint64_t mark_shared(std::uint64_t handle, const ShareKey& key, ShareKey& existing,
                            std::uint32_t& gpu) {
    std::uint64_t bytes = 0;
    bool in_block = false;
    allocations_.update(handle, [&](Allocation& allocation) {
      gpu = allocation.gpu;
      in_block = allocation.kind == AllocationKind::in_block;
      if (in_block) return true;
      existing = allocation.key;
      if (!allocation.key.is_set()) {
        allocation.key = key;
        bytes = allocation.bytes;
      }
      return true;
    });
    if (!in_block) return bytes;
    blocks_.update(block_key(handle), [&](Block& block) {
      existing = block.key;
      if (!block.key.is_set()) {
        block.key = key;
        bytes = driver_model::kPageBytes;
      }
      return true;
    });
    return bytes;
  }

  // The tenant couldn't take it.
  void unmark_shared(std::uint64_t handle) {
    const bool in_own_pages = allocations_.update(handle, [](Allocation& allocation) {
      allocation.key = {};
      return true;
    });
    if (!in_own_pages) return;
    blocks_.update(block_key(handle), [](Block& block) {
      block.key = {};
      return true;
    });
  }

  // Everything that lived in a context is gone with it: release(Freed) for each.
  template <class Release>
  void drop_context(std::uint64_t context, Release release) {
    allocations_.sweep([&](std::uint64_t, Allocation& allocation) {
      if (allocation.context != context) return true;
      if (allocation.kind == AllocationKind::small_array) {
        release(end_small_array(allocation));
      } else if (allocation.kind != AllocationKind::in_block) {
        release(Freed{.bytes = allocation.bytes,
                      .key = allocation.key,
                      .gpu = allocation.gpu,
                      .kind = allocation.kind});
      } else {
        spare_bytes_[allocation.gpu].fetch_add(allocation.bytes, std::memory_order_relaxed);
      }
      return false;
    });
    blocks_.sweep([&](std::uint64_t, Block& block) {
      if (block.context != context) return true;
      spare_bytes_[block.gpu].fetch_sub(driver_model::kPageBytes, std::memory_order_relaxed);
      release(Freed{.bytes = driver_model::kPageBytes,
                    .key = block.key,
                    .gpu = block.gpu,
                    .kind = AllocationKind::in_block});
      return false;
    });
  }

  // Calls visit(address, allocation) for what lies in a pool: O(all).
  template <class Visit>
  void for_each_in(const Pool& pool, Visit visit) {
    allocations_.sweep([&](std::uint64_t address, const Allocation& allocation) {
      if (allocation.pool == &pool) visit(address, allocation);
      return true;
    });
  }
  // Forgets what lies in the pools of a GPU.
  void drop_in_pools(std::uint32_t gpu) {
    allocations_.sweep([&](std::uint64_t, const Allocation& allocation) {
      return allocation.kind != AllocationKind::in_pool || allocation.gpu != gpu;
    });
  }

  std::size_t size() { return allocations_.size(); }
  std::size_t block_count() { return blocks_.size(); }
  void reset_after_fork() {
    allocations_.reset_after_fork();
    blocks_.reset_after_fork();
    packing_.reset_after_fork();
    for (auto& spare : spare_bytes_) spare.store(0, std::memory_order_relaxed);
  }

 private:
  Freed end_small_array(const Allocation& taken) {
    const bool is_last = packing_.remove(taken.place, taken.bytes);
    return {.bytes = is_last ? driver_model::kPageBytes : 0,
            .key = {},
            .gpu = taken.gpu,
            .kind = taken.kind};
  }

  struct Block {
    std::uint64_t context = 0;
    ShareKey key{};
    std::uint32_t gpu = 0;
    std::uint32_t refs = 0;
  };
  // Key 0 is reserved; block 0 can't hold device memory, but nothing here should depend on that.
  static std::uint64_t block_key(std::uint64_t address) {
    return driver_model::block_of(address) + 1;
  }

  HandleMap<Allocation> allocations_;
  HandleMap<Block> blocks_;
  ArrayPacking packing_;
  std::atomic<std::uint64_t> spare_bytes_[shm::kMaxGpus] =
      {};  // in blocks, beside what lives there
};

}  // namespace vgpu::limiter

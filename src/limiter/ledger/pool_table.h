// SPDX-License-Identifier: Apache-2.0
// The memory pools that this process allocates from, each with its account. Pools are found by
// handle, the current pool of a GPU and the pool of its graphs by position. Accounts are never
// freed, so a pointer to one stays good while another thread destroys the pool.
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <new>

#include "handle_map.h"
#include "pool_account.h"
#include "trim_gate.h"
#include "vgpu/shm/tenant.h"

namespace vgpu::limiter {

// The right to do something that one thread may do at a time, taken without waiting.
class Turn {
 public:
  // Acquire, and release at the end: whoever has it next sees what was done.
  explicit Turn(std::atomic<bool>& taken) : taken_(taken) { try_again(); }
  ~Turn() {
    if (is_mine_) taken_.store(false, std::memory_order_release);
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  bool is_mine() const { return is_mine_; }
  void try_again() {
    if (!is_mine_) is_mine_ = !taken_.exchange(true, std::memory_order_acquire);
  }

 private:
  std::atomic<bool>& taken_;
  bool is_mine_ = false;
};

struct Pool {
  PoolAccount account;
  // At the limit: one thread at a time asks the driver without a reservation, or trims (see Turn).
  std::atomic<bool> attempt{false};
  std::size_t requests_in_doubt = 0;     // so many more leave doubt as it is; for who has the turn
  std::atomic<bool> has_storage{false};  // for what is freed
  std::atomic<std::uint64_t> handle{0};  // 0: destroyed; a graph pool's is the CUDA ordinal + 1
  std::uint32_t gpu = 0;
  bool of_graphs = false;
  bool managed = false;  // NVML doesn't show it
  bool charged = true;   // not: on the host, or another process's
  Pool* next = nullptr;  // all pools ever; written before the pool is published
};

class PoolTable {
 public:
  Pool* find(std::uint64_t handle) {
    Pool* pool = nullptr;
    return pools_.find(handle, pool) ? pool : nullptr;
  }

  // The pool of this handle, made now if it is new. nullptr: no memory.
  Pool* find_or_add(std::uint64_t handle, std::uint32_t gpu, bool charged = true,
                    bool managed = false) {
    Pool* pool = find(handle);
    if (pool != nullptr) return pool;
    pool = make(handle, gpu, false, charged, managed);
    if (pool == nullptr) return nullptr;
    Pool* kept = nullptr;
    pools_.upsert(handle, [&](Pool*& slot, bool fresh) {
      if (fresh) slot = pool;
      kept = slot;
    });
    if (kept != pool) pool->handle.store(0, std::memory_order_relaxed);  // another thread was first
    return kept;
  }

  Pool* graph_pool(std::uint32_t gpu, std::uint64_t ordinal) {
    Pool* pool = graph_pools_[gpu].load(std::memory_order_acquire);
    if (pool != nullptr) return pool;
    Pool* made = make(ordinal + 1, gpu, true, true, false);
    if (made == nullptr) return nullptr;
    if (graph_pools_[gpu].compare_exchange_strong(pool, made, std::memory_order_acq_rel))
      return made;
    made->handle.store(0, std::memory_order_relaxed);
    return pool;
  }

  // Acquire/release: whoever reads the pointer sees the pool's fields.
  Pool* current(std::uint32_t gpu) const { return current_[gpu].load(std::memory_order_acquire); }
  void set_current(std::uint32_t gpu, Pool* pool) {
    current_[gpu].store(pool, std::memory_order_release);
  }

  // The pool is destroyed; returns it, so that its charge can be ended. A destroyed current pool is
  // forgotten.
  Pool* remove(std::uint64_t handle) {
    Pool* pool = nullptr;
    if (!pools_.take(handle, pool)) return nullptr;
    pool->handle.store(0, std::memory_order_relaxed);
    Pool* expected = pool;
    current_[pool->gpu].compare_exchange_strong(expected, nullptr, std::memory_order_acq_rel);
    return pool;
  }
  // The driver refused to destroy it.
  void restore(Pool* pool, std::uint64_t handle) {
    pool->handle.store(handle, std::memory_order_relaxed);
    pools_.insert(handle, pool);
  }

  template <class Visit>
  void for_each(Visit visit) {
    for (Pool* pool = all_.load(std::memory_order_acquire); pool != nullptr; pool = pool->next) {
      if (pool->handle.load(std::memory_order_relaxed) != 0) visit(*pool);
    }
  }

  // Room for what is freed in this pool, once. Without memory it stays as it is: nothing is
  // remembered.
  void prepare_for_frees(Pool& pool) {
    if (pool.has_storage.load(std::memory_order_relaxed) ||
        pool.handle.load(std::memory_order_relaxed) == 0)
      return;
    void* pages = mmap(nullptr, sizeof(FreedRanges::Storage), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return;
    give_back(pool.account.lend(static_cast<FreedRanges::Storage*>(pages)));
    pool.has_storage.store(true, std::memory_order_relaxed);
  }

  // A destroyed pool's last word. Returns what the caller releases.
  std::uint64_t end(Pool& pool) {
    const std::uint64_t released = pool.account.end_pool();
    give_back(pool.account.take_storage());
    return released;
  }

  // Counts the synchronisations of this process: read after a free, and counted before a
  // synchronisation, it tells which came first. Both write, so that the free which read no more
  // than the synchronisation found happened before it (acquire and release).
  std::uint64_t epoch() { return epoch_.fetch_add(0, std::memory_order_acq_rel); }
  std::uint64_t begin_epoch() { return epoch_.fetch_add(1, std::memory_order_acq_rel); }
  // Something was freed that isn't every stream's yet. Relaxed: seen late, it costs a chance.
  void note_unordered() {
    if (!unordered_.load(std::memory_order_relaxed))
      unordered_.store(true, std::memory_order_relaxed);
  }
  bool has_unordered() const { return unordered_.load(std::memory_order_relaxed); }
  // `stream`: see FreedRanges::order().
  void order(std::uint64_t stream, std::uint64_t epoch) {
    unordered_.store(false, std::memory_order_relaxed);
    for_each([&](Pool& pool) {
      pool.account.order(stream, epoch);
      if (pool.account.has_unordered()) note_unordered();
    });
  }

  TrimGate& trim_gate() { return trim_gate_; }

  // Memory went back to some pool, so reservations may shrink at the next synchronisation, or one
  // was charged for growth that may not have come. Relaxed: a flag that is seen late costs one
  // settlement's delay.
  void note_change() {
    if (!changed_.load(std::memory_order_relaxed)) changed_.store(true, std::memory_order_relaxed);
  }
  bool has_changes() const { return changed_.load(std::memory_order_relaxed); }
  void clear_changes() { changed_.store(false, std::memory_order_relaxed); }

  void reset_after_fork() {
    pools_.reset_after_fork();
    all_.store(nullptr, std::memory_order_relaxed);
    for (auto& pool : current_) pool.store(nullptr, std::memory_order_relaxed);
    for (auto& pool : graph_pools_) pool.store(nullptr, std::memory_order_relaxed);
    spare_lock_.reset();
    spare_count_ = 0;
    clear_changes();
    trim_gate_.reset_after_fork();
    unordered_.store(false, std::memory_order_relaxed);
  }

 private:
  static void give_back(FreedRanges::Storage* storage) {
    if (storage != nullptr) munmap(storage, sizeof(FreedRanges::Storage));
  }

  Pool* make(std::uint64_t handle, std::uint32_t gpu, bool of_graphs, bool charged, bool managed) {
    Pool* pool = nullptr;
    {
      SpinGuard guard(spare_lock_);
      if (spare_count_ == 0) {
        void* page =
            mmap(nullptr, kChunkBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) return nullptr;
        spare_ = static_cast<Pool*>(page);
        spare_count_ = kChunkBytes / sizeof(Pool);
      }
      pool = spare_++;
      --spare_count_;
    }
    new (pool) Pool;
    pool->gpu = gpu;
    pool->of_graphs = of_graphs;
    pool->charged = charged;
    pool->managed = managed;
    pool->handle.store(handle, std::memory_order_relaxed);
    // Release: for_each reads the pool through the list head.
    pool->next = all_.load(std::memory_order_relaxed);
    while (!all_.compare_exchange_weak(pool->next, pool, std::memory_order_release,
                                       std::memory_order_relaxed)) {
    }
    return pool;
  }

  static constexpr std::size_t kChunkBytes = 16 * 1024;
  static_assert(sizeof(Pool) <= kChunkBytes);

  HandleMap<Pool*, 2> pools_;
  std::atomic<Pool*> all_{nullptr};
  std::atomic<Pool*> current_[shm::kMaxGpus] = {};
  std::atomic<Pool*> graph_pools_[shm::kMaxGpus] = {};
  std::atomic<bool> changed_{false};
  std::atomic<bool> unordered_{false};
  std::atomic<std::uint64_t> epoch_{0};
  TrimGate trim_gate_;
  SpinLock spare_lock_;
  Pool* spare_ = nullptr;
  std::size_t spare_count_ = 0;
};

}  // namespace vgpu::limiter

// SPDX-License-Identifier: Apache-2.0
// A hash map from a driver handle or address to a small record, for code without libstdc++:
// sharded, open addressing, O(1), growing, exact under threads. Records live in pages mapped for
// them, so the program's own malloc (which may itself be interposed) is never entered. Key 0 is no
// handle and is never stored. Trivially destructible, because the one ledger outlives everything;
// clear() gives the pages back.
//
// Invariant of a shard: from a key's home place to where it lies there is no empty place (removal
// shifts back).
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "spin_lock.h"

namespace vgpu::limiter {

template <class Value, unsigned kShardBits = 4>
class HandleMap {
  static_assert(std::is_trivially_copyable_v<Value>);

 public:
  HandleMap() = default;
  HandleMap(const HandleMap&) = delete;
  HandleMap& operator=(const HandleMap&) = delete;

  // False when there is no memory to record it in.
  bool insert(std::uint64_t key, const Value& value) {
    return upsert(key, [&](Value& slot, bool) { slot = value; });
  }

  // Calls edit(record, fresh) under the shard's lock; a fresh record is value-initialised.
  template <class Edit>
  bool upsert(std::uint64_t key, Edit edit) {
    if (key == 0) return false;
    Shard& shard = shard_of(key);
    SpinGuard guard(shard.lock);
    Place* place = shard.find(key);
    if (place != nullptr) {
      edit(place->value, false);
      return true;
    }
    place = shard.add(key);
    if (place == nullptr) return false;
    edit(place->value, true);
    return true;
  }

  // Calls edit(record) -> bool keep; a record that isn't kept is removed. False when there is none.
  template <class Edit>
  bool update(std::uint64_t key, Edit edit) {
    if (key == 0) return false;
    Shard& shard = shard_of(key);
    // Relaxed: whoever looks for a key got it from the thread that inserted it, and sees at least
    // that count.
    if (shard.used.load(std::memory_order_relaxed) == 0) return false;
    SpinGuard guard(shard.lock);
    Place* place = shard.find(key);
    if (place == nullptr) return false;
    if (!edit(place->value)) shard.remove(place);
    return true;
  }

  bool find(std::uint64_t key, Value& out) {
    return update(key, [&](Value& value) {
      out = value;
      return true;
    });
  }
  bool take(std::uint64_t key, Value& out) {
    return update(key, [&](Value& value) {
      out = value;
      return false;
    });
  }

  // Visits every record as visit(key, record) -> bool keep. For rare events (a context is
  // destroyed): O(all).
  template <class Visit>
  void sweep(Visit visit) {
    for (Shard& shard : shards_) {
      SpinGuard guard(shard.lock);
      for (std::size_t i = 0; i < shard.capacity;) {
        Place& place = shard.places[i];
        // After a removal another record may have moved into this place: look at it again.
        if (place.key != 0 && !visit(place.key, place.value)) {
          shard.remove(&place);
        } else {
          ++i;
        }
      }
    }
  }

  std::size_t size() {
    std::size_t sum = 0;
    for (Shard& shard : shards_) {
      SpinGuard guard(shard.lock);
      sum += shard.used.load(std::memory_order_relaxed);
    }
    return sum;
  }

  void clear() {
    for (Shard& shard : shards_) {
      SpinGuard guard(shard.lock);
      shard.drop();
    }
  }

  // In a forked child: the parent's handles mean nothing here, and a lock may be held by a thread
  // that is gone.
  void reset_after_fork() {
    for (Shard& shard : shards_) {
      shard.lock.reset();
      shard.drop();
    }
  }

 private:
  struct Place {
    std::uint64_t key;
    Value value;
  };

  struct alignas(64) Shard {
    SpinLock lock;
    Place* places = nullptr;
    std::size_t capacity = 0;          // a power of two, or 0
    std::atomic<std::size_t> used{0};  // written under the lock

    std::size_t home(std::uint64_t key) const { return hash(key) & (capacity - 1); }
    std::size_t next(std::size_t i) const { return (i + 1) & (capacity - 1); }

    Place* find(std::uint64_t key) {
      if (capacity == 0) return nullptr;
      for (std::size_t i = home(key); places[i].key != 0; i = next(i)) {
        if (places[i].key == key) return &places[i];
      }
      return nullptr;
    }

    Place* add(std::uint64_t key) {
      const std::size_t count = used.load(std::memory_order_relaxed);
      if ((count + 1) * 4 > capacity * 3 && !grow()) return nullptr;
      Place* place = put(key);
      place->value = Value{};
      used.store(count + 1, std::memory_order_relaxed);
      return place;
    }

    Place* put(std::uint64_t key) {
      std::size_t i = home(key);
      while (places[i].key != 0) i = next(i);
      places[i].key = key;
      return &places[i];
    }

    void remove(Place* place) {
      std::size_t hole = static_cast<std::size_t>(place - places);
      for (std::size_t i = next(hole); places[i].key != 0; i = next(i)) {
        const std::size_t wanted = home(places[i].key);
        // Move it back unless its home lies behind the hole (cyclically): then the hole doesn't
        // break its run.
        const bool behind = ((i - wanted) & (capacity - 1)) < ((i - hole) & (capacity - 1));
        if (behind) continue;
        places[hole] = places[i];
        hole = i;
      }
      places[hole].key = 0;
      used.store(used.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
    }

    bool grow() {
      const std::size_t wanted = capacity == 0 ? kFirstCapacity : capacity * 2;
      void* pages = mmap(nullptr, wanted * sizeof(Place), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (pages == MAP_FAILED) return false;
      Place* old_places = places;
      const std::size_t old_capacity = capacity;
      places = static_cast<Place*>(pages);
      capacity = wanted;
      for (std::size_t i = 0; i < old_capacity; ++i) {
        if (old_places[i].key != 0) put(old_places[i].key)->value = old_places[i].value;
      }
      if (old_places != nullptr) munmap(old_places, old_capacity * sizeof(Place));
      return true;
    }

    void drop() {
      if (places != nullptr) munmap(places, capacity * sizeof(Place));
      places = nullptr;
      capacity = 0;
      used.store(0, std::memory_order_relaxed);
    }
  };

  static constexpr std::size_t kFirstCapacity = 64;

  // Handles are aligned addresses: multiply spreads them, the high half is what the multiplication
  // mixed best.
  static std::uint64_t hash(std::uint64_t key) {
    const std::uint64_t mixed = (key ^ (key >> 32)) * 0x9E3779B97F4A7C15ULL;
    return mixed ^ (mixed >> 29);
  }
  Shard& shard_of(std::uint64_t key) { return shards_[hash(key) >> (64 - kShardBits)]; }

  Shard shards_[std::size_t{1} << kShardBits];
};

}  // namespace vgpu::limiter

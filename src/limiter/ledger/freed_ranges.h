// SPDX-License-Identifier: Apache-2.0
// What of a pool's memory was freed and is sure to be there for a request: address ranges, each
// with the stream in whose order it was freed. PoolAccount keeps one of these a pool and asks it
// where a tenant's limit leaves no room for a pool to grow. Pure; the owner locks.
//
// What is relied on, measured on an H200 and an H100 with driver 580: a freed range serves any
// later request no larger than it, in the stream that it was freed in or in one that is ordered
// behind the free, and the pool doesn't grow for it. That doesn't mean that the request comes to
// lie there: an address without memory may fit better, and is lent that of empty steps. Neighbours
// are never joined: two ranges in a row failed to serve as one in 4 of 24,000 tries.
//
// Invariant: ranges are sorted, don't overlap each other, and overlap no allocation whose placement
// was recorded. A range is sound until something may have taken memory away from the pool's unused
// steps (doubt()): a step goes back to the device, or lends its memory to another address, only
// when nothing lies in it. So a range that lay all the time between two allocations less than a
// step apart is sound whatever happened, which is how doubt is removed (see Doubtful); and it stays
// so until something is freed less than a step away.
//
// Bounded: what doesn't fit is forgotten, the smallest first. Forgetting is always right.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <utility>

#include "vgpu/core/driver_model.h"

namespace vgpu::limiter {

class FreedRanges {
 public:
  static constexpr std::uint32_t kCapacity = 256;
  // Streams are told by the driver's ids plus one. Any: whoever could still use it was waited for.
  static constexpr std::uint64_t kAnyStream = 0;
  static constexpr std::uint64_t kNoStream = UINT64_MAX;  // its free is still in the driver
  static constexpr std::uint64_t kEveryStream = UINT64_MAX - 1;

  struct Range {
    std::uint64_t address;
    std::uint64_t bytes;
    std::uint64_t stream;
    std::uint64_t epoch;  // of synchronisations, read after the free; till then the free's ticket
    std::uint64_t sequence;  // when it became what it is; 0: not sound
    std::uint64_t birth;     // since when it has been whole: a part of the sequence, too
    bool is_enclosed;        // there is no room for a step around it
    std::uint64_t end() const { return address + bytes; }
  };
  // `order` names all places: first those of the ranges, by address, then the unused ones.
  struct Storage {
    Range ranges[kCapacity];
    std::uint8_t order[kCapacity];
  };
  static_assert(kCapacity - 1 <= UINT8_MAX);

  // The ranges of a moment that are in doubt, and how near the allocations around each are.
  class Doubtful {
   public:
    bool any() const { return count_ != 0; }
    // An allocation of the pool lives here, since `born` (see FreedRanges::sequence()). In any
    // order; all of them once.
    void note_live(std::uint64_t address, std::uint64_t bytes, std::uint64_t born) {
      const std::uint64_t end = address + bytes;
      for (std::uint32_t i = first_not_before(end);
           i < count_ && places_[i].address - end < driver_model::kPoolGrowthBytes; ++i) {
        if (born <= places_[i].birth) places_[i].before = std::max(places_[i].before, end);
      }
      for (std::uint32_t i = first_not_before(address); i > 0; --i) {
        Place& place = places_[i - 1];
        if (address < place.end || address - place.end >= driver_model::kPoolGrowthBytes) break;
        if (born <= place.birth) place.after = std::min(place.after, address);
      }
    }

   private:
    friend class FreedRanges;
    struct Place {
      std::uint64_t address;
      std::uint64_t end;
      std::uint64_t before;  // where the last allocation in front of it ends
      std::uint64_t after;   // where the first one behind it begins
      std::uint64_t birth;
    };
    std::uint32_t first_not_before(std::uint64_t address) const {
      const Place* found = std::partition_point(
          places_, places_ + count_, [&](const Place& each) { return each.address < address; });
      return static_cast<std::uint32_t>(found - places_);
    }
    std::uint64_t frees_ = 0;
    std::uint32_t count_ = 0;
    Place places_[kCapacity];
  };

  bool has_storage() const { return storage_ != nullptr; }
  // Without storage nothing is remembered. Returns what the caller gives back to the system.
  Storage* lend(Storage* storage) {
    if (storage_ != nullptr) return storage;
    for (std::uint32_t i = 0; i < kCapacity; ++i) storage->order[i] = static_cast<std::uint8_t>(i);
    storage_ = storage;
    return nullptr;
  }
  Storage* take_storage() {
    count_ = 0;
    return std::exchange(storage_, nullptr);
  }

  // An allocation goes back to the driver. From now on it may come to lie in something else; it
  // serves nobody yet. `sound`: no step can have gone unnoticed since the pool was last known.
  // Returns the free's ticket.
  std::uint64_t begin_free(std::uint64_t address, std::uint64_t bytes, bool sound) {
    ++sequence_;
    ++frees_;
    if (storage_ == nullptr || bytes == 0 || address > UINT64_MAX - bytes) return sequence_;
    (void)cut(address, address + bytes);
    uncover(address, address + bytes);
    if (count_ == kCapacity) shed();
    const std::uint32_t at = first_ending_after(address);
    insert(at, {.address = address,
                .bytes = bytes,
                .stream = kNoStream,
                .epoch = sequence_,
                .sequence = sound ? sequence_ : 0,
                .birth = sequence_,
                .is_enclosed = false});
    return sequence_;
  }
  // The driver has it. `epoch` was read after it had. By the ticket, because an allocation may have
  // come to lie there meanwhile and be on its way back as well.
  void end_free(std::uint64_t address, std::uint64_t bytes, std::uint64_t ticket,
                std::uint64_t stream, std::uint64_t epoch) {
    ++sequence_;
    for (std::uint32_t i = first_ending_after(address);
         i < count_ && range(i).address < address + bytes; ++i) {
      Range& freed = range(i);
      if (freed.stream != kNoStream || freed.epoch != ticket) continue;
      freed.stream = stream;
      freed.epoch = epoch;
    }
  }
  // The driver didn't take it.
  void undo_free(std::uint64_t address, std::uint64_t bytes) {
    (void)cut(address, address + bytes);
  }

  // An allocation came to lie here. True: in nothing but sound ranges, so nothing grew for it.
  // `certain`: nothing that is under way can have spoilt them.
  bool place(std::uint64_t address, std::uint64_t bytes, bool certain) {
    ++sequence_;
    return cut(address, address + bytes, certain);
  }

  // Whether a request in this stream is sure to be served.
  bool serves(std::uint64_t bytes, std::uint64_t stream) const {
    return any([&](const Range& freed) {
      return freed.bytes >= bytes && is_sound(freed) && is_usable(freed, stream);
    });
  }
  bool has(std::uint64_t bytes) const {
    return any([&](const Range& freed) { return freed.bytes >= bytes; });
  }
  // A clock: it goes on with each free and with each allocation.
  std::uint64_t sequence() const { return sequence_; }
  std::uint64_t free_count() const { return frees_; }
  std::uint32_t size() const { return count_; }

  // The host waited for all that this stream (or kEveryStream) was given before the
  // synchronisations were counted beyond `epoch`: whoever freed by then is done with it.
  void order(std::uint64_t stream, std::uint64_t epoch) {
    for (std::uint32_t i = 0; i < count_; ++i) {
      Range& freed = range(i);
      const bool waited = stream == kEveryStream || freed.stream == stream;
      if (!waited || freed.stream == kNoStream || freed.stream == kAnyStream || freed.epoch > epoch)
        continue;
      freed.stream = kAnyStream;
    }
  }
  bool has_unordered() const {
    return any([](const Range& freed) { return freed.stream != kAnyStream; });
  }

  // Memory may have left any step that nothing lies in.
  void doubt() { doubted_ = sequence_; }
  void clear() { count_ = 0; }

  void list_doubtful(Doubtful& list) const {
    list.frees_ = frees_;
    list.count_ = 0;
    for (std::uint32_t i = 0; i < count_; ++i) {
      const Range& freed = range(i);
      if (!is_sound(freed))
        list.places_[list.count_++] = {freed.address, freed.end(), 0, UINT64_MAX, freed.birth};
    }
  }
  // Ranges between allocations that leave no room for a step are sound again, the others of the
  // list are forgotten. Nothing happens if anything was freed since the list was made: a neighbour
  // may be gone.
  void resolve(Doubtful& list) {
    if (list.frees_ != frees_) return;
    const std::uint64_t now = ++sequence_;
    std::uint32_t listed = 0;
    keep_if([&](Range& freed) {
      if (is_sound(freed)) return true;
      while (listed < list.count_ && list.places_[listed].end <= freed.address) ++listed;
      if (listed == list.count_ || !is_enclosed(list.places_[listed], freed)) return false;
      freed.sequence = freed.birth = now;
      freed.is_enclosed = true;
      return true;
    });
  }

 private:
  Range& range(std::uint32_t i) const { return storage_->ranges[storage_->order[i]]; }
  bool is_sound(const Range& freed) const { return freed.is_enclosed || freed.sequence > doubted_; }
  // What lies near [address, end) may have room for a step around it from now on.
  void uncover(std::uint64_t address, std::uint64_t end) {
    for (std::uint32_t i = 0; i < count_; ++i) {
      Range& freed = range(i);
      if (freed.address < driver_model::saturating_add(end, driver_model::kPoolGrowthBytes) &&
          driver_model::saturating_add(freed.end(), driver_model::kPoolGrowthBytes) > address)
        freed.is_enclosed = false;
    }
  }
  static bool is_usable(const Range& freed, std::uint64_t stream) {
    return freed.stream == kAnyStream || (freed.stream == stream && stream != kNoStream);
  }
  static bool is_enclosed(const Doubtful::Place& place, const Range& freed) {
    return place.address <= freed.address && freed.end() <= place.end && place.before != 0 &&
           place.after != UINT64_MAX && place.after - place.before < driver_model::kPoolGrowthBytes;
  }

  template <class Holds>
  bool any(Holds holds) const {
    for (std::uint32_t i = 0; i < count_; ++i) {
      if (holds(range(i))) return true;
    }
    return false;
  }
  template <class Keep>
  void keep_if(Keep keep) {
    std::uint32_t kept = 0;
    for (std::uint32_t i = 0; i < count_; ++i) {
      if (keep(range(i))) std::swap(storage_->order[kept++], storage_->order[i]);
    }
    count_ = kept;
  }

  std::uint32_t first_ending_after(std::uint64_t address) const {
    if (count_ == 0) return 0;
    const std::uint8_t* found = std::partition_point(
        storage_->order, storage_->order + count_,
        [&](std::uint8_t place) { return storage_->ranges[place].end() <= address; });
    return static_cast<std::uint32_t>(found - storage_->order);
  }

  // Takes [address, end), up to where the next allocation can begin, out of all ranges. True: sound
  // ranges covered all of it.
  bool cut(std::uint64_t address, std::uint64_t end, bool certain = false) {
    const std::uint32_t first = first_ending_after(address);
    std::uint64_t covered = address;
    bool sound = true;
    std::uint32_t last = first;
    for (; last < count_ && range(last).address < end; ++last) {
      const Range& freed = range(last);
      sound = sound && is_sound(freed) && freed.address <= covered;
      covered = driver_model::round_up(freed.end(), driver_model::kPoolAlignBytes);
    }
    if (first == last) return false;
    Range pieces[2];
    std::uint32_t count = 0;
    const Range& front = range(first);
    if (front.address < address)
      pieces[count++] = part_of(front, front.address, address - front.address, certain);
    const Range& back = range(last - 1);
    const std::uint64_t rest = start_of_rest(end, back.end());
    if (rest < back.end()) pieces[count++] = part_of(back, rest, back.end() - rest, certain);
    replace(first, last, pieces, count);
    return sound && covered >= end;
  }

  // A part of what is certainly sound is whole from now on, beside the allocation that it was
  // parted by.
  Range part_of(const Range& whole, std::uint64_t address, std::uint64_t bytes,
                bool certain) const {
    Range part = whole;
    part.address = address;
    part.bytes = bytes;
    if (certain && is_sound(whole)) part.birth = sequence_;
    return part;
  }

  // What is left behind an allocation begins where the driver could begin another. A large one may
  // want more of its address than a small one: there the part up to the next page is forgotten.
  static std::uint64_t start_of_rest(std::uint64_t end, std::uint64_t range_end) {
    const std::uint64_t next = driver_model::round_up(end, driver_model::kPoolAlignBytes);
    const bool is_large = next < range_end && range_end - next >= 2 * driver_model::kPageBytes;
    return is_large ? driver_model::round_up(next, driver_model::kPageBytes) : next;
  }

  // There is a place left.
  void insert(std::uint32_t at, const Range& freed) {
    std::uint8_t* const order = storage_->order;
    const std::uint8_t place = order[count_];
    std::memmove(order + at + 1, order + at, count_ - at);
    order[at] = place;
    storage_->ranges[place] = freed;
    ++count_;
  }
  void remove(std::uint32_t at) {
    std::uint8_t* const order = storage_->order;
    const std::uint8_t place = order[at];
    --count_;
    std::memmove(order + at, order + at + 1, count_ - at);
    order[count_] = place;
  }
  // `count` pieces, in address order, for the ranges [first, last): at most one more.
  void replace(std::uint32_t first, std::uint32_t last, Range* pieces, std::uint32_t count) {
    if (count > last - first && count_ == kCapacity) {
      if (pieces[0].bytes < pieces[1].bytes) pieces[0] = pieces[1];
      count = 1;
    }
    while (last - first > count) remove(--last);
    for (std::uint32_t i = 0; i < count; ++i) {
      if (first + i < last) {
        range(first + i) = pieces[i];
      } else {
        insert(first + i, pieces[i]);
      }
    }
  }

  // Makes room by forgetting an eighth: the smallest, by powers of two.
  void shed() {
    std::uint32_t of_width[65] = {};
    for (std::uint32_t i = 0; i < count_; ++i) ++of_width[std::bit_width(range(i).bytes)];
    std::uint32_t left = kCapacity / 8;
    std::uint64_t width = 0;
    while (of_width[width] < left) left -= of_width[width++];
    keep_if([&](const Range& freed) {
      const std::uint64_t own = std::bit_width(freed.bytes);
      if (own != width || left == 0) return own >= width;
      --left;
      return false;
    });
  }

  Storage* storage_ = nullptr;
  std::uint32_t count_ = 0;
  std::uint64_t sequence_ = 0;
  std::uint64_t frees_ = 0;
  std::uint64_t doubted_ = 0;  // what became what it is up to here is in doubt
};

}  // namespace vgpu::limiter

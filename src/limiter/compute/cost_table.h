// SPDX-License-Identifier: Apache-2.0
// What is known of the costs of kinds of work on one GPU. A table of fixed size on pages of its
// own: a kind lives in one of the eight places of its set, and a new one takes that of the kind
// which was launched least lately. Who was forgotten is learned anew. Under the gate's lock.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>

#include "vgpu/core/meter.h"
#include "work.h"

namespace vgpu::limiter {

// What a function is gets known with its first launch, which is let in before.
inline constexpr std::uint8_t kLaunchesToKnow = 2;
// By so much calls differ anyway; and a longer one is taken to be so long.
inline constexpr std::uint64_t kCallSwingNs = 2'000;
inline constexpr std::uint64_t kMostCallNs = 10'000'000;

struct KnownWork {
  core::Meter meter;
  std::uint32_t usual_call_ns = 0;  // what the driver's call takes where it is measured
  bool is_collective = false;       // collectives.h
  std::uint8_t launches = 0;        // as far as kLaunchesToKnow

  // Whether it was one that took much longer than they do.
  bool note_call(std::uint64_t call_ns) {
    const std::uint64_t most = 2 * std::uint64_t{usual_call_ns} + kCallSwingNs;
    const bool is_slow = usual_call_ns != 0 && call_ns > most;
    const std::uint64_t took =
        std::min({call_ns, kMostCallNs, usual_call_ns == 0 ? kMostCallNs : most});
    // The first ones load and warm up.
    const bool begins = usual_call_ns == 0 || took < usual_call_ns / 2;
    usual_call_ns =
        static_cast<std::uint32_t>(begins ? took : (7 * std::uint64_t{usual_call_ns} + took) / 8);
    return is_slow;
  }
};

class CostTable {
 public:
  // nullptr: no memory. The pointer is good until the next find() of another kind.
  KnownWork* find(const Work& work) {
    if (!map()) return nullptr;
    Entry* const set = set_of(work);
    Entry* oldest = set;
    ++beat_;
    for (Entry* each = set; each != set + kWays; ++each) {
      if (each->work == work) {
        each->used = beat_;
        return &each->known;
      }
      if (each->used < oldest->used) oldest = each;
    }
    *oldest = Entry{work, beat_, KnownWork()};
    return &oldest->known;
  }
  // As find(), but nullptr where it isn't known.
  KnownWork* known(const Work& work) {
    if (entries_ == nullptr) return nullptr;
    Entry* const set = set_of(work);
    for (Entry* each = set; each != set + kWays; ++each) {
      if (each->work == work) return &each->known;
    }
    return nullptr;
  }
  // Whatever has this id is another thing from now on.
  void forget(std::uint64_t id) {
    for (Entry* each = entries_; each != nullptr && each != entries_ + kEntries; ++each) {
      if (each->work.id == id) *each = Entry();
    }
  }
  void reset_after_fork() {
    for (Entry* each = entries_; each != nullptr && each != entries_ + kEntries; ++each)
      *each = Entry();
  }

 private:
  static constexpr std::size_t kWays = 8;
  static constexpr std::size_t kEntries = 4096;
  struct Entry {
    Work work;
    std::uint64_t used = 0;
    KnownWork known;
  };
  static_assert((kEntries & (kEntries - 1)) == 0);

  Entry* set_of(const Work& work) const {
    const std::uint64_t hash = mix_work(work.id * 0xff51afd7ed558ccd, work.shape);
    return entries_ + ((hash >> 20) & (kEntries / kWays - 1)) * kWays;
  }
  bool map() {
    if (entries_ != nullptr) return true;
    void* const pages = ::mmap(nullptr, kEntries * sizeof(Entry), PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return false;
    entries_ = static_cast<Entry*>(pages);
    for (std::size_t i = 0; i < kEntries; ++i) new (entries_ + i) Entry();
    return true;
  }

  Entry* entries_ = nullptr;
  std::uint64_t beat_ = 0;
};

}  // namespace vgpu::limiter

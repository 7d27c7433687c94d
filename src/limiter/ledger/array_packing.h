// SPDX-License-Identifier: Apache-2.0
// Where the driver puts arrays of up to 1 MiB: in pages of their own kind, first fit in units of 64
// KiB, holes used again, a page given back when it is empty. Their handles don't tell the page, so
// it is modelled; should the driver place one otherwise, the next measurement makes up for it.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

#include "spin_lock.h"
#include "vgpu/core/driver_model.h"

namespace vgpu::limiter {

class ArrayPacking {
 public:
  static constexpr std::uint32_t kNowhere = UINT32_MAX;

  // Places an array; `fresh` says whether its page is new. The place names it for remove().
  // kNowhere: no memory.
  std::uint32_t add(std::uint64_t bytes, std::uint32_t gpu, std::uint64_t context, bool& fresh) {
    const std::uint32_t units = units_of(bytes);
    SpinGuard guard(lock_);
    std::uint32_t empty = kNowhere;
    for (std::uint32_t i = 0; i < count_; ++i) {
      Page& page = pages_[i];
      if (page.used == 0) {
        if (empty == kNowhere) empty = i;
        continue;
      }
      const std::uint32_t first =
          page.gpu == gpu && page.context == context ? hole_in(page.used, units) : kUnits;
      if (first == kUnits) continue;
      page.used |= mask_of(units) << first;
      fresh = false;
      return i * kUnits + first;
    }
    if (empty == kNowhere && !grow(empty)) return kNowhere;
    pages_[empty] = {.context = context, .gpu = gpu, .used = mask_of(units)};
    fresh = true;
    return empty * kUnits;
  }

  // Whether an array of this size would need no new page.
  bool has_place(std::uint64_t bytes, std::uint32_t gpu, std::uint64_t context) {
    const std::uint32_t units = units_of(bytes);
    SpinGuard guard(lock_);
    for (std::uint32_t i = 0; i < count_; ++i) {
      const Page& page = pages_[i];
      if (page.used != 0 && page.gpu == gpu && page.context == context &&
          hole_in(page.used, units) != kUnits)
        return true;
    }
    return false;
  }

  // True when the page it lay in is empty now.
  bool remove(std::uint32_t place, std::uint64_t bytes) {
    if (place == kNowhere) return false;
    SpinGuard guard(lock_);
    Page& page = pages_[place / kUnits];
    page.used &= ~(mask_of(units_of(bytes)) << place % kUnits);
    return page.used == 0;
  }

  void reset_after_fork() {
    lock_.reset();
    if (pages_ != nullptr) munmap(pages_, capacity_ * sizeof(Page));
    pages_ = nullptr;
    count_ = capacity_ = 0;
  }

 private:
  struct Page {
    std::uint64_t context = 0;
    std::uint32_t gpu = 0;
    std::uint32_t used = 0;  // a bit for each unit
  };
  static constexpr std::uint32_t kUnits = driver_model::kPageBytes / driver_model::kArrayAlignBytes;
  static_assert(kUnits == 32, "one word a page");

  static std::uint32_t units_of(std::uint64_t bytes) {
    return static_cast<std::uint32_t>(
        driver_model::round_up(bytes, driver_model::kArrayAlignBytes) /
        driver_model::kArrayAlignBytes);
  }
  static std::uint32_t mask_of(std::uint32_t units) {
    return units >= kUnits ? UINT32_MAX : (1U << units) - 1;
  }
  static std::uint32_t hole_in(std::uint32_t used, std::uint32_t units) {
    for (std::uint32_t first = 0; first + units <= kUnits; ++first) {
      if ((used & mask_of(units) << first) == 0) return first;
    }
    return kUnits;
  }

  bool grow(std::uint32_t& empty) {
    if (count_ == capacity_) {
      const std::uint32_t wanted = capacity_ == 0 ? 256 : capacity_ * 2;
      void* memory = mmap(nullptr, wanted * sizeof(Page), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (memory == MAP_FAILED) return false;
      Page* const old = pages_;
      pages_ = static_cast<Page*>(memory);
      for (std::uint32_t i = 0; i < count_; ++i) pages_[i] = old[i];
      if (old != nullptr) munmap(old, capacity_ * sizeof(Page));
      capacity_ = wanted;
    }
    empty = count_++;
    return true;
  }

  SpinLock lock_;
  Page* pages_ = nullptr;
  std::uint32_t count_ = 0;
  std::uint32_t capacity_ = 0;
};

}  // namespace vgpu::limiter

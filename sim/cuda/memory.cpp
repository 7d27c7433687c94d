// SPDX-License-Identifier: Apache-2.0
// Free lists and sparse files behind simulated device memory; see memory.h.
#include "memory.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "vgpu/sim/model.h"

namespace vgpu::sim {
namespace {
constexpr std::uint64_t kChunkBytes = 64 * kGiB;
constexpr std::uint64_t kLowChunkBytes = 256 * kMiB;
#if defined(MAP_32BIT)
constexpr int kLowAddresses = MAP_32BIT;
#else
constexpr int kLowAddresses = 0;  // whoever asks for 32-bit addresses gets none that fit
#endif
constexpr std::uint64_t kChunkAlign = 32 * kMiB;
}  // namespace

void RangeHeap::erase(std::map<std::uint64_t, std::uint64_t>::iterator at) {
  free_bytes_ -= at->second;
  by_size_.erase({at->second, at->first});
  by_start_.erase(at);
}

void RangeHeap::insert(std::uint64_t start, std::uint64_t size) {
  if (size == 0) return;
  free_bytes_ += size;
  by_start_.emplace(start, size);
  by_size_.emplace(size, start);
}

void RangeHeap::give(std::uint64_t start, std::uint64_t size) {
  const auto crosses = [&](std::uint64_t at) { return boundary_ != 0 && at % boundary_ == 0; };
  auto next = by_start_.lower_bound(start);
  if (next != by_start_.end() && next->first == start + size && !crosses(next->first)) {
    size += next->second;
    erase(next);
    next = by_start_.lower_bound(start);
  }
  if (next != by_start_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == start && !crosses(start)) {
      start = before->first;
      size += before->second;
      erase(before);
    }
  }
  insert(start, size);
}

std::optional<std::uint64_t> RangeHeap::take(std::uint64_t size, std::uint64_t align) {
  for (auto at = by_size_.lower_bound({size, 0}); at != by_size_.end(); ++at) {
    const auto [length, start] = *at;
    const std::uint64_t place = round_up(start, align);
    if (place + size > start + length) continue;
    cut(place, size);
    return place;
  }
  return std::nullopt;
}

void RangeHeap::cut(std::uint64_t start, std::uint64_t size) {
  auto at = std::prev(by_start_.upper_bound(start));
  const auto [from, length] = *at;
  erase(at);
  insert(from, start - from);
  insert(start + size, from + length - start - size);
}

std::optional<std::pair<std::uint64_t, std::uint64_t>> RangeHeap::range_at(std::uint64_t at) const {
  auto found = by_start_.upper_bound(at);
  if (found == by_start_.begin()) return std::nullopt;
  --found;
  if (at >= found->first + found->second) return std::nullopt;
  return *found;
}

bool Arena::grow(std::uint64_t size) {
  size = round_up(std::max(size, low_ ? kLowChunkBytes : kChunkBytes), kChunkAlign);
  const int fd = memfd_create("vgpu-sim-memory", MFD_CLOEXEC);
  if (fd < 0) return false;
  if (ftruncate(fd, static_cast<off_t>(size)) != 0) {
    close(fd);
    return false;
  }
  // Address space first, with room to align, then the file into the middle of it.
  void* room =
      mmap(nullptr, size + kChunkAlign, PROT_NONE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (low_ ? kLowAddresses : 0), -1, 0);
  if (room == MAP_FAILED) {
    close(fd);
    return false;
  }
  const auto from = reinterpret_cast<std::uint64_t>(room);
  const std::uint64_t start = round_up(from, kChunkAlign);
  if (start > from) munmap(room, start - from);
  munmap(reinterpret_cast<void*>(start + size), from + kChunkAlign - start);
  void* place = mmap(reinterpret_cast<void*>(start), size, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0);
  if (place == MAP_FAILED) {
    munmap(reinterpret_cast<void*>(start), size);
    close(fd);
    return false;
  }
  madvise(place, size, MADV_DONTDUMP);
  chunks_.push_back({start, size, fd});
  free_.give(start, size);
  return true;
}

std::optional<std::uint64_t> Arena::take(std::uint64_t size, std::uint64_t align) {
  if (const auto place = free_.take(size, align)) return place;
  if (!grow(size + align)) return std::nullopt;
  return free_.take(size, align);
}

void Arena::forget(std::uint64_t start, std::uint64_t size) {
  if (const auto where = backing(start)) {
    fallocate(where->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
              static_cast<off_t>(where->offset), static_cast<off_t>(size));
  }
}

void Arena::give(std::uint64_t start, std::uint64_t size, bool written) {
  if (written) forget(start, size);
  free_.give(start, size);
}

std::optional<Backing> Arena::backing(std::uint64_t address) const {
  for (const Chunk& chunk : chunks_) {
    if (address >= chunk.start && address < chunk.start + chunk.size)
      return Backing{chunk.fd, address - chunk.start};
  }
  return std::nullopt;
}

}  // namespace vgpu::sim

// SPDX-License-Identifier: Apache-2.0
// Addresses and bytes of simulated memory. A device's memory is a sparse file in RAM that is mapped
// once, so a device pointer is a plain address here, other processes can open the same bytes, and
// memory that nobody wrote costs nothing. Who may allocate how much is not decided here but by the
// device state. Callers hold the driver's mutex.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace vgpu::sim {

// Free ranges of an address space: best fit, neighbours grow together but never across a multiple
// of `boundary`.
class RangeHeap {
 public:
  explicit RangeHeap(std::uint64_t boundary = 0) : boundary_(boundary) {}
  void give(std::uint64_t start, std::uint64_t size);
  std::optional<std::uint64_t> take(std::uint64_t size, std::uint64_t align);
  // Removes exactly this range, which has to be free.
  void cut(std::uint64_t start, std::uint64_t size);
  // The free range that holds `at`, if any.
  std::optional<std::pair<std::uint64_t, std::uint64_t>> range_at(std::uint64_t at) const;
  const std::map<std::uint64_t, std::uint64_t>& ranges() const { return by_start_; }
  std::uint64_t free_bytes() const { return free_bytes_; }

 private:
  void erase(std::map<std::uint64_t, std::uint64_t>::iterator at);
  void insert(std::uint64_t start, std::uint64_t size);

  std::uint64_t boundary_;
  std::uint64_t free_bytes_ = 0;
  std::map<std::uint64_t, std::uint64_t> by_start_;
  std::set<std::pair<std::uint64_t, std::uint64_t>> by_size_;
};

// Where an address lies in a file: what another process or another mapping needs.
struct Backing {
  int fd = -1;
  std::uint64_t offset = 0;
};

class Arena {
 public:
  // `low`: addresses below 4 GiB, for the legacy entries that return 32 bits.
  explicit Arena(bool low = false) : low_(low) {}
  std::optional<std::uint64_t> take(std::uint64_t size, std::uint64_t align);
  // `written`: the bytes go back to the system as well and read as zero afterwards.
  void give(std::uint64_t start, std::uint64_t size, bool written);
  // The bytes of a range read as zero afterwards and cost nothing; the range stays taken.
  void forget(std::uint64_t start, std::uint64_t size);
  std::optional<Backing> backing(std::uint64_t address) const;

 private:
  struct Chunk {
    std::uint64_t start;
    std::uint64_t size;
    int fd;
  };
  bool grow(std::uint64_t size);

  bool low_;
  RangeHeap free_;
  std::vector<Chunk> chunks_;
};

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t step) {
  return (value + step - 1) / step * step;
}

}  // namespace vgpu::sim

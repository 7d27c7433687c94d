// SPDX-License-Identifier: Apache-2.0
// Kinds of work, by which costs are learned: a kernel with its grid and block, an executable graph,
// a fill or copy of about so many bytes.
#pragma once

#include <bit>
#include <cstdint>

#include "vgpu/api/cuda_abi.h"

namespace vgpu::limiter {

struct Work {
  std::uint64_t id = 0;     // what it is; 0: no work
  std::uint64_t shape = 0;  // how much of it
  friend bool operator==(const Work&, const Work&) = default;
};

constexpr std::uint64_t mix_work(std::uint64_t hash, std::uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15;
  return hash ^ (hash >> 29);
}

inline Work kernel_work(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                        unsigned block_x, unsigned block_y, unsigned block_z) {
  std::uint64_t shape = mix_work(std::uint64_t{grid_x} << 32 | grid_y, grid_z);
  shape = mix_work(shape, std::uint64_t{block_x} << 40 | std::uint64_t{block_y} << 20 | block_z);
  return {reinterpret_cast<std::uint64_t>(function), shape};
}

// Its grid lies with the function: one kind.
inline Work kernel_work(CUfunction function) {
  return {reinterpret_cast<std::uint64_t>(function), 0};
}

inline constexpr std::uint64_t kGraphShape =
    UINT64_MAX;  // no size, and no grid's hash but by chance
inline Work graph_work(CUgraphExec exec) {
  return {reinterpret_cast<std::uint64_t>(exec), kGraphShape};
}
constexpr bool is_graph(const Work& work) { return work.shape == kGraphShape; }

// Handles are addresses; these aren't.
inline constexpr std::uint64_t kFillId = 1;
inline constexpr std::uint64_t kCopyId = 2;

// Sizes within an eighth of each other are one kind.
constexpr std::uint64_t size_class(std::uint64_t bytes) {
  const int above = std::bit_width(bytes) > 4 ? static_cast<int>(std::bit_width(bytes)) - 4 : 0;
  return bytes >> above << above;
}

// No bytes are no work.
constexpr Work fill_work(std::uint64_t bytes) {
  return bytes == 0 ? Work{} : Work{kFillId, size_class(bytes)};
}
constexpr Work copy_work(std::uint64_t bytes) {
  return bytes == 0 ? Work{} : Work{kCopyId, size_class(bytes)};
}

}  // namespace vgpu::limiter

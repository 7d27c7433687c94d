// SPDX-License-Identifier: Apache-2.0
// What the CUDA driver takes for what is asked of it: every constant and formula that the limiter
// charges by, and nowhere else. Figures are from an H200 with driver 580; where the driver's layout
// is not documented, a formula is an upper bound (too little charged would pass a limit, too much
// is given back once the driver can be asked). Pure functions of numbers; any thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vgpu::driver_model {

inline constexpr std::uint64_t kKiB = 1024;
inline constexpr std::uint64_t kMiB = 1024 * kKiB;
inline constexpr std::uint64_t kGiB = 1024 * kMiB;

// Sums of what programs ask for saturate: a request near 2^64 is refused, not wrapped into a small
// one.
constexpr std::uint64_t saturating_add(std::uint64_t a, std::uint64_t b) {
  return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}
constexpr std::uint64_t saturating_multiply(std::uint64_t a, std::uint64_t b) {
  return a != 0 && b > UINT64_MAX / a ? UINT64_MAX : a * b;
}
constexpr std::uint64_t round_up(std::uint64_t bytes, std::uint64_t step) {
  const std::uint64_t excess = bytes % step;
  return excess == 0 ? bytes : saturating_add(bytes, step - excess);
}

constexpr std::uint64_t round_down(std::uint64_t bytes, std::uint64_t step) {
  return bytes - bytes % step;
}

// cuMemAlloc: more than 1 MiB gets pages of its own; less is placed in shared blocks of one page.
inline constexpr std::uint64_t kPageBytes = 2 * kMiB;
inline constexpr unsigned kPageShift = 21;
inline constexpr std::uint64_t kSmallLimitBytes = 1 * kMiB;
inline constexpr std::uint64_t kSmallAlignBytes = 512;

constexpr bool shares_a_block(std::uint64_t bytes) { return bytes <= kSmallLimitBytes; }
constexpr std::uint64_t linear_bytes(std::uint64_t bytes) { return round_up(bytes, kPageBytes); }
constexpr std::uint64_t block_of(std::uint64_t address) { return address >> kPageShift; }

// An allocation that may or may not fit into a block which is charged already takes one page at
// most. So much of a limit is left to such attempts: see decision 0006.
inline constexpr std::uint64_t kAttemptBytes = kPageBytes;

// cuMemAllocPitch: rows round up to 512 bytes.
inline constexpr std::uint64_t kPitchBytes = 512;
constexpr std::uint64_t pitched_bytes(std::uint64_t width_bytes, std::uint64_t rows) {
  return saturating_multiply(round_up(width_bytes, kPitchBytes), rows);
}

// A pool grows by whole steps. What a step leaves over may serve the next request, but need not:
// where a pool has given steps back, each request can need steps of its own.
inline constexpr std::uint64_t kPoolGrowthBytes = 32 * kMiB;
inline constexpr std::uint64_t kPoolAlignBytes = 512;
constexpr std::uint64_t pool_growth_bytes(std::uint64_t request_bytes) {
  return round_up(request_bytes, kPoolGrowthBytes);
}
// From so much unsettled growth on a pool is asked for what it reserves (one query of 40 ns); so
// much stays charged for what comes next, until something else wants the exact figure.
inline constexpr std::uint64_t kPoolSlackBytes = 64 * kMiB;

// Graph memory: each device has one pool for all graphs. It is taken when a graph is uploaded or
// first launched, each node in steps of its own, and kept until a trim.
inline constexpr std::uint64_t kGraphGrowthBytes = 32 * kMiB;
constexpr std::uint64_t graph_node_bytes(std::uint64_t request_bytes) {
  return round_up(request_bytes, kGraphGrowthBytes);
}

// An empty context (518 MiB shown, and the unshown part below), and what a green context adds to
// the primary one it lives in. Charged ahead; a reading corrects it.
inline constexpr std::uint64_t kContextBytes = 530 * kMiB;
// The least limit that holds a context beside the page that is left to attempts.
inline constexpr std::uint64_t kLeastLimitBytes = kContextBytes + kAttemptBytes;
inline constexpr std::uint64_t kGreenContextBytes = 6 * kMiB;
// What the used memory of an idle GPU grows by beyond the figures of the processes that use it:
// 9 MiB with one process, 48 MiB with eight.
inline constexpr std::uint64_t kUnshownProcessBytes = 10 * kMiB;
// The least that a limit must leave room for.
inline constexpr std::uint64_t kSmallestContextBytes = 528 * kMiB;

// The first managed memory of a process that comes to a device takes this beyond its own size,
// until the process ends. NVML shows neither.
inline constexpr std::uint64_t kFirstManagedBytes = 64 * kMiB;

// Stack and local memory are taken for every thread that the device can hold at once. A context
// holds it for the default stack; a larger one takes the difference when it is set, and gives it
// back when it is lowered.
inline constexpr std::uint64_t kDefaultStackBytes = 1024;
inline constexpr std::uint64_t kMaxLocalBytes = 512 * kKiB;  // of one thread
inline constexpr std::uint64_t kDefaultHeapBytes = 8 * kMiB;
inline constexpr std::uint64_t kDefaultPrintfBytes = 8 * kMiB + 256 * kKiB;
constexpr std::uint64_t local_memory_bytes(std::uint64_t bytes_per_thread,
                                           std::uint64_t resident_threads) {
  return round_up(saturating_multiply(round_up(bytes_per_thread, 16), resident_threads),
                  kPageBytes);
}

// Arrays are stored in tiles of 64 bytes by 8 rows. Each dimension rounds up to whole tiles, each
// level of a mipmapped one for itself, and to 64 KiB; the sum is then placed like a linear
// allocation. Where the driver says what an array needs (cuArrayGetMemoryRequirements of a deferred
// twin, 8 us), that is used instead.
inline constexpr std::uint64_t kArrayAlignBytes = 64 * kKiB;
inline constexpr std::uint64_t kTileWidthBytes = 64;
inline constexpr std::uint64_t kTileRows = 8;

struct ArrayShape {
  std::uint64_t width = 0;         // in elements
  std::uint64_t height = 0;        // 0: one row
  std::uint64_t depth = 0;         // 0: one slice; the number of layers where `layered`
  std::uint32_t element_bits = 8;  // all channels of an element, or of a block of compressed ones
  std::uint32_t block_width = 1;   // elements that a compressed block spans in each of x and y
  std::uint32_t levels = 1;
  bool layered = false;  // layers keep their number at every mip level
};

constexpr std::uint64_t level_extent(std::uint64_t extent, std::uint32_t level) {
  const std::uint64_t at_least_one = extent == 0 ? 1 : extent;
  const std::uint64_t halved = level >= 64 ? 0 : at_least_one >> level;
  return halved == 0 ? 1 : halved;
}

constexpr std::uint64_t array_level_bytes(const ArrayShape& shape, std::uint32_t level) {
  const std::uint64_t span = shape.block_width == 0 ? 1 : shape.block_width;
  const std::uint64_t columns = (level_extent(shape.width, level) + span - 1) / span;
  const std::uint64_t rows = (level_extent(shape.height, level) + span - 1) / span;
  const std::uint64_t slices =
      shape.layered ? level_extent(shape.depth, 0) : level_extent(shape.depth, level);
  const std::uint64_t row_bits = saturating_multiply(columns, shape.element_bits);
  const std::uint64_t row_bytes = round_up(row_bits / 8 + (row_bits % 8 != 0), kTileWidthBytes);
  const std::uint64_t row_count = rows == 1 ? 1 : round_up(rows, kTileRows);
  return saturating_multiply(saturating_multiply(row_bytes, row_count), slices);
}

constexpr std::uint64_t array_bytes(const ArrayShape& shape) {
  std::uint64_t sum = 0;
  const std::uint32_t levels = shape.levels == 0 ? 1 : shape.levels;
  for (std::uint32_t level = 0; level < levels && level < 64; ++level) {
    sum = saturating_add(sum, array_level_bytes(shape, level));
  }
  return round_up(sum, kArrayAlignBytes);
}

// Code and globals of a module, from the image that is loaded.
constexpr std::uint64_t module_bytes(std::uint64_t code_bytes, std::uint64_t global_bytes) {
  // Small code fits into what the context holds already; globals are allocated like anything else.
  const std::uint64_t code = code_bytes <= kSmallLimitBytes ? 0 : linear_bytes(code_bytes);
  const std::uint64_t globals = global_bytes == 0 ? 0 : linear_bytes(global_bytes);
  return saturating_add(code, globals);
}

}  // namespace vgpu::driver_model

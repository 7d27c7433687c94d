// SPDX-License-Identifier: Apache-2.0
// Which kernels run together with peers on other GPUs, by name. Their launches tell where programs
// that span GPUs are: in most each process makes as many as its peers, in the same order
// (core/arbiter.h: SeatView::place). A name that only looks like one does no harm where all
// processes of the program launch it as often.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "work.h"

namespace vgpu::limiter {

// NCCL's kernels have its name in theirs, NVSHMEM's too; others say what they do.
constexpr bool is_collective_name(std::string_view name) {
  constexpr std::string_view kWords[] = {
      "nccl",      "nvshmem",    "allreduce",          "all_reduce",
      "allgather", "all_gather", "reducescatter",      "reduce_scatter",
      "alltoall",  "all_to_all", "cross_device_reduce"};
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  for (const std::string_view word : kWords) {
    for (std::size_t from = 0; from + word.size() <= name.size(); ++from) {
      std::size_t same = 0;
      while (same < word.size() && lower(name[from + same]) == word[same]) ++same;
      if (same == word.size()) return true;
    }
  }
  return false;
}

// Any thread. What finds no place is taken to be an ordinary kernel.
class Collectives {
 public:
  // At the first launch of a function, since its handle may have been another's before.
  void note(std::uint64_t function, bool is_collective) {
    std::atomic<std::uint64_t>* const set = set_of(function);
    for (std::size_t i = 0; i < kWays; ++i) {
      const std::uint64_t seen = set[i].load(std::memory_order_relaxed);
      if (seen == function && !is_collective) set[i].store(0, std::memory_order_relaxed);
      if (seen == function) return;
    }
    for (std::size_t i = 0; is_collective && i < kWays; ++i) {
      std::uint64_t empty = 0;
      if (set[i].compare_exchange_strong(empty, function, std::memory_order_relaxed)) return;
    }
  }
  bool has(std::uint64_t function) const {
    const std::atomic<std::uint64_t>* const set = set_of(function);
    for (std::size_t i = 0; i < kWays; ++i) {
      if (set[i].load(std::memory_order_relaxed) == function) return true;
    }
    return false;
  }
  void reset_after_fork() {
    for (auto& each : functions_) each.store(0, std::memory_order_relaxed);
  }

 private:
  static constexpr std::size_t kWays = 8;
  static constexpr std::size_t kSets = 512;
  static std::size_t index_of(std::uint64_t function) {
    return (mix_work(1, function) >> 16) % kSets * kWays;
  }
  std::atomic<std::uint64_t>* set_of(std::uint64_t function) {
    return functions_ + index_of(function);
  }
  const std::atomic<std::uint64_t>* set_of(std::uint64_t function) const {
    return functions_ + index_of(function);
  }

  std::atomic<std::uint64_t> functions_[kSets * kWays] = {};
};

// Of this process.
inline constinit Collectives g_collectives;

}  // namespace vgpu::limiter

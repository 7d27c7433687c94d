// SPDX-License-Identifier: Apache-2.0
// What a tenant may hold, is owed, and may not pass on one GPU. Plain values shared by settings,
// shm, limiter and CLI.
#pragma once

#include <cstdint>

namespace vgpu {

inline constexpr std::uint64_t kNoLimit = UINT64_MAX;  // a memory limit that limits nothing

enum class Policy : std::uint8_t { elastic = 0, fixed = 1 };
enum class Priority : std::uint8_t { low = 0, normal = 1, high = 2 };

// Who set a quantity; the order is the precedence, strongest first (`none`: nobody did).
enum class Source : std::uint8_t { none = 0, daemon, run, vgpu, tensor_fusion, hami, vgpu_manager };

struct Quota {
  std::uint64_t memory_limit_bytes = kNoLimit;
  std::uint8_t compute_share_percent = 0;  // 0: owed nothing, splits what is left
  std::uint8_t compute_limit_percent = 0;  // 0: no limit
  Policy policy = Policy::elastic;
  Priority priority = Priority::normal;
  Source memory_source = Source::none;
  Source compute_source = Source::none;

  friend bool operator==(const Quota&, const Quota&) = default;
  bool limits_memory() const { return memory_limit_bytes != kNoLimit; }
  bool limits_compute() const { return compute_share_percent != 0 || compute_limit_percent != 0; }
};

}  // namespace vgpu

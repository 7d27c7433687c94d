// SPDX-License-Identifier: Apache-2.0
// What the hooks of physical memory, multicast objects and arrays share.
#pragma once

#include "charge.h"

namespace vgpu::limiter {

// What PhysicalTable calls when memory ended.
inline constexpr auto release_memory = [](const Freed& freed, bool exported) {
  exported ? release_when_gone(freed) : release(freed);
};

// Sparse arrays own binds as multicast objects do; their handles are told apart from ids, which are
// small numbers.
constexpr std::uint64_t bind_owner_of(std::uint64_t array) {
  return array | std::uint64_t{1} << 63;
}

}  // namespace vgpu::limiter

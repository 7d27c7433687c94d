// SPDX-License-Identifier: Apache-2.0
// Memory that the kernel zeroes in the child of a fork, so that "am I still the process that wrote
// this?" costs one load and needs no handler that somebody could bypass with a raw clone. Where the
// kernel can't (before 4.14), owners compare pids. Any thread.
#pragma once

#include <cstddef>

namespace vgpu::platform {

struct ForkPage {
  void* address = nullptr;  // one page, zeroed; nullptr if there is no memory
  bool wiped_by_fork = false;
};

ForkPage map_fork_page();
inline constexpr std::size_t kForkPageSize = 4096;

}  // namespace vgpu::platform

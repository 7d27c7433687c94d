// SPDX-License-Identifier: Apache-2.0
// The limits in a pod's shared-memory file. It is read by copying, never mapped, so that nothing
// happens to whoever reads it when it is cut short. An old heartbeat changes nothing: what limits
// say holds without a daemon. Any thread.
#pragma once

#include <cstddef>
#include <span>

#include "vgpu/pod/limits.h"

namespace vgpu::pod {

// So much of the file is looked at.
inline constexpr std::size_t kReadBytes = 2200;

// `bytes`: the file's first kReadBytes, or all where it has fewer. False with the reason: it isn't
// such a file, or says what can't be. Pure.
bool parse_file(std::span<const std::byte> bytes, std::size_t file_size, Limits& limits, Why& why);

bool read_file(const char* path, Limits& limits, Why& why);

}  // namespace vgpu::pod

// SPDX-License-Identifier: Apache-2.0
// Which process is that, and is it still there? A bare pid answers neither: pids are reused and
// mean something else in another PID namespace, so a process is its pid, its start time and its
// namespace. Any thread; async-signal-safe.
#pragma once

#include <cstdint>

#include "vgpu/base/fixed_string.h"

namespace vgpu::platform {

enum class Life : std::uint8_t {
  alive,
  exiting,  // on its way out: the kernel may not have closed its files yet
  gone,     // exited (a zombie too: its files are closed), or the pid is another process by now
  unknown,  // this system doesn't let us look
};

std::int32_t self_pid();
// Field 22 of /proc/PID/stat (clock ticks since boot); 0 if it can't be read. A process keeps it
// through exec.
std::uint64_t start_time_ticks(std::int32_t pid);
// Inode of the calling process's PID namespace; 0 if it can't be read.
std::uint64_t pid_namespace();
// For a pid of the caller's own PID namespace only.
Life life_of(std::int32_t pid, std::uint64_t start_ticks);
// The name as in /proc/self/comm.
FixedString<63> program_name();
// Fingerprint of the program file that a process runs, so that an exec shows; 0 if it can't be
// read.
std::uint32_t program_fingerprint(std::int32_t pid);

}  // namespace vgpu::platform

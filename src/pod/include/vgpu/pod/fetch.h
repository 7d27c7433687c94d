// SPDX-License-Identifier: Apache-2.0
// What a pod asks its node's daemon over HTTP/1.1: one request, one connection, bounded in time and
// size. Waits, and resolves names as the C library does, which may open libraries: not in a
// constructor, and not where others wait for the caller. Any thread.
#pragma once

#include <cstdint>

#include "vgpu/pod/limits.h"
#include "vgpu/pod/variables.h"

namespace vgpu::pod {

// GET /api/v1/pod. False with the reason. `pid`: the caller's, in its own PID namespace.
bool get_pod(const Variables& variables, std::int32_t pid, Limits& limits, Why& why);
// POST /api/v1/process: the daemon learns that this process is the pod's.
bool post_process(const Variables& variables, std::int32_t pid, Why& why);

}  // namespace vgpu::pod

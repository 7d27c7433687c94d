// SPDX-License-Identifier: Apache-2.0
// Device memory by each kind of call. What a thread has taken is its own: it gives back what it
// took last. Any thread with a current context on GPU 0.
#pragma once

#include <cstddef>
#include <string>

#include "gpu_client.h"

namespace vgpu::test {

constexpr std::size_t kMiB = 1u << 20;

inline CUdevice g_device = 0;

// Stream-ordered calls of this thread go here; null: the legacy stream, which waits for the whole
// context.
inline thread_local CUstream t_stream = nullptr;

// `bytes`: whole pages of 2 MiB. Kinds: alloc managed pitch array mipmapped async pool vmm mapped
// shared graph captured module library local stack newcontext multicast
// localgraph heap; of no size: small
// smallpitch stream.
CUresult take(const std::string& kind, std::size_t bytes);
CUresult give_back();
std::size_t taken_count();

// Makes the primary context of GPU 0 current.
CUresult make_context();

}  // namespace vgpu::test

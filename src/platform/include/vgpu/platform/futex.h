// SPDX-License-Identifier: Apache-2.0
// Waiting for a word that another process (or thread) changes. Spurious returns are normal: look at
// the word again. Any thread; async-signal-safe.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace vgpu::platform {

// Returns when the word isn't `seen`, somebody wakes it, or CLOCK_MONOTONIC reaches `until_ns`
// (UINT64_MAX: never).
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t seen, std::uint64_t until_ns);
// The same for several at once, at most kMostFutexes; `seen` has a value for each. Where the kernel
// can't (before Linux 5.16), it looks every half millisecond instead.
inline constexpr std::size_t kMostFutexes = 128;
void futex_wait_any(std::span<std::atomic<std::uint32_t>* const> words,
                    std::span<const std::uint32_t> seen, std::uint64_t until_ns);
void futex_wake_all(std::atomic<std::uint32_t>& word);

}  // namespace vgpu::platform

// SPDX-License-Identifier: Apache-2.0
#include "vgpu/platform/futex.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

namespace vgpu::platform {

// Without FUTEX_PRIVATE_FLAG: the word is shared between processes.
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t seen, std::uint64_t until_ns) {
  const int saved = errno;
  timespec until{static_cast<time_t>(until_ns / 1'000'000'000),
                 static_cast<long>(until_ns % 1'000'000'000)};
  ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, seen, until_ns == UINT64_MAX ? nullptr : &until,
            nullptr, FUTEX_BITSET_MATCH_ANY);
  errno = saved;
}

void futex_wait_any(std::span<std::atomic<std::uint32_t>* const> words,
                    std::span<const std::uint32_t> seen, std::uint64_t until_ns) {
  struct Waiter {  // the kernel's futex_waitv
    std::uint64_t value;
    std::uint64_t address;
    std::uint32_t flags;
    std::uint32_t reserved;
  };
  constexpr long kSysFutexWaitv = 449;  // the same on all architectures
  constexpr std::uint32_t kSize32 = 2;  // FUTEX_32, shared between processes
  constexpr std::uint64_t kLookEveryNs = 500'000;
  if (words.empty() || words.size() > kMostFutexes) return;
  const int saved = errno;
  Waiter waiters[kMostFutexes];
  for (std::size_t i = 0; i < words.size(); ++i)
    waiters[i] = {seen[i], reinterpret_cast<std::uintptr_t>(words[i]), kSize32, 0};
  const timespec until{static_cast<time_t>(until_ns / 1'000'000'000),
                       static_cast<long>(until_ns % 1'000'000'000)};
  const long rc = ::syscall(kSysFutexWaitv, waiters, static_cast<unsigned>(words.size()), 0u,
                            until_ns == UINT64_MAX ? nullptr : &until, CLOCK_MONOTONIC);
  if (rc < 0 && (errno == ENOSYS || errno == EPERM)) {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    const std::uint64_t now_ns = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
                                 static_cast<std::uint64_t>(now.tv_nsec);
    futex_wait(*words[0], seen[0], std::min(until_ns, now_ns + kLookEveryNs));
  }
  errno = saved;
}

void futex_wake_all(std::atomic<std::uint32_t>& word) {
  const int saved = errno;
  ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
  errno = saved;
}

}  // namespace vgpu::platform

// SPDX-License-Identifier: Apache-2.0
#include "vgpu/platform/futex.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

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

void futex_wake_all(std::atomic<std::uint32_t>& word) {
  const int saved = errno;
  ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
  errno = saved;
}

}  // namespace vgpu::platform

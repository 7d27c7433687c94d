// SPDX-License-Identifier: Apache-2.0
// A process under the predecessor's limiter: its arithmetic on a real file, a GPU that is only
// reckoned. predecessor_client FILE INDEX KERNEL_US THREADS; writes "BUSY_NS\n", what the GPU has
// done so far, every time that a byte comes on stdin, and ends with it.
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>

#include "vgpu/pod/file_layout.h"

namespace {

using vgpu::pod_file::V2;

std::int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

bool take(double& field, double cost) {
  std::atomic_ref word(reinterpret_cast<std::uint64_t&>(field));
  std::uint64_t seen = word.load(std::memory_order_acquire);
  for (;;) {
    const auto tokens = std::bit_cast<double>(seen);
    if (!(tokens >= cost)) return false;
    const auto left = std::bit_cast<std::uint64_t>(std::max(tokens - cost, 0.0));
    if (word.compare_exchange_weak(seen, left)) return true;
  }
}

// One kernel at a time, in order; `queued` ends in the time when the last one is done.
struct ReckonedGpu {
  std::deque<std::pair<std::int64_t, std::int64_t>> queued;  // start, end
  std::int64_t done_ns = 0;

  void submit(std::int64_t now, std::int64_t length) {
    const std::int64_t start = queued.empty() ? now : std::max(now, queued.back().second);
    queued.emplace_back(start, start + length);
  }
  std::int64_t busy_ns(std::int64_t now) {
    while (!queued.empty() && queued.front().second <= now) {
      done_ns += queued.front().second - queued.front().first;
      queued.pop_front();
    }
    return done_ns + (queued.empty() ? 0 : std::max<std::int64_t>(now - queued.front().first, 0));
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  const int fd = ::open(argv[1], O_RDWR | O_CLOEXEC);
  if (fd < 0) return 3;
  void* const base = ::mmap(nullptr, sizeof(V2), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) return 3;
  V2& file = *static_cast<V2*>(base);
  const auto index = static_cast<std::size_t>(std::atoi(argv[2]));
  if (index >= std::size(file.devices)) return 2;
  const std::int64_t length = std::atoll(argv[3]) * 1000;
  const double threads = std::max(std::atof(argv[4]), 1.0);
  const double cost = std::max(0.1, 0.1 + 9.9 * (1 - std::exp(-threads / 400'000)));
  ReckonedGpu gpu;
  std::int64_t next_try = 0;
  for (;;) {
    const std::int64_t now = now_ns();
    gpu.busy_ns(now);
    if (now >= next_try) {
      const bool healthy = std::atomic_ref(file.devices[index].is_active).load() != 0;
      while (gpu.queued.size() < 1024) {
        if (healthy && std::atomic_ref(file.devices[index].up_limit).load() < 100 &&
            !take(file.devices[index].tokens, cost)) {
          next_try = now + 10'000'000;
          break;
        }
        gpu.submit(now, length);
      }
    }
    pollfd input{0, POLLIN, 0};
    if (::poll(&input, 1, 1) > 0) {
      char byte;
      if (::read(0, &byte, 1) != 1) return 0;
      std::printf("%lld\n", static_cast<long long>(gpu.busy_ns(now_ns())));
      std::fflush(stdout);
    }
  }
}

// SPDX-License-Identifier: Apache-2.0
// A program that works on the GPU under the predecessor's limiter: its arithmetic on a kept file,
// kernels on whatever driver there is. limited_program FILE INDEX ORDINAL KERNEL_US THREADS: the
// device's place in the file, its number to the driver. Waits for each kernel. Writes "COUNT\n",
// the kernels done so far, every time that a byte comes on stdin, and ends with it.
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "gpu_client.h"
#include "vgpu/pod/file_layout.h"

using gpu_client::cu;

namespace {

namespace pod_file = vgpu::pod_file;

constexpr char kText[] = R"(.version 7.0
.target sm_70
.address_size 64
// vgpu-sim: spin_ns=param0
.visible .entry work(.param .u64 ns)
{
  ret;
}
)";

constexpr std::int64_t kRetryNs = 10'000'000;
constexpr std::int64_t kUnlimitedForNs = 60'000'000'000;
constexpr unsigned kRetriesBetweenChecks = 10;
constexpr unsigned kBlockThreads = 256;

std::int64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

class Limiter {
 public:
  explicit Limiter(pod_file::V2& file, std::size_t index, double threads)
      : file_(file),
        device_(file.devices[index]),
        cost_(std::max(0.1, 0.1 + 9.9 * (1 - std::exp(-threads / 400'000)))) {}

  // False: not yet, ask again after 10 ms.
  bool admits() {
    const std::int64_t now = monotonic_ns();
    if (now < unlimited_until_ns_) return true;
    if (std::atomic_ref(device_.up_limit).load() >= 100) {
      unlimited_until_ns_ = now + kUnlimitedForNs;
      return true;
    }
    if (tries_++ % kRetriesBetweenChecks == 0 && !is_healthy()) {
      tries_ = 0;
      return true;
    }
    if (!take()) return false;
    tries_ = 0;
    return true;
  }

 private:
  bool is_healthy() {
    const std::uint64_t beat = std::atomic_ref(file_.last_heartbeat).load();
    const auto now = static_cast<std::uint64_t>(::time(nullptr));
    return std::atomic_ref(device_.is_active).load() != 0 && beat != 0 && beat <= now &&
           now - beat <= pod_file::kHealthySeconds;
  }
  bool take() {
    std::atomic_ref tokens(device_.tokens);  // compares bits, as the predecessor does
    double seen = tokens.load(std::memory_order_acquire);
    for (;;) {
      if (!(seen >= cost_)) return false;
      if (tokens.compare_exchange_weak(seen, std::max(seen - cost_, 0.0))) return true;
    }
  }

  pod_file::V2& file_;
  pod_file::V2Device& device_;
  const double cost_;
  std::int64_t unlimited_until_ns_ = 0;
  unsigned tries_ = 0;
};

pod_file::V2* mapped(const char* path) {
  const int fd = ::open(path, O_RDWR | O_CLOEXEC);
  void* const base =
      fd < 0 ? MAP_FAILED
             : ::mmap(nullptr, pod_file::kFileSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return base == MAP_FAILED ? nullptr : static_cast<pod_file::V2*>(base);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  if (!gpu_client::load_driver()) return gpu_client::no_driver();
  pod_file::V2* const file = mapped(argv[1]);
  const auto index = static_cast<std::size_t>(std::atoi(argv[2]));
  if (file == nullptr || index >= pod_file::kMaxDevices) return 3;
  if (!gpu_client::use_device(std::atoi(argv[3]))) return 1;
  std::uint64_t kernel_ns = std::strtoull(argv[4], nullptr, 10) * 1000;
  const auto threads = static_cast<unsigned>(std::atoi(argv[5]));
  CUmodule module = nullptr;
  CUfunction function = nullptr;
  CUstream stream = nullptr;
  CUdeviceptr memory = 0;
  if (cu.cuModuleLoadData(&module, kText) != CUDA_SUCCESS ||
      cu.cuModuleGetFunction(&function, module, "work") != CUDA_SUCCESS ||
      cu.cuStreamCreate(&stream, 0) != CUDA_SUCCESS ||
      cu.cuMemAlloc_v2(&memory, std::size_t{64} << 20) != CUDA_SUCCESS)
    return 1;
  std::printf("ready\n");
  std::fflush(stdout);
  Limiter limiter(*file, index, threads);
  long done = 0;
  std::int64_t next_try = 0;
  for (;;) {
    const std::int64_t now = monotonic_ns();
    if (now >= next_try) {
      if (limiter.admits()) {
        void* params[] = {&kernel_ns};
        if (cu.cuLaunchKernel(function, std::max(threads / kBlockThreads, 1U), 1, 1, kBlockThreads,
                              1, 1, 0, stream, params, nullptr) != CUDA_SUCCESS ||
            cu.cuStreamSynchronize(stream) != CUDA_SUCCESS)
          return 1;
        ++done;
      } else {
        next_try = now + kRetryNs;
      }
    }
    pollfd input{0, POLLIN, 0};
    if (::poll(&input, 1, next_try > now ? 1 : 0) > 0) {
      char byte;
      if (::read(0, &byte, 1) != 1) return 0;
      std::printf("%ld\n", done);
      std::fflush(stdout);
    }
  }
}

// SPDX-License-Identifier: Apache-2.0
// race_probe THREADS PIECE_MIB SECONDS [plain|pool|giving [gate]]: every thread allocates pieces
// until it is refused, then frees one and tries again, until the time is over; what is held at the
// end stays held until standard input closes. `pool`: pieces of any size up to that one, from the
// default pool, which keeps what is freed, each thread in a stream of its own; `giving`: the same,
// from a pool that gives it back when somebody synchronises. `gate`: prints `ready` once it has its
// context, and goes on with a line of standard input. Prints `held_mib denied errors`.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "gpu_client.h"

using namespace gpu_client;

namespace {

// One thread's pieces, in plain memory or in the default pool.
class Pieces {
 public:
  Pieces(bool in_pool, std::size_t most_bytes, int thread)
      : in_pool_(in_pool), most_bytes_(most_bytes), random_(static_cast<unsigned>(thread)) {
    if (in_pool) cu.cuStreamCreate(&stream_, CU_STREAM_NON_BLOCKING);
  }
  CUresult take() {
    const std::size_t bytes = in_pool_ ? 1 + random_() % most_bytes_ : most_bytes_;
    CUdeviceptr p = 0;
    const CUresult code =
        in_pool_ ? cu.cuMemAllocAsync(&p, bytes, stream_) : cu.cuMemAlloc_v2(&p, bytes);
    if (code == CUDA_SUCCESS) held_.push_back({p, bytes});
    return code;
  }
  void give_one() {
    if (held_.empty()) return;
    if (in_pool_) std::swap(held_[random_() % held_.size()], held_.back());
    const CUdeviceptr p = held_.back().first;
    in_pool_ ? cu.cuMemFreeAsync(p, stream_) : cu.cuMemFree_v2(p);
    if (in_pool_ && random_() % 8 == 0) cu.cuStreamSynchronize(stream_);
    held_.pop_back();
  }
  std::size_t held_bytes() const {
    std::size_t sum = 0;
    for (const auto& each : held_) sum += each.second;
    return sum;
  }

 private:
  bool in_pool_;
  std::size_t most_bytes_;
  std::mt19937_64 random_;
  CUstream stream_ = nullptr;
  std::vector<std::pair<CUdeviceptr, std::size_t>> held_;
};

void keep_all_in_default_pool() {
  CUmemoryPool pool = nullptr;
  cuuint64_t threshold = UINT64_MAX;
  cu.cuDeviceGetDefaultMemPool(&pool, 0);
  cu.cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr,
                 "usage: race_probe THREADS PIECE_MIB SECONDS [plain|pool|giving [gate]]\n");
    return 2;
  }
  const int threads = std::atoi(argv[1]);
  const std::size_t piece = static_cast<std::size_t>(std::atoi(argv[2])) << 20;
  if (!load_driver()) return no_driver();
  if (!use_device(0)) return 1;
  const bool keeps = argc > 4 && std::strcmp(argv[4], "pool") == 0;
  const bool in_pool = keeps || (argc > 4 && std::strcmp(argv[4], "giving") == 0);
  if (keeps) keep_all_in_default_pool();
  CUcontext context = nullptr;
  cu.cuCtxGetCurrent(&context);
  if (argc > 5 && std::strcmp(argv[5], "gate") == 0) {
    char line = 0;
    std::puts("ready");
    std::fflush(stdout);
    if (read(STDIN_FILENO, &line, 1) <= 0) return 1;
  }
  const auto until =
      std::chrono::steady_clock::now() + std::chrono::duration<double>(std::atof(argv[3]));
  std::atomic<std::size_t> held_bytes{0};
  std::atomic<long> denied{0}, errors{0};
  std::vector<std::thread> workers;
  for (int t = 0; t < threads; ++t) {
    workers.emplace_back([&, t] {
      cu.cuCtxSetCurrent(context);
      Pieces mine(in_pool, piece, t);
      bool last_pass = false;
      for (;;) {
        const CUresult code = mine.take();
        if (code == CUDA_SUCCESS) continue;
        if (code != CUDA_ERROR_OUT_OF_MEMORY) {
          ++errors;
          break;
        }
        ++denied;
        if (last_pass) break;
        if (std::chrono::steady_clock::now() > until) {
          last_pass = true;  // fill up once more, so that what is left at the end is what nobody
                             // could take
        } else {
          mine.give_one();
        }
      }
      held_bytes += mine.held_bytes();
    });
  }
  for (auto& worker : workers) worker.join();
  std::printf("%ld %ld %ld\n", static_cast<long>(held_bytes.load() >> 20), denied.load(),
              errors.load());
  std::fflush(stdout);
  char byte = 0;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return errors.load() == 0 ? 0 : 1;
}

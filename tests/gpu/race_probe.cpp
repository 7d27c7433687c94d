// SPDX-License-Identifier: Apache-2.0
// race_probe THREADS PIECE_MIB SECONDS: every thread allocates pieces until it is refused, then
// frees one and tries again, until the time is over; what is held at the end stays held until
// standard input closes. Prints `held_mib denied errors`.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <vector>

#include "gpu_client.h"

using namespace gpu_client;

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: race_probe THREADS PIECE_MIB SECONDS\n");
    return 2;
  }
  const int threads = std::atoi(argv[1]);
  const std::size_t piece = static_cast<std::size_t>(std::atoi(argv[2])) << 20;
  const auto until =
      std::chrono::steady_clock::now() + std::chrono::duration<double>(std::atof(argv[3]));
  if (!load_driver()) return no_driver();
  if (!use_device(0)) return 1;
  CUcontext context = nullptr;
  cu.cuCtxGetCurrent(&context);
  std::atomic<long> held{0}, denied{0}, errors{0};
  std::vector<std::thread> workers;
  for (int t = 0; t < threads; ++t) {
    workers.emplace_back([&] {
      cu.cuCtxSetCurrent(context);
      std::vector<CUdeviceptr> mine;
      bool last_pass = false;
      for (;;) {
        CUdeviceptr p = 0;
        const CUresult code = cu.cuMemAlloc_v2(&p, piece);
        if (code == CUDA_SUCCESS) {
          mine.push_back(p);
          ++held;
        } else if (code != CUDA_ERROR_OUT_OF_MEMORY) {
          ++errors;
          break;
        } else {
          ++denied;
          if (last_pass) break;
          if (std::chrono::steady_clock::now() > until) {
            last_pass = true;  // fill up once more, so that what is left at the end is what nobody
                               // could take
          } else if (!mine.empty()) {
            cu.cuMemFree_v2(mine.back());
            mine.pop_back();
            --held;
          }
        }
      }
    });
  }
  for (auto& worker : workers) worker.join();
  std::printf("%ld %ld %ld\n", held.load() * static_cast<long>(piece >> 20), denied.load(),
              errors.load());
  std::fflush(stdout);
  char byte = 0;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return errors.load() == 0 ? 0 : 1;
}

// SPDX-License-Identifier: Apache-2.0
// What one call costs the host, in nanoseconds, at the median: launch, cuMemAlloc, async
// allocation, cuMemGetInfo. Run it without and with the limiter, interleaved, and subtract. Prints
// `name median_ns` lines. No argument: 15 rounds.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "gpu_client.h"

using namespace gpu_client;

namespace {

const char kEmptyKernel[] =
    ".version 7.0\n.target sm_70\n.address_size 64\n// vgpu-sim: spin_ns=0\n.visible .entry "
    "empty()\n{\nret;\n}\n";

// Median over rounds of the mean over `calls`; `after` (untimed) drains what the calls queued.
void measure(const char* name, int rounds, int calls, const std::function<void()>& call,
             const std::function<void()>& after) {
  std::vector<double> means;
  for (int i = 0; i < calls; ++i) call();
  after();
  for (int round = 0; round < rounds; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < calls; ++i) call();
    const auto end = std::chrono::steady_clock::now();
    after();
    means.push_back(std::chrono::duration<double, std::nano>(end - begin).count() / calls);
  }
  std::sort(means.begin(), means.end());
  std::printf("%s %.0f\n", name, means[means.size() / 2]);
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 15;
  if (!load_driver()) return no_driver();
  if (!use_device(0)) return 1;
  CUmodule module = nullptr;
  CUfunction empty = nullptr;
  CUstream stream = nullptr;
  if (cu.cuModuleLoadData(&module, kEmptyKernel) != CUDA_SUCCESS ||
      cu.cuModuleGetFunction(&empty, module, "empty") != CUDA_SUCCESS ||
      cu.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) != CUDA_SUCCESS) {
    std::fprintf(stderr, "cost_probe: no kernel\n");
    return 1;
  }
  const auto drain = [&] { cu.cuStreamSynchronize(stream); };
  const auto nothing = [] {};
  measure(
      "launch", rounds, 500,
      [&] { cu.cuLaunchKernel(empty, 1, 1, 1, 1, 1, 1, 0, stream, nullptr, nullptr); }, drain);
  CUdeviceptr p = 0;
  measure(
      "cuMemAlloc_free_4MiB", rounds, 100,
      [&] {
        cu.cuMemAlloc_v2(&p, 4u << 20);
        cu.cuMemFree_v2(p);
      },
      nothing);
  CUdeviceptr keep = 0;
  cu.cuMemAlloc_v2(&keep, 1024);  // keeps the 2 MiB block of small pieces alive
  measure(
      "cuMemAlloc_free_1KiB", rounds, 1000,
      [&] {
        cu.cuMemAlloc_v2(&p, 1024);
        cu.cuMemFree_v2(p);
      },
      nothing);
  measure(
      "cuMemAllocAsync_free_1MiB", rounds, 500,
      [&] {
        cu.cuMemAllocAsync(&p, 1u << 20, stream);
        cu.cuMemFreeAsync(p, stream);
      },
      drain);
  std::vector<CUdeviceptr> held(200);
  measure(
      "cuMemAllocAsync_200x2MiB_then_free", rounds, 5,
      [&] {
        for (auto& one : held) cu.cuMemAllocAsync(&one, 2u << 20, stream);
        for (const auto one : held) cu.cuMemFreeAsync(one, stream);
      },
      drain);
  std::size_t free_bytes = 0, total_bytes = 0;
  measure(
      "cuMemGetInfo", rounds, 200, [&] { cu.cuMemGetInfo_v2(&free_bytes, &total_bytes); }, nothing);
  return 0;
}

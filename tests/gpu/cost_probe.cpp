// SPDX-License-Identifier: Apache-2.0
// What one call costs the host, in nanoseconds, at the median: launch, cuMemAlloc, async
// allocation, cuMemGetInfo. Run it without and with the limiter, interleaved, and subtract. Prints
// `name median_ns` lines. No argument: 15 rounds.
//
// Two processes launch at costs that differ by more than a limiter adds. So `launch_added` compares
// inside this one: launches as the program finds the entry, and by the driver's own, in turns.
// Without a limiter both are the same, and it says how exact it is.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "gpu_client.h"
#include "own_export.h"

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

double percentile(std::vector<double>& values, double part) {
  const auto at = static_cast<std::ptrdiff_t>(part * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<std::size_t>(at)];
}

// Pairs of ten launches each way, each ten onto an idle stream; who goes first changes.
void compare_launches(int pairs, CUfunction kernel, CUstream stream) {
  using Launch = decltype(cu.cuLaunchKernel);
  const auto own = reinterpret_cast<Launch>(own_export::find("libcuda.so", "cuLaunchKernel"));
  if (own == nullptr) return;
  constexpr int kLaunches = 10;
  const auto ten = [&](Launch launch) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kLaunches; ++i)
      launch(kernel, 1, 1, 1, 1, 1, 1, 0, stream, nullptr, nullptr);
    const auto end = std::chrono::steady_clock::now();
    cu.cuStreamSynchronize(stream);
    return std::chrono::duration<double, std::nano>(end - begin).count() / kLaunches;
  };
  std::vector<double> added, as_found, by_own;
  for (int i = 0; i < pairs; ++i) {
    const double first = ten(i % 2 == 0 ? own : cu.cuLaunchKernel);
    const double second = ten(i % 2 == 0 ? cu.cuLaunchKernel : own);
    as_found.push_back(i % 2 == 0 ? second : first);
    by_own.push_back(i % 2 == 0 ? first : second);
    added.push_back(as_found.back() - by_own.back());
  }
  double mean = 0;
  for (const double one : added) mean += one / static_cast<double>(added.size());
  std::printf("launch_by_the_drivers_own %.0f\nlaunch_added %.0f\nlaunch_added_mean %.0f\n",
              percentile(by_own, 0.5), percentile(added, 0.5), mean);
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
  compare_launches(rounds * 1'000, empty, stream);
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

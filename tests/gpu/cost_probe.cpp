// SPDX-License-Identifier: Apache-2.0
// What one call costs the host, in nanoseconds, at the median: launch, cuMemAlloc, async
// allocation, cuMemGetInfo. Run it without and with the limiter, interleaved, and subtract. Prints
// `name median_ns` lines. No argument: 15 rounds.
//
// Two processes launch at costs that differ by more than a limiter adds. So `launch_added` compares
// inside this one: launches as the program finds the entry, and by the driver's own, in turns.
// Without a limiter both are the same, and it says how exact it is. `launch_added_cold` is the same
// for a program that goes through 2 MiB of its own memory between two launches, so that neither
// driver nor limiter is in the near caches. `step_added_...`: what single steps cost there.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
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

// Both ways in turns, who goes first changes. `before`: untimed, before each `launches`.
class LaunchComparison {
 public:
  LaunchComparison(CUfunction kernel, CUstream stream)
      : kernel_(kernel),
        stream_(stream),
        own_(reinterpret_cast<Launch>(own_export::find("libcuda.so", "cuLaunchKernel"))) {}
  bool is_possible() const { return own_ != nullptr; }

  void run(int pairs, int launches, const std::function<void()>& before) {
    for (int i = 0; i < pairs; ++i) {
      const bool own_first = i % 2 == 0;
      const double first = time(own_first ? own_ : cu.cuLaunchKernel, launches, before);
      const double second = time(own_first ? cu.cuLaunchKernel : own_, launches, before);
      by_own_.push_back(own_first ? first : second);
      added_.push_back(own_first ? second - first : first - second);
    }
  }
  double by_own() { return percentile(by_own_, 0.5); }
  double added() { return percentile(added_, 0.5); }
  double added_mean() const {
    double mean = 0;
    for (const double one : added_) mean += one / static_cast<double>(added_.size());
    return mean;
  }

 private:
  using Launch = decltype(cu.cuLaunchKernel);
  // A launch's nanoseconds, onto an idle stream.
  double time(Launch launch, int launches, const std::function<void()>& before) {
    before();
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < launches; ++i)
      launch(kernel_, 1, 1, 1, 1, 1, 1, 0, stream_, nullptr, nullptr);
    const auto end = std::chrono::steady_clock::now();
    cu.cuStreamSynchronize(stream_);
    return std::chrono::duration<double, std::nano>(end - begin).count() / launches;
  }

  CUfunction kernel_;
  CUstream stream_;
  Launch own_;
  std::vector<double> added_;
  std::vector<double> by_own_;
};

void compare_launches(int rounds, CUfunction kernel, CUstream stream) {
  LaunchComparison warm(kernel, stream);
  if (!warm.is_possible()) return;
  warm.run(rounds * 1'000, 10, [] {});
  std::printf("launch_by_the_drivers_own %.0f\nlaunch_added %.0f\nlaunch_added_mean %.0f\n",
              warm.by_own(), warm.added(), warm.added_mean());
  std::vector<unsigned char> memory(2u << 20);
  LaunchComparison cold(kernel, stream);
  cold.run(rounds * 200, 1, [&] {
    for (std::size_t i = 0; i < memory.size(); i += 64) ++memory[i];
  });
  std::printf("launch_by_the_drivers_own_cold %.0f\nlaunch_added_cold %.0f\n", cold.by_own(),
              cold.added());
}

// What single steps cost between two launches of the driver's own, where its work has pushed the
// near caches' lines out and its writes to the GPU may still be on their way: a limiter pays for
// them there, and not what a loop of each alone shows.
void price_steps(int rounds, CUfunction kernel, CUstream stream) {
  const auto launch = reinterpret_cast<decltype(cu.cuLaunchKernel)>(
      own_export::find("libcuda.so", "cuLaunchKernel"));
  const auto current =
      reinterpret_cast<CUresult (*)(CUcontext*)>(own_export::find("libcuda.so", "cuCtxGetCurrent"));
  if (launch == nullptr || current == nullptr) return;
  struct alignas(64) Line {
    std::atomic<std::uint64_t> word{0};
  };
  static std::array<Line, 8> lines;
  struct Step {
    const char* name;
    std::function<void()> run;
  };
  const Step steps[] = {
      {"nothing", [] {}},
      {"clock", [] { (void)std::chrono::steady_clock::now(); }},
      {"current_context",
       [&] {
         CUcontext context = nullptr;
         current(&context);
       }},
      {"locked_add", [] { lines[0].word.fetch_add(1); }},
      {"two_locked_adds",
       [] {
         lines[0].word.fetch_add(1);
         lines[1].word.fetch_add(1);
       }},
      {"eight_lines_written",
       [] {
         for (Line& line : lines)
           line.word.store(line.word.load(std::memory_order_relaxed) + 1,
                           std::memory_order_relaxed);
       }},
  };
  for (const Step& step : steps) {
    std::vector<double> added;
    const auto time = [&](const std::function<void()>* extra) {
      const auto begin = std::chrono::steady_clock::now();
      for (int i = 0; i < 10; ++i) {
        if (extra != nullptr) (*extra)();
        launch(kernel, 1, 1, 1, 1, 1, 1, 0, stream, nullptr, nullptr);
      }
      const auto end = std::chrono::steady_clock::now();
      cu.cuStreamSynchronize(stream);
      return std::chrono::duration<double, std::nano>(end - begin).count() / 10;
    };
    for (int i = 0; i < rounds * 300; ++i) {
      const bool first = i % 2 == 0;
      const double one = time(first ? &step.run : nullptr);
      const double other = time(first ? nullptr : &step.run);
      added.push_back(first ? one - other : other - one);
    }
    std::printf("step_added_%s %.0f\n", step.name, percentile(added, 0.5));
  }
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
  compare_launches(rounds, empty, stream);
  price_steps(rounds, empty, stream);
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

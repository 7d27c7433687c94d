// SPDX-License-Identifier: Apache-2.0
// A program that uses the simulated driver as told on its command line and prints what it saw, one
// word or number a line. Loads the driver by the path in its first argument; one thread.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include "vgpu/api/cuda_abi.h"

namespace {

void* driver = nullptr;

template <class F>
F* entry(const char* name) {
  auto* found = reinterpret_cast<F*>(dlsym(driver, name));
  if (found == nullptr) {
    std::printf("no %s\n", name);
    std::exit(2);
  }
  return found;
}

#define VGPU_DRIVER_FUNCTION(symbol, params, args) using symbol##_type = CUresult params;
#include "vgpu/api/driver_functions.def"
#undef VGPU_DRIVER_FUNCTION
#define CALL(symbol) entry<symbol##_type>(#symbol)

constexpr const char* kSpin =
    ".version 7.0\n.target sm_70\n.address_size 64\n"
    "// vgpu-sim: spin_ns=param0\n.visible .entry spin(.param .u64 ns)\n{\nret;\n}\n";

CUfunction make_context_and_kernel() {
  CUcontext context = nullptr;
  CUmodule module = nullptr;
  CUfunction function = nullptr;
  CALL(cuInit)(0);
  CALL(cuDevicePrimaryCtxRetain)(&context, 0);
  CALL(cuCtxSetCurrent)(context);
  CALL(cuModuleLoadData)(&module, kSpin);
  CALL(cuModuleGetFunction)(&function, module, "spin");
  return function;
}

void launch(CUfunction function, unsigned long long ns, CUstream stream, unsigned grid) {
  void* params[] = {&ns};
  CALL(cuLaunchKernel)(function, grid, 1, 1, 1024, 1, 1, 0, stream, params, nullptr);
}

long long threads() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return std::distance(begin(tasks), end(tasks));
}

// alloc N: N times cuMemAlloc of 2 MiB; prints each result.
void alloc(int count) {
  make_context_and_kernel();
  for (int i = 0; i < count; ++i) {
    CUdeviceptr p = 0;
    std::printf("%d\n", static_cast<int>(CALL(cuMemAlloc_v2)(&p, 2u << 20)));
    std::fflush(stdout);
  }
}

// threads: how many there are after cuInit, with a context, and after the first launch.
void count_threads() {
  CALL(cuInit)(0);
  std::printf("%lld\n", threads());
  const CUfunction function = make_context_and_kernel();
  std::printf("%lld\n", threads());
  launch(function, 1000, nullptr, 1);
  CALL(cuCtxSynchronize)();
  std::printf("%lld\n", threads());
}

// order: microseconds between two events around kernels of 2 ms: one; three in a stream; three in
// three streams that fit the device together; two that fill it, in two streams.
void order() {
  const CUfunction function = make_context_and_kernel();
  constexpr unsigned long long kNs = 2'000'000;
  CUstream streams[3];
  for (CUstream& stream : streams) CALL(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING);
  CUevent from = nullptr;
  CUevent to = nullptr;
  CALL(cuEventCreate)(&from, 0);
  CALL(cuEventCreate)(&to, 0);
  const auto measure = [&](int count, int spread, unsigned grid) {
    CALL(cuEventRecord)(from, streams[0]);
    for (int i = 1; i < spread; ++i) CALL(cuStreamWaitEvent)(streams[i], from, 0);
    for (int i = 0; i < count; ++i) launch(function, kNs, streams[i % spread], grid);
    for (int i = 1; i < spread; ++i) {
      CUevent joined = nullptr;
      CALL(cuEventCreate)(&joined, CU_EVENT_DISABLE_TIMING);
      CALL(cuEventRecord)(joined, streams[i]);
      CALL(cuStreamWaitEvent)(streams[0], joined, 0);
    }
    CALL(cuEventRecord)(to, streams[0]);
    CALL(cuEventSynchronize)(to);
    float ms = 0;
    CALL(cuEventElapsedTime)(&ms, from, to);
    std::printf("%d\n", static_cast<int>(ms * 1000));
  };
  measure(1, 1, 1);
  measure(3, 1, 1);
  measure(3, 3, 1);
  measure(2, 2, 264);
}

// busy MILLISECONDS: kernels of 1 ms that fill the device, synchronised each, for so long; prints
// how many were done, and stays until standard input closes.
void busy(int milliseconds) {
  const CUfunction function = make_context_and_kernel();
  launch(function, 1000, nullptr, 1);
  CALL(cuCtxSynchronize)();
  char go = 0;
  std::printf("ready\n");
  std::fflush(stdout);
  (void)!read(STDIN_FILENO, &go, 1);
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
  int done = 0;
  while (std::chrono::steady_clock::now() < end) {
    launch(function, 1'000'000, nullptr, 264);
    CALL(cuCtxSynchronize)();
    ++done;
  }
  std::printf("%d\n", done);
  std::fflush(stdout);
  while (read(STDIN_FILENO, &go, 1) > 0) {
  }
}

// fork: what the driver answers in a child of a process that uses it.
void forked() {
  make_context_and_kernel();
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    int count = 0;
    std::printf("%d\n%d\n", static_cast<int>(CALL(cuInit)(0)),
                static_cast<int>(CALL(cuDeviceGetCount)(&count)));
    std::fflush(stdout);
    _exit(0);
  }
  waitpid(child, nullptr, 0);
}

// graph: a captured copy, memset and host function run in order, twice.
void graph() {
  make_context_and_kernel();
  CUstream stream = nullptr;
  CALL(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING);
  CUdeviceptr p = 0;
  CALL(cuMemAlloc_v2)(&p, 4096);
  void* host = nullptr;
  CALL(cuMemHostAlloc)(&host, 4096, 0);
  static int sum = 0;
  CALL(cuStreamBeginCapture_v2)(stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
  CALL(cuMemsetD8Async)(p, 3, 4096, stream);
  CALL(cuMemcpyDtoHAsync_v2)(host, p, 4096, stream);
  CALL(cuLaunchHostFunc)
  (
      stream, [](void* bytes) { sum += static_cast<unsigned char*>(bytes)[4095]; }, host);
  CUgraph made = nullptr;
  CALL(cuStreamEndCapture)(stream, &made);
  CUgraphExec exec = nullptr;
  CALL(cuGraphInstantiateWithFlags)(&exec, made, 0);
  std::printf("%d\n", sum);
  CALL(cuGraphLaunch)(exec, stream);
  CALL(cuGraphLaunch)(exec, stream);
  CALL(cuStreamSynchronize)(stream);
  std::printf("%d\n", sum);
}

// legacy: the first cuCtxCreate, and an allocation in what it made; below 4 GiB?
void legacy() {
  CALL(cuInit)(0);
  CUcontext context = nullptr;
  std::printf("%d\n", static_cast<int>(CALL(cuCtxCreate)(&context, 0, 0)));
  CUdeviceptr_v1 p = 0;
  std::printf("%d\n", static_cast<int>(CALL(cuMemAlloc)(&p, 8u << 20)));
  std::printf("%d\n", p != 0);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  driver = dlopen(argv[1], RTLD_NOW);
  if (driver == nullptr) return 2;
  const std::string_view what = argv[2];
  if (what == "alloc" && argc > 3) alloc(std::atoi(argv[3]));
  if (what == "threads") count_threads();
  if (what == "order") order();
  if (what == "busy" && argc > 3) busy(std::atoi(argv[3]));
  if (what == "fork") forked();
  if (what == "graph") graph();
  if (what == "legacy") legacy();
  return 0;
}

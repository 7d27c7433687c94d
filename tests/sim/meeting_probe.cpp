// SPDX-License-Identifier: Apache-2.0
// Programs whose kernels meet in memory (meeting_kernels.h), each named on the command line behind
// the driver's path, or libcuda.so.1 for a real one. Prints what it saw, one number a line; an
// unexpected error of the driver ends it.
#include <dlfcn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "gpu_client.h"
#include "meeting_kernels.h"

using namespace gpu_client;

namespace {

constexpr unsigned kMostSeconds = 100;  // what hangs ends then
constexpr unsigned kThreads = 1024;
constexpr unsigned long long kMs = 1'000'000;

void must(CUresult code, const char* what) {
  if (code == CUDA_SUCCESS) return;
  std::fprintf(stderr, "meeting_probe: %s: CUDA error %d\n", what, static_cast<int>(code));
  std::exit(1);
}

void print(long long number) {
  std::printf("%lld\n", number);
  std::fflush(stdout);
}

void wait_for_go() {
  char go = 0;
  (void)!read(STDIN_FILENO, &go, 1);
}

// A GPU with its kernels and a word of its own.
class Gpu {
 public:
  explicit Gpu(int ordinal) {
    CUdevice device = 0;
    CUmodule module = nullptr;
    must(cu.cuDeviceGet(&device, ordinal), "cuDeviceGet");
    must(cu.cuDevicePrimaryCtxRetain(&context_, device), "cuDevicePrimaryCtxRetain");
    use();
    must(cu.cuModuleLoadData(&module, kMeetingKernels), "cuModuleLoadData");
    must(cu.cuModuleGetFunction(&spin_, module, "spin"), "spin");
    must(cu.cuModuleGetFunction(&arrive_, module, "arrive"), "arrive");
    must(cu.cuModuleGetFunction(&await_, module, "await"), "await");
    must(cu.cuModuleGetFunction(&meet_, module, "meet"), "meet");
    int sms = 0;
    int threads = 0;
    cu.cuDeviceGetAttribute(&sms, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device);
    cu.cuDeviceGetAttribute(&threads, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, device);
    full_ = static_cast<unsigned>(sms * threads) / kThreads;
    must(cu.cuMemAlloc_v2(&word_, sizeof(std::uint32_t)), "cuMemAlloc");
    must(cu.cuMemsetD8_v2(word_, 0, sizeof(std::uint32_t)), "cuMemsetD8");
    must(cu.cuCtxSynchronize(), "cuCtxSynchronize");
  }
  void use() const { must(cu.cuCtxSetCurrent(context_), "cuCtxSetCurrent"); }
  CUcontext context() const { return context_; }
  CUdeviceptr word() const { return word_; }
  unsigned full() const { return full_; }  // blocks that fill it

  static CUstream stream() {
    CUstream made = nullptr;
    must(cu.cuStreamCreate(&made, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
    return made;
  }
  static CUevent record(CUstream stream) {
    CUevent made = nullptr;
    must(cu.cuEventCreate(&made, 0), "cuEventCreate");
    must(cu.cuEventRecord(made, stream), "cuEventRecord");
    return made;
  }
  static long long us_between(CUevent from, CUevent to) {
    float ms = 0;
    must(cu.cuEventElapsedTime(&ms, from, to), "cuEventElapsedTime");
    return static_cast<long long>(ms * 1000);
  }

  void spin(CUstream stream, unsigned long long ns, unsigned grid) const {
    void* params[] = {&ns};
    launch(spin_, stream, grid, params);
  }
  void arrive(CUstream stream, CUdeviceptr word) const {
    unsigned long long ns = 0;
    void* params[] = {&ns, &word};
    launch(arrive_, stream, 2, params);
  }
  void await(CUstream stream, std::uint32_t value, unsigned long long ns, unsigned grid) const {
    CUdeviceptr word = word_;
    void* params[] = {&ns, &word, &value};
    launch(await_, stream, grid, params);
  }
  void meet(CUstream stream, CUdeviceptr peer, std::uint32_t value) const {
    unsigned long long ns = 10'000;
    CUdeviceptr word = word_;
    void* params[] = {&ns, &peer, &word, &value};
    launch(meet_, stream, 1, params);
  }
  // By the host, without a kernel.
  void set_word(CUstream stream, std::uint32_t value) const {
    must(cu.cuMemcpyHtoDAsync_v2(word_, &value, sizeof value, stream), "cuMemcpyHtoDAsync");
    must(cu.cuStreamSynchronize(stream), "cuStreamSynchronize");
  }
  std::uint32_t read_word() const {
    std::uint32_t value = 0;
    must(cu.cuMemcpyDtoH_v2(&value, word_, sizeof value), "cuMemcpyDtoH");
    return value;
  }
  CUfunction arrive_kernel() const { return arrive_; }

 private:
  static void launch(CUfunction function, CUstream stream, unsigned grid, void** params) {
    must(cu.cuLaunchKernel(function, grid, 1, 1, kThreads, 1, 1, 0, stream, params, nullptr),
         "cuLaunchKernel");
  }

  CUcontext context_ = nullptr;
  CUfunction spin_ = nullptr;
  CUfunction arrive_ = nullptr;
  CUfunction await_ = nullptr;
  CUfunction meet_ = nullptr;
  CUdeviceptr word_ = 0;
  unsigned full_ = 0;
};

// arrive: the word after three arrivals of two blocks each.
void arrive() {
  const Gpu gpu(0);
  for (int i = 0; i < 3; ++i) gpu.arrive(nullptr, gpu.word());
  must(cu.cuCtxSynchronize(), "cuCtxSynchronize");
  print(gpu.read_word());
}

// await: what a stream answers whose kernel waits for a word; then a later launch in another stream
// feeds it: what it answers now, and the microseconds from there to its end, of which it spins
// 2,000.
void await() {
  const Gpu gpu(0);
  const CUstream waits = Gpu::stream();
  const CUstream feeds = Gpu::stream();
  gpu.await(waits, 1, 2 * kMs, 1);
  gpu.spin(feeds, 5 * kMs, 1);
  must(cu.cuStreamSynchronize(feeds), "cuStreamSynchronize");
  print(cu.cuStreamQuery(waits));
  const CUevent fed = Gpu::record(feeds);
  gpu.arrive(feeds, gpu.word());
  const CUevent end = Gpu::record(waits);
  print(cu.cuStreamSynchronize(waits));
  print(Gpu::us_between(fed, end));
}

// graph: the same, where the kernel that waits is launched as a graph.
void graph() {
  const Gpu gpu(0);
  const CUstream waits = Gpu::stream();
  const CUstream feeds = Gpu::stream();
  must(cu.cuStreamBeginCapture_v2(waits, CU_STREAM_CAPTURE_MODE_GLOBAL), "cuStreamBeginCapture");
  gpu.await(waits, 1, 0, 1);
  CUgraph made = nullptr;
  CUgraphExec exec = nullptr;
  must(cu.cuStreamEndCapture(waits, &made), "cuStreamEndCapture");
  must(cu.cuGraphInstantiateWithFlags(&exec, made, 0), "cuGraphInstantiate");
  must(cu.cuGraphLaunch(exec, waits), "cuGraphLaunch");
  gpu.spin(feeds, 5 * kMs, 1);
  must(cu.cuStreamSynchronize(feeds), "cuStreamSynchronize");
  print(cu.cuStreamQuery(waits));
  gpu.arrive(feeds, gpu.word());
  print(cu.cuStreamSynchronize(waits));
}

// room: a kernel that waits and fills the GPU keeps another out; one of a single block leaves it
// the other places, so that a grid that fills the GPU takes two waves of 2,000 us.
void room() {
  const Gpu gpu(0);
  const CUstream waits = Gpu::stream();
  const CUstream works = Gpu::stream();
  const CUstream host = Gpu::stream();
  gpu.await(waits, 1, 0, gpu.full());
  gpu.spin(works, 0, 1);
  gpu.set_word(host, 0);  // takes its time too
  print(cu.cuStreamQuery(works));
  gpu.set_word(host, 1);
  print(cu.cuStreamSynchronize(works));
  gpu.await(waits, 2, 0, 1);
  const CUevent begin = Gpu::record(works);
  gpu.spin(works, 2 * kMs, gpu.full());
  const CUevent end = Gpu::record(works);
  print(cu.cuStreamSynchronize(works));
  print(Gpu::us_between(begin, end));
  print(cu.cuStreamQuery(waits));
  gpu.set_word(host, 2);
  print(cu.cuStreamSynchronize(waits));
}

// pair COUNT: two GPUs meet so many times, launched in turn by one thread, the second each time
// with 0.2 ms of work before; both words, and whether the first took as long as the second.
void pair(unsigned count) {
  const Gpu gpus[] = {Gpu(0), Gpu(1)};
  CUstream streams[2];
  CUevent begins[2];
  CUevent ends[2];
  for (int i = 0; i < 2; ++i) {
    gpus[i].use();
    must(cu.cuCtxEnablePeerAccess(gpus[1 - i].context(), 0), "cuCtxEnablePeerAccess");
    streams[i] = Gpu::stream();
    begins[i] = Gpu::record(streams[i]);
  }
  for (std::uint32_t step = 1; step <= count; ++step) {
    for (int i = 0; i < 2; ++i) {
      gpus[i].use();
      if (i == 1) gpus[i].spin(streams[i], kMs / 5, 1);
      gpus[i].meet(streams[i], gpus[1 - i].word(), step);
    }
  }
  for (int i = 0; i < 2; ++i) {
    gpus[i].use();
    ends[i] = Gpu::record(streams[i]);
    must(cu.cuStreamSynchronize(streams[i]), "cuStreamSynchronize");
    print(gpus[i].read_word());
  }
  gpus[0].use();
  print(Gpu::us_between(begins[0], ends[0]) >= count * 200);
}

// ranks COUNT: the same by two processes, one GPU each; each prints its word.
void ranks(unsigned count) {
  int channel[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, channel) != 0) std::exit(1);
  const pid_t child = fork();
  const int rank = child == 0 ? 1 : 0;
  must(cu.cuInit(0), "cuInit");
  const Gpu gpu(rank);
  CUipcMemHandle own{};
  CUipcMemHandle other{};
  CUdeviceptr peer = 0;
  must(cu.cuIpcGetMemHandle(&own, gpu.word()), "cuIpcGetMemHandle");
  if (write(channel[rank], &own, sizeof own) != sizeof own) std::exit(1);
  if (read(channel[rank], &other, sizeof other) != sizeof other) std::exit(1);
  must(cu.cuIpcOpenMemHandle_v2(&peer, other, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS), "open");
  const CUstream stream = Gpu::stream();
  for (std::uint32_t step = 1; step <= count; ++step) gpu.meet(stream, peer, step);
  must(cu.cuStreamSynchronize(stream), "cuStreamSynchronize");
  print(gpu.read_word());
  if (rank == 1) _exit(0);  // its memory stays for the other
  waitpid(child, nullptr, 0);
}

// spin: a kernel waits until standard input says go; then what its stream answers.
void spin() {
  const Gpu gpu(0);
  const CUstream waits = Gpu::stream();
  const CUstream host = Gpu::stream();
  gpu.await(waits, 1, 0, 1);
  gpu.set_word(host, 0);
  std::printf("ready\n");
  std::fflush(stdout);
  wait_for_go();
  print(cu.cuStreamQuery(waits));
  gpu.set_word(host, 1);
  print(cu.cuStreamSynchronize(waits));
}

// astray: a launch whose word lies nowhere.
void astray() {
  const Gpu gpu(0);
  unsigned long long ns = 0;
  CUdeviceptr word = 64;
  void* params[] = {&ns, &word};
  print(cu.cuLaunchKernel(gpu.arrive_kernel(), 1, 1, 1, 32, 1, 1, 0, nullptr, params, nullptr));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  alarm(kMostSeconds);
  // The name that load_driver() opens then means this one.
  if (dlopen(argv[1], RTLD_NOW) == nullptr || !load_driver()) return no_driver();
  const std::string_view what = argv[2];
  const unsigned count = argc > 3 ? static_cast<unsigned>(std::atoi(argv[3])) : 0;
  if (what == "ranks") {  // initialises in each process
    ranks(count);
    return 0;
  }
  must(cu.cuInit(0), "cuInit");
  if (what == "arrive") arrive();
  if (what == "await") await();
  if (what == "graph") graph();
  if (what == "room") room();
  if (what == "pair") pair(count);
  if (what == "spin") spin();
  if (what == "astray") astray();
  return 0;
}

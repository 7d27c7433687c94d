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

#include "meeting_gpu.h"

using namespace gpu_client;
using Gpu = MeetingGpu;

namespace {

constexpr unsigned kMostSeconds = 100;  // what hangs ends then
constexpr unsigned long long kMs = 1'000'000;

void print(long long number) {
  std::printf("%lld\n", number);
  std::fflush(stdout);
}

void wait_for_go() {
  char go = 0;
  (void)!read(STDIN_FILENO, &go, 1);
}

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
      gpus[i].meet(streams[i], gpus[1 - i].word(), step, 10'000);
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
  for (std::uint32_t step = 1; step <= count; ++step) gpu.meet(stream, peer, step, 10'000);
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

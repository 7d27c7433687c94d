// SPDX-License-Identifier: Apache-2.0
// A program whose kernels wait for each other. `job BOARD WHAT STEPS`: BOARD is a file with a Board
// (board.h), WHAT one of
//   turns         all-reduce over two GPUs, launched on both in turn by one thread
//   threads       by a thread for each GPU
//   ranks         by a process for each GPU
//   training      a process for each GPU; a step is forward and backward work of many kinds, and an
//                 all-reduce for each part of the backward work, in a stream that waits for it
//   nccl-training the same; by its name the kernel that meets is one of NCCL's
//   cooperative   each all-reduce is one cooperative launch on both GPUs
//   pipe          a kernel in one stream waits for one in another, which is launched after it
//   two-pipes     the same, launched by two threads
//   consumer      the kernel that waits is launched first; before the one that feeds it comes more
//                 work than may be in flight; STEPS launches
//   saturate      kernels of 1 ms until it is told to stop
// A step of an all-reduce is work (kWorkNs), then a kernel that meets its peer. A few steps are
// queued at a time.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <thread>

#include "board.h"
#include "meeting_gpu.h"

using namespace gpu_client;
using vgpu::test::Board;
using vgpu::test::kRanks;
using vgpu::test::kWorkNs;

namespace {

constexpr unsigned long long kMeetNs = 20'000;
constexpr std::uint32_t kAhead = 4;

Board* g_board = nullptr;

// Both ranks of a job begin together with its neighbours.
void begin(unsigned rank) {
  g_board->ready[rank] = 1;
  while (g_board->go == 0) sched_yield();
}

// What one GPU does in a step, and how far it is.
class Rank {
 public:
  Rank(unsigned rank, const MeetingGpu& gpu) : rank_(rank), gpu_(gpu) {
    gpu_.use();
    stream_ = MeetingGpu::stream();
    for (CUevent& event : done_)
      must(cu.cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), "cuEventCreate");
  }
  ~Rank() {
    gpu_.use();
    for (const CUevent event : done_) must(cu.cuEventDestroy_v2(event), "cuEventDestroy");
  }
  Rank(const Rank&) = delete;
  Rank& operator=(const Rank&) = delete;
  void work() const {
    gpu_.use();
    gpu_.spin(stream_, kWorkNs, gpu_.full());
  }
  void meet(CUdeviceptr peer, std::uint32_t step) const { gpu_.meet(stream_, peer, step, kMeetNs); }
  // The step was launched: room for another is there when the oldest of those queued is done.
  void launched(std::uint32_t step) {
    gpu_.use();
    must(cu.cuEventRecord(done_[step % kAhead], stream_), "cuEventRecord");
    if (step >= kAhead) wait_for(step + 1 - kAhead);
  }
  void finish(std::uint32_t steps) {
    gpu_.use();
    for (std::uint32_t step = steps >= kAhead ? steps + 2 - kAhead : 1; step <= steps; ++step)
      wait_for(step);
  }
  CUstream stream() const { return stream_; }

 private:
  void wait_for(std::uint32_t step) {
    must(cu.cuEventSynchronize(done_[step % kAhead]), "cuEventSynchronize");
    g_board->steps[rank_] = step;
  }

  unsigned rank_;
  const MeetingGpu& gpu_;
  CUstream stream_ = nullptr;
  std::array<CUevent, kAhead> done_{};
};

// Two GPUs of one process that reach each other's memory.
struct Pair {
  MeetingGpu gpus[kRanks] = {MeetingGpu(0), MeetingGpu(1)};
  Rank ranks[kRanks] = {{0, gpus[0]}, {1, gpus[1]}};
  Pair() {
    for (unsigned i = 0; i < kRanks; ++i) {
      gpus[i].use();
      must(cu.cuCtxEnablePeerAccess(gpus[1 - i].context(), 0), "cuCtxEnablePeerAccess");
    }
  }
  CUdeviceptr peer_of(unsigned rank) const { return gpus[1 - rank].word(); }
};

void turns(std::uint32_t steps) {
  Pair pair;
  begin(0);
  for (std::uint32_t step = 1; step <= steps; ++step) {
    for (unsigned rank = 0; rank < kRanks; ++rank) {
      pair.ranks[rank].work();
      pair.ranks[rank].meet(pair.peer_of(rank), step);
    }
    for (Rank& rank : pair.ranks) rank.launched(step);
  }
  for (Rank& rank : pair.ranks) rank.finish(steps);
}

void all_reduce(Rank& rank, CUdeviceptr peer, std::uint32_t steps) {
  for (std::uint32_t step = 1; step <= steps; ++step) {
    rank.work();
    rank.meet(peer, step);
    rank.launched(step);
  }
  rank.finish(steps);
}

void threads(std::uint32_t steps) {
  Pair pair;
  begin(0);
  std::thread other([&] { all_reduce(pair.ranks[1], pair.peer_of(1), steps); });
  all_reduce(pair.ranks[0], pair.peer_of(0), steps);
  other.join();
}

// The two processes of a job, before either uses the GPU.
class Twins {
 public:
  Twins() {
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, channel_) != 0) std::exit(1);
    child_ = fork();
    rank_ = child_ == 0 ? 1 : 0;
    if (rank_ == 1) prctl(PR_SET_PDEATHSIG, SIGKILL);  // a job that is killed ends whole
    close(channel_[1 - rank_]);  // so that the death of one is seen by the other
  }
  unsigned rank() const { return rank_; }
  // Gives what the other one gave.
  template <class Value>
  Value exchange(const Value& own) const {
    Value other;
    if (write(channel_[rank_], &own, sizeof own) != sizeof own) std::exit(1);
    if (read(channel_[rank_], &other, sizeof other) != sizeof other) std::exit(1);
    return other;
  }
  // Ends the child; in the parent, true if that went well.
  bool join() const {
    exchange('.');  // the memory of each stays until the other is done
    if (rank_ == 1) std::exit(0);
    int status = 0;
    return waitpid(child_, &status, 0) == child_ && status == 0;
  }

 private:
  int channel_[kRanks] = {-1, -1};
  pid_t child_ = -1;
  unsigned rank_ = 0;
};

// A process for each GPU: body(gpu, rank, the peer's word). `says_so`: see MeetingGpu.
template <class Body>
void in_two_processes(Body body, bool says_so = false) {
  const Twins twins;
  must(cu.cuInit(0), "cuInit");
  const MeetingGpu gpu(static_cast<int>(twins.rank()), says_so);
  CUipcMemHandle own{};
  CUdeviceptr peer = 0;
  must(cu.cuIpcGetMemHandle(&own, gpu.word()), "cuIpcGetMemHandle");
  must(cu.cuIpcOpenMemHandle_v2(&peer, twins.exchange(own), CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS),
       "cuIpcOpenMemHandle");
  Rank rank(twins.rank(), gpu);
  begin(twins.rank());
  body(gpu, rank, peer);
  if (!twins.join()) std::exit(1);
}

void ranks(std::uint32_t steps) {
  in_two_processes(
      [steps](const MeetingGpu&, Rank& rank, CUdeviceptr peer) { all_reduce(rank, peer, steps); });
}

// As data-parallel training does: what is reduced overlaps with the work on the next part, and the
// step ends when all is reduced.
void train(const MeetingGpu& gpu, Rank& rank, CUdeviceptr peer, std::uint32_t steps) {
  constexpr unsigned kForward = 40, kParts = 8, kOfPart = 10, kUpdate = 20;
  constexpr unsigned long long kKernelNs = 130'000, kUpdateNs = 30'000, kReduceNs = 150'000;
  const CUstream reduces = MeetingGpu::stream();
  CUevent part_done = nullptr;
  CUevent reduced = nullptr;
  must(cu.cuEventCreate(&part_done, CU_EVENT_DISABLE_TIMING), "cuEventCreate");
  must(cu.cuEventCreate(&reduced, CU_EVENT_DISABLE_TIMING), "cuEventCreate");
  std::uint32_t met = 0;
  for (std::uint32_t step = 1; step <= steps; ++step) {
    // Each grid is another kind of work.
    for (unsigned i = 0; i < kForward; ++i) gpu.spin(rank.stream(), kKernelNs, gpu.full() + i);
    for (unsigned part = 0; part < kParts; ++part) {
      for (unsigned i = 0; i < kOfPart; ++i)
        gpu.spin(rank.stream(), kKernelNs, gpu.full() + kForward + part * kOfPart + i);
      must(cu.cuEventRecord(part_done, rank.stream()), "cuEventRecord");
      must(cu.cuStreamWaitEvent(reduces, part_done, 0), "cuStreamWaitEvent");
      gpu.meet(reduces, peer, ++met, kReduceNs);
    }
    must(cu.cuEventRecord(reduced, reduces), "cuEventRecord");
    must(cu.cuStreamWaitEvent(rank.stream(), reduced, 0), "cuStreamWaitEvent");
    for (unsigned i = 0; i < kUpdate; ++i) gpu.spin(rank.stream(), kUpdateNs, gpu.full() + 200 + i);
    rank.launched(step);
  }
  rank.finish(steps);
}

void training(std::uint32_t steps, bool says_so) {
  in_two_processes([steps](const MeetingGpu& gpu, Rank& rank,
                           CUdeviceptr peer) { train(gpu, rank, peer, steps); },
                   says_so);
}

void cooperative(std::uint32_t steps) {
  Pair pair;
  begin(0);
  for (std::uint32_t step = 1; step <= steps; ++step) {
    unsigned long long ns = kMeetNs;
    CUdeviceptr peers[kRanks] = {pair.peer_of(0), pair.peer_of(1)};
    CUdeviceptr words[kRanks] = {pair.gpus[0].word(), pair.gpus[1].word()};
    void* params[kRanks][4];
    CUDA_LAUNCH_PARAMS parts[kRanks] = {};
    for (unsigned i = 0; i < kRanks; ++i) {
      void* const of_rank[] = {&ns, &peers[i], &words[i], &step};
      std::copy(std::begin(of_rank), std::end(of_rank), params[i]);
      parts[i] = {pair.gpus[i].meet_kernel(), 1,        1, 1, MeetingGpu::kThreads, 1, 1, 0,
                  pair.ranks[i].stream(),     params[i]};
      pair.ranks[i].work();
    }
    must(cu.cuLaunchCooperativeKernelMultiDevice(parts, kRanks, 0), "cooperative launch");
    for (Rank& rank : pair.ranks) rank.launched(step);
  }
  for (Rank& rank : pair.ranks) rank.finish(steps);
}

// The receiver waits in its stream for the sender, whose stream also does the work.
struct Pipe {
  MeetingGpu gpu{0};
  Rank receiver{0, gpu};
  Rank sender{1, gpu};
  void receive(std::uint32_t step) {
    gpu.use();
    gpu.await(receiver.stream(), step, kMeetNs, 1);
  }
  void send() {
    sender.work();
    gpu.arrive(sender.stream(), gpu.word());
  }
};

void pipe_steps(std::uint32_t steps) {
  Pipe pipe;
  begin(0);
  for (std::uint32_t step = 1; step <= steps; ++step) {
    pipe.receive(step);
    pipe.send();
    pipe.receiver.launched(step);
    pipe.sender.launched(step);
  }
  pipe.receiver.finish(steps);
  pipe.sender.finish(steps);
}

void two_pipes(std::uint32_t steps) {
  Pipe pipe;
  begin(0);
  std::thread other([&] {
    for (std::uint32_t step = 1; step <= steps; ++step) {
      pipe.send();
      pipe.sender.launched(step);
    }
    pipe.sender.finish(steps);
  });
  for (std::uint32_t step = 1; step <= steps; ++step) {
    pipe.receive(step);
    pipe.receiver.launched(step);
  }
  pipe.receiver.finish(steps);
  other.join();
}

// A launch is a step here: no kernel's end can be waited for before all are launched.
void consumer(std::uint32_t steps) {
  const MeetingGpu gpu(0);
  const CUstream waits = MeetingGpu::stream();
  const CUstream works = MeetingGpu::stream();
  begin(0);
  gpu.await(waits, 1, 0, 1);
  for (std::uint32_t step = 1; step < steps; ++step) {
    gpu.spin(works, kWorkNs, gpu.full());
    g_board->steps[0] = step;
  }
  gpu.arrive(works, gpu.word());
  must(cu.cuStreamSynchronize(waits), "cuStreamSynchronize");
  g_board->steps[0] = steps;
}

void saturate(std::uint32_t) {
  const MeetingGpu gpu(0);
  const CUstream stream = MeetingGpu::stream();
  begin(0);
  for (std::uint32_t step = 1; g_board->stop == 0; ++step) {
    gpu.spin(stream, 1'000'000, gpu.full());
    must(cu.cuStreamSynchronize(stream), "cuStreamSynchronize");
    g_board->steps[0] = step;
  }
}

struct What {
  std::string_view name;
  void (*run)(std::uint32_t steps);
  bool forks = false;  // and initialises later
};
constexpr What kAll[] = {
    {"turns", turns},
    {"threads", threads},
    {"ranks", ranks, true},
    {"training", [](std::uint32_t steps) { training(steps, false); }, true},
    {"nccl-training", [](std::uint32_t steps) { training(steps, true); }, true},
    {"cooperative", cooperative},
    {"pipe", pipe_steps},
    {"two-pipes", two_pipes},
    {"consumer", consumer},
    {"saturate", saturate}};

Board* map_board(const char* path) {
  const int file = open(path, O_RDWR | O_CLOEXEC);
  void* const page = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  return page == MAP_FAILED ? nullptr : static_cast<Board*>(page);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4 || !load_driver()) return 2;
  g_board = map_board(argv[1]);
  if (g_board == nullptr) return 2;
  for (const What& what : kAll) {
    if (what.name != argv[2]) continue;
    if (!what.forks) must(cu.cuInit(0), "cuInit");
    what.run(static_cast<std::uint32_t>(std::strtoul(argv[3], nullptr, 10)));
    return 0;
  }
  return 2;
}

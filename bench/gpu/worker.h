// SPDX-License-Identifier: Apache-2.0
// One process's work: submits it as its mode says, from one thread, and records what was completed.
// A second thread looks at completions only while the first is held up inside a launch, so that
// work that ended before a limiter's pause isn't credited to the pause.
#pragma once

#include <atomic>
#include <deque>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "kernel.h"
#include "options.h"
#include "progress.h"
#include "rendezvous.h"

namespace workload {

// What was seen before the start: who limits this process, and the baseline's extra measurement.
struct Setting {
  std::string gpu_name;
  std::string gpu_uuid;
  std::size_t total_bytes = 0;  // as cuMemGetInfo shows them
  std::size_t free_bytes = 0;
  int probe_code = -1;                 // of the allocation that a limit must refuse; -1: not tried
  std::vector<std::string> preloaded;  // of LD_PRELOAD's libraries, those mapped into the process
  double back_to_back_ns = 0;          // of one launch; 0: not measured
};

class Worker {
 public:
  explicit Worker(const Options& options);
  // Everything that needs the GPU and no time: kernel, streams, graphs, the setting. False, and
  // the reason on stderr, when the driver refuses.
  bool prepare();
  // Meets the others, works, writes the record. False when a call failed on the way.
  bool run();

 private:
  struct Mark {  // behind a batch of launches of one stream
    CUevent event;
    Nanos submitted;
    double work;
    unsigned kernels;
  };
  struct Lane {
    CUstream stream = nullptr;
    CUgraphExec graph = nullptr;
    std::deque<Mark> marks;
    std::vector<CUevent> spare;
    unsigned in_flight = 0;  // kernels
    Nanos last_completion = 0;
  };

  bool prepare_lane(Lane& lane);
  void observe_setting();
  bool measure_back_to_back();
  bool work_until_stopped();
  bool step();
  bool step_sync();
  bool step_queued();
  bool step_paced();
  bool step_cost();
  bool submit(Lane& lane, double& work);
  bool submit_batch(Lane& lane);
  bool make_room(Lane& lane);
  bool harvest(Lane& lane);
  void complete(Lane& lane, const Mark& mark, Nanos when);
  bool drain();
  bool pause_if_due();
  bool finished(Nanos now) const;
  bool write_record(bool complete);
  void watch();
  bool failed(CUresult code, const char* call);

  Options options_;
  Rendezvous rendezvous_;
  Kernel kernel_;
  std::vector<Lane> lanes_;
  Setting setting_;
  CUcontext context_ = nullptr;
  std::size_t next_lane_ = 0;
  unsigned unit_kernels_ = 1;  // in one launch
  unsigned batch_ = 1;         // launches between two marks
  unsigned depth_ = 1;         // kernels in flight
  std::mt19937_64 random_;
  Nanos start_ = 0;
  Nanos end_ = 0;
  Nanos next_due_ = 0;
  bool paused_ = false;
  Nanos cpu_at_start_ = 0;
  Nanos thread_cpu_at_start_ = 0;
  std::vector<std::uint32_t> launch_ns_;
  std::vector<float> latency_us_;

  mutable std::mutex marks_mutex_;  // guards lanes_ and progress_ against the watching thread
  Progress progress_{0, 0, 1};
  std::atomic<Nanos> launching_since_{0};  // 0: not inside a launch
  std::atomic<bool> done_{false};
};

}  // namespace workload

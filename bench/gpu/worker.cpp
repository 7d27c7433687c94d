// SPDX-License-Identifier: Apache-2.0
#include "worker.h"

#include <time.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "record.h"

namespace workload {
namespace {

using gpu_client::cu;

constexpr Nanos kMarkEvery = 100'000;  // of work, at least
constexpr Nanos kLookForStopEvery = 20'000'000;
constexpr Nanos kWatchEvery = 100'000;
constexpr Nanos kHeldUp = 200'000;         // a launch that takes longer is being held back
constexpr Nanos kSpinBeforeDue = 100'000;  // a sleeping thread may wake up later than this
constexpr unsigned kCostBatch = 32;
constexpr std::size_t kMostSamples = 4'000'000;

Nanos cpu_ns(clockid_t clock) {
  timespec used{};
  clock_gettime(clock, &used);
  return Nanos{used.tv_sec} * 1'000'000'000 + used.tv_nsec;
}

void spin_until(Nanos when) {
  while (now_ns() < when) {
  }
}

}  // namespace

Worker::Worker(const Options& options)
    : options_(options),
      rendezvous_(options.rendezvous, options.name, options.index),
      lanes_(options.streams),
      random_(options.seed + options.index) {
  unit_kernels_ = std::max(options_.graph, 1u);
  const auto time_bound =
      static_cast<unsigned>(std::min<Nanos>(options_.most_ahead_ns / options_.kernel_ns, 1u << 20));
  depth_ = std::max(std::min(options_.depth, time_bound), 2 * unit_kernels_);
  const Nanos unit_ns = options_.kernel_ns * unit_kernels_;
  const auto wanted = static_cast<unsigned>((kMarkEvery + unit_ns - 1) / unit_ns);
  batch_ = std::clamp(wanted, 1u, std::max(depth_ / unit_kernels_ / 4, 1u));
  if (options_.mode == Mode::cost) options_.steps = 0;
}

bool Worker::failed(CUresult code, const char* call) {
  if (code == CUDA_SUCCESS) return false;
  std::fprintf(stderr, "workload: %s: CUDA error %d\n", call, static_cast<int>(code));
  return true;
}

bool Worker::prepare() {
  cu.cuCtxGetCurrent(&context_);
  if (!kernel_.load(options_.few_blocks || options_.mode == Mode::cost)) return false;
  for (Lane& lane : lanes_)
    if (!prepare_lane(lane)) return false;
  observe_setting();
  // The first launch loads code; it should not be part of what is measured.
  double work = 0;
  if (options_.mode != Mode::idle && !submit(lanes_[0], work)) return false;
  launch_ns_.clear();
  if (failed(cu.cuStreamSynchronize(lanes_[0].stream), "cuStreamSynchronize")) return false;
  return !options_.back_to_back || measure_back_to_back();
}

bool Worker::prepare_lane(Lane& lane) {
  if (failed(cu.cuStreamCreate(&lane.stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate"))
    return false;
  if (options_.graph > 0) {
    lane.graph = kernel_.graph(lane.stream, options_.steps, options_.graph);
    if (lane.graph == nullptr) {
      std::fprintf(stderr, "workload: no graph\n");
      return false;
    }
  }
  return true;
}

void Worker::observe_setting() {
  CUdevice device = 0;
  char name[128] = "";
  CUuuid uuid{};
  cu.cuCtxGetDevice(&device);
  cu.cuDeviceGetName(name, sizeof name, device);
  cu.cuDeviceGetUuid_v2(&uuid, device);
  setting_.gpu_name = name;
  setting_.gpu_uuid = uuid_text(uuid);
  setting_.preloaded = preloaded_libraries();
  cu.cuMemGetInfo_v2(&setting_.free_bytes, &setting_.total_bytes);
  if (options_.probe_bytes > 0) {
    CUdeviceptr memory = 0;
    const CUresult code = cu.cuMemAlloc_v2(&memory, options_.probe_bytes);
    setting_.probe_code = static_cast<int>(code);
    if (code == CUDA_SUCCESS) cu.cuMemFree_v2(memory);
  }
}

bool Worker::measure_back_to_back() {
  Lane& lane = lanes_[0];
  const auto launch = [&] {
    return lane.graph != nullptr ? cu.cuGraphLaunch(lane.graph, lane.stream)
                                 : kernel_.launch(lane.stream, options_.steps);
  };
  setting_.back_to_back_ns =
      workload::back_to_back_ns(launch, lane.stream, options_.kernel_ns * unit_kernels_);
  return setting_.back_to_back_ns > 0;
}

bool Worker::run() {
  start_ = rendezvous_.wait_for_start();
  if (start_ == 0) return false;
  end_ = start_ + options_.run_ns;
  next_due_ = start_;
  progress_ = Progress(start_, options_.run_ns, options_.window_ns);
  if (options_.mode == Mode::paced)
    latency_us_.reserve(static_cast<std::size_t>(options_.run_ns / options_.period_ns) + 1);
  launch_ns_.reserve(kMostSamples);
  for (Lane& lane : lanes_) lane.last_completion = start_;
  sleep_until(start_);
  cpu_at_start_ = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
  thread_cpu_at_start_ = cpu_ns(CLOCK_THREAD_CPUTIME_ID);
  const bool queues = options_.mode == Mode::queued || options_.mode == Mode::gaps;
  std::thread watching;
  if (queues) watching = std::thread([this] { watch(); });
  const bool worked = work_until_stopped();
  done_.store(true, std::memory_order_relaxed);  // the watching thread acts on nothing else
  if (watching.joinable()) watching.join();
  return worked;
}

bool Worker::work_until_stopped() {
  bool recorded = false;
  Nanos looked = 0;
  for (;;) {
    const Nanos now = now_ns();
    if (!recorded && (finished(now) || now >= end_ + options_.tail_ns)) {
      if (!write_record(finished(now))) return false;
      recorded = true;
    }
    if (now - looked >= kLookForStopEvery) {
      if (rendezvous_.stopped()) return recorded || write_record(false);
      looked = now;
    }
    if (recorded && now >= end_ + options_.tail_ns) return true;
    if (!pause_if_due() || !step()) return false;
  }
}

// Over, and every stream's last completion is known to lie beyond the end.
bool Worker::finished(Nanos now) const {
  if (now < end_) return false;
  if (options_.mode != Mode::queued && options_.mode != Mode::gaps) return true;
  const std::lock_guard lock(marks_mutex_);
  return std::all_of(lanes_.begin(), lanes_.end(),
                     [&](const Lane& lane) { return lane.last_completion >= end_; });
}

bool Worker::pause_if_due() {
  if (options_.pause_from_ns < 0 || paused_ || now_ns() < start_ + options_.pause_from_ns)
    return true;
  paused_ = true;
  if (!drain()) return false;
  sleep_until(start_ + options_.pause_from_ns + options_.pause_ns);
  return true;
}

bool Worker::step() {
  switch (options_.mode) {
    case Mode::sync:
      return step_sync();
    case Mode::queued:
    case Mode::gaps:
      return step_queued();
    case Mode::paced:
      return step_paced();
    case Mode::cost:
      return step_cost();
    case Mode::idle:
      sleep_until(now_ns() + kLookForStopEvery);
      return true;
    case Mode::calibrate:
      break;
  }
  return false;
}

// One launch of the lane's unit; `work` is what it amounts to, in kernels of nominal duration.
bool Worker::submit(Lane& lane, double& work) {
  work = unit_kernels_;
  std::uint64_t steps = options_.steps;
  if (options_.vary > 1) {
    const double factor =
        std::pow(options_.vary, std::uniform_real_distribution<double>(-1, 1)(random_));
    steps = static_cast<std::uint64_t>(static_cast<double>(steps) * factor);
    work = static_cast<double>(steps) / static_cast<double>(options_.steps);
  }
  const Nanos begin = now_ns();
  launching_since_.store(begin, std::memory_order_relaxed);  // a hint: needs no ordering
  const CUresult code = lane.graph != nullptr ? cu.cuGraphLaunch(lane.graph, lane.stream)
                                              : kernel_.launch(lane.stream, steps);
  launching_since_.store(0, std::memory_order_relaxed);
  const Nanos took = now_ns() - begin;
  if (launch_ns_.size() < kMostSamples && begin < end_)
    launch_ns_.push_back(static_cast<std::uint32_t>(std::min<Nanos>(took, UINT32_MAX)));
  return !failed(code, "launch");
}

bool Worker::step_sync() {
  std::vector<double> work(lanes_.size());
  const Nanos submitted = now_ns();
  for (std::size_t i = 0; i < lanes_.size(); ++i)
    if (!submit(lanes_[i], work[i])) return false;
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    if (failed(cu.cuStreamSynchronize(lanes_[i].stream), "cuStreamSynchronize")) return false;
    complete(lanes_[i], {nullptr, submitted, work[i], unit_kernels_}, now_ns());
  }
  return true;
}

bool Worker::step_queued() {
  Lane& lane = lanes_[next_lane_];
  next_lane_ = (next_lane_ + 1) % lanes_.size();
  return make_room(lane) && submit_batch(lane) && harvest(lane);
}

bool Worker::make_room(Lane& lane) {
  for (;;) {
    CUevent oldest = nullptr;
    {
      const std::lock_guard lock(marks_mutex_);
      if (lane.marks.empty() || lane.in_flight + batch_ * unit_kernels_ <= depth_) return true;
      oldest = lane.marks.front().event;
    }
    if (failed(cu.cuEventSynchronize(oldest), "cuEventSynchronize")) return false;
    if (!harvest(lane)) return false;
  }
}

bool Worker::submit_batch(Lane& lane) {
  Mark mark{nullptr, now_ns(), 0, batch_ * unit_kernels_};
  {
    const std::lock_guard lock(marks_mutex_);
    if (!lane.spare.empty()) {
      mark.event = lane.spare.back();
      lane.spare.pop_back();
    }
  }
  if (mark.event == nullptr &&
      failed(cu.cuEventCreate(&mark.event, CU_EVENT_DISABLE_TIMING), "cuEventCreate"))
    return false;
  for (unsigned i = 0; i < batch_; ++i) {
    double work = 0;
    if (!submit(lane, work)) return false;
    mark.work += work;
    if (options_.mode == Mode::gaps) spin_until(now_ns() + options_.gap_ns);
  }
  if (failed(cu.cuEventRecord(mark.event, lane.stream), "cuEventRecord")) return false;
  const std::lock_guard lock(marks_mutex_);
  lane.in_flight += mark.kernels;
  lane.marks.push_back(mark);
  return true;
}

// Credits every batch of the lane that is done.
bool Worker::harvest(Lane& lane) {
  const std::lock_guard lock(marks_mutex_);
  while (!lane.marks.empty()) {
    const CUresult code = cu.cuEventQuery(lane.marks.front().event);
    if (code == CUDA_ERROR_NOT_READY) return true;
    if (failed(code, "cuEventQuery")) return false;
    complete(lane, lane.marks.front(), now_ns());
    lane.in_flight -= lane.marks.front().kernels;
    lane.spare.push_back(lane.marks.front().event);
    lane.marks.pop_front();
  }
  return true;
}

void Worker::complete(Lane& lane, const Mark& mark, Nanos when) {
  progress_.credit(std::max(lane.last_completion, mark.submitted), when, mark.work, mark.kernels);
  lane.last_completion = when;
}

bool Worker::step_paced() {
  next_due_ += options_.period_ns;
  sleep_until(next_due_ - kSpinBeforeDue);
  spin_until(next_due_);
  Lane& lane = lanes_[0];
  double work = 0;
  if (!submit(lane, work)) return false;
  if (failed(cu.cuStreamSynchronize(lane.stream), "cuStreamSynchronize")) return false;
  const Nanos now = now_ns();
  // From when it was due: a launch that the one before it has delayed has waited all the same.
  if (next_due_ < end_)
    latency_us_.push_back(static_cast<float>(static_cast<double>(now - next_due_) / 1e3));
  complete(lane, {nullptr, next_due_, work, 1}, now);
  return true;
}

bool Worker::step_cost() {
  const Nanos submitted = now_ns();
  double work = 0;
  for (unsigned i = 0; i < kCostBatch; ++i)
    if (!submit(lanes_[0], work)) return false;
  if (failed(cu.cuStreamSynchronize(lanes_[0].stream), "cuStreamSynchronize")) return false;
  complete(lanes_[0], {nullptr, submitted, kCostBatch, kCostBatch}, now_ns());
  return true;
}

bool Worker::drain() {
  for (Lane& lane : lanes_) {
    if (failed(cu.cuStreamSynchronize(lane.stream), "cuStreamSynchronize")) return false;
    if (!harvest(lane)) return false;
  }
  return true;
}

void Worker::watch() {
  cu.cuCtxSetCurrent(context_);
  while (!done_.load(std::memory_order_relaxed)) {
    sleep_until(now_ns() + kWatchEvery);
    const Nanos since = launching_since_.load(std::memory_order_relaxed);
    if (since == 0 || now_ns() - since < kHeldUp) continue;
    for (Lane& lane : lanes_) harvest(lane);
  }
}

bool Worker::write_record(bool complete) {
  Record record;
  record.complete = complete;
  record.start_ns = start_;
  record.window_ns = options_.window_ns;
  record.batch_kernels = batch_ * unit_kernels_;
  record.depth_kernels = depth_;
  record.blocks = kernel_.blocks();
  record.cpu_ns = cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_at_start_;
  record.thread_cpu_ns = cpu_ns(CLOCK_THREAD_CPUTIME_ID) - thread_cpu_at_start_;
  record.wall_ns = now_ns() - start_;
  const std::lock_guard lock(marks_mutex_);
  const std::string json = to_json(record, setting_, progress_, launch_ns_, latency_us_);
  if (rendezvous_.write_record(json)) return true;
  std::perror("workload: the record");
  return false;
}

}  // namespace workload

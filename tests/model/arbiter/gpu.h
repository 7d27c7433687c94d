// SPDX-License-Identifier: Apache-2.0
// A GPU as far as sharing its time goes: contexts (one a process) that the hardware runs in turns
// and never together, kernels in the order of their streams, the time that each switch costs. Every
// constant was measured on an H200; calibration_test.cpp holds the model to the table of turns and
// overlap that was measured there. Driven by a virtual clock: whoever owns it calls run() at
// next().
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <random>
#include <vector>

namespace vgpu::model {

using Time = std::uint64_t;  // nanoseconds
inline constexpr Time kNever = UINT64_MAX;
inline constexpr Time kUs = 1'000;
inline constexpr Time kMs = 1'000'000;
inline constexpr Time kS = 1'000'000'000;

// Two full-grid tenants: 2.05 ms on, 2.51 ms off, so 0.23 ms for each switch in the middle of work.
inline constexpr Time kHardwareSliceNs = 2'050 * kUs;
// Slices of two GPUs drift against each other; exactly equal ones could miss each other for ever.
inline constexpr Time kSliceJitterNs = 40 * kUs;
inline constexpr Time kPreemptionNs = 230 * kUs;
// A switch after a context's work is done: from the unmanaged rows of 5, 20 and 100 us kernels that
// are waited for (11.5, 19.9, 46.6 % together), each of which gives 0.134 to 0.138 ms.
inline constexpr Time kHardwareSwitchNs = 135 * kUs;
// 20 us kernels back to back take 21.31 us each.
inline constexpr Time kBetweenKernelsNs = 1'310;
// From a launch to its kernel on an idle GPU; the launch call; from a kernel's end to the return of
// the synchronize that waits for it (a waited-for kernel of 5 us takes 16 to 17 us in all).
inline constexpr Time kLaunchLatencyNs = 3'500;
inline constexpr Time kLaunchCallNs = 4'200;
inline constexpr Time kSynchronizeNs = 7'000;
// Launches that fit into a context's queue before the driver makes the caller wait.
inline constexpr std::size_t kQueueLength = 1'024;

// Two kernels on different GPUs that go on only while both are running (NCCL).
struct Together {
  Time left_ns = 0;
  Time since_ns = 0;  // when the second of them began or went on
  int running = 0;
  bool is_done = false;
};

struct Kernel {
  Time work_ns = 0;     // kNever: never ends
  Time visible_ns = 0;  // from when on the GPU could start it
  std::uint64_t number = 0;
  Together* together = nullptr;
  // Ends once the context has completed so many kernels of its other stream (a consumer that
  // spins).
  std::uint64_t until_other_stream = 0;
  // Begins after the context has completed so many kernels of its other stream (an event that is
  // waited for).
  std::uint64_t after_other_stream = 0;
  Time began_ns = kNever;
};

class Gpu {
 public:
  static constexpr std::size_t kStreams = 2;
  // A kernel is done. The GPU may not be called from within.
  using Done =
      std::function<void(std::size_t context, std::size_t stream, const Kernel&, Time now)>;

  explicit Gpu(Done done, std::uint64_t seed = 1) : done_(std::move(done)), random_(seed) {}

  std::size_t add_context() {
    contexts_.emplace_back();
    return contexts_.size() - 1;
  }
  // What a process that ended had in flight goes with it.
  void end_context(std::size_t context, Time now) {
    if (context == current_) pause(now);
    contexts_[context] = Context();
  }
  void submit(std::size_t context, std::size_t stream, const Kernel& kernel) {
    contexts_[context].streams[stream].queue.push_back(kernel);
  }
  std::size_t in_flight(std::size_t context) const {
    std::size_t sum = 0;
    for (const Stream& stream : contexts_[context].streams) sum += stream.queue.size();
    return sum;
  }

  Time next() const;
  void run(Time now);
  Time switching_ns() const { return switching_ns_; }

 private:
  static constexpr std::size_t kNone = SIZE_MAX;
  struct Stream {
    std::deque<Kernel> queue;
    Time left_ns = 0;  // of the head, while it is begun
    bool begun = false;
    bool running = false;
    Time resumed_ns = 0;
    std::uint64_t completed = 0;
  };
  struct Context {
    std::array<Stream, kStreams> streams;
  };

  static const Stream& other_of(const Context& context, const Stream& stream) {
    return context.streams[&stream == &context.streams[0] ? 1 : 0];
  }
  // When the head of a stream has work for the GPU; kNever: it has none.
  static Time ready_ns(const Context& context, const Stream& stream) {
    if (stream.queue.empty()) return kNever;
    const Kernel& kernel = stream.queue.front();
    return other_of(context, stream).completed < kernel.after_other_stream ? kNever
                                                                           : kernel.visible_ns;
  }
  static Time ready_ns(const Context& context) {
    Time first = kNever;
    for (const Stream& stream : context.streams) first = std::min(first, ready_ns(context, stream));
    return first;
  }
  Time ends_ns(const Context& context, const Stream& stream) const;
  Time others_ready_ns() const;
  Time boundary_after(Time time) const;
  std::size_t next_ready(Time now) const;
  void resume(Time now);
  void pause(Time now);
  void complete(Time now);

  Done done_;
  std::vector<Context> contexts_;
  std::size_t current_ = kNone;
  std::size_t switching_to_ = kNone;
  Time switch_ends_ns_ = 0;
  Time slice_began_ns_ = 0;
  Time slice_ns_ = kHardwareSliceNs;
  std::mt19937_64 random_;
  Time switching_ns_ = 0;  // spent so far
};

inline Time Gpu::ends_ns(const Context& context, const Stream& stream) const {
  const Kernel& kernel = stream.queue.front();
  if (kernel.together != nullptr) {
    const Together& both = *kernel.together;
    if (both.is_done) return 0;
    return both.running == 2 ? both.since_ns + both.left_ns : kNever;
  }
  if (kernel.until_other_stream != 0) {
    return other_of(context, stream).completed >= kernel.until_other_stream ? 0 : kNever;
  }
  return stream.left_ns == kNever ? kNever : stream.resumed_ns + stream.left_ns;
}

inline Time Gpu::others_ready_ns() const {
  Time first = kNever;
  for (std::size_t i = 0; i < contexts_.size(); ++i) {
    if (i != current_) first = std::min(first, ready_ns(contexts_[i]));
  }
  return first;
}

// The end of the slice in which `time` lies. A context that nobody waits behind gets another slice.
inline Time Gpu::boundary_after(Time time) const {
  const Time since = time > slice_began_ns_ ? time - slice_began_ns_ : 0;
  return slice_began_ns_ + std::max<Time>((since + slice_ns_ - 1) / slice_ns_, 1) * slice_ns_;
}

inline Time Gpu::next() const {
  if (switching_to_ != kNone) return switch_ends_ns_;
  Time next = kNever;
  bool runs = false;
  if (current_ != kNone) {
    const Context& context = contexts_[current_];
    for (const Stream& stream : context.streams) {
      if (stream.running) {
        runs = true;
        next = std::min(next, ends_ns(context, stream));
      } else {
        next = std::min(next, ready_ns(context, stream));
      }
    }
  }
  const Time others = others_ready_ns();
  if (others == kNever) return next;
  return std::min(next, runs ? boundary_after(others) : others);
}

inline std::size_t Gpu::next_ready(Time now) const {
  const std::size_t count = contexts_.size();
  const std::size_t from = current_ == kNone ? count - 1 : current_;
  for (std::size_t step = 1; step <= count; ++step) {
    const std::size_t context = (from + step) % count;
    if (ready_ns(contexts_[context]) <= now) return context;
  }
  return kNone;
}

inline void Gpu::resume(Time now) {
  for (Stream& stream : contexts_[current_].streams) {
    if (stream.running || ready_ns(contexts_[current_], stream) > now) continue;
    Kernel& kernel = stream.queue.front();
    if (!stream.begun) {
      stream.begun = true;
      stream.left_ns = kernel.work_ns == kNever ? kNever : kernel.work_ns + kBetweenKernelsNs;
      kernel.began_ns = now;
    }
    stream.running = true;
    stream.resumed_ns = now;
    if (kernel.together != nullptr && ++kernel.together->running == 2)
      kernel.together->since_ns = now;
  }
}

inline void Gpu::pause(Time now) {
  for (Stream& stream : contexts_[current_].streams) {
    if (!stream.running) continue;
    stream.running = false;
    if (stream.left_ns != kNever)
      stream.left_ns -= std::min(stream.left_ns, now - stream.resumed_ns);
    Together* both = stream.queue.front().together;
    if (both == nullptr || both->is_done) continue;
    if (both->running-- == 2) both->left_ns -= std::min(both->left_ns, now - both->since_ns);
  }
}

inline void Gpu::complete(Time now) {
  const std::size_t context = current_;
  for (bool again = true; again;) {
    again = false;
    for (std::size_t i = 0; i < kStreams; ++i) {
      Stream& stream = contexts_[context].streams[i];
      if (!stream.running || ends_ns(contexts_[context], stream) > now) continue;
      const Kernel kernel = stream.queue.front();
      if (kernel.together != nullptr) kernel.together->is_done = true;
      stream.queue.pop_front();
      stream.begun = stream.running = false;
      ++stream.completed;
      done_(context, i, kernel, now);
      again = true;
    }
  }
}

inline void Gpu::run(Time now) {
  if (switching_to_ != kNone) {
    if (now < switch_ends_ns_) return;
    current_ = switching_to_;
    switching_to_ = kNone;
    slice_began_ns_ = now;
    slice_ns_ = kHardwareSliceNs - kSliceJitterNs + random_() % (2 * kSliceJitterNs);
  }
  bool runs = false;
  if (current_ != kNone) {
    complete(now);
    resume(now);
    for (const Stream& stream : contexts_[current_].streams) runs = runs || stream.running;
  }
  if (runs && (others_ready_ns() > now || now == slice_began_ns_ ||
               (now - slice_began_ns_) % slice_ns_ != 0))
    return;
  const std::size_t next = next_ready(now);
  if (next == kNone || next == current_) return;
  if (current_ != kNone) pause(now);
  switching_to_ = next;
  const Time costs = runs ? kPreemptionNs : kHardwareSwitchNs;
  switch_ends_ns_ = now + costs;
  switching_ns_ += costs;
  current_ = kNone;
  // The round goes on from here even if nobody is on the GPU meanwhile.
}

}  // namespace vgpu::model

// SPDX-License-Identifier: Apache-2.0
// Tenants, their programs, the limiter's gate in each of their processes and the host of the
// arbiter, all under one virtual clock: nothing sleeps, and one seed gives one run. The decisions
// are the product's (core::Arbiter, judge_launch, busy_after, the pace, learned costs); what is
// modelled is the world around them: the GPU (gpu.h), calls that take time, wake-ups that come
// late.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gpu.h"
#include "vgpu/base/quota.h"
#include "vgpu/core/arbiter.h"

namespace vgpu::model {

// A waiting process runs so long after its futex was rung, at the least and the most; a sleep ends
// late by up to the timer's slack; the host of the arbiter, which sleeps on a futex with a timeout,
// by up to its own lateness.
inline constexpr Time kLeastWakeNs = 20 * kUs;
inline constexpr Time kMostWakeNs = 57 * kUs;
inline constexpr Time kTimerSlackNs = 60 * kUs;
inline constexpr Time kHostLateNs = 100 * kUs;
// A tenant under a compute limit saves up so much GPU time before it asks for a turn.
inline constexpr Time kBatchNs = 10 * kMs;
// The host finds out that a process has died within so long.
inline constexpr Time kReapNs = 50 * kMs;

inline constexpr Time kWarmUpNs = kS;     // of a run: costs are learned, everybody has arrived
inline constexpr Time kBinNs = 10 * kMs;  // results are kept in bins

struct Launch {
  Time work_ns = 100 * kUs;  // kNever: never ends
  std::uint32_t kind = 0;    // what its cost is learned by
  std::uint32_t stream = 0;
  Together* together = nullptr;
  std::uint64_t until_other_stream = 0;  // gpu.h: Kernel
  std::uint64_t after_other_stream = 0;  // likewise
  bool waits = false;                    // the program waits for all its work after this one
  Time gap_ns = 0;                       // host time before the next call
  Time pause_ns = 0;                     // it sleeps before the next launch
  // One that `waits` is due so long after the one before it was, and late if that isn't done by
  // then. Its latency counts from when it was due.
  Time period_ns = 0;
};

// What a process does: its n-th launch.
using Program = std::function<Launch(std::uint64_t n, std::mt19937_64& random)>;

struct Tenant {
  std::string name;
  Program program;
  std::uint8_t share = 0;
  std::uint8_t limit = 0;
  Priority priority = Priority::normal;
  int processes = 1;
  std::vector<std::size_t> gpus{0};  // one process (times `processes`) on each
  Time arrives_ns = 0;
  Time leaves_ns = kNever;  // ends by itself
  // Killed or stopped at that time, or as soon as it holds a turn after it.
  Time dies_ns = kNever;
  Time stops_ns = kNever;
  Time continues_ns = kNever;
  bool stops_anywhere = false;  // at that time, whether it holds a turn or not
};

struct Change {  // a live change of a tenant's quota
  Time at_ns = 0;
  std::size_t tenant = 0;
  std::uint8_t share = 0;
  std::uint8_t limit = 0;
};

// What SeatView::place counts: launches that are known to have peers; all, where none is known;
// all, where one process in a thousand launches makes another that its peers don't; or the first on
// the first GPU and all on the others.
enum class Places { collectives, launches, differing_launches, collectives_on_one };

enum class Sharing { unmanaged, exclusive_turns, arbiter };

struct Scenario {
  std::vector<Tenant> tenants;
  Sharing sharing = Sharing::arbiter;
  Time turn_ns = 5 * kMs;  // of exclusive_turns, the experiment that was measured on the H200
  std::size_t gpus = 1;
  Time length_ns = 10 * kS;
  std::uint64_t seed = 1;
  Places places = Places::collectives;
  std::vector<Change> changes;
  Time new_host_every_ns = kNever;  // the arbiter is replaced by one that knows nothing
};

// What a tenant did, over all its processes.
struct Outcome {
  std::vector<Time> work_ns;        // completed, by bin; a kernel counts when it ends
  std::vector<std::uint32_t> ends;  // kernels that ended, by bin
  std::vector<Time> latencies_ns;
  Time most_wait_ns = 0;  // for a turn, after the warm-up
  std::uint64_t launches = 0;
  std::vector<std::uint64_t> by_sibling;  // the same, for each of its processes on a GPU
  std::uint64_t forced = 0;               // launches beyond the bound because nothing progressed

  Time work_between(Time from, Time to) const;
  std::uint64_t launch_count_between(Time from, Time to) const;
  Time latency(double quantile) const;
};

struct Result {
  std::vector<Outcome> tenants;
  Time overlapped_ns = 0;  // time in which the arbiter let all run together
  Time switching_ns = 0;
  std::uint64_t steps = 0;  // of the arbiter
  std::uint64_t events = 0;
};

Result simulate(const Scenario& scenario);

}  // namespace vgpu::model

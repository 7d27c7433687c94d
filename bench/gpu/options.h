// SPDX-License-Identifier: Apache-2.0
// What workload is asked to do: its command line as values. Durations are nanoseconds inside and in
// the unit that the flag's name says outside.
#pragma once

#include <cstdint>
#include <string>

namespace workload {

using Nanos = std::int64_t;

enum class Mode : std::uint8_t {
  calibrate,  // measures how many steps a kernel of a duration takes, and ends
  sync,       // launch, synchronise, again
  queued,     // launches ahead, a bounded amount of work in flight
  gaps,       // as queued, with host work between launches: launch-bound
  paced,      // one kernel every period; latency from when it was due
  cost,       // empty kernels in small batches: what a launch costs the host
  idle,       // a context and nothing else
};

struct Options {
  Mode mode = Mode::sync;
  std::uint64_t steps = 0;            // of one kernel; the duration that they take is `kernel_ns`
  Nanos kernel_ns = 100'000;          // duration of one kernel alone
  unsigned graph = 0;                 // kernels in a graph; 0: plain launches
  unsigned streams = 1;               // fed in turn by one thread
  unsigned processes = 1;             // of the tenant, each doing the same
  unsigned index = 0;                 // which of them this is
  unsigned depth = 64;                // kernels in flight at most
  Nanos most_ahead_ns = 200'000'000;  // and their duration at most, but never below two launches
  bool few_blocks = false;            // 8 blocks instead of a full GPU
  double vary = 1;                    // kernels of 1/vary to vary times the duration, log-uniform
  std::uint64_t seed = 1;
  Nanos gap_ns = 30'000;          // mode gaps
  Nanos period_ns = 2'000'000;    // mode paced
  Nanos run_ns = 10'000'000'000;  // from the common start on
  Nanos window_ns = 50'000'000;
  Nanos tail_ns = 20'000'000'000;  // how long beyond the end to wait for the last completion
  Nanos pause_from_ns = -1;        // since the start; -1: no pause
  Nanos pause_ns = 0;
  bool back_to_back = false;      // measure it first; for runs alone and unlimited
  std::uint64_t probe_bytes = 0;  // an allocation that a memory limit must refuse
  std::string rendezvous;         // folder shared with bench.py; see rendezvous.h
  std::string name = "tenant";
};

// False, and one line on stderr, when the command line can't be understood.
bool parse(int argc, char** argv, Options& out);
const char* usage();

}  // namespace workload

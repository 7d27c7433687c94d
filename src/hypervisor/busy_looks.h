// SPDX-License-Identifier: Apache-2.0
// From the driver's samples of what processes ran to windows that follow one another. A sample
// covers one of the driver's periods (200 ms on an H200, up to a second elsewhere), comes a little
// late, and isn't there for who ran nothing: "no sample" means idleness only once one would have
// come. Pure: times are passed in. One thread.
#pragma once

#include <cstdint>
#include <vector>

#include "node_state.h"

namespace vgpu::hypervisor {

struct BusySample {
  std::uint32_t pid = 0;
  std::uint64_t time_us = 0;  // its period's end, CLOCK_REALTIME
  unsigned percent = 0;
};

class BusyLooks {
 public:
  // The driver was asked for what is newer than seen_us() and answered that; none: nothing ran, or
  // nothing is known yet. Windows that are complete since are added to windows().
  void look(std::uint64_t realtime_us, std::uint64_t monotonic_ns,
            const std::vector<BusySample>& samples);
  std::uint64_t seen_us() const { return seen_us_; }
  const BusyWindows& windows() const { return windows_; }

 private:
  void begin(std::uint64_t realtime_us, std::uint64_t monotonic_ns);
  void take_samples(std::uint64_t realtime_us, std::uint64_t monotonic_ns,
                    const std::vector<BusySample>& samples);
  void take_silence(std::uint64_t monotonic_ns);
  void add(std::uint64_t until_ns, std::vector<std::pair<pid_t, double>> by_process);

  // CLOCK_MONOTONIC from here on.
  std::uint64_t looked_ns_ = 0;  // 0: never
  std::uint64_t known_ns_ = 0;   // the windows' end
  std::uint64_t sample_ns_ = 0;  // the newest sample's time, or when it began
  bool has_sample_ = false;
  bool was_idle_ = false;                    // since the newest sample
  std::uint64_t period_ns_ = kMostPeriodNs;  // the driver's, at most
  std::uint64_t late_ns_ = 0;                // so late samples have come
  std::uint64_t seen_us_ = 0;
  BusyWindows windows_;

  static constexpr std::uint64_t kMostPeriodNs = 1'000'000'000;
};

}  // namespace vgpu::hypervisor

// SPDX-License-Identifier: Apache-2.0
#include "busy_looks.h"

#include <algorithm>
#include <map>

namespace vgpu::hypervisor {
namespace {

constexpr std::uint64_t kLeastPeriodNs = 50'000'000;
constexpr std::uint64_t kMostLateNs = 1'000'000'000;
constexpr std::uint64_t kForgottenNs = 3'000'000'000;  // after so long it begins anew
constexpr std::uint64_t kUsPerSecond = 1'000'000;
constexpr std::uint64_t kNsPerUs = 1'000;
constexpr std::size_t kMostWindows = 32;

std::uint64_t less(std::uint64_t time, std::uint64_t by) { return time > by ? time - by : 0; }

// The driver's periods that samples are of: times that lie apart.
std::size_t periods_in(std::vector<std::uint64_t> times_us) {
  std::sort(times_us.begin(), times_us.end());
  std::size_t count = 1;
  for (std::size_t i = 1; i < times_us.size(); ++i)
    count += (times_us[i] - times_us[i - 1]) * kNsPerUs > kLeastPeriodNs ? 1 : 0;
  return count;
}

}  // namespace

void BusyLooks::begin(std::uint64_t realtime_us, std::uint64_t monotonic_ns) {
  known_ns_ = sample_ns_ = monotonic_ns;
  has_sample_ = was_idle_ = false;
  seen_us_ = realtime_us;
}

void BusyLooks::add(std::uint64_t until_ns, std::vector<std::pair<pid_t, double>> by_process) {
  if (until_ns <= known_ns_) return;
  if (windows_.size() >= kMostWindows) windows_.erase(windows_.begin());
  windows_.push_back({known_ns_, until_ns, std::move(by_process)});
  known_ns_ = until_ns;
}

void BusyLooks::take_silence(std::uint64_t monotonic_ns) {
  if (monotonic_ns < sample_ns_ + period_ns_ * 3 / 2 + late_ns_) return;
  was_idle_ = true;
  add(less(monotonic_ns, period_ns_ + late_ns_), {});
}

void BusyLooks::take_samples(std::uint64_t realtime_us, std::uint64_t monotonic_ns,
                             const std::vector<BusySample>& samples) {
  std::map<std::uint32_t, double> sums;
  std::vector<std::uint64_t> times_us;
  for (const BusySample& sample : samples) {
    sums[sample.pid] += sample.percent / 100.0;
    times_us.push_back(sample.time_us);
  }
  const std::uint64_t newest_us = *std::max_element(times_us.begin(), times_us.end());
  const std::uint64_t until_ns = less(monotonic_ns, less(realtime_us, newest_us) * kNsPerUs);
  if (looked_ns_ > until_ns) late_ns_ = std::clamp(looked_ns_ - until_ns, late_ns_, kMostLateNs);
  if (has_sample_ && until_ns >= sample_ns_ + kLeastPeriodNs)
    period_ns_ = std::min(period_ns_, until_ns - sample_ns_);
  // After a pause the sample covers its own period, not the pause.
  if (was_idle_) add(std::min(less(looked_ns_, late_ns_), less(until_ns, period_ns_)), {});
  const auto periods = static_cast<double>(periods_in(std::move(times_us)));
  std::vector<std::pair<pid_t, double>> by_process;
  for (const auto& [pid, sum] : sums)
    by_process.emplace_back(static_cast<pid_t>(pid), std::min(sum / periods, 1.0));
  add(until_ns, std::move(by_process));
  sample_ns_ = std::max(sample_ns_, until_ns);
  has_sample_ = true;
  was_idle_ = false;
  seen_us_ = newest_us;
}

void BusyLooks::look(std::uint64_t realtime_us, std::uint64_t monotonic_ns,
                     const std::vector<BusySample>& samples) {
  if (looked_ns_ == 0 || monotonic_ns > looked_ns_ + kForgottenNs) {
    begin(realtime_us, monotonic_ns);
  } else {
    std::vector<BusySample> fresh;
    for (const BusySample& sample : samples) {
      // Drivers have been seen to give old samples again, and more than there is.
      if (sample.time_us > seen_us_ && sample.time_us <= realtime_us + kUsPerSecond &&
          sample.percent <= 100)
        fresh.push_back(sample);
    }
    fresh.empty() ? take_silence(monotonic_ns) : take_samples(realtime_us, monotonic_ns, fresh);
  }
  looked_ns_ = monotonic_ns;
}

}  // namespace vgpu::hypervisor

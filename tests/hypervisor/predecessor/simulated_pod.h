// SPDX-License-Identifier: Apache-2.0
// A pod under the predecessor's limiter on one GPU, in virtual time: threads that launch kernels by
// its arithmetic, the GPU that runs them, the driver's utilisation counter with its habits, and the
// daemon's loop around the supply under test.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <deque>
#include <functional>
#include <random>
#include <vector>

#include "token_supply.h"

namespace vgpu::hypervisor::testing {

inline constexpr std::uint64_t kMs = 1'000'000;
inline constexpr std::uint64_t kSecond = 1000 * kMs;

// The predecessor's price of a launch.
inline double launch_cost(double threads) {
  return std::max(0.1, 0.1 + 9.9 * (1 - std::exp(-std::max(threads, 1.0) / 400'000)));
}

struct Work {
  double kernel_ms = 1;
  double threads = 65'536;
  bool waits = false;  // synchronises after each kernel; else queues up to 1,024 ahead
};

struct Counter {  // nvmlDeviceGetProcessUtilization
  std::uint64_t period_ns = 100 * kMs;
  bool fails = false;
};

class SimulatedPod {
 public:
  SimulatedPod(const SupplyTerms& terms, std::vector<Work> processes, unsigned seed = 1)
      : supply(terms, 0, 0, 0), random_(seed) {
    for (const auto& work : processes) processes_.push_back({work, 0, 0, {}});
  }

  void run(std::uint64_t for_ns) {
    const std::uint64_t end = now_ns_ + for_ns;
    for (; now_ns_ < end; now_ns_ += kStepNs) step();
  }

  // Percent of the time in which the GPU was busy.
  double busy_percent(std::uint64_t for_ns) {
    const double before = busy_ns_;
    run(for_ns);
    return 100 * (busy_ns_ - before) / static_cast<double>(for_ns);
  }

  std::uint64_t now_ns() const { return now_ns_; }
  double tokens() const { return tokens_; }
  double done_ns(std::size_t process) const { return processes_[process].done_ns; }
  Work& work(std::size_t process) { return processes_[process].work; }

  // A new daemon that finds the file as it is.
  void restart_daemon() { supply = TokenSupply(supply.terms(), now_ns_, tokens_, supply.rate()); }

  TokenSupply supply;
  Counter counter;
  bool is_idle = false;
  bool daemon_runs = true;

 private:
  static constexpr std::uint64_t kStepNs = 100'000;
  static constexpr double kLaunchNs = 5'000;

  struct Process {
    Work work;
    std::uint64_t next_try_ns;
    double done_ns;
    std::deque<double> queue;
  };

  void step() {
    if (!is_idle) {
      for (auto& process : processes_) launch(process);
    }
    execute();
    if (now_ns_ % counter.period_ns == 0 && now_ns_ > 0) sample();
    if (daemon_runs && now_ns_ % (10 * kMs) == 0) {
      tokens_ = supply.level(now_ns_, tokens_, processes_.size() > 1);
      supply.filled(tokens_);
    }
  }

  void launch(Process& process) {
    const double cost = launch_cost(process.work.threads);
    const std::size_t most = process.work.waits ? 1 : 1024;
    double spent_ns = 0;
    while (now_ns_ >= process.next_try_ns && process.queue.size() < most && spent_ns < kStepNs) {
      if (tokens_ < cost) {
        process.next_try_ns = now_ns_ + 10 * kMs + random_() % kMs;
        return;
      }
      tokens_ = std::max(tokens_ - cost, 0.0);
      process.queue.push_back(process.work.kernel_ms * 1e6);
      spent_ns += kLaunchNs;
    }
  }

  void execute() {
    double left_ns = kStepNs;
    for (std::size_t tries = 0; left_ns > 0 && tries < processes_.size();) {
      Process& process = processes_[turn_ % processes_.size()];
      if (process.queue.empty()) {
        ++turn_;
        ++tries;
        continue;
      }
      tries = 0;
      const double ran = std::min(left_ns, process.queue.front());
      process.queue.front() -= ran;
      left_ns -= ran;
      process.done_ns += ran;
      if (process.queue.front() <= 0) {
        process.queue.pop_front();
        ++turn_;
        // Who waits for its kernel launches the next one within this step.
        if (process.work.waits && !is_idle) launch(process);
      }
    }
    busy_ns_ += kStepNs - left_ns;
  }

  void sample() {
    const double busy = busy_ns_ - busy_at_sample_ns_;
    const std::uint64_t from = sampled_at_ns_;
    busy_at_sample_ns_ = busy_ns_;
    sampled_at_ns_ = now_ns_;
    if (counter.fails || !daemon_runs) return;
    // Whole percents; nothing at all (not found) for who had none, which the daemon takes for 0.
    const double percent = std::floor(100 * busy / static_cast<double>(now_ns_ - from));
    supply.measured({from, now_ns_, percent / 100}, now_ns_);
  }

  std::mt19937 random_;
  std::vector<Process> processes_;
  std::uint64_t now_ns_ = 0;
  double tokens_ = 0;
  double busy_ns_ = 0;
  double busy_at_sample_ns_ = 0;
  std::uint64_t sampled_at_ns_ = 0;
  std::size_t turn_ = 0;
};

}  // namespace vgpu::hypervisor::testing

// SPDX-License-Identifier: Apache-2.0
// A simulated machine of one H200 for one test, a tenant with a limit on it, and worker processes
// (worker.cpp) inside and outside of it. Nothing here sleeps for luck: what takes its time (the
// kernel closing a dead process's files) is looked for until it is there, or a generous deadline is
// over.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace vgpu::sim {
class DeviceState;
}

namespace vgpu::test {

constexpr long kMiB = 1l << 20;
constexpr long kLimitMib = 8192;  // of most tenants here
constexpr long kSmallLimitMib = 4096;
using Environment = std::map<std::string, std::string>;

struct Answer {
  int code = -1;  // -1: the worker ended instead of answering, or waits for ever
  long number = 0;
};

class Worker {
 public:
  // `pid`: the process id to have, where the kernel lets us choose; 0: any.
  Worker(const Environment& environment, std::vector<std::string> arguments = {}, pid_t pid = 0);
  ~Worker();  // kills and reaps
  Worker(Worker&& other) noexcept;
  Worker& operator=(Worker&&) = delete;

  Answer ask(const std::string& command);
  // The two halves of ask().
  void tell(const std::string& command);
  Answer answer();
  bool has_answered() const;  // or ended

  void signal(int number);
  // Killed, its files closed by the kernel, but not reaped: a zombie.
  void kill_and_leave();
  bool reap();  // true: it was killed
  pid_t pid() const { return pid_; }
  bool started() const { return pid_ > 0; }

 private:
  pid_t pid_ = -1;
  int to_ = -1;
  int from_ = -1;
};

class Rig {
 public:
  explicit Rig(long limit_mib);
  ~Rig();
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  Environment inside(const std::string& fault = "") const;  // of the tenant
  Environment outside() const;                              // without limiter

  // A worker of the tenant with a context.
  Worker member(const std::string& fault = "") const;
  // What the driver holds for everybody, by its own account.
  long driver_bytes() const;
  // The most that it held for everybody, if only for an instant, since this was asked last.
  long most_driver_bytes() const;

 private:
  std::string folder_;
  long limit_mib_;
  mutable std::optional<Worker> observer_;
  sim::DeviceState* device_ = nullptr;  // lives on: the simulation never detaches
  long idle_bytes_ = 0;
};

// Asks again and again until the answer is `wanted`; the last answer.
long eventually(long wanted, const std::function<long()>& ask,
                std::chrono::seconds patience = std::chrono::seconds(20));

// That a limit of 20 holds: what is done under it, and under 100. The machine may be busy: the best
// without a limit counts, and the least with one.
void expect_a_fifth_to_hold(const std::function<double(int percent)>& done_under);

// How often a test repeats what it does: VGPU_ROUNDS, which the long form of a test sets.
int rounds(int otherwise);

}  // namespace vgpu::test

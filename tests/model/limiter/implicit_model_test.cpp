// SPDX-License-Identifier: Apache-2.0
// Implicit memory under every schedule with few preemptions, and random ones: threads whose calls
// are in the driver, readings of what it holds between any two of their steps, threads that stop
// inside a call. At every step the charge covers what the driver holds and what it may still take
// unasked; when all is quiet a reading makes it exact. A failure prints its schedule.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fiber.h"
#include "ledger/implicit_account.h"
#include "schedule.h"

namespace vgpu::model {
namespace {

using limiter::ChangeCount;
using limiter::ImplicitAccount;

std::array<std::unique_ptr<Fiber>, kMostProcesses>& fibers() {
  static std::array<std::unique_ptr<Fiber>, kMostProcesses> all = [] {
    std::array<std::unique_ptr<Fiber>, kMostProcesses> made;
    for (auto& each : made) each = std::make_unique<Fiber>();
    return made;
  }();
  return all;
}

// The model has one thread: a sanitizer looks at its code, the schedules are the release build's.
int rounds(int otherwise) {
  const char* text = std::getenv("VGPU_MODEL_ROUNDS");
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  otherwise /= 20;
#endif
  return otherwise * (text == nullptr ? 1 : std::atoi(text));
}

struct Stop {
  std::size_t thread = kMostProcesses;
  int after_steps = 0;
};

// One process of a tenant on one GPU: what the driver holds, what the process believes.
class Process {
 public:
  using Thread = std::function<void(Process&)>;
  struct Reading {
    ChangeCount::Moment moment;
    std::uint64_t implicit = 0;
    bool is_exact = false;
  };

  // The truth.
  std::uint64_t implicit_held = 0;
  std::uint64_t explicit_held = 0;
  std::uint64_t may_be_taken = 0;  // without a further reservation
  // The process's own.
  std::uint64_t charged = 0;  // at the tenant
  std::uint64_t visible = 0;  // explicit allocations by its own count
  ImplicitAccount account;
  ChangeCount changes;
  // One context's memory for its threads (Context::local_charged_bytes and so on).
  std::uint64_t local_held = 0;
  std::uint64_t local_charged = 0;
  std::uint64_t local_taken = 0;
  std::uint64_t local_promised = 0;
  std::uint64_t limit = 0;
  std::uint32_t limit_open = 0;
  std::uint32_t limit_begun = 0;

  std::string error;

  void pause() { fibers()[current_]->pause(); }

  Reading read() {
    Reading reading;
    reading.moment = changes.now();
    pause();
    const std::uint64_t seen_visible = visible;
    pause();
    const std::uint64_t shown = implicit_held + explicit_held;
    pause();
    if (!reading.moment.is_quiet || shown < seen_visible) return reading;
    reading.implicit = shown - seen_visible;
    std::uint64_t released = 0;
    reading.is_exact = account.settle(reading.implicit, changes, reading.moment, released,
                                      [this](std::uint64_t bytes) { charged += bytes; });
    if (!reading.is_exact) return reading;
    pause();
    charged -= released;
    return reading;
  }

  // An operation that takes `bytes` and was estimated at `estimate`. Returns what is known of it.
  std::uint64_t take(std::uint64_t bytes, std::uint64_t estimate) {
    const Reading before = read();
    charged += estimate;
    pause();
    changes.begin();
    pause();
    implicit_held += bytes;
    pause();
    account.add_estimate(estimate);
    pause();
    changes.end();
    pause();
    const Reading after = read();
    const bool was_alone =
        before.is_exact && after.is_exact && after.moment.begun == before.moment.begun + 1;
    return was_alone ? after.implicit - before.implicit : 0;
  }
  void give_back(std::uint64_t bytes, std::uint64_t known, std::uint64_t estimate) {
    changes.begin();
    pause();
    implicit_held -= bytes;
    pause();
    const std::uint64_t released = account.remove(known, estimate);
    pause();
    charged -= released;
    changes.end();
    pause();
  }

  void allocate(std::uint64_t bytes) {
    charged += bytes;
    changes.begin();
    pause();
    explicit_held += bytes;
    pause();
    visible += bytes;
    changes.end();
    pause();
  }
  void free(std::uint64_t bytes) {
    changes.begin();
    pause();
    explicit_held -= bytes;
    pause();
    visible -= bytes;
    pause();
    charged -= bytes;
    changes.end();
    pause();
  }

  // The first launch of a function that needs so much for the context's threads.
  enum class Outcome { ran, captured };
  void launch(std::uint64_t needed, Outcome outcome) {
    std::uint64_t reserved = 0;
    std::uint64_t claimed = 0;
    for (bool is_claimed = false; !is_claimed;) {
      const std::uint64_t seen = local_charged;
      pause();
      charged -= reserved;
      reserved = needed > seen ? needed - seen : 0;
      charged += reserved;
      changes.begin();
      pause();
      claimed = needed > local_charged ? needed - local_charged : 0;
      is_claimed = claimed <= reserved;
      if (is_claimed) local_charged += claimed;
      if (!is_claimed) changes.end();
      pause();
    }
    if (outcome == Outcome::ran && local_held < needed) {
      const std::uint64_t grown = needed - local_held;
      local_held = needed;
      implicit_held += grown;
      may_be_taken -= std::min(may_be_taken, grown);
    }
    pause();
    if (outcome == Outcome::ran) {
      account.add_estimate(claimed);
    } else {
      account.add_promise(claimed);
      pause();
      local_promised += claimed;
      fulfil(0);
      may_be_taken = std::max(may_be_taken, needed > local_held ? needed - local_held : 0);
    }
    pause();
    if (outcome == Outcome::ran) fulfil(needed);
    charged -= reserved - claimed;
    changes.end();
    pause();
  }
  // Of a graph whose kernels need so much.
  void launch_graph(std::uint64_t needed) {
    changes.begin();
    pause();
    if (local_held < needed) {
      implicit_held += needed - local_held;
      may_be_taken -= std::min(may_be_taken, needed - local_held);
      local_held = needed;
    }
    pause();
    fulfil(needed);
    pause();
    changes.end();
  }

  // A change of the stack limit, which the driver takes or gives back at once.
  void set_limit(std::uint64_t wanted) {
    const Reading before = read();
    std::uint64_t claimed = 0;
    for (bool is_begun = false; !is_begun;) {
      const std::uint64_t seen = local_charged;
      const std::uint64_t reserved = wanted > seen ? wanted - seen : 0;
      charged += reserved;
      pause();
      changes.begin();
      pause();
      claimed = wanted > local_charged ? wanted - local_charged : 0;
      is_begun = claimed <= reserved;
      if (is_begun) {
        ++limit_open;
        ++limit_begun;
        local_charged += claimed;
        pause();
        account.add_promise(claimed);
        pause();
        local_promised += claimed;
        charged -= reserved - claimed;
      } else {
        charged -= reserved;
        changes.end();
      }
      pause();
    }
    implicit_held += wanted;
    implicit_held -= local_held;
    local_held = limit = wanted;
    pause();
    while (!reconcile()) pause();
    pause();
    changes.end();
    pause();
    const Reading after = read();
    const bool was_alone =
        before.is_exact && after.is_exact && after.moment.begun == before.moment.begun + 1;
    if (!was_alone || claimed == 0 || after.implicit < before.implicit + claimed) return;
    pause();
    if (!changes.is_still(after.moment)) return;
    const std::uint64_t taken = std::min(claimed, local_promised);
    local_promised -= taken;
    pause();
    charged -= account.withdraw_promise(taken);
  }

  template <class Schedule>
  void run(const std::vector<Thread>& threads, Schedule& schedule, Stop stop = {}) {
    for (std::size_t i = 0; i < threads.size(); ++i)
      fibers()[i]->start([this, i, &threads] { threads[i](*this); });
    int stop_steps = 0;
    while (error.empty()) {
      Processes ready;
      for (std::size_t i = 0; i < threads.size(); ++i) {
        const bool stopped = i == stop.thread && stop_steps >= stop.after_steps;
        if (!fibers()[i]->finished() && !stopped) ready.add(i);
      }
      if (ready.empty()) return;
      current_ = schedule.choose(ready, current_);
      if (current_ == stop.thread) ++stop_steps;
      fibers()[current_]->go_on();
      check();
    }
  }

  // By a thread of its own, when the others are done.
  void read_when_quiet() {
    fibers()[0]->start([this] { read(); });
    for (current_ = 0; !fibers()[0]->finished();) fibers()[0]->go_on();
    check();
  }
  std::uint64_t held() const { return implicit_held + explicit_held; }

 private:
  // The end of a change of the limit. False: again, the limit may be another by now.
  bool reconcile() {
    const std::uint32_t begun = limit_begun;
    const std::uint32_t open = limit_open;
    pause();
    const std::uint64_t is_now = limit;
    pause();
    const bool is_last = limit_open == 1;
    if (is_last && (open != 1 || limit_begun != begun)) return false;
    --limit_open;
    if (!is_last) return true;
    const std::uint64_t surplus = local_charged - std::min(local_charged, is_now);
    const std::uint64_t of_promises = std::min(surplus, local_promised);
    local_charged -= surplus;
    local_promised -= of_promises;
    pause();
    const std::uint64_t released = account.withdraw_promise(of_promises);
    pause();
    charged -= released;
    return true;
  }
  void fulfil(std::uint64_t needed) {
    local_taken = std::max(local_taken, needed);
    const std::uint64_t beyond = local_charged - std::min(local_charged, local_taken);
    const std::uint64_t fulfilled = local_promised - std::min(local_promised, beyond);
    local_promised -= fulfilled;
    pause();
    account.fulfil_promise(fulfilled);
  }
  void check() {
    if (charged < held() + may_be_taken)
      error = "charged " + std::to_string(charged) + " for " + std::to_string(held()) + " and " +
              std::to_string(may_be_taken);
  }

  std::size_t current_ = 0;
};

// Whatever the driver takes, at least as much is estimated.
const Process::Thread kMakeContext = [](Process& process) { process.take(518, 530); };
const Process::Thread kUseContext = [](Process& process) {
  const std::uint64_t known = process.take(518, 530);
  process.give_back(518, known, 530);
};
const Process::Thread kAllocate = [](Process& process) {
  process.allocate(64);
  process.free(64);
};
const Process::Thread kLaunchLarge = [](Process& process) {
  process.launch(100, Process::Outcome::ran);
};
const Process::Thread kLaunchSmall = [](Process& process) {
  process.launch(60, Process::Outcome::ran);
};
const Process::Thread kCapture = [](Process& process) {
  process.launch(80, Process::Outcome::captured);
  process.launch_graph(80);
};
const Process::Thread kOnlyCapture = [](Process& process) {
  process.launch(80, Process::Outcome::captured);
};
const Process::Thread kRaiseAndLower = [](Process& process) {
  process.set_limit(100);
  process.set_limit(0);
};
const Process::Thread kRaiseLessAndLower = [](Process& process) {
  process.set_limit(60);
  process.set_limit(0);
};
const Process::Thread kRead = [](Process& process) { process.read(); };

struct Case {
  const char* name;
  std::vector<Process::Thread> threads;
};

class ImplicitModel : public ::testing::TestWithParam<Case> {};

TEST_P(ImplicitModel, CoversWhatIsHeldAtEveryStepAndIsExactWhenQuiet) {
  AllSchedules schedules(3);
  int count = 0;
  do {
    Process process;
    process.run(GetParam().threads, schedules);
    process.read_when_quiet();
    ASSERT_EQ(process.error, "") << "schedule " << count;
    ASSERT_EQ(process.charged, process.held() + process.may_be_taken) << "schedule " << count;
    ++count;
  } while (schedules.next() && count < rounds(60000));
}

TEST_P(ImplicitModel, OfManyPreemptionsIsCoveredAndExactToo) {
  for (int seed = 0; seed < rounds(20000); ++seed) {
    RandomSchedule schedule(static_cast<std::uint64_t>(seed));
    Process process;
    process.run(GetParam().threads, schedule);
    process.read_when_quiet();
    ASSERT_EQ(process.error, "") << "seed " << seed;
    ASSERT_EQ(process.charged, process.held() + process.may_be_taken) << "seed " << seed;
  }
}

// It may keep over-charge alive, nothing else.
TEST_P(ImplicitModel, IsCoveredWhereAThreadStopsInItsCall) {
  for (int seed = 0; seed < rounds(20000); ++seed) {
    RandomSchedule schedule(static_cast<std::uint64_t>(seed));
    Process process;
    const Stop stop{.thread = schedule.number(GetParam().threads.size()),
                    .after_steps = static_cast<int>(schedule.number(16))};
    process.run(GetParam().threads, schedule, stop);
    ASSERT_EQ(process.error, "") << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Of, ImplicitModel,
    ::testing::Values(Case{"TwoContexts", {kUseContext, kUseContext}},
                      Case{"AContextBesideReadings", {kUseContext, kRead, kRead}},
                      Case{"AContextBesideAnother", {kUseContext, kMakeContext, kRead}},
                      Case{"AContextBesideAllocations", {kUseContext, kAllocate, kRead}},
                      Case{"AContextBesideALaunch", {kUseContext, kLaunchLarge}},
                      Case{"TwoLaunches", {kLaunchLarge, kLaunchSmall, kRead}},
                      Case{"LaunchesBesideACapture", {kLaunchLarge, kCapture, kLaunchSmall}},
                      Case{"ASmallLaunchBesideACapture", {kLaunchSmall, kCapture, kRead}},
                      Case{"ACaptureThatIsNeverLaunched", {kOnlyCapture, kLaunchSmall, kRead}},
                      Case{"ACaptureBesideAContext", {kCapture, kUseContext, kRead}},
                      Case{"TwoOfALimit", {kRaiseAndLower, kRaiseLessAndLower}},
                      Case{"ThreeOfALimit", {kRaiseAndLower, kRaiseLessAndLower, kRaiseAndLower}},
                      Case{"ALimitBesideAContext", {kRaiseAndLower, kUseContext, kRead}}),
    [](const auto& each) { return std::string(each.param.name); });

}  // namespace
}  // namespace vgpu::model

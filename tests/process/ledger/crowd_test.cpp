// SPDX-License-Identifier: Apache-2.0
// Many at once: processes that start together, and threads of many processes that race to one
// limit.
#include <gmock/gmock.h>
#include <sys/resource.h>

#include <array>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "child.h"
#include "scratch.h"
#include "vgpu/platform/clock.h"

namespace vgpu::shm {
namespace {

class Crowd : public ::testing::TestWithParam<int> {};

TEST_P(Crowd, OfProcessesThatStartTogetherEachGetsASlotOfItsOwn) {
  struct State {
    std::atomic<int> joined, made;
  };
  const int count = crowd_of(GetParam());
  ScratchDir scratch;
  Common<State> state;
  Gate gate;
  std::vector<Child> children;
  children.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    children.emplace_back([&] {
      gate.pass();
      Tenant tenant;
      // Whoever comes first makes it; to the others it is there whole.
      const Status made = Tenant::create(scratch.dir(), spec_of(kGiB), tenant);
      CHILD_EXPECT(made == Status::ok || made == Status::exists);
      if (made == Status::ok) ++state->made;
      if (made == Status::exists)
        CHILD_EXPECT(Tenant::open(scratch.dir(), "t", tenant) == Status::ok);
      CHILD_EXPECT(tenant.join() == Status::ok);
      CHILD_EXPECT(tenant.reserve(0, kMiB) == Status::ok);
      ++state->joined;
      ::pause();
    });
  }
  gate.open();
  wait_until([&] { return state->joined == count; });
  EXPECT_EQ(state->made, 1);
  Tenant observer;
  ASSERT_EQ(Tenant::open(scratch.dir(), "t", observer), Status::ok);
  EXPECT_EQ(observer.charged_bytes(0), static_cast<std::uint64_t>(count) * kMiB);
  std::vector<ProcessView> views(kMaxSlots);
  views.resize(observer.processes(views));
  std::set<std::int32_t> pids;
  for (const ProcessView& view : views) pids.insert(view.pid);
  EXPECT_EQ(pids.size(), static_cast<std::size_t>(count));
  for (Child& child : children) child.signal(SIGKILL);
  for (Child& child : children) child.wait();
  (void)observer.reap();
  EXPECT_EQ(observer.charged_bytes(0), 0u);
  EXPECT_EQ(observer.processes(views), 0u);
}

INSTANTIATE_TEST_SUITE_P(Ledger, Crowd, ::testing::Values(200, 300),
                         ::testing::PrintToStringParamName());

constexpr std::uint64_t kRaceLimit = 16 * kGiB;
constexpr std::uint64_t kSmallest = 64 * 1024;

struct Race {
  std::atomic<int> go, full;
  std::atomic<std::uint64_t> held, most_held;
  std::array<std::atomic<std::uint64_t>, 64>
      refused;  // per runner: the smallest size that was refused

  void took(std::uint64_t bytes) {
    const std::uint64_t now = held.fetch_add(bytes) + bytes;
    for (std::uint64_t most = most_held.load();
         most < now && !most_held.compare_exchange_weak(most, now);) {
    }
  }
};

// Takes what it can get, in sizes that shrink when they are refused, to the smallest.
void take_all(Tenant& tenant, Race& race, unsigned seed) {
  std::mt19937_64 random(seed);
  while (race.go == 0) ::sched_yield();
  for (std::uint64_t most = 256 * kMiB; most >= kSmallest;) {
    const std::uint64_t bytes =
        most == kSmallest ? kSmallest : kSmallest + random() % (most - kSmallest);
    if (tenant.reserve(0, bytes) == Status::ok) {
      race.took(bytes);
    } else {
      if (most == kSmallest) break;
      most = std::max(kSmallest, bytes / 2);
    }
  }
  ++race.full;
}

void churn(Tenant& tenant, Race& race, unsigned seed, int turns) {
  std::mt19937_64 random(seed);
  std::vector<std::uint64_t> held;
  for (int turn = 0; turn < turns; ++turn) {
    const std::uint64_t bytes = 1 + random() % (2 * kGiB);
    if (random() % 2 == 0 && tenant.reserve(0, bytes) == Status::ok) {
      race.took(bytes);
      held.push_back(bytes);
    } else if (!held.empty()) {
      race.held.fetch_sub(held.back());
      tenant.release(0, held.back());
      held.pop_back();
    }
  }
  for (const std::uint64_t bytes : held) {
    race.held.fetch_sub(bytes);
    tenant.release(0, bytes);
  }
}

void run_threads(const std::function<void(unsigned)>& code) {
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 8; ++i) threads.emplace_back(code, i);
  for (std::thread& thread : threads) thread.join();
}

TEST(RaceToTheLimit, ThreadsOfOneProcessFillItExactly) {
  for (int round = 0; round < (death_rounds() + 9) / 10; ++round) {
    ScratchDir scratch;
    Tenant tenant;
    ASSERT_EQ(Tenant::create(scratch.dir(), spec_of(kRaceLimit), tenant), Status::ok);
    Common<Race> race;
    race->go = 1;
    run_threads([&](unsigned i) { churn(tenant, *race, i, 2000); });
    EXPECT_EQ(tenant.charged_bytes(0), 0u);
    run_threads([&](unsigned i) { take_all(tenant, *race, 100 + i); });
    EXPECT_LE(race->most_held, kRaceLimit);
    EXPECT_EQ(race->held, tenant.charged_bytes(0));
    EXPECT_LT(kRaceLimit - race->held, kSmallest) << "a refusal while there was room";
  }
}

TEST(RaceToTheLimit, EightThreadsInEachOfEightProcessesFillItExactly) {
  for (int round = 0; round < (death_rounds() + 9) / 10; ++round) {
    ScratchDir scratch;
    Tenant observer;
    ASSERT_EQ(Tenant::create(scratch.dir(), spec_of(kRaceLimit), observer), Status::ok);
    Common<Race> race;
    std::vector<Child> children;
    for (unsigned process = 0; process < 8; ++process) {
      children.emplace_back([&, process] {
        Tenant tenant;
        CHILD_EXPECT(Tenant::open(scratch.dir(), "t", tenant) == Status::ok);
        run_threads([&](unsigned i) { churn(tenant, *race, process * 8 + i, 500); });
        run_threads([&](unsigned i) { take_all(tenant, *race, 100 + process * 8 + i); });
        // What it holds counts while it lives.
        wait_until([&] { return race->go == 2; });
      });
    }
    race->go = 1;
    while (race->full < 64) {
      const std::uint64_t seen = observer.charged_bytes(0);
      ASSERT_LE(seen, kRaceLimit);
      ::sched_yield();
    }
    EXPECT_LE(race->most_held, kRaceLimit);
    EXPECT_EQ(race->held, observer.charged_bytes(0));
    EXPECT_LT(kRaceLimit - race->held, kSmallest) << "a refusal while there was room";
    race->go = 2;
    for (Child& child : children) {
      child.wait();
      EXPECT_TRUE(child.succeeded());
    }
    (void)observer.reap();
    EXPECT_EQ(observer.charged_bytes(0), 0u);
  }
}

}  // namespace
}  // namespace vgpu::shm

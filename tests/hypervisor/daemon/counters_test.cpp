// SPDX-License-Identifier: Apache-2.0
#include "counters.h"

#include <gtest/gtest.h>

#include "times.h"

namespace vgpu::hypervisor {
namespace {

class CountersTest : public testing::Test {
 protected:
  static shm::SeatFacts seat(std::uint64_t work_ns, std::int32_t pid = 10) {
    shm::SeatFacts facts;
    facts.pid = pid;
    facts.start_time_ticks = 1;
    facts.tenant = FixedString<shm::kMaxName>("a");
    facts.work_ns = work_ns;
    return facts;
  }
  void add(std::uint64_t now_ns, const std::vector<shm::SeatFacts>& seats) {
    counters_.add(now_ns, seats, [this](const GpuUuid&) { return busy_; });
  }
  TenantCounters of(const std::string& tenant = "a") const { return counters_.of(tenant, {}); }

  Counters counters_;
  std::optional<unsigned> busy_;
};

TEST_F(CountersTest, WhatWasBeforeTheDaemonIsNotCounted) {
  add(100 * kSecondNs, {seat(5'000)});
  EXPECT_EQ(of().gpu_time_ns, 0u);
  add(100 * kSecondNs + 250 * kMsNs, {seat(5'700)});
  EXPECT_EQ(of().gpu_time_ns, 700u);
}

TEST_F(CountersTest, NothingIsLostOrCountedTwiceWhenASeatPassesToAnotherProcess) {
  add(100 * kSecondNs, {});
  add(101 * kSecondNs, {seat(400)});
  add(102 * kSecondNs, {});
  add(103 * kSecondNs, {seat(50, 11)});
  EXPECT_EQ(of().gpu_time_ns, 450u);
  add(104 * kSecondNs, {seat(90, 11)});
  EXPECT_EQ(of().gpu_time_ns, 490u);
}

TEST_F(CountersTest, EachSecondsRowIsAddedOnceWhenItIsOver) {
  add(100 * kSecondNs, {});
  shm::SeatFacts facts = seat(0);
  facts.seconds[0].waited_turn_ns = 7;  // of second 100
  facts.seconds[0].delayed = 2;
  // The row may still be written.
  add(101 * kSecondNs + 50 * kMsNs, {facts});
  EXPECT_EQ(of().waited_turn_ns, 0u);
  for (int i = 0; i < 3; ++i) add(101 * kSecondNs + (200 + 250 * i) * kMsNs, {facts});
  EXPECT_EQ(of().waited_turn_ns, 7u);
  EXPECT_EQ(of().delayed_launches, 2u);
  facts.seconds[1] = facts.seconds[0];  // the next second: the row moves down
  facts.seconds[0].waited_turn_ns = 5;
  add(102 * kSecondNs + 200 * kMsNs, {facts});
  EXPECT_EQ(of().waited_turn_ns, 12u);
}

TEST_F(CountersTest, WhoIsAloneOnAGpuGetsWhatNvmlSaysOfIt) {
  shm::SeatFacts alone = seat(0);
  alone.is_alone = true;
  add(100 * kSecondNs, {alone});
  busy_ = 40;
  add(101 * kSecondNs, {alone});
  EXPECT_EQ(of().gpu_time_ns, 400 * kMsNs);
  busy_ = std::nullopt;
  add(102 * kSecondNs, {alone});
  EXPECT_EQ(of().gpu_time_ns, 400 * kMsNs);
}

TEST_F(CountersTest, RefusalsGoOnCountingWhenATenantIsMadeAgain) {
  counters_.set_denied("a", {}, 1, 5);
  counters_.set_denied("a", {}, 1, 6);
  counters_.set_denied("a", {}, 2, 1);
  EXPECT_EQ(of().denied_allocations, 7u);
  counters_.set_denied("a", {}, 2, 0);  // whoever writes nonsense doesn't turn it back
  EXPECT_EQ(of().denied_allocations, 7u);
  counters_.forget("a");
  EXPECT_EQ(of().denied_allocations, 0u);
}

}  // namespace
}  // namespace vgpu::hypervisor

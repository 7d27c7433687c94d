// SPDX-License-Identifier: Apache-2.0
// Children and crowds: a child belongs to its parent's tenant however it comes about, holds what
// the driver lets it hold, and two hundred that start together share one limit.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "rig.h"

namespace {

using namespace vgpu::test;

TEST(ExecutedChild, BelongsToTheTenantOfItsParent) {
  const Rig rig(kLimitMib);
  Worker parent = rig.member();
  const long before = parent.ask("info").number;
  const Answer child = parent.ask("exec");
  ASSERT_EQ(child.code, 0);
  const long with_child = parent.ask("info").number;
  EXPECT_GE(with_child, before + 64 * kMiB);
  EXPECT_EQ(with_child, rig.driver_bytes());
  EXPECT_EQ(parent.ask("fill 64").code, 2);
  const long full = rig.driver_bytes();
  EXPECT_LE(full, kLimitMib * kMiB);
  kill(static_cast<pid_t>(child.number), SIGKILL);
  // First the driver has to have noticed, then the tenant.
  const long left = full - (with_child - before);
  EXPECT_EQ(eventually(left, [&] { return rig.driver_bytes(); }), left);
  EXPECT_EQ(eventually(left, [&] { return parent.ask("info").number; }), left);
}

TEST(ExecutedChild, KeepsItsMemoryWhenItsParentDies) {
  const Rig rig(kLimitMib);
  Worker other = rig.member();
  const long alone = other.ask("info").number;
  Worker parent = rig.member();
  const long with_parent = other.ask("info").number;
  const Answer child = parent.ask("exec");
  ASSERT_EQ(child.code, 0);
  const long with_both = other.ask("info").number;
  parent.kill_and_leave();
  const long with_child = with_both - (with_parent - alone);
  EXPECT_EQ(eventually(with_child, [&] { return other.ask("info").number; }), with_child);
  kill(static_cast<pid_t>(child.number), SIGKILL);
  EXPECT_EQ(eventually(alone, [&] { return other.ask("info").number; }), alone);
}

// A forked child has the driver's files too, so the driver keeps the memory for it.
TEST(ForkedChild, KeepsItsParentsMemoryChargedUntilItEnds) {
  const Rig rig(kLimitMib);
  Worker other = rig.member();
  const long alone = other.ask("info").number;
  Worker parent = rig.member();
  ASSERT_EQ(parent.ask("alloc 512").code, 0);
  const long held = rig.driver_bytes();
  const long charged = other.ask("info").number;
  const Answer child = parent.ask("fork");
  ASSERT_EQ(child.code, 0);
  parent.kill_and_leave();
  ASSERT_TRUE(parent.reap());
  EXPECT_EQ(other.ask("fill 64").code, 2);  // looks for the dead before it refuses
  EXPECT_LE(rig.driver_bytes(), kLimitMib * kMiB);
  for (long freed = 0; other.ask("free").code == 0;) ++freed;
  EXPECT_EQ(rig.driver_bytes(), held);
  EXPECT_EQ(other.ask("info").number, charged);
  kill(static_cast<pid_t>(child.number), SIGKILL);
  EXPECT_EQ(eventually(alone, [&] { return other.ask("info").number; }), alone);
}

TEST(ForkedChild, ThatEndsLeavesItsParentsChargeAsItWas) {
  const Rig rig(kLimitMib);
  Worker parent = rig.member();
  ASSERT_EQ(parent.ask("alloc 512").code, 0);
  const long charged = parent.ask("info").number;
  const Answer child = parent.ask("fork");
  ASSERT_EQ(child.code, 0);
  kill(static_cast<pid_t>(child.number), SIGKILL);
  EXPECT_EQ(parent.ask("info").number, charged);
  EXPECT_EQ(parent.ask("free").code, 0);
  EXPECT_EQ(parent.ask("info").number, charged - 512 * kMiB);
}

// The same process, start time and pid: only its files went.
TEST(Process, ThatBecomesAnotherProgramHoldsNothingMore) {
  const Rig rig(kLimitMib);
  Worker other = rig.member();
  const long alone = other.ask("info").number;
  Worker worker = rig.member();
  ASSERT_EQ(worker.ask("alloc 512").code, 0);
  ASSERT_EQ(worker.ask("become").code, 0);
  EXPECT_EQ(eventually(alone, [&] { return other.ask("info").number; }), alone);
  EXPECT_EQ(worker.ask("context").code, 0);
  EXPECT_EQ(other.ask("info").number, rig.driver_bytes());
}

TEST(Crowd, OfTwoHundredProcessesThatStartTogetherStaysWithinOneLimit) {
#ifdef VGPU_SANITIZED
  constexpr int kProcesses = 40;  // a sanitizer makes each of them cost as much as several
#else
  constexpr int kProcesses = 200;
#endif
  constexpr long kPieceMib = 16;
  const Rig rig(kLimitMib);
  std::atomic<bool> over{false};
  long most = 0;
  std::thread watch([&] {
    while (!over) most = std::max(most, rig.driver_bytes());
  });
  std::vector<Worker> crowd;
  crowd.reserve(kProcesses);
  for (int i = 0; i < kProcesses; ++i)
    crowd.emplace_back(rig.inside(), std::vector<std::string>{"start", std::to_string(kPieceMib)});
  int joined = 0;
  long pieces = 0;
  for (Worker& worker : crowd) {
    const Answer answer = worker.answer();
    joined += answer.code == 0;
    pieces += answer.number;
  }
  over = true;
  watch.join();
  EXPECT_EQ(joined, kProcesses);
  EXPECT_GT(pieces, 0);
  EXPECT_LE(most, kLimitMib * kMiB);
  const long held = rig.driver_bytes();
  EXPECT_LE(held, kLimitMib * kMiB);
  // What is left is too little for anybody: a last round by one of those that got a context.
  long room_taken = 0;
  for (Worker& worker : crowd) {
    if (worker.ask("info").code != 0) continue;
    EXPECT_EQ(worker.ask("fill " + std::to_string(kPieceMib)).code, 2);
    ++room_taken;
  }
  EXPECT_GT(room_taken, 0);
  EXPECT_LE(rig.driver_bytes(), kLimitMib * kMiB);
  EXPECT_GT(rig.driver_bytes(), (kLimitMib - 2 * kPieceMib) * kMiB);
  for (Worker& worker : crowd) worker.signal(SIGKILL);
  EXPECT_EQ(eventually(0, [&] { return rig.driver_bytes(); }), 0);
  Worker last = rig.member();
  EXPECT_EQ(eventually(rig.driver_bytes(), [&] { return last.ask("info").number; }),
            rig.driver_bytes());
}

}  // namespace

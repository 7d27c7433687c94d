// SPDX-License-Identifier: Apache-2.0
// A process of a tenant dies inside a call of the driver, or at any other moment. What it held is
// the tenant's again as soon as the kernel has closed its files, also before its parent has waited
// for it; nothing of it stays charged, with the limiter or with the driver.
#include <gtest/gtest.h>
#include <signal.h>

#include <iostream>
#include <random>
#include <thread>

#include "rig.h"

namespace {

using namespace vgpu::test;

// What a tenant looks like from a process of it that lives on.
class Survivor {
 public:
  explicit Survivor(const Rig& rig) : rig_(rig), worker_(rig.member()) {
    charged_ = charged();
    held_ = rig_.driver_bytes();
  }
  long charged() { return worker_.ask("info").number; }
  Worker& worker() { return worker_; }

  // Nothing is left of a process that died: not charged, not held, and there to be taken.
  void expect_all_back() {
    EXPECT_EQ(eventually(charged_, [&] { return charged(); }), charged_);
    EXPECT_EQ(eventually(held_, [&] { return rig_.driver_bytes(); }), held_);
    // One page is left to attempts that may turn out to need it.
    const long room_mib = ((kLimitMib - 2) * kMiB - charged_) / (2 * kMiB) * 2;
    EXPECT_EQ(worker_.ask("alloc " + std::to_string(room_mib)).code, 0);
    EXPECT_EQ(worker_.ask("alloc 2").code, 2);
    EXPECT_EQ(worker_.ask("free").code, 0);
    EXPECT_EQ(charged(), charged_);
  }

 private:
  const Rig& rig_;
  Worker worker_;
  long charged_ = 0;
  long held_ = 0;
};

struct Death {
  const char* fault;
  const char* command;
};

void PrintTo(const Death& death, std::ostream* out) { *out << death.fault; }

class DeathInsideACall : public testing::TestWithParam<Death> {};

TEST_P(DeathInsideACall, GivesEverythingBack) {
  const Rig rig(kLimitMib);
  Survivor survivor(rig);
  for (int i = 0; i < rounds(1); ++i) {
    Worker victim = rig.member(std::string(GetParam().fault) + ":die");
    EXPECT_EQ(victim.ask("vmm 512").code, 0);
    std::istringstream commands(GetParam().command);
    for (std::string command; std::getline(commands, command, ';');) victim.tell(command);
    Answer last = victim.answer();
    while (last.code == 0) last = victim.answer();
    ASSERT_EQ(last.code, -1) << "it should have died in " << GetParam().fault;
    survivor.expect_all_back();
    EXPECT_TRUE(victim.reap());
    if (HasFailure()) return;
  }
}

// The second array is created for the program; the first tells how much it needs.
INSTANTIATE_TEST_SUITE_P(
    Driver, DeathInsideACall,
    testing::Values(
        Death{"cuMemAlloc_v2:2", "alloc 64;alloc 64"}, Death{"cuMemFree_v2:1", "alloc 64;free"},
        Death{"cuMemAllocPitch_v2:1", "pitch 64"}, Death{"cuMemAllocManaged:1", "managed 64"},
        Death{"cuArray3DCreate_v2:2", "array 64"}, Death{"cuArrayDestroy:2", "array 64;free"},
        Death{"cuMipmappedArrayCreate:1", "mipmapped 64"},
        Death{"cuMemAllocAsync:2", "async 64;async 64"}, Death{"cuMemFreeAsync:1", "async 64;free"},
        Death{"cuMemCreate:2", "vmm 64"}, Death{"cuMemRelease:1", "vmm 64;free"},
        Death{"cuGraphInstantiateWithFlags:1", "graph 64"},
        Death{"cuGraphLaunch:2", "graph 64;graph 64"},
        Death{"cuDeviceGraphMemTrim:1", "graph 64;free"}, Death{"cuModuleLoadData:1", "module 64"},
        Death{"cuModuleUnload:1", "module 64;free"}, Death{"cuCtxSetLimit:1", "stack 64"},
        Death{"cuCtxCreate_v2:1", "newcontext"}, Death{"cuCtxDestroy_v2:1", "newcontext;free"},
        Death{"cuCtxSynchronize:1", "async 64;free"}, Death{"cuMemGetInfo_v2:1", "alloc 64;info"}),
    [](const auto& test) {
      const std::string fault = test.param.fault;
      return fault.substr(0, fault.find(':'));
    });

TEST(Death, InsideTheMakingOfTheFirstContextGivesEverythingBack) {
  const Rig rig(kLimitMib);
  Survivor survivor(rig);
  for (const char* call : {"cuInit", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent"}) {
    for (int i = 0; i < rounds(1); ++i) {
      Worker victim(rig.inside(std::string(call) + ":1:die"));
      ASSERT_EQ(victim.ask("context").code, -1) << call;
      survivor.expect_all_back();
    }
  }
}

TEST(Death, OfTheProcessThatMadeTheTenantLeavesTheTenantWhole) {
  const Rig rig(kLimitMib);
  Worker first = rig.member();
  EXPECT_EQ(first.ask("alloc 512").code, 0);
  Worker second = rig.member();
  const long both = second.ask("info").number;
  first.kill_and_leave();
  const auto is_alone = [&] { return second.ask("info").number < both - 512 * kMiB ? 1L : 0L; };
  EXPECT_EQ(eventually(1, is_alone), 1);
  EXPECT_EQ(rig.driver_bytes(), second.ask("info").number);
  EXPECT_EQ(second.ask("fill 64").code, 2);
}

// By SIGKILL from outside, wherever it just is: more often than there are slots in the long form.
TEST(Death, AtAnyMomentGivesEverythingBack) {
  const Rig rig(kLimitMib);
  Survivor survivor(rig);
  const unsigned seed = std::random_device()();
  std::cout << "seed " << seed << '\n';
  std::mt19937 random(seed);
  for (int i = 0; i < rounds(10); ++i) {
    Worker victim = rig.member();
    victim.tell("churn");
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 30'000));
    victim.kill_and_leave();
    survivor.expect_all_back();
    ASSERT_FALSE(testing::Test::HasFailure()) << "round " << i;
  }
}

TEST(Death, OfManyAtOnceGivesEverythingBack) {
  const Rig rig(kLimitMib);
  Survivor survivor(rig);
  std::vector<Worker> victims;
  for (int i = 0; i < 8; ++i) {
    victims.push_back(rig.member());
    victims.back().tell("churn");
  }
  for (Worker& victim : victims) victim.signal(SIGKILL);
  survivor.expect_all_back();
}

// A process id that is given again, at once, to a process that is none of the tenant's, or is one.
TEST(Death, IsNoticedThoughItsPidIsTakenAgain) {
  const Rig rig(kLimitMib);
  Survivor survivor(rig);
  const long alone = survivor.charged();
  Worker sample = rig.member();
  ASSERT_EQ(sample.ask("alloc 64").code, 0);
  const long with_one = survivor.charged();
  sample.kill_and_leave();
  survivor.expect_all_back();

  for (const bool is_member : {false, true}) {
    Worker victim = rig.member();
    ASSERT_EQ(victim.ask("alloc 1024").code, 0);
    const pid_t pid = victim.pid();
    victim.kill_and_leave();
    ASSERT_TRUE(victim.reap());
    Worker successor(is_member ? rig.inside() : rig.outside(), {}, pid);
    if (!successor.started()) GTEST_SKIP() << "a process can't choose its pid here";
    ASSERT_EQ(successor.pid(), pid);
    ASSERT_EQ(successor.ask("init").code, 0);
    if (is_member) {
      ASSERT_EQ(successor.ask("context").code, 0);
      ASSERT_EQ(successor.ask("alloc 64").code, 0);
    }
    const long wanted = is_member ? with_one : alone;
    EXPECT_EQ(eventually(wanted, [&] { return survivor.charged(); }), wanted);
  }
}

}  // namespace

// SPDX-License-Identifier: Apache-2.0
// kill -9 and SIGSTOP at every labelled step of the ledger (core/steps.h): the others stay within
// the exact limit and wait for nobody, the dead process's memory, slot and objects can be had
// again, and nothing of it is left anywhere.
#include <gmock/gmock.h>
#include <time.h>

#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include "child.h"
#include "scratch.h"
#include "segment.h"
#include "signal_at_step.h"
#include "vgpu/core/shared_objects.h"

namespace vgpu::shm {
namespace {

using core::Step;

constexpr NamedStep kSteps[] = {VGPU_LEDGER_STEPS(VGPU_NAMED_STEP)};

constexpr std::uint64_t kLimit = 1000;
constexpr std::uint64_t kObserverOwn = 100;
constexpr std::uint64_t kObserverShared = 50;
constexpr std::uint64_t kForOthers = kLimit - kObserverOwn - kObserverShared;
constexpr std::uint64_t kObserverKey = 1;

// Passes every step once at least. Whoever goes on after a stop must find everything as it should
// be.
void live_a_life(const ScratchDir& scratch, Step where, int signal) {
  signal_at(where, signal);
  Tenant own;
  CHILD_EXPECT(Tenant::create(scratch.dir(), spec_of(kLimit, 1, "own"), own) == Status::ok);
  Tenant tenant;
  CHILD_EXPECT(Tenant::open(scratch.dir(), "t", tenant) == Status::ok);
  CHILD_EXPECT(tenant.join() == Status::ok);
  (void)tenant.reap();  // finds the slot and the object that arrange_a_death() left
  CHILD_EXPECT(tenant.reserve(0, 300) == Status::ok);
  CHILD_EXPECT(tenant.reserve(0, kForOthers - 299) == Status::over_quota);
  tenant.release(0, 50);
  CHILD_EXPECT(tenant.own_charged_bytes(0) == 250);
  CHILD_EXPECT(tenant.share(7, 7, 0, 200) == Status::ok);
  CHILD_EXPECT(tenant.own_charged_bytes(0) == 50);
  std::uint64_t bytes = 0;
  CHILD_EXPECT(tenant.hold_shared(kObserverKey, 0, bytes) == Status::ok);
  CHILD_EXPECT(bytes == kObserverShared);
  tenant.release_shared(kObserverKey, 0);
  tenant.leave();
  CHILD_EXPECT(Tenant::remove(scratch.dir(), "own") == Status::ok);
}

class Death : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(Tenant::create(scratch_.dir(), spec_of(kLimit), observer_), Status::ok);
    ASSERT_EQ(observer_.reserve(0, kObserverOwn + kObserverShared), Status::ok);
    ASSERT_EQ(observer_.share(kObserverKey, 0, 0, kObserverShared), Status::ok);
  }

  // Leaves a dead process's slot, charge and shared object for the victim to reap.
  void arrange_a_death() {
    Child dead([&] {
      Tenant tenant;
      CHILD_EXPECT(Tenant::open(scratch_.dir(), "t", tenant) == Status::ok);
      CHILD_EXPECT(tenant.reserve(0, 80) == Status::ok);
      CHILD_EXPECT(tenant.share(5, 5, 0, 40) == Status::ok);
      ::kill(::getpid(), SIGKILL);
    });
    dead.wait();
    ASSERT_TRUE(dead.was_killed());
  }

  // The whole of the rest can be had, within 100 ms of patience, and not a byte more.
  void expect_exact_limit() {
    int tries = 0;
    constexpr timespec kPause{.tv_sec = 0, .tv_nsec = 5'000'000};
    while (observer_.reserve(0, kForOthers) != Status::ok) {
      ASSERT_LT(++tries, 20) << "charged: " << observer_.charged_bytes(0);
      ::nanosleep(&kPause, nullptr);
    }
    EXPECT_EQ(observer_.charged_bytes(0), kLimit);
    EXPECT_EQ(observer_.reserve(0, 1), Status::over_quota);
    observer_.release(0, kForOthers);
    EXPECT_EQ(observer_.charged_bytes(0), kObserverOwn + kObserverShared);
  }

  void expect_nothing_left() {
    (void)observer_.reap();
    Mapped mapped;
    ASSERT_EQ(open_segment(scratch_.dir(), "t", mapped), Status::ok);
    const Segment& segment = mapped.segment;
    int slots = 0, objects = 0;
    for (std::uint32_t slot = 0; slot < kMaxSlots; ++slot) {
      slots += Owner::unpack(segment.owner(slot).load()).state != SlotState::free;
    }
    for (std::uint32_t object = 0; object < kMaxObjects; ++object) {
      objects += core::ObjectWord::unpack(segment.object(object).word.load()).state !=
                 core::ObjectState::free;
    }
    EXPECT_EQ(slots, 1) << "the observer's";
    EXPECT_EQ(objects, 1) << "the observer's";
    EXPECT_LE(segment.slots(), 4u) << "slots are used again";
    EXPECT_EQ(segment.header().anomalies.load(), 0u);
    platform::unmap(mapped.base, mapped.byte_size);
    // The victim's own segment is whole or not there, and its name can be used.
    Tenant again;
    if (std::filesystem::exists(scratch_.segment("own"))) {
      const Status opened = Tenant::open(scratch_.dir(), "own", again);
      EXPECT_TRUE(opened == Status::ok || opened == Status::not_found);
      if (opened == Status::ok) {
        EXPECT_EQ(Tenant::remove(scratch_.dir(), "own"), Status::ok);
      }
    }
    int files = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(scratch_.path()))
      ++files;
    EXPECT_EQ(files, 1) << "only the observer's segment";
  }

  ScratchDir scratch_;
  Tenant observer_;
};

class DeathAtEveryStep : public Death, public ::testing::WithParamInterface<NamedStep> {};

TEST_P(DeathAtEveryStep, LeavesExactlyWhatTheOthersHold) {
  for (int round = 0; round < death_rounds(); ++round) {
    arrange_a_death();
    Child victim([&] { live_a_life(scratch_, GetParam().step, SIGKILL); });
    victim.wait();
    ASSERT_TRUE(victim.was_killed()) << "the step was not reached";
    expect_exact_limit();
    expect_nothing_left();
    if (HasFailure()) FAIL() << "round " << round;
  }
}

TEST_P(DeathAtEveryStep, AStopThereHoldsNobodyUp) {
  for (int round = 0; round < (death_rounds() + 9) / 10; ++round) {
    arrange_a_death();
    Child victim([&] { live_a_life(scratch_, GetParam().step, SIGSTOP); });
    victim.wait_for_stop();
    ASSERT_TRUE(victim.stopped()) << "the step was not reached";
    // What it holds is what it was granted; the rest is ours at once, and another process's.
    (void)observer_.reap();
    const std::uint64_t charged = observer_.charged_bytes(0);
    ASSERT_GE(charged, kObserverOwn + kObserverShared);
    ASSERT_LE(charged, kObserverOwn + kObserverShared + 300);
    ASSERT_EQ(observer_.reserve(0, kLimit - charged), Status::ok) << "charged: " << charged;
    EXPECT_EQ(observer_.reserve(0, 1), Status::over_quota);
    observer_.release(0, kLimit - charged);
    Child other([&] {
      Tenant tenant;
      CHILD_EXPECT(Tenant::open(scratch_.dir(), "t", tenant) == Status::ok);
      CHILD_EXPECT(tenant.reserve(0, kLimit - charged) == Status::ok);
      CHILD_EXPECT(tenant.share(8, 8, 0, 10) == Status::ok);
      std::uint64_t bytes = 0;
      CHILD_EXPECT(tenant.hold_shared(kObserverKey, 0, bytes) == Status::ok);
      tenant.leave();
    });
    other.wait();
    ASSERT_TRUE(other.succeeded());
    // Going on, it finds that nothing happened to it.
    victim.signal(SIGCONT);
    victim.wait();
    ASSERT_TRUE(victim.succeeded());
    expect_exact_limit();
    expect_nothing_left();
    if (HasFailure()) FAIL() << "round " << round;
  }
}

INSTANTIATE_TEST_SUITE_P(Ledger, DeathAtEveryStep, ::testing::ValuesIn(kSteps),
                         [](const auto& tested) { return test_name(tested.param); });

// Two that reap the same dead process, one of them stopped anywhere in it.
TEST_F(Death, ASlotIsReapedOnceAlsoByReapersThatStopInTheMiddle) {
  for (const Step where :
       {Step::reap_judged, Step::reap_freed, Step::collect_dying, Step::collect_freed}) {
    arrange_a_death();
    Child sleeper([&] {
      signal_at(where, SIGSTOP);
      Tenant tenant;
      CHILD_EXPECT(Tenant::open(scratch_.dir(), "t", tenant) == Status::ok);
      (void)tenant.reap();
    });
    sleeper.wait_for_stop();
    ASSERT_TRUE(sleeper.stopped());
    (void)observer_.reap();
    // The slot and the object's place are taken anew before the sleeper goes on with its old
    // verdict.
    Common<std::atomic<int>> stage;
    Child successor([&] {
      Tenant tenant;
      CHILD_EXPECT(Tenant::open(scratch_.dir(), "t", tenant) == Status::ok);
      CHILD_EXPECT(tenant.reserve(0, kForOthers) == Status::ok);
      CHILD_EXPECT(tenant.share(6, 6, 0, 400) == Status::ok);
      *stage = 1;
      wait_until([&] { return *stage == 2; });
    });
    wait_until([&] { return *stage == 1; });
    sleeper.signal(SIGCONT);
    sleeper.wait();
    EXPECT_TRUE(sleeper.succeeded());
    EXPECT_EQ(observer_.charged_bytes(0), kLimit);
    *stage = 2;
    successor.wait();
    expect_exact_limit();
    expect_nothing_left();
  }
}

}  // namespace
}  // namespace vgpu::shm

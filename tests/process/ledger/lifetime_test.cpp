// SPDX-License-Identifier: Apache-2.0
// When a slot counts: fork, exec, descriptors that the program closes, pids that come again, other
// PID namespaces.
#include <fcntl.h>
#include <gmock/gmock.h>

#include <array>

#include "child.h"
#include "scratch.h"
#include "segment.h"
#include "vgpu/platform/process.h"

namespace vgpu::shm {
namespace {

class SlotLifetime : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(Tenant::create(scratch_.dir(), spec_of(1000), observer_), Status::ok);
  }

  Tenant open() {
    Tenant tenant;
    CHILD_EXPECT(Tenant::open(scratch_.dir(), "t", tenant) == Status::ok);
    return tenant;
  }
  std::uint64_t charged() {
    (void)observer_.reap();
    return observer_.charged_bytes(0);
  }

  ScratchDir scratch_;
  Tenant observer_;
  Common<std::atomic<int>> stage_;
};

TEST_F(SlotLifetime, AForkedChildHasNoSlotUntilItUsesTheGpu) {
  ASSERT_EQ(observer_.reserve(0, 400), Status::ok);
  Child child([&] {
    CHILD_EXPECT(!observer_.joined());
    CHILD_EXPECT(observer_.own_charged_bytes(0) == 0);
    CHILD_EXPECT(observer_.charged_bytes(0) == 400);
    CHILD_EXPECT(observer_.reserve(0, 601) == Status::over_quota);
    CHILD_EXPECT(observer_.reserve(0, 600) == Status::ok);
    CHILD_EXPECT(observer_.own_charged_bytes(0) == 600);
    std::array<ProcessView, 4> views;
    CHILD_EXPECT(observer_.processes(views) == 2);
    CHILD_EXPECT(views[1].pid == ::getpid());
    ::kill(::getpid(), SIGKILL);
  });
  child.wait();
  EXPECT_TRUE(child.was_killed());
  EXPECT_EQ(observer_.own_charged_bytes(0), 400u);
  EXPECT_EQ(charged(), 400u);
}

TEST_F(SlotLifetime, AForkedChildMayJoinInItsForkHandlerWhateverTheParentWasDoing) {
  ASSERT_EQ(observer_.join(), Status::ok);
  Child child([&] {
    CHILD_EXPECT(observer_.join() == Status::ok);
    CHILD_EXPECT(observer_.joined());
    observer_.acknowledge();
    CHILD_EXPECT(observer_.has_acknowledged(::getpid(), platform::start_time_ticks(::getpid())));
  });
  child.wait();
  EXPECT_TRUE(child.succeeded());
  EXPECT_TRUE(observer_.joined());
}

TEST_F(SlotLifetime, AChildThatInheritedTheFilesKeepsItsDeadParentsMemoryCharged) {
  Child parent([&] {
    Tenant tenant = open();
    CHILD_EXPECT(tenant.reserve(0, 700) == Status::ok);
    const pid_t grandchild = ::fork();
    if (grandchild == 0) {
      *stage_ = 1;
      wait_until([&] { return *stage_ == 2; });
      // Its own use of the GPU changes nothing about the parent's.
      CHILD_EXPECT(tenant.reserve(0, 300) == Status::ok);
      *stage_ = 3;
      wait_until([&] { return *stage_ == 4; });
      ::_exit(0);
    }
    wait_until([&] { return *stage_ == 1; });
    ::kill(::getpid(), SIGKILL);
  });
  parent.wait();
  EXPECT_EQ(charged(), 700u);
  *stage_ = 2;
  wait_until([&] { return *stage_ == 3; });
  EXPECT_EQ(charged(), 1000u);
  *stage_ = 4;
  wait_until([&] { return charged() == 0; });
}

TEST_F(SlotLifetime, AChildThatExecsLetsGoOfItsDeadParentsMemory) {
  Common<std::atomic<pid_t>> grandchild;
  Child parent([&] {
    Tenant tenant = open();
    CHILD_EXPECT(tenant.reserve(0, 700) == Status::ok);
    const pid_t child = ::fork();
    if (child == 0) {
      ::execl("/bin/sleep", "sleep", "1000", static_cast<char*>(nullptr));
      ::_exit(1);
    }
    *grandchild = child;
    ::kill(::getpid(), SIGKILL);
  });
  parent.wait();
  wait_until([&] { return charged() == 0; });
  EXPECT_EQ(::kill(*grandchild, SIGKILL), 0) << "it lived all the while";
}

TEST_F(SlotLifetime, ExecGivesBackEverythingThoughThePidLives) {
  Child child([&] {
    Tenant tenant = open();
    CHILD_EXPECT(tenant.reserve(0, 700) == Status::ok);
    tenant.acknowledge();
    *stage_ = 1;
    wait_until([&] { return *stage_ == 2; });
    ::execl("/bin/sleep", "sleep", "1000", static_cast<char*>(nullptr));
    ::_exit(1);
  });
  const std::uint64_t start = platform::start_time_ticks(child.pid());
  wait_until([&] { return *stage_ == 1; });
  EXPECT_TRUE(observer_.has_acknowledged(child.pid(), start));
  EXPECT_EQ(charged(), 700u);
  *stage_ = 2;
  wait_until([&] { return !observer_.has_acknowledged(child.pid(), start); });
  wait_until([&] { return charged() == 0; });
  EXPECT_EQ(::kill(child.pid(), 0), 0);
}

TEST_F(SlotLifetime, AZombieHoldsNothing) {
  Child child([&] {
    Tenant tenant = open();
    CHILD_EXPECT(tenant.reserve(0, 700) == Status::ok);
    *stage_ = 1;
    ::pause();
  });
  wait_until([&] { return *stage_ == 1; });
  EXPECT_EQ(charged(), 700u);
  child.signal(SIGKILL);  // and not waited for
  siginfo_t seen{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child.pid()), &seen, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(charged(), 0u);
}

TEST_F(SlotLifetime, AStoppedProcessKeepsItsMemory) {
  Child child([&] {
    Tenant tenant = open();
    CHILD_EXPECT(tenant.reserve(0, 700) == Status::ok);
    ::kill(::getpid(), SIGSTOP);
    CHILD_EXPECT(tenant.own_charged_bytes(0) == 700);
  });
  child.wait_for_stop();
  EXPECT_EQ(charged(), 700u);
  EXPECT_EQ(observer_.reserve(0, 301), Status::over_quota);
  child.signal(SIGCONT);
  child.wait();
  EXPECT_TRUE(child.succeeded());
  EXPECT_EQ(charged(), 0u);
}

TEST_F(SlotLifetime, AProgramThatClosesDescriptorsItDoesNotKnowStaysAMember) {
  Child child([&] {
    Tenant tenant = open();
    CHILD_EXPECT(tenant.reserve(0, 700) == Status::ok);
    for (int fd = 3; fd < 256; ++fd) ::close(fd);
    // Its own files now have the numbers that ours had.
    std::array<int, 32> own{};
    for (int& fd : own) fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    *stage_ = 1;
    wait_until([&] { return *stage_ == 2; });
    CHILD_EXPECT(tenant.reap() == 0);
    CHILD_EXPECT(tenant.reserve(0, 300) == Status::ok);
    tenant.release(0, 1000);
    tenant.leave();
    for (const int fd : own) CHILD_EXPECT(::fcntl(fd, F_GETFD) != -1);
  });
  wait_until([&] { return *stage_ == 1; });
  EXPECT_EQ(charged(), 700u);
  *stage_ = 2;
  child.wait();
  EXPECT_TRUE(child.succeeded());
  EXPECT_EQ(charged(), 0u);
}

class FabricatedSlot : public SlotLifetime {
 protected:
  void SetUp() override {
    SlotLifetime::SetUp();
    ASSERT_EQ(open_segment(scratch_.dir(), "t", mapped_), Status::ok);
  }
  void TearDown() override { platform::unmap(mapped_.base, mapped_.byte_size); }

  // A live slot with 700 bytes, as a process of that identity would have left it.
  void put(std::int32_t pid, std::uint64_t start_ticks, std::uint64_t pid_namespace,
           bool lockless = false) {
    const Segment& segment = mapped_.segment;
    segment.header().slot_high_water = kSlot + 1;
    segment.identity(kSlot).start_ticks = start_ticks;
    segment.identity(kSlot).pid_namespace = pid_namespace;
    segment.line(0, kSlot).charge = 700;
    Owner owner;
    owner.state = SlotState::live;
    owner.lockless = lockless;
    owner.pid = pid;
    owner.start_ticks_low = static_cast<std::uint32_t>(start_ticks & Owner::kStartMask);
    segment.owner(kSlot) = owner.pack();
  }

  static constexpr std::uint32_t kSlot = 5;
  const std::int32_t pid_ = ::getpid();
  const std::uint64_t start_ = platform::start_time_ticks(pid_);
  const std::uint64_t namespace_ = platform::pid_namespace();
  Mapped mapped_;
};

TEST_F(FabricatedSlot, APidThatCameAgainIsAnotherProcess) {
  put(pid_, start_ - 1, namespace_);
  EXPECT_EQ(charged(), 0u);
}

TEST_F(FabricatedSlot, APidThatCameAgainIsAnotherProcessAlsoWithoutLocks) {
  put(pid_, start_ - 1, namespace_, true);
  EXPECT_EQ(charged(), 0u);
  put(pid_, start_, namespace_, true);
  EXPECT_EQ(charged(), 700u) << "this one lives";
}

TEST_F(FabricatedSlot, APidOfNobodyIsDead) {
  put(0x3fffff, start_, namespace_);
  EXPECT_EQ(charged(), 0u);
}

TEST_F(FabricatedSlot, InAnotherNamespaceOnlyTheLockCounts) {
  ASSERT_EQ(platform::try_lock_byte(mapped_.file.fd(), kLockBase + kSlot),
            platform::ByteLock::taken);
  put(0x3fffff, start_, namespace_ + 1);
  EXPECT_EQ(charged(), 700u) << "that pid is nobody here, but its process holds the lock";
  platform::unlock_byte(mapped_.file.fd(), kLockBase + kSlot);
  put(pid_, start_, namespace_ + 1);
  EXPECT_EQ(charged(), 0u) << "that pid lives here, but it is another process";
}

TEST_F(FabricatedSlot, AHeldLockKeepsADeadPidsMemoryCharged) {
  ASSERT_EQ(platform::try_lock_byte(mapped_.file.fd(), kLockBase + kSlot),
            platform::ByteLock::taken);
  put(0x3fffff, start_, namespace_);
  EXPECT_EQ(charged(), 700u) << "a forked child of it may hold the memory";
}

}  // namespace
}  // namespace vgpu::shm

// SPDX-License-Identifier: Apache-2.0
// What one process sees of the ledger: limits, release, quotas, shared objects, acknowledgement.
#include <gmock/gmock.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "layout.h"
#include "scratch.h"
#include "vgpu/platform/process.h"

namespace vgpu::shm {
namespace {

class TenantTest : public ::testing::Test {
 protected:
  void make(const TenantSpec& spec) {
    ASSERT_EQ(Tenant::create(scratch_.dir(), spec, tenant_), Status::ok);
  }

  ScratchDir scratch_;
  Tenant tenant_;
};

TEST_F(TenantTest, GrantsUpToTheLimitAndNotAByteMore) {
  make(spec_of(1000));
  EXPECT_EQ(tenant_.reserve(0, 600), Status::ok);
  EXPECT_EQ(tenant_.reserve(0, 401), Status::over_quota);
  EXPECT_EQ(tenant_.reserve(0, 400), Status::ok);
  EXPECT_EQ(tenant_.reserve(0, 1), Status::over_quota);
  EXPECT_EQ(tenant_.charged_bytes(0), 1000u);
  EXPECT_EQ(tenant_.own_charged_bytes(0), 1000u);
  EXPECT_EQ(tenant_.denied_count(0), 2u);
}

TEST_F(TenantTest, WhatIsReleasedCanBeHadAgainAtOnce) {
  make(spec_of(1000));
  for (int i = 0; i < 1000; ++i) {
    ASSERT_EQ(tenant_.reserve(0, 1000), Status::ok);
    tenant_.release(0, 1000);
  }
  EXPECT_EQ(tenant_.charged_bytes(0), 0u);
}

TEST_F(TenantTest, ReservingNothingSucceedsAlsoWhenFull) {
  make(spec_of(1000));
  ASSERT_EQ(tenant_.reserve(0, 1000), Status::ok);
  EXPECT_EQ(tenant_.reserve(0, 0), Status::ok);
}

TEST_F(TenantTest, GpusAreAccountedApart) {
  make(spec_of(1000, 3));
  EXPECT_EQ(tenant_.reserve(1, 1000), Status::ok);
  EXPECT_EQ(tenant_.reserve(2, 1000), Status::ok);
  EXPECT_EQ(tenant_.charged_bytes(0), 0u);
  EXPECT_EQ(tenant_.reserve(3, 1), Status::not_found);
}

TEST_F(TenantTest, HugeRequestsAreRefusedWithoutWrapping) {
  make(spec_of(UINT64_MAX - 1));
  EXPECT_EQ(tenant_.reserve(0, UINT64_MAX - 2), Status::over_quota);
  ASSERT_EQ(tenant_.reserve(0, std::uint64_t{1} << 48), Status::ok);
  EXPECT_EQ(tenant_.reserve(0, UINT64_MAX), Status::over_quota);
  EXPECT_EQ(tenant_.charged_bytes(0), std::uint64_t{1} << 48);
  for (int i = 0; i < 300; ++i) tenant_.charge(0, UINT64_MAX);
  EXPECT_EQ(tenant_.own_charged_bytes(0), core::kMaxCharge);
  EXPECT_EQ(tenant_.reserve(0, 1), Status::over_quota);
}

TEST_F(TenantTest, WithoutALimitEverythingIsCountedAndNothingRefused) {
  make(spec_of(kNoLimit));
  EXPECT_EQ(tenant_.reserve(0, 500 * kGiB), Status::ok);
  EXPECT_EQ(tenant_.charged_bytes(0), 500 * kGiB);
}

TEST_F(TenantTest, ReleasingMoreThanIsChargedStopsAtZero) {
  make(spec_of(1000));
  ASSERT_EQ(tenant_.reserve(0, 300), Status::ok);
  tenant_.release(0, 400);
  EXPECT_EQ(tenant_.charged_bytes(0), 0u);
  EXPECT_EQ(tenant_.reserve(0, 1000), Status::ok);
}

TEST_F(TenantTest, ChargeCountsAlsoBeyondTheLimit) {
  make(spec_of(1000));
  tenant_.charge(0, 1500);
  EXPECT_EQ(tenant_.charged_bytes(0), 1500u);
  EXPECT_EQ(tenant_.reserve(0, 1), Status::over_quota);
  tenant_.release(0, 600);
  EXPECT_EQ(tenant_.reserve(0, 100), Status::ok);
}

TEST_F(TenantTest, AQuotaThatChangesBindsTheNextReservation) {
  make(spec_of(1000));
  Tenant other;
  ASSERT_EQ(Tenant::open(scratch_.dir(), "t", other), Status::ok);
  ASSERT_EQ(tenant_.reserve(0, 1000), Status::ok);
  Quota quota;
  quota.memory_limit_bytes = 1500;
  quota.compute_share_percent = 30;
  quota.policy = Policy::fixed;
  quota.priority = Priority::high;
  quota.memory_source = Source::run;
  EXPECT_EQ(other.set_quota(0, quota), Status::ok);
  EXPECT_EQ(tenant_.reserve(0, 500), Status::ok);
  quota.memory_limit_bytes = 900;
  EXPECT_EQ(other.set_quota(0, quota), Status::ok);
  tenant_.release(0, 600);
  EXPECT_EQ(tenant_.reserve(0, 1), Status::over_quota);
  const Quota read = tenant_.spec().gpus[0].quota;
  EXPECT_EQ(read.memory_limit_bytes, 900u);
  EXPECT_EQ(read.compute_share_percent, 30);
  EXPECT_EQ(read.policy, Policy::fixed);
  EXPECT_EQ(read.priority, Priority::high);
  EXPECT_EQ(read.memory_source, Source::run);
}

TEST_F(TenantTest, WhatOneGpuHeldBackIsSeenFromTheOthers) {
  make(spec_of(1000, 3));
  tenant_.note_held(0, 30);
  tenant_.note_held(2, 12);
  tenant_.note_held(3, 1);  // there is none
  EXPECT_EQ(tenant_.held_elsewhere_ns(0), 12u);
  EXPECT_EQ(tenant_.held_elsewhere_ns(1), 42u);
}

TEST_F(TenantTest, SpecComesBackAsItWasGiven) {
  TenantSpec spec = spec_of(kGiB, kMaxGpus, "train-1.a_b");
  spec.name = FixedString<kMaxName>("train");
  spec.made_by_run = true;
  spec.gpus[7].in_set = false;
  make(spec);
  Tenant other;
  ASSERT_EQ(Tenant::open(scratch_.dir(), "train-1.a_b", other), Status::ok);
  const TenantSpec read = other.spec();
  EXPECT_EQ(read.id.view(), "train-1.a_b");
  EXPECT_EQ(read.name.view(), "train");
  EXPECT_TRUE(read.made_by_run);
  ASSERT_EQ(read.gpus.size(), kMaxGpus);
  EXPECT_FALSE(read.gpus[7].in_set);
  EXPECT_TRUE(read.gpus[8].in_set);
  EXPECT_EQ(read.gpus[31].uuid, spec.gpus[31].uuid);
  EXPECT_EQ(read.gpus[31].total_bytes, 80 * kGiB);
  EXPECT_EQ(other.gpu_position(spec.gpus[31].uuid), 31);
  EXPECT_EQ(other.gpu_position(GpuUuid{}), -1);
}

TEST_F(TenantTest, JoiningTwiceTakesOneSlot) {
  make(spec_of(1000));
  EXPECT_FALSE(tenant_.joined());
  EXPECT_EQ(tenant_.join(), Status::ok);
  EXPECT_EQ(tenant_.join(), Status::ok);
  std::array<ProcessView, 4> views;
  ASSERT_EQ(tenant_.processes(views), 1u);
  EXPECT_EQ(views[0].pid, platform::self_pid());
  EXPECT_EQ(views[0].start_time_ticks, platform::start_time_ticks(platform::self_pid()));
  EXPECT_EQ(views[0].pid_namespace, platform::pid_namespace());
  EXPECT_EQ(views[0].program.view(), platform::program_name().view());
  tenant_.leave();
  EXPECT_FALSE(tenant_.joined());
  EXPECT_EQ(tenant_.processes(views), 0u);
}

TEST_F(TenantTest, LeavingGivesBackEverything) {
  make(spec_of(1000));
  Tenant other;
  ASSERT_EQ(Tenant::open(scratch_.dir(), "t", other), Status::ok);
  ASSERT_EQ(other.reserve(0, 700), Status::ok);
  ASSERT_EQ(other.share(1, 2, 0, 300), Status::ok);
  EXPECT_EQ(tenant_.reserve(0, 301), Status::over_quota);
  other.leave();
  EXPECT_EQ(tenant_.charged_bytes(0), 0u);
  EXPECT_EQ(tenant_.reserve(0, 1000), Status::ok);
}

TEST_F(TenantTest, EverySlotCanBeTakenAndOneMoreProcessIsRefused) {
  rlimit descriptors{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &descriptors), 0);
  descriptors.rlim_cur = std::min<rlim_t>(descriptors.rlim_max, 4 * kMaxSlots);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &descriptors), 0);
  make(spec_of(kGiB));
  std::vector<Tenant> all(kMaxSlots);
  for (Tenant& one : all) {
    ASSERT_EQ(Tenant::open(scratch_.dir(), "t", one), Status::ok);
    ASSERT_EQ(one.join(), Status::ok);
    ASSERT_EQ(one.reserve(0, kMiB), Status::ok);
  }
  EXPECT_EQ(tenant_.join(), Status::ledger_full);
  EXPECT_EQ(tenant_.reserve(0, 1), Status::ledger_full);
  EXPECT_EQ(all[5].reserve(0, 1), Status::over_quota);
  all[17].leave();
  EXPECT_EQ(tenant_.reserve(0, kMiB), Status::ok);
}

TEST_F(TenantTest, ASharedObjectCountsOnceWhileAnybodyHoldsIt) {
  make(spec_of(1000));
  Tenant importer;
  ASSERT_EQ(Tenant::open(scratch_.dir(), "t", importer), Status::ok);
  ASSERT_EQ(tenant_.reserve(0, 600), Status::ok);
  ASSERT_EQ(tenant_.share(1, 2, 0, 600), Status::ok);
  EXPECT_EQ(tenant_.charged_bytes(0), 600u);
  EXPECT_EQ(tenant_.own_charged_bytes(0), 0u);
  ASSERT_EQ(tenant_.share(1, 2, 0, 600), Status::ok) << "exported once more";
  EXPECT_EQ(tenant_.charged_bytes(0), 600u);

  std::uint64_t bytes = 0;
  EXPECT_EQ(importer.hold_shared(1, 3, bytes), Status::not_found);
  ASSERT_EQ(importer.hold_shared(1, 2, bytes), Status::ok);
  EXPECT_EQ(bytes, 600u);
  EXPECT_EQ(importer.charged_bytes(0), 600u);
  tenant_.release_shared(1, 2);
  EXPECT_EQ(tenant_.charged_bytes(0), 600u);
  EXPECT_EQ(tenant_.reserve(0, 401), Status::over_quota);
  importer.release_shared(1, 2);
  EXPECT_EQ(tenant_.charged_bytes(0), 0u);
  EXPECT_EQ(importer.hold_shared(1, 2, bytes), Status::not_found);
}

TEST_F(TenantTest, ASharedObjectCountsOnItsOwnGpu) {
  make(spec_of(1000, 2));
  ASSERT_EQ(tenant_.reserve(1, 600), Status::ok);
  ASSERT_EQ(tenant_.share(1, 2, 1, 600), Status::ok);
  EXPECT_EQ(tenant_.charged_bytes(0), 0u);
  EXPECT_EQ(tenant_.charged_bytes(1), 600u);
}

TEST_F(TenantTest, ASharedObjectIsFoundBySizeByWhoDoesNotHoldIt) {
  make(spec_of(1000));
  Tenant importer;
  ASSERT_EQ(Tenant::open(scratch_.dir(), "t", importer), Status::ok);
  ASSERT_EQ(tenant_.reserve(0, 600), Status::ok);
  ASSERT_EQ(tenant_.share(1, 2, 0, 600), Status::ok);
  std::uint64_t high = 0, low = 0;
  EXPECT_FALSE(tenant_.find_shared_by_size(0, 600, high, low)) << "its own";
  EXPECT_FALSE(importer.find_shared_by_size(0, 601, high, low));
  ASSERT_TRUE(importer.find_shared_by_size(0, 600, high, low));
  EXPECT_EQ(high, 1u);
  EXPECT_EQ(low, 2u);
}

TEST_F(TenantTest, AFullTableOfSharedObjectsLeavesTheChargeWhereItIs) {
  make(spec_of(kGiB));
  ASSERT_EQ(tenant_.reserve(0, kMaxObjects + 1), Status::ok);
  for (std::uint64_t i = 0; i < kMaxObjects; ++i) {
    ASSERT_EQ(tenant_.share(7, i, 0, 1), Status::ok) << i;
  }
  EXPECT_EQ(tenant_.share(7, kMaxObjects, 0, 1), Status::ledger_full);
  EXPECT_EQ(tenant_.charged_bytes(0), kMaxObjects + 1);
  tenant_.release_shared(7, 9);
  EXPECT_EQ(tenant_.share(7, kMaxObjects, 0, 1), Status::ok);
  EXPECT_EQ(tenant_.charged_bytes(0), kMaxObjects);
}

TEST_F(TenantTest, AcknowledgementNamesThisProcessOnly) {
  make(spec_of(1000));
  const std::int32_t pid = platform::self_pid();
  const std::uint64_t start = platform::start_time_ticks(pid);
  EXPECT_FALSE(tenant_.has_acknowledged(pid, start));
  tenant_.acknowledge();
  EXPECT_TRUE(tenant_.has_acknowledged(pid, start));
  EXPECT_FALSE(tenant_.has_acknowledged(pid, start + 1));
  EXPECT_FALSE(tenant_.has_acknowledged(pid + 1, start));
}

TEST_F(TenantTest, WhoHasASlotHasAcknowledged) {
  make(spec_of(1000));
  ASSERT_EQ(tenant_.join(), Status::ok);
  const std::int32_t pid = platform::self_pid();
  EXPECT_TRUE(tenant_.has_acknowledged(pid, platform::start_time_ticks(pid)));
}

TEST_F(TenantTest, APrivateTenantHoldsItsLimitToo) {
  ASSERT_EQ(Tenant::create_private(spec_of(1000), tenant_), Status::ok);
  EXPECT_EQ(tenant_.reserve(0, 1000), Status::ok);
  EXPECT_EQ(tenant_.reserve(0, 1), Status::over_quota);
  EXPECT_EQ(tenant_.reap(), 0u);
}

TEST(ClosedTenant, AnswersWithoutASegment) {
  Tenant tenant;
  EXPECT_FALSE(tenant.is_open());
  EXPECT_FALSE(tenant.joined());
  EXPECT_EQ(tenant.join(), Status::not_found);
  EXPECT_EQ(tenant.reserve(0, 1), Status::not_found);
  EXPECT_EQ(tenant.gpu_count(), 0u);
  EXPECT_EQ(tenant.memory_limit_bytes(0), kNoLimit);
  EXPECT_EQ(tenant.charged_bytes(0), 0u);
  EXPECT_EQ(tenant.reap(), 0u);
  tenant.charge(0, 1);
  tenant.release(0, 1);
  tenant.release_shared(1, 2);
  tenant.acknowledge();
  tenant.leave();
}

}  // namespace
}  // namespace vgpu::shm

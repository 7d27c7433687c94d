// SPDX-License-Identifier: Apache-2.0
// A tenant's quota on a page that only its daemon writes: it holds over what the segment says, is
// found by whoever opened the tenant before there was one, and isn't believed where it is of
// another tenant or may be anybody's.
#include "vgpu/shm/quota_page.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "quota_layout.h"
#include "vgpu/shm/tenant.h"

namespace vgpu::shm {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

class QuotaPages : public ::testing::Test {
 protected:
  QuotaPages() {
    std::string name = (std::filesystem::temp_directory_path() / "vgpu-page-XXXXXX").string();
    if (mkdtemp(name.data()) != nullptr) root = name;
    std::filesystem::create_directories(root + "/state");
    std::filesystem::create_directories(root + "/quotas");
    dir.path.append(root + "/state");
    dir.quotas.append(root + "/quotas");
    spec.id = FixedString<kMaxName>("train");
    TenantGpu gpu;
    gpu.uuid.bytes[0] = 0x5a;
    gpu.total_bytes = 80 * kGiB;
    gpu.quota.memory_limit_bytes = 8 * kGiB;
    gpu.quota.compute_limit_percent = 40;
    spec.gpus.push_back(gpu);
    EXPECT_EQ(Tenant::create(dir, spec, tenant), Status::ok);
    segment = platform::identity_of((root + "/state/train.tenant").c_str());
  }
  ~QuotaPages() override {
    tenant = Tenant();
    std::error_code ignored;
    std::filesystem::remove_all(root, ignored);
  }
  QuotaPage make(std::uint64_t made_ns = 7) {
    QuotaPage page;
    EXPECT_EQ(QuotaPage::open(root + "/quotas", segment, made_ns, spec, page), Status::ok);
    tenant.announce_quota_page();
    return page;
  }
  static Quota quota(std::uint64_t memory, int limit) {
    Quota quota;
    quota.memory_limit_bytes = memory;
    quota.compute_limit_percent = static_cast<std::uint8_t>(limit);
    return quota;
  }
  std::string file() const { return quota_page_path(root + "/quotas", segment).view().data(); }

  std::string root;
  StateDir dir;
  TenantSpec spec;
  Tenant tenant;
  platform::FileIdentity segment;
};

TEST_F(QuotaPages, HoldOverTheSegmentForWhoeverHasTheTenantOpenAlready) {
  EXPECT_FALSE(tenant.is_governed());
  EXPECT_EQ(tenant.memory_limit_bytes(0), 8 * kGiB);
  QuotaPage page = make();
  EXPECT_TRUE(page.was_made());
  EXPECT_TRUE(tenant.is_governed());
  EXPECT_EQ(tenant.memory_limit_bytes(0), 8 * kGiB);  // as it was found
  page.set_quota(0, quota(2 * kGiB, 25));
  EXPECT_EQ(tenant.memory_limit_bytes(0), 2 * kGiB);
  EXPECT_EQ(tenant.compute_limit_percent(0), 25u);
  EXPECT_EQ(tenant.spec().gpus[0].quota.memory_limit_bytes, 2 * kGiB);
  // What is written into the segment changes nothing.
  tenant.copy_quota(0, quota(64 * kGiB, 100));
  EXPECT_EQ(tenant.memory_limit_bytes(0), 2 * kGiB);
  EXPECT_EQ(tenant.reserve(0, 3 * kGiB), Status::over_quota);
  EXPECT_EQ(tenant.reserve(0, kGiB), Status::ok);
  tenant.release(0, kGiB);
  Tenant other;
  ASSERT_EQ(Tenant::open(dir, "train", other), Status::ok);
  EXPECT_EQ(other.memory_limit_bytes(0), 2 * kGiB);
}

TEST_F(QuotaPages, AreWrittenByTheirOwnerAndByNobodyElse) {
  (void)make();
  EXPECT_EQ(tenant.set_quota(0, quota(kGiB, 10)), Status::ok);
  EXPECT_EQ(tenant.memory_limit_bytes(0), kGiB);
  if (::geteuid() != 0) GTEST_SKIP() << "the rest needs root, to be two users";
  // Another user's page holds for root's tenants too (a daemon's need not be root), or not: here
  // it is nobody's that they trust.
  ASSERT_EQ(::chown(file().c_str(), 12345, 12345), 0);
  Tenant other;
  ASSERT_EQ(Tenant::open(dir, "train", other), Status::ok);
  EXPECT_FALSE(other.is_governed());
  // And as the tenant's user sees root's page.
  ASSERT_EQ(::chown(file().c_str(), 0, 0), 0);
  for (const char* part : {"", "/state", "/state/train.tenant", "/quotas"})
    ASSERT_EQ(::chown((root + part).c_str(), 12345, 12345), 0);
  ASSERT_EQ(::seteuid(12345), 0);
  Tenant own;
  const Status opened = Tenant::open(dir, "train", own);
  const bool is_governed = own.is_governed();
  const Status set = own.set_quota(0, quota(64 * kGiB, 90));
  const std::uint64_t limit = own.memory_limit_bytes(0);
  own = Tenant();
  ASSERT_EQ(::seteuid(0), 0);
  EXPECT_EQ(opened, Status::ok);
  EXPECT_TRUE(is_governed);
  EXPECT_EQ(set, Status::unavailable);
  EXPECT_EQ(limit, kGiB);
}

// By a program that looks for daemons elsewhere: what it wrote would be put right.
TEST_F(QuotaPages, ThatAreNotFoundLetNobodyWriteTheCopy) {
  (void)make();
  StateDir elsewhere = dir;
  elsewhere.quotas = FixedString<255>("/nowhere/quotas");
  Tenant other;
  ASSERT_EQ(Tenant::open(elsewhere, "train", other), Status::ok);
  EXPECT_FALSE(other.is_governed());
  EXPECT_EQ(other.set_quota(0, quota(kGiB, 10)), Status::unavailable);
  EXPECT_EQ(other.memory_limit_bytes(0), 8 * kGiB);
}

TEST_F(QuotaPages, OutliveTheDaemonAndAreTakenOverByTheNext) {
  {
    QuotaPage page = make();
    page.set_quota(0, quota(3 * kGiB, 30));
  }
  EXPECT_EQ(tenant.memory_limit_bytes(0), 3 * kGiB);
  QuotaPage next = make();
  EXPECT_FALSE(next.was_made());
  EXPECT_EQ(next.quota(0).memory_limit_bytes, 3 * kGiB);
  // A segment that was made at another time has that number now: its quota is its own.
  QuotaPage fresh = make(8);
  EXPECT_TRUE(fresh.was_made());
  EXPECT_EQ(fresh.quota(0).memory_limit_bytes, 8 * kGiB);
}

TEST_F(QuotaPages, OfAnotherTenantOrOpenToAllOrCutAreNotBelieved) {
  {
    QuotaPage page = make();
    page.set_quota(0, quota(kGiB, 10));
  }
  const auto is_believed = [&] {
    Tenant fresh;
    EXPECT_EQ(Tenant::open(dir, "train", fresh), Status::ok);
    return fresh.is_governed();
  };
  ASSERT_TRUE(is_believed());
  ASSERT_EQ(::chmod(file().c_str(), 0666), 0);
  EXPECT_FALSE(is_believed());
  ASSERT_EQ(::chmod(file().c_str(), 0644), 0);
  ASSERT_TRUE(is_believed());
  const auto overwrite = [&](std::size_t at, char byte) {
    std::fstream page(file(), std::ios::in | std::ios::out | std::ios::binary);
    page.seekp(static_cast<std::streamoff>(at));
    page.put(byte);
  };
  overwrite(offsetof(QuotaPageRecord, id), 'b');
  EXPECT_FALSE(is_believed());
  overwrite(offsetof(QuotaPageRecord, id), 't');
  ASSERT_TRUE(is_believed());
  overwrite(offsetof(QuotaPageRecord, gpu_count), 77);
  EXPECT_FALSE(is_believed());
  overwrite(offsetof(QuotaPageRecord, gpu_count), 1);
  overwrite(offsetof(QuotaPageRecord, rows), 9);  // another GPU
  EXPECT_FALSE(is_believed());
  ASSERT_EQ(::truncate(file().c_str(), 100), 0);
  EXPECT_FALSE(is_believed());
  // The daemon makes it anew.
  QuotaPage page = make();
  EXPECT_TRUE(page.was_made());
  EXPECT_TRUE(is_believed());
  QuotaPage::remove(root + "/quotas", segment);
  EXPECT_FALSE(std::filesystem::exists(file()));
}

}  // namespace
}  // namespace vgpu::shm

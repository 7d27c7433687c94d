// SPDX-License-Identifier: Apache-2.0
// Segment files: who may make, open, list and remove them, and that what isn't one is refused.
#include "segment.h"

#include <errno.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "layout.h"
#include "scratch.h"

namespace vgpu::shm {
namespace {

using ::testing::UnorderedElementsAre;

class SegmentTest : public ::testing::Test {
 protected:
  Status open(std::string_view id = "t") {
    Tenant tenant;
    return Tenant::open(scratch_.dir(), id, tenant);
  }
  Status create(const TenantSpec& spec) {
    Tenant tenant;
    return Tenant::create(scratch_.dir(), spec, tenant);
  }
  // Changes the header of the segment's file.
  void edit(const std::function<void(Header&)>& change) {
    std::fstream file(scratch_.segment(), std::ios::in | std::ios::out | std::ios::binary);
    alignas(Header) std::array<char, sizeof(Header)> bytes;
    file.read(bytes.data(), bytes.size());
    change(*reinterpret_cast<Header*>(bytes.data()));
    file.seekp(0);
    file.write(bytes.data(), bytes.size());
  }

  ScratchDir scratch_;
};

TEST_F(SegmentTest, IsMadeOnce) {
  EXPECT_EQ(open(), Status::not_found);
  EXPECT_EQ(create(spec_of(1000)), Status::ok);
  EXPECT_EQ(create(spec_of(2000)), Status::exists);
  Tenant tenant;
  ASSERT_EQ(Tenant::open(scratch_.dir(), "t", tenant), Status::ok);
  EXPECT_EQ(tenant.memory_limit_bytes(0), 1000u);
}

TEST_F(SegmentTest, IsReadableByItsOwnerOnly) {
  ASSERT_EQ(create(spec_of(1000)), Status::ok);
  struct stat facts {};
  ASSERT_EQ(::stat(scratch_.segment().c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777, 0600u);
}

TEST_F(SegmentTest, IdsThatAreNoFileNamesAreRefused) {
  for (const char* id : {"", ".", "..", ".hidden", "a/b", "a b", "../t", "a\nb", "\xc3\xa4"}) {
    EXPECT_EQ(create(spec_of(1000, 1, id)), Status::unavailable) << id;
    EXPECT_EQ(open(id), Status::not_found) << id;
  }
  EXPECT_EQ(create(spec_of(1000, 1, std::string(kMaxName, 'x'))), Status::ok);
}

TEST_F(SegmentTest, AreListed) {
  ASSERT_EQ(create(spec_of(1, 1, "a")), Status::ok);
  ASSERT_EQ(create(spec_of(1, 1, "b.c-d_e")), Status::ok);
  std::ofstream(scratch_.path() + "/.hidden.tenant");
  std::ofstream(scratch_.path() + "/other");
  std::ofstream(scratch_.path() + "/.tenant");
  std::vector<FixedString<kMaxName>> ids(1);
  EXPECT_EQ(list_tenants(scratch_.dir(), ids), 2u) << "how many there are, not how many fit";
  ids.resize(5);
  ASSERT_EQ(list_tenants(scratch_.dir(), ids), 2u);
  EXPECT_THAT((std::vector<std::string>{std::string(ids[0].view()), std::string(ids[1].view())}),
              UnorderedElementsAre("a", "b.c-d_e"));
}

TEST_F(SegmentTest, IsRemovedOnlyWhenNobodyIsInIt) {
  Tenant tenant;
  ASSERT_EQ(Tenant::create(scratch_.dir(), spec_of(1000), tenant), Status::ok);
  ASSERT_EQ(tenant.join(), Status::ok);
  EXPECT_EQ(Tenant::remove(scratch_.dir(), "t"), Status::exists);
  EXPECT_EQ(open(), Status::ok);
  tenant.leave();
  EXPECT_EQ(Tenant::remove(scratch_.dir(), "t"), Status::ok);
  EXPECT_EQ(open(), Status::not_found);
  EXPECT_EQ(Tenant::remove(scratch_.dir(), "t"), Status::not_found);
  EXPECT_FALSE(std::filesystem::exists(scratch_.segment()));
}

TEST_F(SegmentTest, NobodyJoinsWhatWasRemovedOrTheLimitWouldHoldTwice) {
  Tenant late;
  ASSERT_EQ(Tenant::create(scratch_.dir(), spec_of(1000), late), Status::ok);
  ASSERT_EQ(Tenant::remove(scratch_.dir(), "t"), Status::ok);
  ASSERT_EQ(create(spec_of(1000)), Status::ok);
  EXPECT_EQ(late.join(), Status::not_found);
  EXPECT_EQ(late.reserve(0, 1), Status::not_found);
}

TEST_F(SegmentTest, ARemovalThatDiedHalfwayIsFinishedByTheNext) {
  ASSERT_EQ(create(spec_of(1000)), Status::ok);
  edit([](Header& header) { header.removed = 1; });
  EXPECT_EQ(create(spec_of(2000)), Status::ok);
  Tenant tenant;
  ASSERT_EQ(Tenant::open(scratch_.dir(), "t", tenant), Status::ok);
  EXPECT_EQ(tenant.memory_limit_bytes(0), 2000u);
}

TEST_F(SegmentTest, ForeignHeadersAreRefused) {
  const std::vector<std::pair<std::function<void(Header&)>, Status>> cases = {
      {[](Header& h) { h.magic ^= 1; }, Status::corrupt},
      {[](Header& h) { h.major = kMajor + 1; }, Status::bad_version},
      {[](Header& h) { h.major = 0; }, Status::bad_version},
      {[](Header& h) { h.minor = kMinor + 1; }, Status::ok},
      {[](Header& h) { h.ready = 0; }, Status::corrupt},
      {[](Header& h) { h.byte_size -= 1; }, Status::corrupt},
      {[](Header& h) { h.byte_size = UINT64_MAX; }, Status::corrupt},
      {[](Header& h) { h.gpu_count = kMaxGpus + 1; }, Status::corrupt},
      {[](Header& h) { h.gpu_count = 2; }, Status::corrupt},
      {[](Header& h) { h.slot_count = 1; }, Status::corrupt},
      {[](Header& h) { h.object_count = UINT32_MAX; }, Status::corrupt},
      {[](Header& h) { std::fill(std::begin(h.id), std::end(h.id), 'x'); }, Status::corrupt},
      {[](Header& h) { std::fill(std::begin(h.name), std::end(h.name), 'x'); }, Status::corrupt},
      {[](Header& h) { h.id[0] = 'u'; }, Status::corrupt},
      {[](Header& h) { h.slot_high_water = UINT32_MAX; }, Status::ok},
  };
  for (std::size_t i = 0; i < cases.size(); ++i) {
    std::filesystem::remove(scratch_.segment());
    ASSERT_EQ(create(spec_of(1000)), Status::ok);
    edit(cases[i].first);
    EXPECT_EQ(open(), cases[i].second) << "case " << i;
  }
}

TEST_F(SegmentTest, WhatIsNotASegmentIsRefused) {
  std::ofstream(scratch_.segment()) << "";
  EXPECT_EQ(open(), Status::corrupt);
  std::ofstream(scratch_.segment()) << std::string(5000, '\0');
  EXPECT_EQ(open(), Status::corrupt);
  std::filesystem::remove(scratch_.segment());
  std::filesystem::create_directory(scratch_.segment());
  EXPECT_EQ(open(), Status::corrupt);
  std::filesystem::remove(scratch_.segment());
  ASSERT_EQ(::mkfifo(scratch_.segment().c_str(), 0600), 0);
  EXPECT_EQ(open(), Status::corrupt) << "and does not block on it";
  std::filesystem::remove(scratch_.segment());
  ASSERT_EQ(create(spec_of(1000, 1, "real")), Status::ok);
  std::filesystem::create_symlink(scratch_.segment("real"), scratch_.segment());
  EXPECT_EQ(open(), Status::corrupt) << "a link";
}

class StateDirTest : public ::testing::Test {
 protected:
  StateDir resolve(const std::map<std::string, std::string>& variables) {
    variables_ = variables;
    return state_dir([](const char* name) -> const char* {
      const auto found = variables_.find(name);
      return found == variables_.end() ? nullptr : found->second.c_str();
    });
  }
  inline static std::map<std::string, std::string> variables_;
  ScratchDir scratch_;
};

TEST_F(StateDirTest, FollowsTheVariablesInOrder) {
  EXPECT_EQ(
      resolve({{"VGPU_STATE_DIR", scratch_.path() + "/a"}, {"XDG_RUNTIME_DIR", scratch_.path()}})
          .path.view(),
      scratch_.path() + "/a");
  EXPECT_EQ(resolve({{"VGPU_STATE_DIR", ""}, {"XDG_RUNTIME_DIR", scratch_.path()}}).path.view(),
            scratch_.path() + "/vgpu");
  EXPECT_EQ(resolve({}).path.view(), "/dev/shm/vgpu-" + std::to_string(::geteuid()));
}

TEST_F(StateDirTest, IsMadePrivate) {
  const StateDir dir = resolve({{"VGPU_STATE_DIR", scratch_.path() + "/new"}});
  EXPECT_EQ(dir.error, 0);
  struct stat facts {};
  ASSERT_EQ(::stat(dir.path.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777, 0700u);
}

TEST_F(StateDirTest, SaysWhyItCannotBeUsed) {
  EXPECT_EQ(resolve({{"VGPU_STATE_DIR", scratch_.path() + "/no/parent"}}).error, ENOENT);
  EXPECT_EQ(resolve({{"VGPU_STATE_DIR", std::string(300, 'x')}}).error, ENAMETOOLONG);
  std::ofstream(scratch_.path() + "/file");
  EXPECT_EQ(resolve({{"VGPU_STATE_DIR", scratch_.path() + "/file"}}).error, ENOTDIR);
  std::filesystem::create_directory_symlink(scratch_.path(), scratch_.path() + "/link");
  EXPECT_EQ(resolve({{"VGPU_STATE_DIR", scratch_.path() + "/link"}}).error, ELOOP);
  std::filesystem::create_directory(scratch_.path() + "/open");
  ASSERT_EQ(::chmod((scratch_.path() + "/open").c_str(), 0777), 0);
  EXPECT_EQ(resolve({{"VGPU_STATE_DIR", scratch_.path() + "/open"}}).error, EPERM);
}

}  // namespace
}  // namespace vgpu::shm

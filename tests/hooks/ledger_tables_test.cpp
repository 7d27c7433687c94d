// SPDX-License-Identifier: Apache-2.0
// How long memory stays charged: blocks, contexts, physical memory with its handles, mappings and
// binds, code, graphs.
#include <gtest/gtest.h>

#include <vector>

#include "ledger/allocation_table.h"
#include "ledger/code_table.h"
#include "ledger/context_table.h"
#include "ledger/graph_table.h"
#include "ledger/physical_table.h"
#include "ledger/pool_table.h"
#include "sizes.h"

namespace vgpu::limiter {
namespace {

constexpr std::uint64_t kBase = 0x7f0000000000;

Freed free_one(AllocationTable& table, std::uint64_t handle) {
  Allocation taken;
  EXPECT_TRUE(table.begin_free(handle, taken));
  return table.end_free(handle, taken);
}

TEST(AllocationTable, BlockIsChargedOnceWhileAnythingInItLives) {
  AllocationTable table;
  EXPECT_TRUE(table.add_in_block(kBase, 1024, 0, 1));
  EXPECT_FALSE(table.add_in_block(kBase + 1024, 1024, 0, 1));
  EXPECT_TRUE(table.add_in_block(kBase + kPage, 1024, 0, 1));
  EXPECT_TRUE(free_one(table, kBase).nothing());
  EXPECT_EQ(free_one(table, kBase + 1024).bytes, kPage);
  EXPECT_EQ(free_one(table, kBase + kPage).bytes, kPage);
  EXPECT_EQ(table.block_count(), 0U);
}

TEST(AllocationTable, AllocationIntoABlockDuringItsLastFreeKeepsItCharged) {
  AllocationTable table;
  table.add_in_block(kBase, 1024, 0, 1);
  Allocation taken;
  ASSERT_TRUE(table.begin_free(kBase, taken));
  EXPECT_FALSE(table.add_in_block(kBase, 1024, 0, 1))
      << "the driver gave the same address to another thread";
  EXPECT_TRUE(table.end_free(kBase, taken).nothing());
  EXPECT_EQ(free_one(table, kBase).bytes, kPage);
}

TEST(AllocationTable, UndoneFreeIsAsIfItHadNotBeen) {
  AllocationTable table;
  table.add(kBase, {.bytes = 4 * kMiB, .context = 1});
  Allocation taken;
  ASSERT_TRUE(table.begin_free(kBase, taken));
  EXPECT_FALSE(table.find(kBase, taken)) << "nobody else may free it meanwhile";
  table.undo_free(kBase, taken);
  EXPECT_EQ(free_one(table, kBase).bytes, 4 * kMiB);
}

TEST(AllocationTable, ContextTakesItsMemoryWithIt) {
  AllocationTable table;
  table.add(kBase, {.bytes = 4 * kMiB, .context = 1});
  table.add(kBase + 64 * kMiB, {.bytes = 6 * kMiB, .context = 2});
  table.add_in_block(kBase + 128 * kMiB, 512, 0, 1);
  table.add_in_block(kBase + 128 * kMiB + 512, 512, 0, 1);
  std::uint64_t released = 0;
  table.drop_context(1, [&](const Freed& freed) { released += freed.bytes; });
  EXPECT_EQ(released, 4 * kMiB + kPage);
  EXPECT_EQ(table.size(), 1U);
  EXPECT_FALSE(table.may_have_place(0, 1)) << "the context's blocks are gone";
}

TEST(AllocationTable, SharedAllocationReleasesItsKeyInsteadOfBytes) {
  AllocationTable table;
  table.add(kBase, {.bytes = 4 * kMiB, .context = 1});
  const ShareKey key{.high = 1, .low = 2};
  ShareKey existing;
  std::uint32_t gpu = 9;
  EXPECT_EQ(table.mark_shared(kBase, key, existing, gpu), 4 * kMiB);
  EXPECT_EQ(table.mark_shared(kBase, key, existing, gpu), 0U) << "moved once";
  EXPECT_TRUE(existing.is_set());
  EXPECT_EQ(free_one(table, kBase).key.low, 2U);
}

TEST(AllocationTable, ImportIsReleasedByItsLastClose) {
  AllocationTable table;
  table.add(kBase, {.bytes = kPage, .kind = AllocationKind::imported});
  ASSERT_TRUE(table.add_ref(kBase));
  Allocation import;
  bool last = true;
  ASSERT_TRUE(table.drop_ref(kBase, import, last));
  EXPECT_FALSE(last);
  ASSERT_TRUE(table.drop_ref(kBase, import, last));
  EXPECT_TRUE(last);
  EXPECT_FALSE(table.drop_ref(kBase, import, last));
}

TEST(AllocationTable, SmallArraysArePackedFirstFitAsTheDriverDoes) {
  // Pages that 24 arrays of a size took on an H200.
  const std::pair<std::uint64_t, unsigned> cases[] = {{64, 1},  {128, 2},  {192, 3},  {512, 6},
                                                      {576, 8}, {704, 12}, {1024, 12}};
  for (const auto& [kib, pages] : cases) {
    AllocationTable table;
    unsigned fresh = 0;
    for (std::uint64_t i = 1; i <= 24; ++i) fresh += table.add_small_array(i * 8, kib * 1024, 0, 1);
    EXPECT_EQ(fresh, pages) << kib << " KiB";
    std::uint64_t freed = 0;
    for (std::uint64_t i = 2; i <= 24; i += 2) freed += free_one(table, i * 8).bytes;
    EXPECT_EQ(freed, 0U) << "every other one gives no page back";
    for (std::uint64_t i = 2; i <= 24; i += 2)
      EXPECT_FALSE(table.add_small_array(i * 8, kib * 1024, 0, 1)) << "holes";
    for (std::uint64_t i = 1; i <= 24; ++i) freed += free_one(table, i * 8).bytes;
    EXPECT_EQ(freed, pages * kPage) << kib << " KiB";
  }
}

TEST(AllocationTable, SmallArraysOfTwoContextsShareNoPage) {
  AllocationTable table;
  EXPECT_TRUE(table.add_small_array(8, 65536, 0, 1));
  EXPECT_TRUE(table.add_small_array(16, 65536, 0, 2));
  std::uint64_t released = 0;
  table.drop_context(1, [&](const Freed& freed) { released += freed.bytes; });
  EXPECT_EQ(released, kPage);
}

class Physical : public ::testing::Test {
 protected:
  std::uint64_t make(std::uint64_t handle, std::uint64_t bytes) {
    return table_.add(handle, {.bytes = bytes});
  }
  void release_handle(std::uint64_t handle) {
    const std::uint64_t id = table_.begin_release(handle);
    ASSERT_NE(id, 0U);
    table_.end_release(id, count_);
  }
  void map(std::uint64_t address, std::uint64_t size, std::uint64_t id) {
    ASSERT_TRUE(table_.pin(id));
    table_.add_mapping(address, size, id);
    table_.unpin(id, count_);
  }
  PhysicalTable table_;
  std::uint64_t released_ = 0;
  bool exported_ = false;
  struct Count {
    Physical* test;
    void operator()(const Freed& freed, bool exported) const {
      test->released_ += freed.bytes;
      test->exported_ = exported;
    }
  } count_{this};
};

TEST_F(Physical, LivesUntilTheLastMappingAfterItsHandle) {
  const std::uint64_t id = make(0x10, 20 * kMiB);
  map(kBase, 20 * kMiB, id);
  map(kBase + 64 * kMiB, 20 * kMiB, id);
  release_handle(0x10);
  EXPECT_EQ(released_, 0U);
  table_.remove_mappings(kBase, 20 * kMiB, count_);
  EXPECT_EQ(released_, 0U);
  table_.remove_mappings(kBase + 64 * kMiB, 20 * kMiB, count_);
  EXPECT_EQ(released_, 20 * kMiB);
  EXPECT_EQ(table_.size(), 0U);
}

TEST_F(Physical, LivesUntilTheLastHandleAfterItsMappings) {
  const std::uint64_t id = make(0x10, 20 * kMiB);
  map(kBase, 20 * kMiB, id);
  ASSERT_TRUE(table_.retain(0x10, kBase));
  table_.remove_mappings(kBase, 20 * kMiB, count_);
  release_handle(0x10);
  EXPECT_EQ(released_, 0U);
  release_handle(0x10);
  EXPECT_EQ(released_, 20 * kMiB);
}

TEST_F(Physical, OneUnmapCoversManyMappingsAndGapsInThem) {
  const std::uint64_t first = make(0x10, 4 * kMiB);
  const std::uint64_t second = make(0x20, 4 * kMiB);
  map(kBase, 4 * kMiB, first);
  map(kBase + 8 * kMiB, 4 * kMiB, second);
  release_handle(0x10);
  release_handle(0x20);
  table_.remove_mappings(kBase, 12 * kMiB, count_);
  EXPECT_EQ(released_, 8 * kMiB);
  EXPECT_EQ(table_.mapping_count(), 0U);
}

TEST_F(Physical, PartOfAMappingLeavesTheRest) {
  const std::uint64_t id = make(0x10, 8 * kMiB);
  map(kBase, 8 * kMiB, id);
  release_handle(0x10);
  table_.remove_mappings(kBase + 2 * kMiB, 2 * kMiB, count_);
  EXPECT_EQ(released_, 0U);
  EXPECT_EQ(table_.mapped_at(kBase + 3 * kMiB), 0U);
  EXPECT_EQ(table_.mapped_at(kBase + 5 * kMiB), id);
  table_.remove_mappings(kBase, 8 * kMiB, count_);
  EXPECT_EQ(released_, 8 * kMiB);
}

TEST_F(Physical, HandleThatIsUsedAgainIsOtherMemory) {
  const std::uint64_t old_id = make(0x10, 4 * kMiB);
  map(kBase, 4 * kMiB, old_id);
  release_handle(0x10);
  const std::uint64_t new_id = make(0x10, 6 * kMiB);
  EXPECT_NE(old_id, new_id);
  release_handle(0x10);
  EXPECT_EQ(released_, 6 * kMiB) << "the mapping holds the old memory only";
}

TEST_F(Physical, FailedReleaseKeepsTheHandle) {
  make(0x10, 4 * kMiB);
  const std::uint64_t id = table_.begin_release(0x10);
  EXPECT_EQ(table_.id_of(0x10), 0U);
  table_.undo_release(0x10, id);
  EXPECT_EQ(table_.id_of(0x10), id);
  release_handle(0x10);
  EXPECT_EQ(released_, 4 * kMiB);
}

TEST_F(Physical, MulticastObjectHoldsWhatIsBoundToIt) {
  const std::uint64_t id = make(0x10, 4 * kMiB);
  const std::uint64_t multicast = table_.add(0x99, {.multicast = true});
  table_.add_bind(multicast, id, 0, 0, 2 * kMiB);
  table_.add_bind(multicast, id, 0, 2 * kMiB, 2 * kMiB);
  release_handle(0x10);
  table_.remove_binds(multicast, 0, 0, 2 * kMiB, count_);
  EXPECT_EQ(released_, 0U);
  release_handle(0x99);
  EXPECT_EQ(released_, 4 * kMiB);
  EXPECT_EQ(table_.size(), 0U);
}

TEST_F(Physical, EndOfExportedMemoryIsToldApart) {
  const std::uint64_t id = make(0x10, 4 * kMiB);
  table_.edit(id, [](PhysicalMemory& memory) { memory.exported = true; });
  release_handle(0x10);
  EXPECT_TRUE(exported_);
}

TEST(ContextTable, MemoryOfAGreenContextDiesWithThePrimary) {
  ContextTable table;
  ASSERT_TRUE(table.add(0x100, {.kind = ContextKind::primary}));
  EXPECT_FALSE(table.add(0x100, {.kind = ContextKind::primary})) << "recorded once";
  Context primary;
  ASSERT_TRUE(table.find(0x100, primary));
  table.add(0x200, {.owner = primary.owner, .kind = ContextKind::green});
  table.drop_inside(primary.owner);
  Context found;
  EXPECT_FALSE(table.find(0x200, found));
}

TEST(ContextTable, HandleThatComesAgainIsAnotherOwner) {
  ContextTable table;
  Context first;
  Context second;
  table.add(0x100, {});
  table.take(0x100, first);
  table.add(0x100, {});
  table.take(0x100, second);
  EXPECT_NE(first.owner, second.owner);
}

TEST(CodeTable, LibraryIsChargedOnceInEachContext) {
  CodeTable table;
  EXPECT_TRUE(table.add_use(0x1000, {.bytes = 5, .owner = 1, .library = 0x1000}));
  EXPECT_FALSE(table.add_use(0x1000, {.bytes = 5, .owner = 1, .library = 0x1000}));
  EXPECT_TRUE(table.add_use(0x1000, {.bytes = 5, .owner = 2, .library = 0x1000}));
  std::uint64_t released = 0;
  table.drop_context(1, [&](const LoadedCode& code) { released += code.bytes; });
  EXPECT_EQ(released, 5U);
  table.drop_library(0x1000, [&](const LoadedCode& code) { released += code.bytes; });
  EXPECT_EQ(released, 10U);
}

TEST(CodeTable, FunctionIsKnownAfterItsLaunchUntilForgotten) {
  CodeTable table;
  EXPECT_FALSE(table.was_launched(0x5000));
  table.note_launched(0x5000);
  EXPECT_TRUE(table.was_launched(0x5000));
  table.forget_launches();
  EXPECT_FALSE(table.was_launched(0x5000));
}

TEST(GraphTable, ExecMayBeResidentOnlyAfterALaunchWithoutATrimSince) {
  GraphTable table;
  GraphMemory memory;
  memory.bytes[0] = kPage;
  table.add(0x77, memory);
  ASSERT_TRUE(table.find(0x77, memory));
  EXPECT_FALSE(table.may_be_resident(memory));
  table.note_launch(0x77);
  ASSERT_TRUE(table.find(0x77, memory));
  EXPECT_TRUE(table.may_be_resident(memory));
  table.note_trim();
  EXPECT_FALSE(table.may_be_resident(memory));
  table.remove(0x77);
  EXPECT_FALSE(table.has_any());
}

TEST(PoolTable, DestroyedPoolIsNoLongerCurrent) {
  PoolTable table;
  Pool* pool = table.find_or_add(0x31, 2);
  ASSERT_NE(pool, nullptr);
  EXPECT_EQ(table.find_or_add(0x31, 2), pool);
  table.set_current(2, pool);
  EXPECT_EQ(table.remove(0x31), pool);
  EXPECT_EQ(table.current(2), nullptr);
  EXPECT_EQ(table.find(0x31), nullptr);
  unsigned visited = 0;
  table.for_each([&](Pool&) { ++visited; });
  EXPECT_EQ(visited, 0U);
}

}  // namespace
}  // namespace vgpu::limiter

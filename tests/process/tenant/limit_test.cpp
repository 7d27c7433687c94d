// SPDX-License-Identifier: Apache-2.0
// At the limit: what is shown free can be had, what is charged already can be used, and nothing
// that nobody asks for by name comes on top.
#include <gtest/gtest.h>

#include "rig.h"

namespace {

using namespace vgpu::test;

constexpr long kOutOfMemory = 2;

TEST(AtTheLimit, AllThatIsShownFreeCanBeHadInOnePiece) {
  for (const long limit_mib : {2048, 2049, 2051}) {
    const Rig rig(limit_mib);
    Worker worker = rig.member();
    const Answer rest = worker.ask("rest");
    EXPECT_EQ(rest.code, 0) << limit_mib;
    EXPECT_GE(rest.number, 1500 * kMiB);
    EXPECT_EQ(worker.ask("fill 2").number, 0);
    EXPECT_LE(rig.driver_bytes(), limit_mib * kMiB);
  }
}

TEST(AtTheLimit, SmallAllocationsOfBothKindsFindTheirPlaceInABlockThatIsCharged) {
  const Rig rig(2048);
  Worker worker = rig.member();
  ASSERT_EQ(worker.ask("small").code, 0);
  ASSERT_EQ(worker.ask("fill 2").code, kOutOfMemory);
  EXPECT_EQ(worker.ask("small").code, 0);
  EXPECT_EQ(worker.ask("smallpitch").code, 0);
  EXPECT_LE(rig.most_driver_bytes(), 2048 * kMiB);
}

// A context's pages for streams, some to a page. The limit isn't passed by the first one that needs
// a page; one that fits is made.
TEST(AtTheLimit, StreamsComeInPagesThatAreChargedAndNoFurther) {
  const Rig rig(2048);
  Worker worker = rig.member();
  ASSERT_EQ(worker.ask("stream").code, 0);
  EXPECT_EQ(worker.ask("info").number, rig.driver_bytes());
  ASSERT_EQ(worker.ask("fill 2").code, kOutOfMemory);
  EXPECT_EQ(worker.ask("stream").code, 0) << "there is a place in the first one's page";
  EXPECT_EQ(worker.ask("info").number, rig.driver_bytes());
  int created = 0;
  while (created < 8 && worker.ask("stream").code == 0) ++created;
  EXPECT_LT(created, 8);
  EXPECT_LE(rig.most_driver_bytes(), 2048 * kMiB);
  EXPECT_EQ(worker.ask("info").number, rig.driver_bytes());
}

}  // namespace

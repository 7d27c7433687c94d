// SPDX-License-Identifier: Apache-2.0
// At the limit: what is shown free can be had, what is charged already can be used, and nothing
// that nobody asks for by name comes on top.
#include <gtest/gtest.h>

#include <string>

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

// What launches take is charged ahead, and once: when it was taken, the charge is what is held.
TEST(ImplicitMemory, IsChargedOnceWhenItWasTaken) {
  for (const char* kind : {"local", "localgraph", "stack", "heap", "newcontext", "library"}) {
    const Rig rig(4096);
    Worker worker = rig.member();
    for (const long mib : {300, 400}) {
      if (mib == 400 && std::string(kind) == "heap") continue;  // of one size, once it is used
      ASSERT_EQ(worker.ask(kind + std::string(" ") + std::to_string(mib)).code, 0) << kind;
      EXPECT_EQ(worker.ask("info").number, rig.driver_bytes()) << kind << " " << mib;
    }
    EXPECT_EQ(worker.ask("free").code, 0);
    EXPECT_EQ(worker.ask("info").number, rig.driver_bytes()) << kind << " given back";
    ASSERT_EQ(worker.ask("fill 64").code, kOutOfMemory);
    EXPECT_LE(rig.most_driver_bytes(), 4096 * kMiB) << kind;
  }
}

// A limit that would pass is refused, and is charged as before.
TEST(ImplicitMemory, ARefusedLimitChangesNothing) {
  const Rig rig(2048);
  Worker worker = rig.member();
  ASSERT_EQ(worker.ask("stack 300").code, 0);
  const long before = worker.ask("info").number;
  for (const char* kind : {"stack 1900", "heap 1900"})
    EXPECT_EQ(worker.ask(kind).code, kOutOfMemory) << kind;
  EXPECT_EQ(worker.ask("info").number, before);
  EXPECT_EQ(rig.driver_bytes(), before);
}

}  // namespace

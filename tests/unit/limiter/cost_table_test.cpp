// SPDX-License-Identifier: Apache-2.0
#include "compute/cost_table.h"

#include <gtest/gtest.h>

namespace vgpu::limiter {
namespace {

TEST(KnownWork, ACallIsSlowThatTakesMuchLongerThanTheyDo) {
  KnownWork work;
  EXPECT_FALSE(work.note_call(900'000));  // loads its code
  EXPECT_FALSE(work.note_call(8'000));
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(work.note_call(8'000 + 500 * (i % 3)));
  EXPECT_TRUE(work.note_call(40'000));
  EXPECT_FALSE(work.note_call(8'000));
}

// A program launches a few at a time, behind each other or after having slept.
TEST(KnownWork, OneFastCallDoesntMakeTheOthersSlow) {
  KnownWork work;
  for (int i = 0; i < 10; ++i) work.note_call(9'000);
  EXPECT_FALSE(work.note_call(2'500));
  int slow = 0;
  for (int i = 0; i < 100; ++i) slow += work.note_call(9'000) ? 1 : 0;
  EXPECT_LE(slow, 3);
}

TEST(KnownWork, CallsThatAreAllSlowBecomeUsual) {
  KnownWork work;
  work.note_call(3'000);
  int slow = 0;
  for (int i = 0; i < 100; ++i) slow += work.note_call(30'000) ? 1 : 0;
  EXPECT_LE(slow, 20);
  EXPECT_FALSE(work.note_call(30'000));
  KnownWork stopped;  // in the call, for a minute
  stopped.note_call(60'000'000'000);
  EXPECT_FALSE(stopped.note_call(3'000));
  EXPECT_TRUE(stopped.note_call(30'000));
}

}  // namespace
}  // namespace vgpu::limiter

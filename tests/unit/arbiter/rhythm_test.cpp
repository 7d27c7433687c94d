// SPDX-License-Identifier: Apache-2.0
// Who is late, told by what a seat says of its launches.
#include "vgpu/core/rhythm.h"

#include <gtest/gtest.h>

#include "times.h"

namespace vgpu::core {
namespace {

class RhythmTest : public testing::Test {
 protected:
  // A piece of work is launched; then all is done.
  void launch(std::uint64_t at_ns) {
    said_.last_launch_ns = at_ns;
    said_.work_ns += kPieceNs;
  }
  void look(std::uint64_t at_ns) { rhythm_.observe(at_ns, said_, 150 * kUs); }
  void request(std::uint64_t at_ns, std::uint64_t takes_ns) {
    launch(at_ns);
    look(at_ns);
    said_.done_ns = said_.work_ns;
    look(at_ns + takes_ns);
  }
  // One each 2 ms; gives when the next is due.
  std::uint64_t keep_pace(int times) {
    for (int i = 0; i < times; ++i, due_ns_ += 2 * kMs) {
      request(due_ns_, kPieceNs);
      EXPECT_FALSE(rhythm_.is_late()) << i;
    }
    return due_ns_;
  }

  static constexpr std::uint64_t kPieceNs = 200 * kUs;
  std::uint64_t due_ns_ = kS;
  Rhythm::Said said_;
  Rhythm rhythm_;
};

TEST_F(RhythmTest, IsLateWhoseWorkTookLongerThanItUsuallyComes) {
  const std::uint64_t due = keep_pace(120);
  request(due, 1'800 * kUs);
  EXPECT_FALSE(rhythm_.is_late()) << "the next isn't due soon";
  request(due + 2 * kMs, 2'300 * kUs);
  EXPECT_TRUE(rhythm_.is_late());
}

TEST_F(RhythmTest, StaysLateWhileItComesBackAtOnce) {
  const std::uint64_t due = keep_pace(120);
  request(due, 5 * kMs);
  request(due + 5'030 * kUs, kPieceNs);
  EXPECT_TRUE(rhythm_.is_late()) << "two more were due meanwhile";
  request(due + 5'260 * kUs, kPieceNs);
  EXPECT_TRUE(rhythm_.is_late());
  request(due + 6 * kMs, kPieceNs);
  EXPECT_FALSE(rhythm_.is_late()) << "it came when it was due";
}

TEST_F(RhythmTest, WhoPausesAfterItsWorkIsNotLate) {
  std::uint64_t now = kS;
  for (int i = 0; i < 400; ++i) {
    const std::uint64_t takes = i % 3 == 0 ? 2'300 * kUs : kPieceNs;
    request(now, takes);
    EXPECT_FALSE(rhythm_.is_late()) << i;
    now += takes + 2 * kMs;
  }
}

// What is late comes back between two looks, so that its end isn't seen.
TEST_F(RhythmTest, LooksMayBeMissed) {
  std::uint64_t due = keep_pace(120);
  for (int i = 0; i < 200; ++i, due += 12 * kMs) {
    for (std::uint64_t piece = 0; piece < 5; ++piece) {
      launch(due + piece * 2'600 * kUs);
      look(due + piece * 2'600 * kUs + 50 * kUs);
    }
    said_.done_ns = said_.work_ns;
    look(due + 13 * kMs);
    EXPECT_TRUE(rhythm_.is_late()) << i;
    request(due + 13'030 * kUs, kPieceNs);
    EXPECT_TRUE(rhythm_.is_late()) << i;
  }
}

TEST_F(RhythmTest, NobodyIsLateAtFirst) {
  request(kS, 50 * kMs);
  EXPECT_FALSE(rhythm_.is_late());
  said_ = {};  // what the seat says is not trusted
  look(kS);
  EXPECT_FALSE(rhythm_.is_late());
}

}  // namespace
}  // namespace vgpu::core

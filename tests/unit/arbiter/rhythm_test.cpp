// SPDX-License-Identifier: Apache-2.0
// Who is late, told by what a seat says of its launches.
#include "vgpu/core/rhythm.h"

#include <gtest/gtest.h>

#include "times.h"

namespace vgpu::core {
namespace {

class RhythmTest : public testing::Test {
 protected:
  // One piece of work, seen when it is launched and when it is done.
  void request(std::uint64_t launched_ns, std::uint64_t takes_ns) {
    rhythm_.observe(launched_ns, launched_ns, false, kAtOnceNs);
    rhythm_.observe(launched_ns + takes_ns, launched_ns, true, kAtOnceNs);
  }
  // 0.2 ms each 2 ms; gives when the next is due.
  std::uint64_t keep_pace(int times) {
    for (int i = 0; i < times; ++i, due_ns_ += 2 * kMs) {
      request(due_ns_, 200 * kUs);
      EXPECT_FALSE(rhythm_.is_late()) << i;
    }
    return due_ns_;
  }

  static constexpr std::uint64_t kAtOnceNs = 150 * kUs;
  std::uint64_t due_ns_ = kS;
  Rhythm rhythm_;
};

TEST_F(RhythmTest, IsLateWhoseWorkTookLongerThanItUsuallyComes) {
  const std::uint64_t due = keep_pace(20);
  request(due, 1'900 * kUs);
  EXPECT_FALSE(rhythm_.is_late()) << "the next isn't due";
  request(due + 2 * kMs, 2'300 * kUs);
  EXPECT_TRUE(rhythm_.is_late());
}

TEST_F(RhythmTest, StaysLateWhileItComesBackAtOnce) {
  const std::uint64_t due = keep_pace(20);
  request(due, 5 * kMs);
  request(due + 5'030 * kUs, 200 * kUs);
  EXPECT_TRUE(rhythm_.is_late()) << "two more were due meanwhile";
  request(due + 5'260 * kUs, 200 * kUs);
  EXPECT_TRUE(rhythm_.is_late());
  request(due + 6 * kMs, 200 * kUs);
  EXPECT_FALSE(rhythm_.is_late()) << "it came when it was due";
}

TEST_F(RhythmTest, WhoPausesAfterItsWorkIsNotLate) {
  std::uint64_t now = kS;
  for (int i = 0; i < 40; ++i) {
    const std::uint64_t takes = i % 3 == 0 ? 2'300 * kUs : 200 * kUs;
    request(now, takes);
    EXPECT_FALSE(rhythm_.is_late()) << i;
    now += takes + 2 * kMs;
  }
}

TEST_F(RhythmTest, LooksMayBeMissed) {
  const std::uint64_t due = keep_pace(20);
  // Two launches at one look, and an end that was seen only with the next.
  rhythm_.observe(due, due, false, kAtOnceNs);
  rhythm_.observe(due + 2'400 * kUs, due + 2'320 * kUs, false, kAtOnceNs);
  rhythm_.observe(due + 2'600 * kUs, due + 2'320 * kUs, true, kAtOnceNs);
  EXPECT_TRUE(rhythm_.is_late());
}

TEST_F(RhythmTest, NobodyIsLateAtFirst) {
  request(kS, 100 * kMs);
  EXPECT_FALSE(rhythm_.is_late());
  rhythm_.observe(kS, 0, true, kAtOnceNs);  // what the seat says is not trusted
  EXPECT_FALSE(rhythm_.is_late());
}

}  // namespace
}  // namespace vgpu::core

// SPDX-License-Identifier: Apache-2.0
// The words of hosting and of grants.
#include "vgpu/core/hosting.h"

#include <gtest/gtest.h>

namespace vgpu::core {
namespace {

constexpr std::uint64_t kMs = 1'000'000;

TEST(Hosting, IsTakenOverWhereNobodyHosts) {
  EXPECT_TRUE(Hosting::unpack(0).may_be_taken_over(1, 1));
}

TEST(Hosting, IsTakenOverOnlyFromAHostThatIsLateAndDoesNotAnswer) {
  const Hosting host{7, 1'000 * kMs};
  EXPECT_FALSE(host.may_be_taken_over(1'010 * kMs, 0));
  EXPECT_FALSE(host.may_be_taken_over(5'000 * kMs, 4'990 * kMs)) << "it slept: nobody needed it";
  EXPECT_TRUE(host.may_be_taken_over(5'021 * kMs, 5'000 * kMs));
}

TEST(Hosting, ChangesItsEpochWithEachHost) {
  const Hosting next = Hosting{0xffff, 1'000 * kMs}.taken_over(2'000 * kMs);
  EXPECT_EQ(next.epoch, 0);
  EXPECT_GE(Hosting::unpack(next.pack()).deadline_ns, 2'000 * kMs + kHostBeatNs);
}

TEST(GrantWord, KeepsWhatItWasGiven) {
  const std::uint64_t word = GrantWord::pack(3, {1'234'567'890, kInFlightNs, true, false});
  EXPECT_EQ(GrantWord::epoch(word), 3);
  EXPECT_GE(GrantWord::end_ns(word), 1'234'567'890U);
  EXPECT_LT(GrantWord::end_ns(word), 1'234'567'890U + 1'024);
  EXPECT_FALSE(GrantWord::is_alone(word));
}

TEST(GrantWord, TellsAloneFromOpenFromClosed) {
  const std::uint64_t alone = GrantWord::pack(1, {kForever, kForever, false, false});
  const std::uint64_t open = GrantWord::pack(1, {kForever, kInFlightNs, true, false});
  EXPECT_TRUE(GrantWord::is_alone(alone));
  EXPECT_FALSE(GrantWord::is_alone(open));
  EXPECT_EQ(GrantWord::end_ns(open), kForever);
  EXPECT_EQ(GrantWord::end_ns(GrantWord::pack(1, {})), 0U);
}

}  // namespace
}  // namespace vgpu::core

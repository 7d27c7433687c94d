// SPDX-License-Identifier: Apache-2.0
#include "throttle_episode.h"

#include <gtest/gtest.h>

#include "times.h"

namespace vgpu::hypervisor {
namespace {

TEST(ThrottleEpisodeTest, ReasonsThatComeAndGoAreSaidOnce) {
  ThrottleEpisode episode;
  EXPECT_EQ(episode.look(0x4, 1 * kSecondNs).began, 0x4u);
  for (std::uint64_t second = 2; second < 600; ++second) {
    const auto news = episode.look(second % 2 == 0 ? 0 : 0x4, second * kSecondNs);
    EXPECT_EQ(news.began, 0u);
    EXPECT_FALSE(news.ended);
  }
}

TEST(ThrottleEpisodeTest, AnotherReasonIsSaidWhenItComes) {
  ThrottleEpisode episode;
  EXPECT_EQ(episode.look(0x4, 1 * kSecondNs).began, 0x4u);
  EXPECT_EQ(episode.look(0x44, 2 * kSecondNs).began, 0x40u);
  EXPECT_EQ(episode.look(0x40, 3 * kSecondNs).began, 0u);
}

TEST(ThrottleEpisodeTest, ItEndsOnceAfterAWhileOfQuietAndMayBeginAgain) {
  ThrottleEpisode episode;
  EXPECT_FALSE(episode.look(0, 1 * kSecondNs).ended) << "nothing was said";
  (void)episode.look(0x4, 2 * kSecondNs);
  EXPECT_FALSE(episode.look(0, 2 * kSecondNs + ThrottleEpisode::kQuietNs - 1).ended);
  EXPECT_TRUE(episode.look(0, 2 * kSecondNs + ThrottleEpisode::kQuietNs).ended);
  EXPECT_FALSE(episode.look(0, 60 * kSecondNs).ended);
  EXPECT_EQ(episode.look(0x4, 61 * kSecondNs).began, 0x4u);
}

}  // namespace
}  // namespace vgpu::hypervisor

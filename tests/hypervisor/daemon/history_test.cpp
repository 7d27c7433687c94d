// SPDX-License-Identifier: Apache-2.0
#include "history.h"

#include <gtest/gtest.h>

#include "times.h"

namespace vgpu::hypervisor {
namespace {

HistoryPoint point(std::uint64_t second, float got) {
  HistoryPoint made;
  made.time_ns = second * kSecondNs;
  made.got_percent = got;
  made.used_bytes = std::uint64_t{3} << 20;
  return made;
}

TEST(HistoryTest, KeepsTenMinutesOfSecondsAndADayOfTens) {
  History history;
  for (std::uint64_t second = 1; second <= 100'000; ++second)
    history.add({}, "a", point(second, static_cast<float>(second % 10)));
  const auto seconds = history.read({}, "a", Resolution::seconds);
  ASSERT_EQ(seconds.size(), History::kSeconds);
  EXPECT_EQ(seconds.back().time_ns, 100'000 * kSecondNs);
  EXPECT_EQ(seconds.front().time_ns, 99'401 * kSecondNs);
  EXPECT_EQ(seconds.back().used_bytes, std::uint64_t{3} << 20);
  EXPECT_FALSE(seconds.back().owed_percent) << "what isn't known stays so";
  const auto tens = history.read({}, "a", Resolution::ten_seconds);
  ASSERT_EQ(tens.size(), History::kTens);
  EXPECT_NEAR(*tens.front().got_percent, 4.5, 0.06);
  EXPECT_EQ(tens.back().time_ns - tens.front().time_ns, (History::kTens - 1) * 10 * kSecondNs);
}

TEST(HistoryTest, SeriesOfDifferentTenantsAndGpusAreApart) {
  History history;
  history.add({}, "a", point(1, 10));
  history.add({}, "b", point(1, 20));
  EXPECT_NEAR(*history.read({}, "b", Resolution::seconds).at(0).got_percent, 20, 0.1);
  EXPECT_TRUE(history.read({}, "c", Resolution::seconds).empty());
}

TEST(HistoryTest, IsBounded) {
  History history;
  for (std::size_t i = 0; i < History::kMostSeries + 100; ++i)
    history.add({}, std::to_string(i), point(1, 1));
  EXPECT_EQ(history.series(), History::kMostSeries);
  history.tidy(kSecondNs + History::kKeptNs + 2 * kSecondNs);
  EXPECT_EQ(history.series(), 0u);
}

TEST(HistoryTest, AClockThatGoesBackAddsNothingTwice) {
  History history;
  for (const std::uint64_t second : {5, 6, 6, 4, 7}) history.add({}, "a", point(second, 1));
  EXPECT_EQ(history.read({}, "a", Resolution::seconds).size(), 3u);
}

}  // namespace
}  // namespace vgpu::hypervisor

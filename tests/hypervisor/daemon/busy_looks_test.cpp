// SPDX-License-Identifier: Apache-2.0
// What processes ran, from samples of a driver that has its periods, comes late, and says nothing
// of who ran nothing.
#include "busy_looks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "times.h"

namespace vgpu::hypervisor {
namespace {

constexpr std::uint64_t kEpochUs = 1'700'000'000'000'000;

// A driver whose one process ran in some milliseconds, and who is asked every so often.
struct CountingDriver {
  std::function<bool(std::uint64_t ms)> ran;
  std::uint64_t period_ms = 200, late_ms = 0, look_ms = 100;

  // What the windows say it ran within the time from `from_ms` on, in milliseconds.
  double counted_ms(std::uint64_t from_ms, std::uint64_t until_ms) const {
    BusyLooks looks;
    double sum = 0;
    std::uint64_t seen_until = 0;
    for (std::uint64_t now = 1000; now <= until_ms; now += look_ms) {
      looks.look(kEpochUs + now * 1000, now * kMsNs, samples(now, looks.seen_us()));
      std::uint64_t end = 0;
      for (const BusyWindow& window : looks.windows()) {
        EXPECT_GE(window.from_ns, end) << "they follow one another";
        EXPECT_GT(window.until_ns, window.from_ns);
        EXPECT_LE(window.until_ns, now * kMsNs) << "not in the future";
        end = window.until_ns;
        if (window.until_ns <= seen_until || window.from_ns < from_ms * kMsNs) continue;
        for (const auto& [pid, fraction] : window.by_process)
          sum += fraction * static_cast<double>(window.until_ns - window.from_ns) / kMsNs;
      }
      seen_until = end;
    }
    return sum;
  }

 private:
  // The driver keeps the last of its samples only.
  std::vector<BusySample> samples(std::uint64_t now_ms, std::uint64_t newer_than_us) const {
    if (now_ms < late_ms) return {};
    const std::uint64_t end = (now_ms - late_ms) / period_ms * period_ms;
    if (end < period_ms || kEpochUs + end * 1000 <= newer_than_us) return {};
    unsigned busy = 0;
    for (std::uint64_t ms = end - period_ms; ms < end; ++ms) busy += ran(ms) ? 1 : 0;
    const unsigned percent = busy * 100 / static_cast<unsigned>(period_ms);
    if (percent == 0) return {};
    return {{4711, kEpochUs + end * 1000, percent}};
  }
};

double ran_ms(const CountingDriver& driver, std::uint64_t from_ms, std::uint64_t until_ms) {
  double sum = 0;
  for (std::uint64_t ms = from_ms; ms < until_ms; ++ms) sum += driver.ran(ms) ? 1 : 0;
  return sum;
}

void expect_counted(const CountingDriver& driver, double tolerance) {
  const double truth = ran_ms(driver, 5'000, 60'000);
  EXPECT_NEAR(driver.counted_ms(5'000, 60'000) / truth, 1, tolerance) << truth;
}

TEST(BusyLooks, CountWhatRunsAllTheTime) {
  for (const std::uint64_t look_ms : {100, 130, 250, 500}) {
    CountingDriver driver{[](std::uint64_t ms) { return ms % 10 < 4; }};
    driver.look_ms = look_ms;
    expect_counted(driver, 0.03);
  }
}

TEST(BusyLooks, CountBurstsWithPausesBetweenThem) {
  // 300 ms in every 750, and in every 3,000.
  for (const std::uint64_t every_ms : {750, 3'000}) {
    CountingDriver driver{[=](std::uint64_t ms) { return ms % every_ms < 300; }};
    expect_counted(driver, 0.15);
    driver.late_ms = 120;
    expect_counted(driver, 0.15);
  }
}

TEST(BusyLooks, CountWhereTheDriverTakesItsTime) {
  CountingDriver driver{[](std::uint64_t ms) { return ms % 10 < 3; }};
  driver.period_ms = 1'000;
  driver.late_ms = 90;
  expect_counted(driver, 0.05);
  driver.period_ms = 167;
  expect_counted(driver, 0.05);
}

TEST(BusyLooks, NoSampleIsIdlenessOnlyOnceOneWouldHaveCome) {
  BusyLooks looks;
  const auto look = [&](std::uint64_t ms, const std::vector<BusySample>& samples) {
    looks.look(kEpochUs + ms * 1000, ms * kMsNs, samples);
  };
  look(1'000, {{1, kEpochUs, 50}});
  EXPECT_TRUE(looks.windows().empty()) << "what was before isn't known";
  look(1'100, {{1, kEpochUs + 1'100'000, 50}});
  look(1'300, {{1, kEpochUs + 1'300'000, 50}, {2, kEpochUs + 1'300'010, 20}});
  ASSERT_EQ(looks.windows().size(), 2u);
  EXPECT_EQ(looks.windows()[1].by_process.size(), 2u);
  EXPECT_DOUBLE_EQ(looks.windows()[1].by_process[1].second, 0.2);
  look(1'400, {});
  look(1'500, {});
  EXPECT_EQ(looks.windows().size(), 2u);
  look(1'700, {});
  ASSERT_EQ(looks.windows().size(), 3u);
  EXPECT_TRUE(looks.windows()[2].by_process.empty());
  EXPECT_EQ(looks.windows()[2].until_ns, 1'500 * kMsNs);
}

TEST(BusyLooks, TakeNothingThatCannotBe) {
  BusyLooks looks;
  looks.look(kEpochUs, kSecondNs, {});
  looks.look(kEpochUs + 100'000, kSecondNs + 100 * kMsNs,
             {{1, kEpochUs - 1, 10}, {1, kEpochUs + 99'000, 300}, {1, kEpochUs + 60'000'000, 10}});
  EXPECT_TRUE(looks.windows().empty());
  EXPECT_EQ(looks.seen_us(), kEpochUs);
  // After a long time without an answer it begins anew.
  looks.look(kEpochUs + 9'000'000, 10 * kSecondNs, {{1, kEpochUs + 8'900'000, 10}});
  EXPECT_TRUE(looks.windows().empty());
  for (int i = 1; i < 100; ++i) {
    const auto ms = static_cast<std::uint64_t>(i) * 200;
    looks.look(kEpochUs + 9'000'000 + ms * 1000, 10 * kSecondNs + ms * kMsNs,
               {{1, kEpochUs + 9'000'000 + ms * 1000, 10}});
  }
  EXPECT_LE(looks.windows().size(), 32u);
}

}  // namespace
}  // namespace vgpu::hypervisor

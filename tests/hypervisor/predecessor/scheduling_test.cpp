// SPDX-License-Identifier: Apache-2.0
// The predecessor's scheduling settings: what steers, what is said, what is refused.
#include "scheduling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace vgpu::hypervisor::testing {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// What operators' charts send.
constexpr const char* kChart = R"({"elasticRateLimitParameters":{"maxRefillRate":12000,
  "minRefillRate":"80","filterAlpha":"0.30","ki":0.4,"kd":1.0,"kp":0.12,"burstWindow":"0.25",
  "capacityMin":150,"capacityMax":6000,"integralDecayFactor":0.85},
  "autoFreezeAndResume":{"autoFreeze":[{"qos":"low","freezeToMemTTL":"1m","freezeToDiskTTL":"1h 30m",
  "enable":true},{"qos":"critical","freezeToMemTTL":"1w"}]}})";

std::string error_of(const std::string& json) {
  try {
    parse_scheduling(json);
  } catch (const SchedulingError& error) {
    return error.what;
  }
  return "";
}

TEST(Scheduling, TakesWhatSteersAndSaysWhatDoesNot) {
  const Scheduling scheduling = parse_scheduling(kChart);
  EXPECT_EQ(scheduling.supply.rate_max, 12'000);
  EXPECT_EQ(scheduling.supply.smoothing, 0.3);
  EXPECT_EQ(scheduling.supply.burst_window_s, 0.25);
  EXPECT_EQ(scheduling.supply.capacity_max, 6000);
  EXPECT_THAT(scheduling.notices, SizeIs(3));
  EXPECT_THAT(scheduling.notices, Contains(HasSubstr("capacityMin, minRefillRate without effect")));
  EXPECT_THAT(scheduling.notices,
              Contains(HasSubstr("integralDecayFactor, kd, ki, kp without effect")));
  EXPECT_THAT(scheduling.notices, Contains(HasSubstr("autoFreeze without effect")));
}

TEST(Scheduling, NothingIsTheDefaults) {
  for (const char* nothing : {"", "  ", "null", "{}", R"({"elasticRateLimitParameters":null})",
                              R"({"elasticRateLimitParameters":{"kp":null}})"}) {
    const Scheduling scheduling = parse_scheduling(nothing);
    EXPECT_EQ(scheduling.supply.burst_window_s, SupplyTerms{}.burst_window_s) << nothing;
    EXPECT_THAT(scheduling.notices, IsEmpty()) << nothing;
  }
}

TEST(Scheduling, SaysWhatItDoesNotKnow) {
  const auto notices =
      parse_scheduling(R"({"elasticRateLimitParameters":{"burstWindw":1,"more":2},"other":{}})")
          .notices;
  EXPECT_THAT(
      notices,
      Contains(HasSubstr("burstWindw isn't known and has no effect; burstWindow is meant?")));
  EXPECT_THAT(notices, Contains(HasSubstr("elasticRateLimitParameters.more isn't known")));
  EXPECT_THAT(notices, Contains(HasSubstr("other isn't known")));
}

TEST(Scheduling, RefusesWhatCannotBe) {
  const auto parameter = [](const std::string& text) {
    return error_of(R"({"elasticRateLimitParameters":{)" + text + "}}");
  };
  EXPECT_EQ(parameter(R"("burstWindow":"soon")"),
            "elasticRateLimitParameters.burstWindow: \"soon\" is no good; seconds from 0.05 to 60 "
            "are expected");
  EXPECT_THAT(parameter(R"("burstWindow":0)"), HasSubstr("0 is no good"));
  EXPECT_THAT(parameter(R"("filterAlpha":1.5)"), HasSubstr("filterAlpha"));
  EXPECT_THAT(parameter(R"("filterAlpha":"nan")"), HasSubstr("filterAlpha"));
  EXPECT_THAT(parameter(R"("kp":-1)"), HasSubstr("kp"));
  EXPECT_THAT(parameter(R"("kp":"0x1")"), HasSubstr("kp"));
  EXPECT_THAT(parameter(R"("kp":true)"), HasSubstr("kp"));
  EXPECT_THAT(parameter(R"("capacityMax":5)"), HasSubstr("the largest launch costs 10"));
  EXPECT_THAT(error_of("{"), HasSubstr("no JSON: at character 2"));
  EXPECT_THAT(error_of("[]"), HasSubstr("a JSON object is expected"));
  EXPECT_THAT(error_of(R"({"elasticRateLimitParameters":3})"), HasSubstr("an object is expected"));
  const auto freeze = [](const std::string& text) {
    return error_of(R"({"autoFreezeAndResume":{"autoFreeze":)" + text + "}}");
  };
  EXPECT_THAT(freeze("{}"), HasSubstr("a list is expected"));
  EXPECT_THAT(freeze("[{}]"), HasSubstr("autoFreeze[0]: qos is missing"));
  EXPECT_THAT(freeze(R"([{"qos":"Low"}])"), HasSubstr("low, medium, high or critical"));
  EXPECT_THAT(freeze(R"([{"qos":"low","enable":"yes"}])"), HasSubstr("true or false"));
  EXPECT_THAT(freeze(R"([{"qos":"low","freezeToMemTTL":"5"}])"), HasSubstr("a duration"));
  EXPECT_THAT(error_of(std::string(100, '[') + std::string(100, ']')), HasSubstr("nested"));
  EXPECT_THAT(error_of(std::string(70'000, ' ') + "{}"), HasSubstr("longer than"));
}

TEST(Scheduling, BreaksOnNoInput) {
  for (unsigned seed = 0; seed < 5000; ++seed) {
    std::mt19937 random(seed);
    std::string text = kChart;
    for (auto i = 1 + random() % 8; i > 0; --i) {
      constexpr std::string_view kSpice = "{}[]\",:-+.0eE1ntf \\\xff\x00";
      const std::size_t at = random() % text.size();
      if (random() % 3 == 0) {
        text.erase(at, 1 + random() % 6);
      } else {
        text[at] = kSpice[random() % kSpice.size()];
      }
      if (text.empty()) text = "{";
    }
    try {
      const SupplyTerms terms = parse_scheduling(text).supply;
      ASSERT_TRUE(terms.burst_window_s >= 0.05 && terms.burst_window_s <= 60) << seed;
      ASSERT_TRUE(terms.smoothing >= 0.01 && terms.smoothing <= 1) << seed;
      ASSERT_TRUE(terms.rate_max > 0 && terms.capacity_max > 10) << seed;
    } catch (const SchedulingError& error) {
      ASSERT_FALSE(error.what.empty()) << seed;
    }
  }
}

}  // namespace
}  // namespace vgpu::hypervisor::testing

// SPDX-License-Identifier: Apache-2.0
// Sizes and percents: every form, every bad form with the reason, and that what is shown reads
// back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "environment.h"

namespace vgpu::settings {
namespace {

using testing::HasSubstr;

std::uint64_t size_of(std::string_view text) {
  std::uint64_t bytes = 0;
  Line why;
  EXPECT_TRUE(parse_size(text, bytes, why)) << text << ": " << why.view();
  return bytes;
}

std::string why_not_size(std::string_view text) {
  std::uint64_t bytes = 7;
  Line why;
  EXPECT_FALSE(parse_size(text, bytes, why)) << text << " is taken for " << bytes;
  return std::string(why.view());
}

TEST(Size, TakesEveryUnitInEveryCaseAsBinary) {
  const std::pair<std::string, int> units[] = {{"", 0},   {"b", 0},  {"k", 10},
                                               {"m", 20}, {"g", 30}, {"t", 40}};
  for (const auto& [unit, shift] : units) {
    for (const std::string tail : {"", "b", "ib", "i"}) {
      if (shift == 0 && !tail.empty()) continue;
      std::string text = "3" + unit + tail;
      EXPECT_EQ(size_of(text), std::uint64_t{3} << shift) << text;
      for (char& c : text) c = static_cast<char>(std::toupper(c));
      EXPECT_EQ(size_of(text), std::uint64_t{3} << shift) << text;
    }
  }
  EXPECT_EQ(size_of("4GiB"), 4 * kGiB);
  EXPECT_EQ(size_of(" 4096 MiB "), 4 * kGiB);
  EXPECT_EQ(size_of("1073741824"), kGiB);
}

TEST(Size, TakesFractionsExactly) {
  EXPECT_EQ(size_of("1.5G"), kGiB + kGiB / 2);
  EXPECT_EQ(size_of("0.5k"), 512u);
  EXPECT_EQ(size_of("0.1GiB"), 107374182u);
  EXPECT_EQ(size_of("1.000000000000000000000000001G"), kGiB);
  EXPECT_EQ(size_of("1.0"), 1u);
}

TEST(Size, NoneIsNoLimit) {
  EXPECT_EQ(size_of("none"), kNoLimit);
  EXPECT_EQ(size_of("NONE"), kNoLimit);
}

TEST(Size, EndsBelowTwoToThe63) {
  EXPECT_EQ(size_of("9223372036854775807"), (std::uint64_t{1} << 63) - 1);
  EXPECT_EQ(size_of("8388607.99T"), (std::uint64_t{8388607} << 40) + 1088516511498u);
  for (const char* text :
       {"9223372036854775808", "18446744073709551616", "8388608T", "99999999999999999999999999G"}) {
    EXPECT_THAT(why_not_size(text), HasSubstr("2^63")) << text;
  }
}

TEST(Size, SaysWhyATextIsNone) {
  EXPECT_THAT(why_not_size("0"), HasSubstr("is zero"));
  EXPECT_THAT(why_not_size("0.0G"), HasSubstr("is zero"));
  EXPECT_THAT(why_not_size("0.0000001k"), HasSubstr("is zero"));
  EXPECT_THAT(why_not_size("-1"), HasSubstr("negative"));
  EXPECT_THAT(why_not_size("-4GiB"), HasSubstr("negative"));
  EXPECT_THAT(why_not_size(""), HasSubstr("nothing there"));
  EXPECT_THAT(why_not_size("four"), HasSubstr("is not a size"));
  EXPECT_THAT(why_not_size("4Q"), HasSubstr("\"Q\" is not a unit"));
  EXPECT_THAT(why_not_size("4GiBs"), HasSubstr("is not a unit"));
  EXPECT_THAT(why_not_size("4Bi"), HasSubstr("is not a unit"));
  EXPECT_THAT(why_not_size("1e9"), HasSubstr("\"e9\" is not a unit"));
  EXPECT_THAT(why_not_size("4.G"), HasSubstr("needs digits"));
  EXPECT_THAT(why_not_size(".5G"), HasSubstr("is not a size"));
  EXPECT_THAT(why_not_size("1.5"), HasSubstr("unit missing"));
  EXPECT_THAT(why_not_size("0x10"), HasSubstr("is not a unit"));
  EXPECT_THAT(why_not_size("4,5G"), HasSubstr("is not a unit"));
  EXPECT_THAT(why_not_size("+4G"), HasSubstr("is not a size"));
}

TEST(Size, ReadsBackAsItIsShown) {
  std::mt19937_64 random(20260722);
  for (int i = 0; i < 20000; ++i) {
    const std::uint64_t bytes = (random() >> 1 >> (random() % 63)) | (i % 3 == 0 ? 0 : kMiB);
    if (bytes == 0) continue;
    EXPECT_EQ(size_of(format_size(bytes).view()), bytes) << format_size(bytes).view();
  }
  EXPECT_EQ(format_size(4 * kGiB), "4 GiB");
  EXPECT_EQ(format_size(1536 * kMiB), "1536 MiB");
  EXPECT_EQ(format_size(1000), "1000 B");
  EXPECT_EQ(format_size(kNoLimit), "none");
  EXPECT_EQ(size_of(format_size(kNoLimit).view()), kNoLimit);
}

TEST(Percent, TakesWholeNumbersFromOneToAHundred) {
  Line why;
  for (int expected = 1; expected <= 100; ++expected) {
    std::uint8_t percent = 0;
    EXPECT_TRUE(parse_percent(std::to_string(expected), percent, why));
    EXPECT_EQ(percent, expected);
  }
  std::uint8_t percent = 50;
  EXPECT_TRUE(parse_percent("none", percent, why));
  EXPECT_EQ(percent, 0);
}

TEST(Percent, SaysWhyATextIsNone) {
  const std::pair<const char*, const char*> bad[] = {
      {"0", "zero"},          {"-5", "negative"},
      {"101", "over 100"},    {"99999999999999999999", "over 100"},
      {"2.5", "not a whole"}, {"30%", "not a whole"},
      {"", "nothing"},        {"half", "not a whole"},
      {"1e1", "not a whole"}, {"+30", "not a whole"},
  };
  for (const auto& [text, reason] : bad) {
    std::uint8_t percent = 0;
    Line why;
    EXPECT_FALSE(parse_percent(text, percent, why)) << text;
    EXPECT_THAT(std::string(why.view()), HasSubstr(reason)) << text;
    EXPECT_THAT(std::string(why.view()), HasSubstr("1 to 100")) << text;
  }
}

}  // namespace
}  // namespace vgpu::settings

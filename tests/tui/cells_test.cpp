// SPDX-License-Identifier: Apache-2.0
// Cells, wrapping, plots and histories.
#include "vgpu/tui/cells.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "histories.h"
#include "vgpu/tui/plot.h"

namespace vgpu::tui {
namespace {

using testing::ElementsAre;

TEST(Cells, CountWhatATerminalTakesForAText) {
  EXPECT_EQ(cells_of("abc"), 3U);
  EXPECT_EQ(cells_of("\xc3\xa4\xe2\xa3\xbf"), 2U);
  EXPECT_EQ(cells_of("\xe8\xae\xad\xe7\xbb\x83"), 4U) << "wide characters take two";
  EXPECT_EQ(fitted("\xe8\xae\xad\xe7\xbb\x83", 3), "\xe8\xae\xad") << "half of one is none";
  EXPECT_EQ(on_the_left("\xe8\xae\xad", 3), "\xe8\xae\xad ");
  EXPECT_EQ(on_the_right("123456", 5), " 1234");
}

TEST(Cells, ShowNothingThatATerminalActsOn) {
  EXPECT_EQ(shown("a\033[2Jb"), "a?[2Jb");
  EXPECT_EQ(shown("ma\xcc\x88r"), "ma?r") << "a mark without a cell of its own";
  EXPECT_EQ(shown("\xe2\x80\xae"
                  "exe"),
            "?exe")
      << "the direction of writing stays";
  EXPECT_EQ(shown("\xff"), "?");
}

TEST(Cells, OfALineAreCutAndAreAsciiWhereThereIsNoMore) {
  const Line line{{{"ab\xc3\xa4", Ink::plain}, {"\xe8\xae\xad!", Ink::bold}}, false};
  EXPECT_EQ(cut(line, 5, Glyphs::unicode).text(), "ab\xc3\xa4\xe8\xae\xad");
  EXPECT_EQ(cut(line, 5, Glyphs::ascii).text(), "ab???");
  EXPECT_EQ(cut(line, 4, Glyphs::unicode).text(), "ab\xc3\xa4");
}

TEST(Cells, WrapAtWordsAndBreakLongOnes) {
  EXPECT_THAT(wrapped("one two  three", 7), ElementsAre("one two", "three"));
  EXPECT_THAT(wrapped("abcdefgh i", 3), ElementsAre("abc", "def", "gh", "i"));
  EXPECT_THAT(wrapped("", 10), ElementsAre());
}

TEST(Plot, IsFilledUpToEachValue) {
  const std::vector<std::optional<double>> values = {100, 50, std::nullopt, 1};  // newest first
  EXPECT_THAT(plot(values, 4, 2, Glyphs::ascii), ElementsAre("   #", ". ##"));
  // Braille: two seconds a cell, eight dots in two rows.
  EXPECT_THAT(plot(values, 2, 2, Glyphs::unicode),
              ElementsAre(" \xe2\xa2\xb8", "\xe2\xa1\x80\xe2\xa3\xbf"));
}

TEST(Plot, HasAnAxisAndFits) {
  const auto lines = plot_with_axis({std::optional<double>(50)}, 10, 4, Glyphs::ascii);
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_EQ(lines[0].text(), "100 |");
  EXPECT_EQ(lines[3].text(), "  0 |    #");
  EXPECT_TRUE(plot_with_axis({}, 4, 4, Glyphs::ascii).empty());
}

TEST(Histories, PutLooksTogetherAndLeaveGaps) {
  Histories histories;
  const Histories::Key key{GpuUuid{}, "a"};
  histories.add(key, 100, {3, 2, 1});
  histories.add(key, 100, {9, 9, 9});  // the same second again
  histories.add(key, 101, {4, 3, 2});
  histories.add(key, 106, {9, 8, 7});
  using Value = std::optional<double>;
  EXPECT_THAT(histories.plot(key).got,
              ElementsAre(Value(9), Value(8), Value(7), std::nullopt, std::nullopt, Value(4),
                          Value(3), Value(2), Value(1)));
  histories.add(key, 100'000, {1});
  EXPECT_EQ(histories.plot(key).got.size(), Histories::kSeconds);
  histories.drop_older_than(100'001);
  EXPECT_EQ(histories.size(), 0U);
}

}  // namespace
}  // namespace vgpu::tui

// SPDX-License-Identifier: Apache-2.0
// The rules of one list variable, string by string.
#include "vgpu/add_path/edit.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace vgpu::add_path {
namespace {

constexpr std::string_view kPath = ":";
constexpr std::string_view kPreload = ": ";

std::string edited(std::string_view separators, const std::string& value, const std::string& append,
                   const std::string& prepend = "") {
  const Edit edit{separators, value, append, prepend};
  std::vector<char> out(edit.size_max());
  const auto size = edit.write_to(out.data());
  return size ? std::string(out.data(), *size) : value;
}

TEST(AppendedEntry, GoesToTheEnd) {
  EXPECT_EQ(edited(kPath, "/bin:/usr/bin", "/x"), "/bin:/usr/bin:/x");
}

TEST(AppendedEntry, StaysWhereTheListHasIt) {
  EXPECT_EQ(edited(kPath, "/bin:/x:/usr/bin", "/x"), "/bin:/x:/usr/bin");
}

TEST(AppendedEntry, IsComparedWhole) { EXPECT_EQ(edited(kPath, "/a/b", "/a"), "/a/b:/a"); }

TEST(AppendedEntry, MakesAListOfAnUnsetOrEmptyVariableWithoutAnEmptyElement) {
  EXPECT_EQ(edited(kPath, "", "/x"), "/x");
  EXPECT_EQ(edited(kPath, "", "/x", "/y"), "/y:/x");
}

TEST(SeveralEntries, AreAddedOneByOneInTheirOrder) {
  EXPECT_EQ(edited(kPath, "/bin", "/a:/b"), "/bin:/a:/b");
  EXPECT_EQ(edited(kPath, "/b:/bin", "/a:/b:/c"), "/b:/bin:/a:/c");
  EXPECT_EQ(edited(kPath, "/bin", "", "/a:/b"), "/a:/b:/bin");
}

TEST(SeveralEntries, AreNotAddedTwice) {
  EXPECT_EQ(edited(kPath, "/bin", "/a:/a:/b:/a"), "/bin:/a:/b");
  EXPECT_EQ(edited(kPath, "/bin", "", "/a:/a:/b:/a"), "/a:/b:/bin");
}

TEST(PrependedEntry, GoesToTheFront) {
  EXPECT_EQ(edited(kPath, "/bin:/usr/bin", "", "/x"), "/x:/bin:/usr/bin");
}

TEST(PrependedEntry, MovesToTheFrontFromWhereverItIs) {
  EXPECT_EQ(edited(kPath, "/a:/x:/b", "", "/x"), "/x:/a:/b");
  EXPECT_EQ(edited(kPath, "/a:/x", "", "/x"), "/x:/a");
  EXPECT_EQ(edited(kPath, "/x:/a", "", "/x"), "/x:/a");
  EXPECT_EQ(edited(kPath, "/x", "", "/x"), "/x");
  EXPECT_EQ(edited(kPath, "/a:/x:/b:/x", "", "/x"), "/x:/a:/b");
}

TEST(PrependedEntry, WinsOverAppending) {
  EXPECT_EQ(edited(kPath, "/bin", "/x", "/x"), "/x:/bin");
  EXPECT_EQ(edited(kPath, "/bin:/x", "/x", "/x"), "/x:/bin");
  EXPECT_EQ(edited(kPath, "/bin", "/a:/x:/b", "/x"), "/x:/bin:/a:/b");
  EXPECT_EQ(edited(kPath, "", "/x", "/x"), "/x");
}

TEST(EmptyElement, IsNotMadeByAnEmptyRequest) {
  EXPECT_EQ(edited(kPath, "/bin", "", ""), "/bin");
  EXPECT_EQ(edited(kPath, "/bin", ":", ":"), "/bin");
  EXPECT_EQ(edited(kPath, "/bin", ":/x::/y:", ""), "/bin:/x:/y");
  EXPECT_EQ(edited(kPath, "/bin", "", ":/x::/y:"), "/x:/y:/bin");
  EXPECT_EQ(edited(kPath, "", ":", ":"), "");
}

TEST(EmptyElement, OfTheUserStays) {
  EXPECT_EQ(edited(kPath, "/bin:", "/x"), "/bin::/x");
  EXPECT_EQ(edited(kPath, ":/bin", "", "/x"), "/x::/bin");
  EXPECT_EQ(edited(kPath, "/a::/x:/b", "", "/x"), "/x:/a::/b");
  EXPECT_EQ(edited(kPath, ":", "/x"), "::/x");
}

TEST(UsersList, KeepsItsOwnRepetitions) {
  EXPECT_EQ(edited(kPath, "/a:/b:/a", "/x"), "/a:/b:/a:/x");
  EXPECT_EQ(edited(kPath, "/a:/b:/a", "/a"), "/a:/b:/a");
}

TEST(PreloadList, IsSplitAtSpacesAndColons) {
  EXPECT_EQ(edited(kPreload, "/a.so /b.so", "/b.so"), "/a.so /b.so");
  EXPECT_EQ(edited(kPreload, "/a.so /b.so:/c.so", "/d.so /a.so"), "/a.so /b.so:/c.so:/d.so");
  EXPECT_EQ(edited(kPreload, "/a.so /b.so /c.so", "", "/b.so"), "/b.so:/a.so /c.so");
  EXPECT_EQ(edited(kPreload, "/b.so /a.so", "", "/b.so"), "/b.so /a.so");
}

TEST(PathList, IsNotSplitAtSpaces) {
  EXPECT_EQ(edited(kPath, "/my bin:/bin", "/my lib"), "/my bin:/bin:/my lib");
}

TEST(LibraryPathList, IsSplitAtSemicolonsToo) {
  EXPECT_EQ(edited(":;", "/a;/b", "/b:/c"), "/a;/b:/c");
}

TEST(Bytes, NeedNoEncoding) {
  EXPECT_EQ(edited(kPath, "/\xff\xfe:/bin", "/\xc3"), "/\xff\xfe:/bin:/\xc3");
  EXPECT_EQ(edited(kPath, "/\xff\xfe:/bin", "/\xff\xfe"), "/\xff\xfe:/bin");
}

TEST(Variables, SplitAsTheirReadersDo) {
  EXPECT_EQ(kVariables[0].separators, ":");
  EXPECT_EQ(kVariables[1].separators, ": ");
  EXPECT_EQ(kVariables[2].separators, ":;");
}

// Over random lists of few names, so that they meet: what holds for every edit.
TEST(Edit, KeepsItsPromisesOnRandomLists) {
  std::mt19937 random(20260301);
  const auto any_list = [&random](std::string_view separators) {
    static const char* const kNames[] = {"", "a", "b", "c", "aa", "\xff"};
    std::string list;
    const auto count = random() % 5;
    for (unsigned i = 0; i < count; ++i) {
      if (i > 0) list += separators[random() % separators.size()];
      list += kNames[random() % std::size(kNames)];
    }
    return list;
  };
  const auto elements = [](const std::string& list, std::string_view separators) {
    std::vector<std::string> result;
    if (list.empty()) return result;
    std::size_t from = 0;
    for (std::size_t i = 0; i <= list.size(); ++i) {
      if (i < list.size() && separators.find(list[i]) == std::string_view::npos) continue;
      result.push_back(list.substr(from, i - from));
      from = i + 1;
    }
    return result;
  };
  const auto count_of = [](const std::vector<std::string>& list, const std::string& element) {
    return std::count(list.begin(), list.end(), element);
  };
  for (int round = 0; round < 20000; ++round) {
    const std::string_view separators = kVariables[random() % kVariables.size()].separators;
    const std::string value = any_list(separators);
    const std::string append = any_list(separators);
    const std::string prepend = any_list(separators);
    SCOPED_TRACE("'" + value + "' append '" + append + "' prepend '" + prepend + "'");
    const std::string result = edited(separators, value, append, prepend);
    ASSERT_EQ(edited(separators, result, append, prepend), result) << "a second edit changed it";
    const auto before = elements(value, separators);
    const auto after = elements(result, separators);
    const auto wanted_first = elements(prepend, separators);
    ASSERT_EQ(count_of(after, ""), count_of(before, ""));
    std::vector<std::string> kept;
    for (const auto& element : before) {
      if (element.empty() || count_of(wanted_first, element) == 0) kept.push_back(element);
    }
    std::size_t at = 0;
    for (const auto& element : wanted_first) {
      if (element.empty()) continue;
      ASSERT_EQ(count_of(after, element), 1);
      if (at < after.size() && after[at] == element) ++at;
    }
    ASSERT_TRUE(std::equal(kept.begin(), kept.end(), after.begin() + static_cast<long>(at)));
    for (const auto& element : elements(append, separators)) {
      if (element.empty()) continue;
      ASSERT_EQ(count_of(after, element), std::max<long>(1, count_of(kept, element)));
    }
  }
}

}  // namespace
}  // namespace vgpu::add_path

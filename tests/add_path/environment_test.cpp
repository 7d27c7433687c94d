// SPDX-License-Identifier: Apache-2.0
// What happens to the array that an environment is.
#include "vgpu/add_path/environment.h"

#include <gtest/gtest.h>

#include <list>
#include <string>
#include <vector>

namespace vgpu::add_path {
namespace {

std::list<std::vector<char>> blocks;
int blocks_left = 1000;

void* allocate(std::size_t bytes) {
  if (blocks_left-- <= 0) return nullptr;
  return blocks.emplace_back(bytes).data();
}

class Environment : public testing::Test {
 protected:
  void SetUp() override { blocks_left = 1000; }
  void TearDown() override { blocks.clear(); }

  // Every array is followed by nothing, so that a write past it is seen by the sanitizer.
  char** of(std::vector<std::string> entries) {
    entries_ = std::move(entries);
    array_.clear();
    for (auto& entry : entries_) array_.push_back(entry.data());
    array_.push_back(nullptr);
    array_.shrink_to_fit();
    return array_.data();
  }
  static std::vector<std::string> strings(char** environment) {
    std::vector<std::string> result;
    for (; *environment != nullptr; ++environment) result.emplace_back(*environment);
    return result;
  }

  std::vector<std::string> entries_;
  std::vector<char*> array_;
};

using Strings = std::vector<std::string>;

TEST_F(Environment, IsEditedWhereItStands) {
  char** array = of({"A=1", "PATH=/bin", "TF_PATH=/x", "B=2"});
  EXPECT_EQ(edit_environment(array, allocate), array);
  EXPECT_EQ(strings(array), (Strings{"A=1", "PATH=/bin:/x", "TF_PATH=/x", "B=2"}));
}

TEST_F(Environment, GrowsByAVariableThatWasNotThere) {
  char** array = of({"TF_PATH=/x", "TF_PREPEND_LD_PRELOAD=/y.so"});
  EXPECT_EQ(strings(edit_environment(array, allocate)),
            (Strings{"TF_PATH=/x", "TF_PREPEND_LD_PRELOAD=/y.so", "PATH=/x", "LD_PRELOAD=/y.so"}));
  EXPECT_EQ(strings(array), (Strings{"TF_PATH=/x", "TF_PREPEND_LD_PRELOAD=/y.so"}));
}

TEST_F(Environment, KeepsEachVariableToItsOwnRequests) {
  char** array =
      of({"PATH=/bin", "LD_LIBRARY_PATH=/lib", "LD_PRELOAD=/p.so", "TF_LD_LIBRARY_PATH=/a",
          "TF_PREPEND_LD_LIBRARY_PATH=/b", "TF_LD_PRELOAD=/c.so", "TF_PREPEND_PATH=/d"});
  const auto result = strings(edit_environment(array, allocate));
  EXPECT_EQ(result[0], "PATH=/d:/bin");
  EXPECT_EQ(result[1], "LD_LIBRARY_PATH=/b:/lib:/a");
  EXPECT_EQ(result[2], "LD_PRELOAD=/p.so:/c.so");
}

TEST_F(Environment, WithoutRequestsIsNotTouched) {
  char** array =
      of({"PATH=/bin", "PATHS=/x", "TF_PATHS=/y", "XTF_PATH=/z", "TF_PATH=", "TF_PREPEND_PATH=:"});
  const auto before = strings(array);
  char* const path = array[0];
  EXPECT_EQ(edit_environment(array, allocate), array);
  EXPECT_EQ(strings(array), before);
  EXPECT_EQ(array[0], path);
}

TEST_F(Environment, GetsNoEmptyVariableForAnEmptyRequest) {
  char** array = of({"TF_LD_PRELOAD= ", "TF_PATH=::"});
  EXPECT_EQ(edit_environment(array, allocate), array);
}

TEST_F(Environment, MayBeEmpty) {
  char** array = of({});
  EXPECT_EQ(edit_environment(array, allocate), array);
}

TEST_F(Environment, MayHoldAVariableTwiceAndEntriesWithoutAValue) {
  char** array = of({"PATH", "PATH=/a", "PATH=/b", "TF_PATH=/x", "TF_PATH=/ignored", "=strange"});
  edit_environment(array, allocate);
  EXPECT_EQ(strings(array), (Strings{"PATH", "PATH=/a:/x", "PATH=/b:/x", "TF_PATH=/x",
                                     "TF_PATH=/ignored", "=strange"}));
}

TEST_F(Environment, StaysWholeWhenMemoryRunsOut) {
  for (int allowed = 0; allowed < 6; ++allowed) {
    blocks_left = allowed;
    char** array = of({"PATH=/bin", "TF_PATH=/x", "TF_LD_PRELOAD=/y.so", "TF_LD_LIBRARY_PATH=/z"});
    const auto result = strings(edit_environment(array, allocate));
    ASSERT_GE(result.size(), 4U);
    EXPECT_TRUE(result[0] == "PATH=/bin" || result[0] == "PATH=/bin:/x");
    EXPECT_EQ(result[3], "TF_LD_LIBRARY_PATH=/z");
  }
}

}  // namespace
}  // namespace vgpu::add_path

// SPDX-License-Identifier: Apache-2.0
// vgpu top without a terminal; on one, and its views: tests/tui.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tool.h"

namespace vgpu::cli_test {
namespace {

using testing::HasSubstr;
using testing::Not;

class TopTool : public ToolTest {};

TEST_F(TopTool, WithoutATerminalPrintsOneTable) {
  auto running = start({"run", "-q", "--name", "train", "--compute", "30", "--", CLIENT, "hold"});
  ASSERT_TRUE(running.wait_for("holding"));
  for (const auto& words : {std::vector<std::string>{"top"}, {"top", "--once", "tra"}}) {
    const Result table = vgpu(words);
    EXPECT_EQ(table.exit_code, 0) << table.err;
    EXPECT_THAT(table.out,
                testing::AllOf(HasSubstr("SHARE"), HasSubstr("train"), Not(HasSubstr("\033"))));
  }
  const auto all = nlohmann::json::parse(vgpu({"top", "--json"}).out, nullptr, false);
  EXPECT_EQ(all["gpus"][1]["tenants"][0]["share_percent"], 30);
  EXPECT_EQ(all["gpus"][1]["tenants"][0]["history_percent"].size(), 15U);
}

TEST_F(TopTool, RefusesWhatItDoesNotUnderstand) {
  for (const auto* interval : {"0", "x", "61", "1s", "nan"})
    EXPECT_EQ(vgpu({"top", "--interval", interval}).exit_code, 2) << interval;
  EXPECT_THAT(vgpu({"top", "--sort", "size"}).err, HasSubstr("VG1009"));
  EXPECT_EQ(vgpu({"top", "nobody"}).exit_code, 1);
}

}  // namespace
}  // namespace vgpu::cli_test

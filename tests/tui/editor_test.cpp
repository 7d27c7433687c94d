// SPDX-License-Identifier: Apache-2.0
// Changing a quota: nothing is asked for before it was shown and confirmed.
#include "editor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "made.h"
#include "vgpu/tui/interface.h"

namespace vgpu::tui {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class EditorTest : public testing::Test {
 protected:
  EditorTest() {
    model_.gpus[0].tenants[0].quota.compute_share_percent = 30;
    type("Ngc");
  }
  std::string text() {
    std::string all;
    for (const auto& line : draw(model_, state_, {24, 80}, Glyphs::ascii))
      all += line.text() + "\n";
    return all;
  }
  void press_key(int key) { press(state_, key, model_, {24, 80}); }
  void type(std::string_view keys) {
    for (const char key : keys) press_key(key);
  }

  Model model_ = made_model(3);
  State state_;
};

TEST_F(EditorTest, ShowsBeforeAndAfterAndAsksOnlyWhenConfirmed) {
  EXPECT_THAT(text(), AllOf(HasSubstr("QUOTA of tenant-000 on GPU 0"), HasSubstr("30 %")));
  type("50");
  press_key(kKeyDown);
  type("80");
  EXPECT_FALSE(state_.change);
  type("\r");
  EXPECT_FALSE(state_.change);
  EXPECT_THAT(text(),
              AllOf(HasSubstr("share     30 % -> 50 %"), HasSubstr("limit     none -> 80 %"),
                    HasSubstr("memory    4 GiB, as it was")));
  type("\rx");
  EXPECT_FALSE(state_.change) << "only y confirms";
  type("y");
  ASSERT_TRUE(state_.change);
  EXPECT_EQ(state_.change->row.tenant, "tenant-000-id");
  EXPECT_EQ(state_.change->flags.compute, "50");
  EXPECT_EQ(state_.change->flags.compute_limit, "80");
  EXPECT_EQ(state_.change->flags.memory, "");
  EXPECT_FALSE(state_.change->oversubscribe);
  ChangeResult done;
  done.done = true;
  done.text = "share 30 % -> share 50 %";
  take_result(state_, done);
  EXPECT_THAT(text(), HasSubstr("changed     share 30 % -> share 50 %"));
  EXPECT_TRUE(state_.look_now);
  type(" ");
  EXPECT_FALSE(state_.editor);
}

TEST_F(EditorTest, GoesBackFromTheConfirmationAndOutOfTheForm) {
  type("50\rn");
  ASSERT_TRUE(state_.editor);
  EXPECT_EQ(state_.editor->typed[0], "50") << "what was typed is there still";
  press_key(kKeyEscape);
  EXPECT_FALSE(state_.editor);
  EXPECT_FALSE(state_.change);
}

TEST_F(EditorTest, HasWhatSomebodyElseChangedLookedAtAgain) {
  type("50\r");
  model_.gpus[0].tenants[0].quota.compute_share_percent = 40;
  type("y");
  EXPECT_FALSE(state_.change);
  EXPECT_THAT(text(), AllOf(HasSubstr("changed meanwhile"), HasSubstr("40 %")));
  type("\r");
  EXPECT_THAT(text(), HasSubstr("40 % -> 50 %"));
  type("y");
  EXPECT_TRUE(state_.change);
}

TEST_F(EditorTest, NamesWhatItDoesNotUnderstand) {
  type("\r");
  EXPECT_THAT(text(), HasSubstr("nothing is typed"));
  type("500\r");
  EXPECT_THAT(text(), AllOf(HasSubstr("--compute"), HasSubstr("500")));
  press_key(kKeyBackspace);
  press_key(kKeyUp);  // round to priority
  press_key(kKeyUp);  // memory
  type("4parsecs\r");
  EXPECT_THAT(text(), HasSubstr("--memory"));
  EXPECT_EQ(state_.editor->step, Editor::Step::typing);
}

TEST_F(EditorTest, TurnsTheWordsOfFieldsThatHaveThem) {
  press_key(kKeyDown);
  press_key(kKeyDown);
  press_key(kKeyRight);
  EXPECT_EQ(state_.editor->typed[2], "elastic");
  press_key(' ');
  EXPECT_EQ(state_.editor->typed[2], "fixed");
  press_key(kKeyRight);
  EXPECT_EQ(state_.editor->typed[2], "") << "which changes nothing";
  press_key(kKeyLeft);
  type("\r");
  EXPECT_THAT(text(),
              AllOf(HasSubstr("policy    elastic -> fixed"), HasSubstr("limit     none -> 30 %")))
      << "fixed makes the limit the share";
}

TEST_F(EditorTest, ShowsARefusalWithItsRuleAndWhatWouldFit) {
  type("95\ry");
  state_.change.reset();
  ChangeResult refused;
  refused.text = "GPU 0: a share of 95 % doesn't fit";
  refused.code = "VG1014";
  refused.rule = "share_room";
  refused.room = {{0, std::nullopt, 70}, {1, std::nullopt, 100}};
  take_result(state_, refused);
  EXPECT_THAT(text(), AllOf(HasSubstr("refused     GPU 0: a share of 95 % doesn't fit"),
                            HasSubstr("share_room (VG1014)"), HasSubstr("GPU 0: a share of 70 %"),
                            Not(HasSubstr("GPU 1:"))));
  type("o");
  ASSERT_TRUE(state_.change);
  EXPECT_TRUE(state_.change->oversubscribe);
  refused.rule = "memory_in_use";
  take_result(state_, refused);
  state_.change.reset();
  type("o");
  EXPECT_FALSE(state_.change) << "of no use against this rule";
  type("\r");
  EXPECT_EQ(state_.editor->step, Editor::Step::typing);
}

}  // namespace
}  // namespace vgpu::tui

// SPDX-License-Identifier: Apache-2.0
// Every view in every size, with 200 tenants; and how keys lead from one to the other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "made.h"
#include "tool.h"
#include "vgpu/survey/problem.h"
#include "vgpu/tui/interface.h"

namespace vgpu::tui {
namespace {

using cli_test::expect_golden;
using testing::AllOf;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr Size kUsual{24, 80};

class Views : public testing::Test {
 protected:
  std::vector<std::string> drawn(Size size = kUsual, Glyphs glyphs = Glyphs::unicode) {
    std::vector<std::string> texts;
    for (const auto& line : draw(model_, state_, size, glyphs)) texts.push_back(line.text());
    return texts;
  }
  std::string text(Size size = kUsual, Glyphs glyphs = Glyphs::unicode) {
    std::string all;
    for (const auto& line : drawn(size, glyphs)) all += line + "\n";
    return all;
  }
  void type(std::initializer_list<int> keys, Size size = kUsual) {
    for (const int key : keys) press(state_, key, model_, size);
  }
  std::string selected(Size size = kUsual) {
    for (const auto& line : draw(model_, state_, size, Glyphs::ascii)) {
      if (line.selected) return line.text();
    }
    return "";
  }
  void show_tenant_with_reasons() {
    type({'N', kKeyHome, kKeyEnter});
    Detail detail;
    detail.row = *state_.tenant;
    for (int i = 0; i < 120; ++i) detail.plot.got.push_back(i % 60 + 20);
    survey::Explanation why;
    why.gpu = detail.row.gpu;
    why.summary = "it got 20 % of the GPU in the last 15 s (share 30 %, limit none, elastic)";
    why.causes = {{survey::CauseKind::turn, 31, 31,
                   "it waited for its turn 31 % of the time, behind chat; it had the 30 % that it "
                   "is owed",
                   "vgpu set tenant-000 --compute PERCENT"}};
    detail.why = why;
    model_.detail = detail;
  }

  Model model_ = made_model(200);
  State state_;
};

TEST_F(Views, FillEverySizeExactlyAndNeverMore) {
  show_tenant_with_reasons();
  const RowKey row = *state_.tenant;
  for (const View view :
       {View::overview, View::gpus, View::processes, View::events, View::help, View::tenant}) {
    state_ = State{};
    state_.view = view;
    state_.tenant = row;
    for (const Size size : {Size{24, 80}, Size{20, 60}, Size{60, 200}, Size{6, 40}, Size{5, 200},
                            Size{60, 39}, Size{1, 1}}) {
      for (const Glyphs glyphs : {Glyphs::unicode, Glyphs::ascii}) {
        const auto lines = drawn(size, glyphs);
        ASSERT_EQ(lines.size(), size.rows);
        for (const auto& line : lines) ASSERT_LE(cells_of(line), size.columns) << line;
      }
    }
  }
}

TEST_F(Views, LookAsTheyDo) {
  model_ = made_model(3);
  model_.processes.push_back({77,
                              0,
                              "bob",
                              "miner",
                              "",
                              "",
                              "",
                              survey::Limiter::absent,
                              false,
                              {{made_gpu(1), 0, std::uint64_t{1} << 30, std::nullopt}}});
  show_tenant_with_reasons();
  expect_golden("tenant_80x24.txt", text());
  expect_golden("tenant_ascii_60x20.txt", text({20, 60}, Glyphs::ascii));
  type({kKeyEscape, '2'});
  expect_golden("gpus_80x24.txt", text());
  type({'3'});
  expect_golden("processes_80x24.txt", text());
  type({'?'});
  expect_golden("help_80x24.txt", text());
  type({'x', '1'});
  expect_golden("overview_60x20.txt", text({20, 60}));
  type({'c', '4', '0'});
  expect_golden("editor_80x24.txt", text());
}

TEST_F(Views, BelowTheLeastSizeSayWhatTheyNeed) {
  EXPECT_EQ(drawn({5, 100})[0], "too small: 100x5, needs 40x6");
  EXPECT_EQ(drawn({24, 39})[0], "too small: 39x24, needs 40x6");
  EXPECT_THAT(drawn({6, 40})[0], StartsWith("vgpu top"));
}

TEST_F(Views, LeaveColumnsOutWhereItIsNarrow) {
  EXPECT_THAT(drawn({24, 80})[1], AllOf(HasSubstr("CAP"), HasSubstr("OWED"), HasSubstr("14 S")));
  EXPECT_THAT(drawn({24, 60})[1], AllOf(Not(HasSubstr("CAP")), Not(HasSubstr("OWED")),
                                        HasSubstr("TURN"), HasSubstr("MEMORY")));
  EXPECT_THAT(drawn({24, 40})[1],
              AllOf(HasSubstr("1 S"), HasSubstr("MEMORY"), Not(HasSubstr("TURN"))));
}

TEST_F(Views, SayThatAGpuIsInMigMode) {
  EXPECT_THAT(text(), Not(HasSubstr("MIG")));
  model_.gpus[0].gpu.mig_enabled = true;
  model_.gpus[0].gpu.mig_devices = 7;
  for (const View view : {View::overview, View::gpus}) {
    state_.view = view;
    EXPECT_THAT(text(), HasSubstr("MIG mode, 7 MIG devices; quotas are of the whole GPU"));
  }
}

TEST_F(Views, ShowOfAGpuWhatFitsWhole) {
  EXPECT_THAT(drawn({24, 80})[2], AllOf(HasSubstr("of 141 GiB"), HasSubstr("61 C")));
  EXPECT_THAT(drawn({24, 72})[2], AllOf(HasSubstr("of 141 GiB"), Not(HasSubstr("6"))));
  EXPECT_THAT(drawn({24, 100})[2], HasSubstr("61 C  512 W"));
}

TEST_F(Views, ScrollThroughTwoHundredTenants) {
  type({'N'});
  for (const char view : {'1', '3'}) {
    type({view, kKeyHome});
    for (int i = 0; i < 199; ++i) {
      ASSERT_THAT(selected(), HasSubstr(fmt::format("tenant-{:03}", i))) << view;
      type({kKeyDown});
    }
    EXPECT_THAT(selected(), HasSubstr("tenant-199"));
    type({kKeyPageUp});
    EXPECT_THAT(selected(), Not(HasSubstr("tenant-199")));
    type({kKeyEnd, kKeyDown});
    EXPECT_THAT(selected(), HasSubstr("tenant-199"));
  }
}

TEST_F(Views, ShowEventsFromTheLast) {
  type({'4'});
  EXPECT_THAT(drawn()[2], HasSubstr("tenant began     tenant tenant-199 began"));
  type({kKeyEnd});
  EXPECT_THAT(selected(), HasSubstr("tenant-000"));
  const std::string before = selected();
  model_.events.push_back({9'999, model_.time_ns, "xid_error", "", "XID 79"});
  EXPECT_EQ(selected(), before) << "what is new moves no selection";
  type({kKeyHome});
  EXPECT_THAT(selected(), HasSubstr("XID 79"));
}

TEST_F(Views, AreReachedByNumbersAndByTab) {
  EXPECT_EQ(state_.view, View::overview);
  for (const View view : {View::gpus, View::processes, View::events, View::overview}) {
    type({'\t'});
    EXPECT_EQ(state_.view, view);
  }
  type({kKeyBackTab});
  EXPECT_EQ(state_.view, View::events);
  type({'2', '?'});
  EXPECT_EQ(state_.view, View::help);
  type({' '});
  EXPECT_EQ(state_.view, View::gpus);
}

TEST_F(Views, LeadToATenantAndBack) {
  type({'N', kKeyHome, kKeyDown, '\r'});
  ASSERT_EQ(state_.view, View::tenant);
  EXPECT_EQ(state_.tenant->tenant, "tenant-001-id");
  EXPECT_EQ(state_.wanted().detail, state_.tenant);
  EXPECT_TRUE(state_.look_now) << "its plot isn't in what was looked at";
  type({'?', 'x'});
  EXPECT_EQ(state_.view, View::tenant) << "the help leads back to where it was called";
  type({kKeyEscape});
  EXPECT_EQ(state_.view, View::overview);
  EXPECT_FALSE(state_.wanted().detail);
  type({'3', kKeyHome, kKeyDown, kKeyDown, kKeyEnter});
  EXPECT_EQ(state_.tenant->tenant, "tenant-002-id");
  type({kKeyEscape, '4', kKeyEnter});
  EXPECT_EQ(state_.tenant->tenant, "tenant-199-id");
  type({kKeyEscape});
  EXPECT_EQ(state_.view, View::events);
}

TEST_F(Views, OfATenantSayThatItHasEnded) {
  type({'N', kKeyHome, kKeyEnter});
  model_ = made_model(0);
  EXPECT_THAT(text(), HasSubstr("it has ended"));
  type({'c'});
  EXPECT_FALSE(state_.editor);
}

TEST_F(Views, OfATenantGoRoundItsGpus) {
  model_.gpus.push_back(model_.gpus[0]);
  model_.gpus[1].gpu.uuid = made_gpu(2);
  model_.gpus[1].gpu.nvml_index = 1;
  model_.tenants["tenant-000-id"].gpus = {made_gpu(1), made_gpu(2)};
  type({'N', kKeyHome, kKeyEnter});
  EXPECT_THAT(drawn()[1], HasSubstr("on GPU 0  NVIDIA H200  (1 of its 2 GPUs: < >)"));
  type({kKeyRight});
  EXPECT_THAT(drawn()[1], HasSubstr("on GPU 1"));
  type({'>'});
  EXPECT_THAT(drawn()[1], HasSubstr("on GPU 0"));
}

TEST_F(Views, FilterEveryList) {
  type({'/', '1', '9', '9', '\r'});
  for (const char view : {'1', '3', '4'}) {
    type({view});
    EXPECT_THAT(text(), AllOf(HasSubstr("tenant-199"), Not(HasSubstr("tenant-198")))) << view;
  }
  type({'1', '/', 'x', '\r'});
  EXPECT_THAT(text(), HasSubstr("nothing is called so"));
  type({kKeyEscape});
  EXPECT_THAT(text(), HasSubstr("tenant-"));
}

TEST_F(Views, SayWhatIsWrongInALineOfItsOwn) {
  model_.trouble = "unix:/run/x doesn't answer: shown is what the tenants' segments say";
  EXPECT_THAT(drawn()[22], StartsWith("unix:/run/x doesn't answer"));
  model_.trouble.clear();
  model_.notes = {"tenant old: damaged"};
  EXPECT_EQ(drawn()[22], "note: tenant old: damaged");
  model_ = Model{};
  model_.no_driver = "no NVIDIA driver here";
  EXPECT_THAT(text(), AllOf(HasSubstr("no GPU and no tenant"), HasSubstr("no NVIDIA driver")));
}

TEST_F(Views, ShowNamesWithoutWhatATerminalActsOn) {
  model_.processes[0].command_line = "python \033[2J \xe2\x80\xae";
  model_.processes[0].user = "a\nb";
  model_.events.back().text = "tenant \033]0;x\a began";
  model_.samples[made_gpu(1)].trouble = "lost: \033c";
  model_.trouble = "\033[31m";
  for (const char view : {'1', '2', '3', '4'}) {
    type({view});
    for (const auto& line : drawn({60, 200})) EXPECT_THAT(line, Not(Contains('\033'))) << view;
  }
}

TEST_F(Views, ScrollWhatHasNoLinesToSelect) {
  type({'2'}, {8, 80});
  EXPECT_THAT(drawn({8, 80})[2], HasSubstr("GPU 0"));
  type({kKeyDown}, {8, 80});
  EXPECT_THAT(drawn({8, 80})[2], HasSubstr("200 tenants"));
  for (int i = 0; i < 100; ++i) type({kKeyDown}, {8, 80});
  drawn({8, 80});
  type({kKeyUp}, {8, 80});
  EXPECT_THAT(drawn({8, 80})[5], Not(HasSubstr("  0 |"))) << "the end was not overrun";
}

TEST(KeepOnly, LeavesTheTenantOrTheGpuThatIsMeant) {
  Model model = made_model(30);
  model.gpus[0].outsiders.push_back({77, "x", std::nullopt, survey::Limiter::absent});
  Model tenant = model;
  keep_only(tenant, "tenant-01");
  EXPECT_EQ(tenant.gpus[0].tenants.size(), 10U);
  EXPECT_TRUE(tenant.gpus[0].outsiders.empty());
  EXPECT_EQ(tenant.processes.size(), 10U);
  Model gpu = model;
  keep_only(gpu, "GPU-0000");
  EXPECT_EQ(gpu.gpus[0].tenants.size(), 30U);
  keep_only(gpu, "0");
  EXPECT_EQ(gpu.gpus.size(), 1U);
  EXPECT_THROW(keep_only(gpu, "nobody"), survey::Problem);
}

TEST(Interval, IsANumberOfSecondsWithinBounds) {
  EXPECT_EQ(interval_of("0.5", "--interval", ""), 0.5);
  for (const char* typed : {"", "0", "61", "1s", "nan", "-1"})
    EXPECT_THROW(interval_of(typed, "--interval", ""), survey::Problem) << typed;
}

}  // namespace
}  // namespace vgpu::tui

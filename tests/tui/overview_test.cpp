// SPDX-License-Identifier: Apache-2.0
// The overview: averages, lines and keys.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "stage.h"
#include "tool.h"
#include "vgpu/survey/figures.h"
#include "vgpu/survey/text.h"
#include "vgpu/tui/interface.h"
#include "vgpu/tui/plot.h"

namespace vgpu::tui {
namespace {

using survey::figures_of, survey::GpuFigures, survey::kMs, survey::kRemembered, survey::Limiter,
    survey::ListedTenant, survey::Stage, survey::TenantFigures;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class Overview : public testing::Test {
 protected:
  Overview() {
    ListedTenant& train = stage_.tenant("train", 30, 60);
    train.spec.gpus[0].quota.memory_limit_bytes = std::uint64_t{8} << 30;
    train.spec.gpus[0].quota.priority = Priority::high;
    train.charged_bytes[0] = std::uint64_t{1536} << 20;
    ListedTenant& chat = stage_.tenant("chat-with-a-long-name", 70);
    chat.charged_bytes[0] = std::uint64_t{20} << 30;
    stage_.tenant("free");
    const auto one = stage_.sit("train"), two = stage_.sit("chat-with-a-long-name");
    for (std::size_t i = 0; i < kRemembered; ++i) {
      stage_.second(one, i, {.work_ms = i < 5 ? 250U : 500U, .limit_ms = 40, .turn_ms = 700});
      stage_.second(two, i, {.work_ms = 690, .turn_ms = 20});
    }
    stage_.seat(one).rates = std::uint64_t{300'000} << 32;
    stage_.seat(two).rates = std::uint64_t{700'000} << 32;
    stage_.seat(one).lag_ns = static_cast<std::uint64_t>(-std::int64_t{12 * kMs});
    shm::ProcessView process;
    process.pid = getpid();
    shm::SeatFacts facts = stage_.snapshot().seats.front();
    process.pid_namespace = facts.pid_namespace;
    process.program = FixedString<shm::kMaxName>("python");
    process.charged_bytes[0] = train.charged_bytes[0];
    train.processes.push_back(process);
  }
  std::vector<GpuFigures> figures() const { return figures_of(stage_.snapshot()); }
  Model model() const {
    Model model;
    model.source = "no daemon";
    model.gpus = figures();
    return model;
  }
  std::vector<std::string> drawn(Size size = {}) {
    std::vector<std::string> text;
    for (const auto& line : draw(model(), state_, size, Glyphs::unicode))
      text.push_back(line.text());
    return text;
  }
  void type(std::initializer_list<int> keys, Size size = {}) {
    for (const int key : keys) press(state_, key, model(), size);
  }
  // Tenants' names from top to bottom.
  std::vector<std::string> order() {
    std::vector<std::string> names;
    for (const auto& line : drawn()) {
      for (const std::string name : {"train", "chat", "free"}) {
        if (line.size() > 1 && line.compare(1, name.size(), name) == 0) names.push_back(name);
      }
    }
    return names;
  }
  std::string selected() {
    for (const auto& line : draw(model(), state_, {}, Glyphs::ascii)) {
      if (line.selected) return line.text().substr(1, 4);
    }
    return "";
  }

  Stage stage_;
  State state_;
};

TEST_F(Overview, AveragesOverTheLastSecondAndTheLastTen) {
  const TenantFigures train = figures()[0].tenants[0];
  EXPECT_DOUBLE_EQ(train.use.got_1s, 25);
  EXPECT_DOUBLE_EQ(train.use.got_10s, 37.5);
  EXPECT_DOUBLE_EQ(train.use.turn_1s, 70);
  EXPECT_DOUBLE_EQ(train.use.limit_1s, 4);
  EXPECT_EQ(train.use.debt_ns, 12 * kMs);
  EXPECT_DOUBLE_EQ(*train.owed, 30);
  EXPECT_EQ(train.use.history.size(), kRemembered);
  EXPECT_DOUBLE_EQ(figures()[0].got_1s, 94);
  ASSERT_EQ(train.processes.size(), 1U);
  EXPECT_TRUE(train.processes[0].use.has_value());
  EXPECT_FALSE(figures()[0].tenants[2].owed.has_value()) << "nobody of it has a seat";
}

TEST_F(Overview, DoesNotCountTheWaitsOfTwoProcessesTwice) {
  const auto second = stage_.sit("train");
  stage_.second(second, 0, {.work_ms = 50, .turn_ms = 900});
  const TenantFigures train = figures()[0].tenants[0];
  EXPECT_DOUBLE_EQ(train.use.got_1s, 30);
  EXPECT_DOUBLE_EQ(train.use.turn_1s, 80);
}

TEST_F(Overview, FillsATerminalOf80Columns) {
  type({'*', 'j', kKeyUp});
  std::string all;
  for (const auto& line : drawn()) all += line + "\n";
  // The pid is as wide as it happens to be.
  const std::string pid = std::to_string(getpid());
  const auto at = all.find(pid + " python");
  ASSERT_NE(at, std::string::npos);
  all.replace(at, pid.size() + 7, std::string("PID python").substr(0, 10));
  const auto end = all.find_first_not_of(' ', at + 10);
  all.replace(at + 10, end - at - 10, "  ");
  cli_test::expect_golden("overview_80x24.txt", all);
}

TEST_F(Overview, PrintsOneTable) {
  std::string all;
  for (const auto& line : draw_table(figures(), state_.order(), 100, Glyphs::ascii))
    all += line.text() + "\n";
  cli_test::expect_golden("overview_once.txt", all);
}

TEST_F(Overview, FitsIntoEverySize) {
  for (const View view : {View::overview, View::help}) {
    state_.view = view;
    for (std::size_t columns = 1; columns <= 170; columns += 7) {
      for (std::size_t rows = 1; rows <= 30; ++rows) {
        const auto lines = draw(model(), state_, {rows, columns}, Glyphs::unicode);
        ASSERT_EQ(lines.size(), rows);
        for (const auto& line : lines) ASSERT_LE(cells_of(line.text()), columns);
      }
    }
  }
}

TEST_F(Overview, ShowsTheWholeHelpOn80By24) {
  type({'?'});
  for (const auto& line : drawn({24, 80})) EXPECT_LE(cells_of(line), 80U) << line;
  EXPECT_THAT(drawn({24, 80}), testing::Contains("any key goes back"));
  type({'x'});
  EXPECT_EQ(state_.view, View::overview);
}

TEST_F(Overview, SortsByTheColumnThatIsChosen) {
  EXPECT_THAT(order(), ElementsAre("chat", "train", "free"));
  type({'I'});
  EXPECT_THAT(order(), ElementsAre("free", "train", "chat"));
  type({'I', 'W'});
  EXPECT_THAT(order(), ElementsAre("train", "chat", "free"));
  type({'N'});
  EXPECT_THAT(order(), ElementsAre("chat", "free", "train"));
  type({'M'});
  EXPECT_THAT(order(), ElementsAre("chat", "train", "free"));
  type({'D'});
  EXPECT_EQ(order().front(), "train");
  type({'P', '>'});
  EXPECT_EQ(state_.sort, Column::wait);
  type({'<', '<'});
  EXPECT_EQ(state_.sort, Column::share);
  type({'<', '<'});
  EXPECT_EQ(state_.sort, Column::memory) << "it goes round";
}

TEST_F(Overview, MovesTheSelectionAndKeepsItOnItsTenant) {
  drawn();
  EXPECT_EQ(selected(), "chat");
  type({kKeyDown});
  EXPECT_EQ(selected(), "trai");
  type({'I'});
  EXPECT_EQ(selected(), "trai") << "where its row goes, it goes";
  type({'I', kKeyEnd});
  EXPECT_EQ(selected(), "free");
  type({kKeyDown, kKeyPageDown});
  EXPECT_EQ(selected(), "free");
  type({kKeyHome});
  EXPECT_EQ(selected(), "chat");
  type({kKeyPageDown});
  EXPECT_EQ(selected(), "free");
}

TEST_F(Overview, ScrollsSoThatTheSelectionIsSeen) {
  for (int i = 0; i < 40; ++i) stage_.tenant("more" + std::to_string(i));
  const Size size{10, 80};
  type({'N'}, size);
  for (int i = 0; i < 42; ++i) {
    const auto lines = draw(model(), state_, size, Glyphs::ascii);
    EXPECT_TRUE(std::any_of(lines.begin(), lines.end(), [](const Line& line) {
      return line.selected;
    })) << i;
    type({kKeyDown}, size);
  }
  type({kKeyHome}, size);
  EXPECT_THAT(drawn(size)[2], HasSubstr("GPU 0"));
}

TEST_F(Overview, OpensAndClosesProcesses) {
  const auto has_process = [&] {
    for (const auto& line : drawn()) {
      if (line.find("python") != std::string::npos) return true;
    }
    return false;
  };
  drawn();
  type({kKeyDown});
  EXPECT_FALSE(has_process());
  for (const auto& [open, close] :
       std::vector<std::pair<int, int>>{{' ', ' '}, {'+', '-'}, {'*', '*'}, {kKeyF5, kKeyF5}}) {
    type({open});
    EXPECT_TRUE(has_process()) << open;
    type({close});
    EXPECT_FALSE(has_process()) << close;
  }
}

TEST_F(Overview, FiltersByNameAndProgram) {
  type({'/', 'C', 'h', 'x', kKeyBackspace, 'a'});
  EXPECT_THAT(order(), ElementsAre("chat")) << "as it is typed";
  EXPECT_THAT(drawn().back(), HasSubstr("Filter: Cha_"));
  type({'q'});
  EXPECT_FALSE(state_.quit) << "it is a letter here";
  type({kKeyBackspace, kKeyEnter});
  EXPECT_THAT(drawn().front(), HasSubstr("filter: Cha"));
  type({kKeyEscape});
  EXPECT_EQ(order().size(), 3U);
  type({kKeyF4, 'p', 'y', 't', '\n'});
  EXPECT_THAT(order(), ElementsAre("train"));
  type({'/', kKeyEscape});
  EXPECT_EQ(order().size(), 3U);
}

TEST_F(Overview, PausesAndQuits) {
  type({'Z'});
  EXPECT_THAT(drawn().front(), HasSubstr("PAUSED"));
  type({'z'});
  EXPECT_FALSE(state_.paused);
  for (const int key : {static_cast<int>('q'), static_cast<int>(kKeyF10), 3}) {
    state_.quit = false;
    type({key});
    EXPECT_TRUE(state_.quit);
  }
}

TEST_F(Overview, ShowsStrangersAndWhatTheyMeanForShares) {
  stage_.outsider("python3", 77, Limiter::absent);
  std::string all;
  for (const auto& line : drawn()) all += line + "\n";
  EXPECT_THAT(all, AllOf(HasSubstr("shares are best effort: python3 (pid 77)"),
                         HasSubstr(" UNLIMITED  pid 77 python3  1 GiB")));
}

TEST(History, ShowsALittleAsOneDotAndNothingAsNone) {
  const std::vector<double> seconds = {100, 50, 1, 0};  // the last one first
  EXPECT_EQ(history_line(seconds, 4, Glyphs::unicode), " \xe2\x96\x81\xe2\x96\x84\xe2\x96\x88");
  EXPECT_EQ(history_line(seconds, 2, Glyphs::unicode), "\xe2\xa2\x80\xe2\xa3\xbc")
      << "two seconds a cell";
  EXPECT_EQ(history_line(seconds, 4, Glyphs::ascii), " .=#");
  EXPECT_EQ(history_line({250}, 1, Glyphs::ascii), "#");
}

}  // namespace
}  // namespace vgpu::tui

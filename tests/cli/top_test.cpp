// SPDX-License-Identifier: Apache-2.0
// vgpu top without a terminal: averages, lines and keys; and once on a terminal of the kernel's.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "stage.h"
#include "tool.h"
#include "top_view.h"
#include "vgpu/survey/figures.h"
#include "vgpu/survey/text.h"

namespace vgpu::cli {
namespace {

using survey::figures_of, survey::GpuFigures, survey::kMs, survey::kRemembered, survey::Limiter,
    survey::ListedTenant, survey::Stage, survey::TenantFigures, survey::width_of;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class Top : public testing::Test {
 protected:
  Top() {
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
  std::vector<std::string> draw(Size size = {}) {
    std::vector<std::string> text;
    for (const auto& line : draw_top(figures(), state_, size, Glyphs::unicode))
      text.push_back(line.text());
    return text;
  }
  void type(std::initializer_list<int> keys, Size size = {}) {
    for (const int key : keys) press(state_, key, figures(), size);
  }
  // Tenants' names from top to bottom.
  std::vector<std::string> order() {
    std::vector<std::string> names;
    for (const auto& line : draw()) {
      for (const std::string name : {"train", "chat", "free"}) {
        if (line.size() > 1 && line.compare(1, name.size(), name) == 0) names.push_back(name);
      }
    }
    return names;
  }
  std::string selected() {
    for (const auto& line : draw_top(figures(), state_, {}, Glyphs::ascii)) {
      if (line.selected) return line.text().substr(1, 4);
    }
    return "";
  }

  Stage stage_;
  TopState state_;
};

TEST_F(Top, AveragesOverTheLastSecondAndTheLastTen) {
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

TEST_F(Top, DoesNotCountTheWaitsOfTwoProcessesTwice) {
  const auto second = stage_.sit("train");
  stage_.second(second, 0, {.work_ms = 50, .turn_ms = 900});
  const TenantFigures train = figures()[0].tenants[0];
  EXPECT_DOUBLE_EQ(train.use.got_1s, 30);
  EXPECT_DOUBLE_EQ(train.use.turn_1s, 80);
}

TEST_F(Top, FillsATerminalOf80Columns) {
  type({'*', 'j', kKeyUp});
  std::string all;
  for (const auto& line : draw()) all += line + "\n";
  // The pid is as wide as it happens to be.
  const std::string pid = std::to_string(getpid());
  const auto at = all.find(pid + " python");
  ASSERT_NE(at, std::string::npos);
  all.replace(at, pid.size() + 7, std::string("PID python").substr(0, 10));
  const auto end = all.find_first_not_of(' ', at + 10);
  all.replace(at + 10, end - at - 10, "  ");
  cli_test::expect_golden("top_80x24.txt", all);
}

TEST_F(Top, PrintsOneTable) {
  std::string all;
  for (const auto& line : draw_table(figures(), state_, 100, Glyphs::ascii))
    all += line.text() + "\n";
  cli_test::expect_golden("top_once.txt", all);
}

TEST_F(Top, FitsIntoEverySize) {
  for (const bool help : {false, true}) {
    state_.help = help;
    for (std::size_t columns = 1; columns <= 170; columns += 7) {
      for (std::size_t rows = 1; rows <= 30; ++rows) {
        const auto lines = draw_top(figures(), state_, {rows, columns}, Glyphs::unicode);
        ASSERT_EQ(lines.size(), rows);
        for (const auto& line : lines) ASSERT_LE(width_of(line.text()), columns);
      }
    }
  }
}

TEST_F(Top, ShowsTheWholeHelpOn80By24) {
  type({'?'});
  for (const auto& line : draw({24, 80})) EXPECT_LT(width_of(line), 80U) << line;
  EXPECT_THAT(draw({24, 80}), testing::Contains("any key goes back"));
  type({'x'});
  EXPECT_FALSE(state_.help);
}

TEST_F(Top, SortsByTheColumnThatIsChosen) {
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

TEST_F(Top, MovesTheSelectionAndKeepsItOnItsTenant) {
  draw();
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

TEST_F(Top, ScrollsSoThatTheSelectionIsSeen) {
  for (int i = 0; i < 40; ++i) stage_.tenant("more" + std::to_string(i));
  const Size size{10, 80};
  type({'N'}, size);
  for (int i = 0; i < 42; ++i) {
    const auto lines = draw_top(figures(), state_, size, Glyphs::ascii);
    EXPECT_TRUE(std::any_of(lines.begin(), lines.end(), [](const Line& line) {
      return line.selected;
    })) << i;
    type({kKeyDown}, size);
  }
  type({kKeyHome}, size);
  EXPECT_THAT(draw(size)[2], HasSubstr("GPU 0"));
}

TEST_F(Top, OpensAndClosesProcesses) {
  const auto has_process = [&] {
    for (const auto& line : draw()) {
      if (line.find("python") != std::string::npos) return true;
    }
    return false;
  };
  draw();
  type({kKeyDown});
  EXPECT_FALSE(has_process());
  for (const auto& [open, close] : std::vector<std::pair<int, int>>{
           {kKeyEnter, kKeyEnter}, {' ', ' '}, {'+', '-'}, {'*', '*'}, {kKeyF5, kKeyF5}}) {
    type({open});
    EXPECT_TRUE(has_process()) << open;
    type({close});
    EXPECT_FALSE(has_process()) << close;
  }
}

TEST_F(Top, FiltersByNameAndProgram) {
  type({'/', 'C', 'h', 'x', kKeyBackspace, 'a'});
  EXPECT_THAT(order(), ElementsAre("chat")) << "as it is typed";
  EXPECT_THAT(draw().back(), HasSubstr("Filter: Cha_"));
  type({'q'});
  EXPECT_FALSE(state_.quit) << "it is a letter here";
  type({kKeyBackspace, kKeyEnter});
  EXPECT_THAT(draw().front(), HasSubstr("filter: Cha"));
  type({kKeyEscape});
  EXPECT_EQ(order().size(), 3U);
  type({kKeyF4, 'p', 'y', 't', '\n'});
  EXPECT_THAT(order(), ElementsAre("train"));
  type({'/', kKeyEscape});
  EXPECT_EQ(order().size(), 3U);
}

TEST_F(Top, PausesAndQuits) {
  type({'Z'});
  EXPECT_THAT(draw().front(), HasSubstr("PAUSED"));
  type({'z'});
  EXPECT_FALSE(state_.paused);
  for (const int key : {static_cast<int>('q'), static_cast<int>(kKeyF10), 3}) {
    state_.quit = false;
    type({key});
    EXPECT_TRUE(state_.quit);
  }
}

TEST_F(Top, ShowsStrangersAndWhatTheyMeanForShares) {
  stage_.outsider("python3", 77, Limiter::absent);
  std::string all;
  for (const auto& line : draw()) all += line + "\n";
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
}  // namespace vgpu::cli

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

// The tool on a terminal of its own.
class TerminalTest : public ToolTest {
 protected:
  void open(const std::vector<std::string>& words) {
    master_ = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    ASSERT_EQ(grantpt(master_), 0);
    ASSERT_EQ(unlockpt(master_), 0);
    const winsize size{24, 80, 0, 0};
    ASSERT_EQ(ioctl(master_, TIOCSWINSZ, &size), 0);
    const std::string name = ptsname(master_);
    pid_ = start_on(name, words);
  }
  ~TerminalTest() override {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    close(master_);
  }
  void type(const std::string& keys) {
    ASSERT_EQ(write(master_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
  }
  bool read_until(const std::string& text) {
    while (screen_.find(text) == std::string::npos) {
      char chunk[4096];
      const ssize_t got = read(master_, chunk, sizeof chunk);
      if (got <= 0) return false;
      screen_.append(chunk, static_cast<std::size_t>(got));
    }
    return true;
  }
  int finish() {
    read_until("never to come");
    int status = 0;
    waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  int master_ = -1;
  pid_t pid_ = -1;
  std::string screen_;
};

TEST_F(TerminalTest, TakesTheScreenAndGivesItBack) {
  set("TERM", "xterm-256color");
  set("NO_COLOR", "1");
  open({TOOL, "top"});
  ASSERT_TRUE(read_until("q quit")) << screen_;
  EXPECT_THAT(screen_, HasSubstr("\033[?1049h"));
  type("?");
  ASSERT_TRUE(read_until("any key")) << screen_;
  type("x");
  type("q");
  EXPECT_EQ(finish(), 0);
  EXPECT_THAT(screen_, HasSubstr("\033[?1049l"));
  EXPECT_THAT(screen_, Not(testing::ContainsRegex("\033\\[[0-9;]*3[0-7]m"))) << "NO_COLOR";
}

TEST_F(TerminalTest, GivesTheScreenBackWhenASignalEndsIt) {
  set("TERM", "xterm-256color");
  for (const auto& [signal, status] : {std::pair{SIGINT, 0}, std::pair{SIGTERM, 128 + SIGTERM}}) {
    screen_.clear();
    open({TOOL, "top", "--interval", "60"});
    ASSERT_TRUE(read_until("q quit")) << screen_;
    kill(pid_, signal);
    EXPECT_EQ(finish(), status);
    EXPECT_THAT(screen_, HasSubstr("\033[?1049l"));
    close(master_);
  }
}

TEST_F(TerminalTest, DrawsAnewWhenItsSizeChanges) {
  set("TERM", "xterm-256color");
  open({TOOL, "top", "--interval", "60"});
  ASSERT_TRUE(read_until("q quit"));
  screen_.clear();
  const winsize size{30, 132, 0, 0};
  ASSERT_EQ(ioctl(master_, TIOCSWINSZ, &size), 0);
  EXPECT_TRUE(read_until("15 S")) << "a wide terminal has room for all seconds, 80 columns for 14";
  type("q");
  EXPECT_EQ(finish(), 0);
}

TEST_F(TerminalTest, OfAnUnknownKindGetsATable) {
  set("TERM", "nonsense");
  open({TOOL, "top"});
  ASSERT_TRUE(read_until("SHARE")) << screen_;
  EXPECT_EQ(finish(), 0);
  EXPECT_THAT(screen_, HasSubstr("no description of the terminal nonsense"));
}

}  // namespace
}  // namespace vgpu::cli_test

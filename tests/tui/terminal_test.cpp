// SPDX-License-Identifier: Apache-2.0
// vgpu top and hypervisor tui as people meet them: on a terminal of the kernel's, with keys, other
// sizes, signals; with a daemon and without.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "screen.h"
#include "tool.h"

namespace vgpu::cli_test {
namespace {

using Clock = std::chrono::steady_clock;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using tui::Screen;

class TerminalTest : public ToolTest {
 protected:
  TerminalTest() {
    set("TERM", "xterm-256color");
    set("LC_ALL", "C.UTF-8");
  }
  ~TerminalTest() override {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    close_terminal();
    // A tenant's daemon after its tenants, as it began.
    daemon_.reset();
  }

  void open_terminal(const std::vector<std::string>& words) {
    close_terminal();
    master_ = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    ASSERT_EQ(grantpt(master_), 0);
    ASSERT_EQ(unlockpt(master_), 0);
    const std::string name = ptsname(master_);
    // Kept open, so that what the terminal was like can be asked when the program has ended.
    slave_ = open(name.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC);
    resize(24, 80);
    ASSERT_EQ(tcgetattr(slave_, &before_), 0);
    raw_.clear();
    pid_ = start_on(name, words);
  }
  void close_terminal() {
    if (master_ >= 0) close(std::exchange(master_, -1));
    if (slave_ >= 0) close(std::exchange(slave_, -1));
  }
  void resize(unsigned short rows, unsigned short columns) {
    screen_.resize(rows, columns);
    const winsize size{rows, columns, 0, 0};
    ASSERT_EQ(ioctl(master_, TIOCSWINSZ, &size), 0);
  }
  void type(const std::string& keys) {
    ASSERT_EQ(write(master_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
  }
  // Takes what comes until the screen is so. False: the program ended before, or it never was.
  bool wait_until(const std::function<bool()>& is_so,
                  std::chrono::milliseconds most = std::chrono::seconds(40)) {
    const auto deadline = Clock::now() + most;
    while (!is_so()) {
      if (!take_more(deadline)) return is_so();
    }
    return true;
  }
  bool wait_for(const std::string& text) {
    return wait_until([&] { return screen_.has(text); });
  }
  bool wait_without(const std::string& text) {
    return wait_until([&] { return !screen_.has(text); });
  }
  // The exit status, or -n for signal n. Everything that it wrote has been taken then.
  int finish() {
    const auto deadline = Clock::now() + std::chrono::seconds(40);
    int status = 0;
    while (waitpid(pid_, &status, WNOHANG) == 0) {
      if (!take_more(std::min(deadline, Clock::now() + std::chrono::milliseconds(100))) &&
          Clock::now() >= deadline) {
        ADD_FAILURE() << "it doesn't end\n" << screen_.text();
        return -99;
      }
    }
    while (take_more(Clock::now())) {
    }
    pid_ = -1;
    EXPECT_EQ(screen_.unknown(), "") << "an escape sequence that this test doesn't know";
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  void expect_restored() {
    termios now{};
    ASSERT_EQ(tcgetattr(slave_, &now), 0);
    EXPECT_EQ(now.c_lflag, before_.c_lflag);
    EXPECT_EQ(now.c_iflag, before_.c_iflag);
    EXPECT_EQ(now.c_oflag, before_.c_oflag);
    EXPECT_FALSE(screen_.is_alternate());
    EXPECT_TRUE(screen_.shows_cursor());
  }

  Running tenant(const std::string& name, std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"run", "-q", "--gpu", "0", "--name", name});
    flags.insert(flags.end(), {"--", CLIENT, "alloc=100", "hold"});
    Running running = start(flags);
    EXPECT_TRUE(running.wait_for("holding"));
    return running;
  }
  void start_daemon() {
    daemon_.emplace(
        start_program({"/bin/sh", "-c", "exec " DAEMON " daemon --api-listen-addr none 2>&1"}));
    ASSERT_TRUE(daemon_->wait_for("driver_found"));
    for (int tries = 0; access((folder() + "/state/hypervisor.sock").c_str(), F_OK) != 0; ++tries) {
      ASSERT_LT(tries, 4'000) << "no socket";
      usleep(10'000);
    }
  }
  unsigned share_of(const std::string& name) {
    const auto all = nlohmann::json::parse(vgpu({"ls", "--json", name}).out, nullptr, false);
    return all["tenants"][0]["gpus"][0]["compute"].value("share_percent", 0U);
  }

  int master_ = -1, slave_ = -1;
  pid_t pid_ = -1;
  termios before_{};
  Screen screen_{24, 80};
  std::string raw_;
  std::optional<Running> daemon_;

 private:
  bool take_more(Clock::time_point deadline) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd file{master_, POLLIN, 0};
    if (poll(&file, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0))) <= 0)
      return false;
    char chunk[8192];
    const ssize_t got = read(master_, chunk, sizeof chunk);
    if (got <= 0) return false;
    raw_.append(chunk, static_cast<std::size_t>(got));
    screen_.write({chunk, static_cast<std::size_t>(got)});
    return true;
  }
};

const std::vector<std::string> kTop = {TOOL, "top"};
const std::vector<std::string> kTui = {DAEMON, "tui"};

TEST_F(TerminalTest, TakesTheScreenAndGivesItBack) {
  for (const auto& words : {kTop, kTui}) {
    open_terminal(words);
    ASSERT_TRUE(wait_for("q quit")) << screen_.text();
    EXPECT_TRUE(screen_.is_alternate());
    EXPECT_FALSE(screen_.shows_cursor());
    type("q");
    EXPECT_EQ(finish(), 0);
    expect_restored();
  }
}

TEST_F(TerminalTest, GivesTheScreenBackWhenASignalEndsIt) {
  for (const auto& [signal, status] :
       {std::pair{SIGINT, 0}, std::pair{SIGTERM, 128 + SIGTERM}, std::pair{SIGHUP, 128 + SIGHUP},
        std::pair{SIGQUIT, 128 + SIGQUIT}, std::pair{SIGSEGV, -SIGSEGV}}) {
    open_terminal({TOOL, "top", "--interval", "60"});
    ASSERT_TRUE(wait_for("q quit")) << screen_.text();
    kill(pid_, signal);
    EXPECT_EQ(finish(), status);
    expect_restored();
  }
}

TEST_F(TerminalTest, GivesTheScreenBackBeforeItSaysWhatWentWrong) {
  auto train = std::make_optional(tenant("train", {}));
  open_terminal({TOOL, "top", "train", "--interval", "0.1"});
  ASSERT_TRUE(wait_for("q quit")) << screen_.text();
  train.reset();
  EXPECT_EQ(finish(), 1);
  expect_restored();
  EXPECT_TRUE(screen_.has("no tenant and no GPU is called")) << screen_.text();
}

TEST_F(TerminalTest, EndsWhenItsTerminalIsGone) {
  open_terminal({TOOL, "top", "--interval", "60"});
  ASSERT_TRUE(wait_for("q quit")) << screen_.text();
  close_terminal();
  int status = 0;
  ASSERT_EQ(waitpid(pid_, &status, 0), pid_);
  pid_ = -1;
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 128 + SIGHUP);
}

TEST_F(TerminalTest, DrawsAnewWhenItsSizeChanges) {
  open_terminal({TOOL, "top", "--interval", "60"});
  ASSERT_TRUE(wait_for("14 S")) << screen_.text();
  resize(30, 132);
  EXPECT_TRUE(wait_for("15 S")) << "a wide terminal has room for all seconds, 80 columns for 14";
  resize(20, 60);
  EXPECT_TRUE(wait_until([&] { return !screen_.has("OWED") && screen_.has("MEMORY"); }))
      << screen_.text();
  resize(4, 30);
  EXPECT_TRUE(wait_for("too small: 30x4")) << screen_.text();
  resize(24, 80);
  EXPECT_TRUE(wait_for("14 S")) << screen_.text();
  type("q");
  EXPECT_EQ(finish(), 0);
  expect_restored();
}

TEST_F(TerminalTest, HasColoursWhereTheTerminalHasThemAndTheyAreWanted) {
  const auto seen = [&](const char* term, const char* no_color) {
    set("TERM", term);
    if (no_color != nullptr) set("NO_COLOR", no_color);
    screen_ = Screen(24, 80);
    open_terminal(kTop);
    EXPECT_TRUE(wait_for("q quit")) << term << screen_.text();
    type("2");
    EXPECT_TRUE(wait_for("GPUS:")) << term << screen_.text();
    type("q");
    EXPECT_EQ(finish(), 0);
    expect_restored();
    return screen_.has_seen_color();
  };
  EXPECT_TRUE(seen("xterm-256color", nullptr));
  EXPECT_FALSE(seen("vt100", nullptr));
  EXPECT_FALSE(seen("xterm-256color", "1"));
}

TEST_F(TerminalTest, WithoutUtf8IsAscii) {
  set("LC_ALL", "C");
  auto train = tenant("train", {"--compute", "30"});
  open_terminal(kTop);
  ASSERT_TRUE(wait_for("train")) << screen_.text();
  type("\r");
  ASSERT_TRUE(wait_for("TENANT train on GPU 0")) << screen_.text();
  type("q");
  EXPECT_EQ(finish(), 0);
  for (const char c : raw_) ASSERT_GE(c, 0);
}

TEST_F(TerminalTest, OfAnUnknownKindGetsATable) {
  set("TERM", "nonsense");
  open_terminal(kTop);
  ASSERT_TRUE(wait_for("SHARE")) << screen_.text();
  EXPECT_EQ(finish(), 0);
  EXPECT_TRUE(screen_.has("no description of the terminal nonsense"));
  open_terminal(kTui);
  ASSERT_TRUE(wait_for("SHARE")) << screen_.text();
  EXPECT_EQ(finish(), 0);
}

TEST_F(TerminalTest, IsStoppedAndGoesOn) {
  // A shell with jobs: without one nobody can be stopped from the keyboard.
  open_terminal({"/bin/bash", "-c",
                 "set -m; " TOOL " top --interval 60; echo it stands; read line; fg; exit $?"});
  ASSERT_TRUE(wait_for("q quit")) << screen_.text();
  // While it draws, ncurses takes no Ctrl-Z.
  for (int tries = 0; tries < 100 && !screen_.has("it stands"); ++tries) {
    type("\032");
    wait_until([&] { return screen_.has("it stands"); }, std::chrono::milliseconds(400));
  }
  ASSERT_TRUE(screen_.has("it stands")) << screen_.text();
  EXPECT_FALSE(screen_.is_alternate());
  type("\n");
  EXPECT_TRUE(wait_until([&] { return screen_.is_alternate() && screen_.has("q quit"); }))
      << screen_.text();
  type("q");
  EXPECT_EQ(finish(), 0);
  expect_restored();
}

TEST_F(TerminalTest, LeadsThroughAllViews) {
  auto train = tenant("train", {"--compute", "30", "--memory", "4GiB"});
  open_terminal(kTop);
  ASSERT_TRUE(wait_for("train")) << screen_.text();
  EXPECT_TRUE(screen_.has("no daemon"));
  type("\r");
  ASSERT_TRUE(wait_for("share 30 %, limit none, elastic, priority normal (by run)"))
      << screen_.text();
  ASSERT_TRUE(wait_for("100 |")) << screen_.text();
  ASSERT_TRUE(wait_for("why: ")) << screen_.text();
  type("3");
  ASSERT_TRUE(wait_for("gpu_client alloc=100 hold")) << screen_.text();
  auto late = tenant("late", {"--memory", "2GiB"});
  type("4");
  ASSERT_TRUE(wait_for("tenant late began")) << screen_.text();
  type("2");
  ASSERT_TRUE(wait_for("2 tenants, shares of 30 %")) << screen_.text();
  type("?");
  ASSERT_TRUE(wait_for("any key goes back")) << screen_.text();
  type("x1");
  ASSERT_TRUE(wait_for("; by got;")) << screen_.text();
  type("\033OB\033OA/late\r");
  ASSERT_TRUE(wait_until([&] { return screen_.has("filter: late") && !screen_.has("train"); }))
      << screen_.text();
  type("q");
  EXPECT_EQ(finish(), 0);
  expect_restored();
}

TEST_F(TerminalTest, ChangesAQuotaWithConfirmationAndShowsARefusal) {
  auto train = tenant("train", {"--compute", "30"});
  auto chat = tenant("chat", {"--compute", "40"});
  for (const bool with_daemon : {false, true}) {
    if (with_daemon) start_daemon();
    for (const auto& words : {kTop, kTui}) {
      ASSERT_EQ(vgpu({"set", "train", "--compute", "30"}).exit_code, 0);
      open_terminal(words);
      const std::string source = with_daemon ? "daemon of " : "no daemon";
      ASSERT_TRUE(wait_for(source)) << screen_.text();
      // The daemon looks ten times a second, the interface once.
      ASSERT_TRUE(wait_for("train             30     -")) << screen_.text();
      type("/train\rc");
      ASSERT_TRUE(wait_for("QUOTA of train on GPU 0")) << screen_.text();
      type("50\r");
      ASSERT_TRUE(wait_for("30 % -> 50 %")) << screen_.text();
      EXPECT_EQ(share_of("train"), 30U) << "it isn't confirmed";
      type("y");
      ASSERT_TRUE(wait_for("changed     share 30 %")) << screen_.text();
      EXPECT_EQ(share_of("train"), 50U);
      type(" c90\r");
      ASSERT_TRUE(wait_for("50 % -> 90 %")) << screen_.text();
      type("y");
      ASSERT_TRUE(wait_for("share_room (VG1014)")) << screen_.text();
      EXPECT_TRUE(wait_for("GPU 0: a share of 60 %")) << screen_.text();
      EXPECT_EQ(share_of("train"), 50U);
      type("\033");
      ASSERT_TRUE(wait_for("Enter detail")) << screen_.text();
      EXPECT_TRUE(wait_for("train             50     -")) << screen_.text();
      type("q");
      EXPECT_EQ(finish(), 0);
      expect_restored();
    }
  }
}

TEST_F(TerminalTest, ShowsTheDaemonsHistoryReasonsAndEvents) {
  start_daemon();
  auto train = tenant("train", {"--compute", "30"});
  open_terminal(kTui);
  ASSERT_TRUE(wait_for("train")) << screen_.text();
  type("\r");
  ASSERT_TRUE(wait_for("why: it did nothing lately (share 30 %")) << screen_.text();
  type("4");
  ASSERT_TRUE(wait_for("tenant train began")) << screen_.text();
  ASSERT_TRUE(wait_for("daemon started")) << screen_.text();
  // It goes, and the segments say; it comes back, and it says.
  daemon_->send(SIGTERM);
  daemon_->finish();
  type("1");
  ASSERT_TRUE(wait_for("segments are shown")) << screen_.text();
  EXPECT_TRUE(wait_for("train")) << screen_.text();
  start_daemon();
  EXPECT_TRUE(wait_for("daemon of ")) << screen_.text();
  EXPECT_TRUE(wait_without("segments are shown")) << screen_.text();
  type("q");
  EXPECT_EQ(finish(), 0);
  expect_restored();
}

TEST_F(TerminalTest, ScrollsThroughTwoHundredTenantsWithoutDrawingAllAnew) {
  const std::string key = write_file("key", std::string(40, 'k'), 0600);
  auto fixture = start_program({FIXTURE, folder() + "/two-hundred", key, "200"});
  ASSERT_TRUE(fixture.wait_for("ready"));
  open_terminal(
      {DAEMON, "tui", "--url", "unix:" + folder() + "/two-hundred", "--refresh-interval", "60"});
  ASSERT_TRUE(wait_for("200 tenants")) << screen_.text();
  type("N");
  ASSERT_TRUE(wait_for("by name")) << screen_.text();
  type("/tenant-\r");
  ASSERT_TRUE(wait_for("filter: tenant-")) << screen_.text();
  const std::size_t before = raw_.size();
  // Each is seen before the next is typed: no two are drawn together.
  type("\033OB");
  ASSERT_TRUE(wait_until([&] { return raw_.size() > before; }));
  type("\033OF");
  ASSERT_TRUE(wait_for("tenant-99")) << screen_.text();
  type("\033OA");
  const std::size_t at_end = raw_.size();
  ASSERT_TRUE(wait_until([&] { return raw_.size() > at_end; }));
  type("q");
  EXPECT_EQ(finish(), 0);
  EXPECT_THAT(raw_.substr(before), Not(HasSubstr("\033[2J"))) << "nothing is cleared";
  EXPECT_LT(raw_.size() - before, 3U * 80 * 24) << "two moves of one line and a page";
  expect_restored();
}

TEST_F(TerminalTest, TuiWithoutATerminalPrintsOneTableAndSaysSo) {
  auto train = tenant("train", {"--compute", "30"});
  const Result table = start_program(kTui).finish();
  EXPECT_EQ(table.exit_code, 0);
  EXPECT_THAT(table.out, AllOf(HasSubstr("SHARE"), HasSubstr("train"), Not(HasSubstr("\033"))));
  EXPECT_THAT(table.err,
              AllOf(HasSubstr("this is no terminal: one table only"),
                    HasSubstr("nothing at unix:" + folder() + "/state/hypervisor.sock")));
}

TEST_F(TerminalTest, TopOfADaemonHasTheSameTableAndJson) {
  auto train = tenant("train", {"--compute", "30", "--memory", "4GiB"});
  const auto parsed = [&] {
    return nlohmann::json::parse(vgpu({"top", "--json", "train"}).out, nullptr, false);
  };
  auto without = parsed();
  start_daemon();
  nlohmann::json with;
  for (int tries = 0; tries < 400; ++tries) {  // until it has read the tenant
    with = parsed();
    if (with.contains("gpus") && !with["gpus"].empty()) break;
    usleep(10'000);
  }
  for (auto* one : {&without, &with}) {
    for (auto& gpu : (*one)["gpus"]) {
      gpu.erase("used_bytes");
      for (auto& tenant : gpu["tenants"]) {
        for (auto& process : tenant["processes"]) process.erase("use");
      }
    }
  }
  EXPECT_EQ(without, with);
  EXPECT_THAT(vgpu({"top", "--once"}).out, HasSubstr("train"));
  EXPECT_EQ(vgpu({"top", "nobody"}).exit_code, 1);
}

TEST_F(TerminalTest, TuiTakesThePredecessorsFlagsOrSaysWhyNot) {
  const auto run = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {DAEMON, "tui"});
    return start_program(words).finish();
  };
  EXPECT_EQ(run({"--refresh-interval", "2", "--glob", "/run/tensor-fusion/shm/*/*"}).exit_code, 0);
  const Result other = run({"--glob", "/x/*"});
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_THAT(other.err, AllOf(HasSubstr("--glob \"/x/*\""), HasSubstr("hypervisor show-shm")));
  EXPECT_EQ(run({"--refresh-interval", "0"}).exit_code, 2);
  EXPECT_THAT(run({"--log-path", "/nowhere/log"}).err, HasSubstr("VG1074"));
  EXPECT_THAT(run({"--url", "https://x"}).err, HasSubstr("VG1070"));
  const Result nobody = run({"--url", "unix:" + folder() + "/nobody"});
  EXPECT_EQ(nobody.exit_code, 1);
  EXPECT_THAT(nobody.err, HasSubstr("VG1072"));
  EXPECT_EQ(nobody.out, "");
  start_daemon();
  EXPECT_EQ(run({"--url", "unix:" + folder() + "/state/hypervisor.sock"}).exit_code, 0);
}

TEST_F(TerminalTest, TuiWritesEventsAndChangesToItsLog) {
  auto train = tenant("train", {"--compute", "30"});
  const std::string log = folder() + "/log";
  open_terminal({DAEMON, "tui", "--log-path", log, "--refresh-interval", "0.2"});
  ASSERT_TRUE(wait_for("train")) << screen_.text();
  type("c40\ry");
  ASSERT_TRUE(wait_for("changed     share 30 %")) << screen_.text();
  type(" 4");
  ASSERT_TRUE(wait_for("quota changed")) << screen_.text();
  type("q");
  EXPECT_EQ(finish(), 0);
  std::ifstream file(log);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  EXPECT_THAT(text, AllOf(HasSubstr("Z source no daemon, so "), HasSubstr("Z change train-"),
                          HasSubstr("Z quota_changed train GPU 0: share 30 %")));
}

}  // namespace
}  // namespace vgpu::cli_test

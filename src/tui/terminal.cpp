// SPDX-License-Identifier: Apache-2.0
#include "vgpu/tui/terminal.h"

#include <curses.h>
#include <langinfo.h>
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "vgpu/platform/clock.h"
#include "vgpu/survey/problem.h"

namespace vgpu::tui {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr std::array<int, 4> kEndingSignals = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
constexpr std::array<int, 5> kCrashes = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

volatile std::sig_atomic_t ended_by = 0;  // the signal that came last; written by note_end
extern "C" void note_end(int signal) { ended_by = signal; }

// What a crash needs to give the terminal back: written before its handler is there.
struct Crash {
  termios before;
  char leave[256];
  std::size_t leave_size;
};
Crash crash;

// Nothing but what a signal handler may do; the signal then does what it does by default.
extern "C" void give_back_and_die(int signal) {
  (void)!write(STDOUT_FILENO, crash.leave, crash.leave_size);
  (void)tcsetattr(STDOUT_FILENO, TCSANOW, &crash.before);
  (void)raise(signal);
}

std::string capability(const char* name) {
  const char* text = tigetstr(name);
  return text == nullptr || text == reinterpret_cast<const char*>(-1) ? "" : text;
}

// Signals as they are while the screen is taken, and as they were. Before the screen: what is taken
// already ncurses leaves alone.
class Signals {
 public:
  Signals() {
    crash.leave_size = 0;
    (void)tcgetattr(STDOUT_FILENO, &crash.before);
    struct sigaction note {};
    note.sa_handler = note_end;
    struct sigaction die {};
    die.sa_handler = give_back_and_die;
    die.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);
    std::size_t i = 0;
    for (const int signal : kEndingSignals) sigaction(signal, &note, &before_[i++]);
    for (const int signal : kCrashes) sigaction(signal, &die, &before_[i++]);
    sigset_t held;
    sigemptyset(&held);
    for (const int signal : kEndingSignals) sigaddset(&held, signal);
    sigaddset(&held, SIGWINCH);
    sigprocmask(SIG_BLOCK, &held, &mask_);
  }
  ~Signals() {
    sigprocmask(SIG_SETMASK, &mask_, nullptr);
    std::size_t i = 0;
    for (const int signal : kEndingSignals) sigaction(signal, &before_[i++], nullptr);
    for (const int signal : kCrashes) sigaction(signal, &before_[i++], nullptr);
  }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  // While keys are waited for: only then do signals come, so that none comes just before the wait
  // and is slept over.
  const sigset_t& mask_in_wait() const { return mask_; }

 private:
  sigset_t mask_{};
  std::array<struct sigaction, kEndingSignals.size() + kCrashes.size()> before_{};
};

class Screen {
 public:
  Screen() {
    screen_ = newterm(nullptr, stdout, stdin);
    if (screen_ == nullptr) return;
    note_way_out();
    cbreak();
    noecho();
    nonl();
    keypad(stdscr, TRUE);
    nodelay(stdscr, TRUE);
    // A line over ssh may part a key's bytes; ESCDELAY is for those that are slower still.
    if (std::getenv("ESCDELAY") == nullptr) set_escdelay(50);
    curs_set(0);
    const char* no_color = std::getenv("NO_COLOR");
    if ((no_color != nullptr && *no_color != '\0') || !has_colors()) return;
    start_color();
    use_default_colors();
    for (const auto& [ink, color] : kColors) init_pair(pair_of(ink), color, -1);
    colors_ = true;
  }
  ~Screen() {
    if (screen_ == nullptr) return;
    endwin();
    delscreen(screen_);
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  bool is_usable() const { return screen_ != nullptr; }

  static Size size() {
    return {static_cast<std::size_t>(std::max(LINES, 1)),
            static_cast<std::size_t>(std::max(COLS, 1))};
  }

  // ncurses sends only what has changed since.
  void show(const std::vector<Line>& lines) const {
    erase();
    for (std::size_t row = 0; row < lines.size(); ++row) {
      wmove(stdscr, static_cast<int>(row), 0);
      const Line& line = lines[row];
      for (const auto& span : line.spans) {
        const attr_t attributes = line.selected ? A_REVERSE : attributes_of(span.ink);
        attron(attributes);
        addstr(span.text.c_str());
        attroff(attributes);
      }
    }
    refresh();
  }

 private:
  static constexpr std::array<std::pair<Ink, short>, 4> kColors = {{{Ink::title, COLOR_CYAN},
                                                                    {Ink::good, COLOR_GREEN},
                                                                    {Ink::warning, COLOR_YELLOW},
                                                                    {Ink::bad, COLOR_RED}}};
  static short pair_of(Ink ink) { return static_cast<short>(static_cast<int>(ink) + 1); }

  static void note_way_out() {
    const std::string leave =
        capability("sgr0") + capability("cnorm") + capability("rmkx") + capability("rmcup");
    crash.leave_size = std::min(leave.size(), sizeof crash.leave);
    std::memcpy(crash.leave, leave.data(), crash.leave_size);
  }

  attr_t attributes_of(Ink ink) const {
    if (ink == Ink::plain) return A_NORMAL;
    if (ink == Ink::bold) return A_BOLD;
    if (ink == Ink::dim) return A_DIM;
    const attr_t color = colors_ ? static_cast<attr_t>(COLOR_PAIR(pair_of(ink))) : A_NORMAL;
    return ink == Ink::bad || ink == Ink::warning ? color | A_BOLD : color;
  }

  SCREEN* screen_ = nullptr;
  bool colors_ = false;
};

int our_key(int key) {
  constexpr std::array<std::pair<int, int>, 18> kKeys = {{{KEY_UP, kKeyUp},
                                                          {KEY_DOWN, kKeyDown},
                                                          {KEY_LEFT, kKeyLeft},
                                                          {KEY_RIGHT, kKeyRight},
                                                          {KEY_PPAGE, kKeyPageUp},
                                                          {KEY_NPAGE, kKeyPageDown},
                                                          {KEY_HOME, kKeyHome},
                                                          {KEY_END, kKeyEnd},
                                                          {KEY_ENTER, kKeyEnter},
                                                          {KEY_BACKSPACE, kKeyBackspace},
                                                          {KEY_BTAB, kKeyBackTab},
                                                          {27, kKeyEscape},
                                                          {KEY_F(1), kKeyF1},
                                                          {KEY_F(3), kKeyF3},
                                                          {KEY_F(4), kKeyF4},
                                                          {KEY_F(5), kKeyF5},
                                                          {KEY_F(6), kKeyF6},
                                                          {KEY_F(10), kKeyF10}}};
  const auto found =
      std::find_if(kKeys.begin(), kKeys.end(), [&](const auto& one) { return one.first == key; });
  if (found != kKeys.end()) return found->second;
  return key < 256 ? key : 0;
}

class Watch {
 public:
  Watch(DataSource& source, State state, const Signals& signals, const Screen& screen,
        Glyphs glyphs, Model first)
      : source_(source),
        state_(std::move(state)),
        signals_(signals),
        screen_(screen),
        glyphs_(glyphs),
        model_(std::move(first)) {
    set_next_look();
  }

  int run() {
    while (!state_.quit && ended_by == 0) {
      screen_.show(draw(model_, state_, Screen::size(), glyphs_));
      if (!wait_for_key()) {
        ended_by = SIGHUP;
        break;
      }
      take_keys();
      if (state_.change) carry_out();
      const bool is_due = platform::monotonic_ns() >= next_look_ns_ && !state_.paused;
      if (std::exchange(state_.look_now, false) || is_due) {
        model_ = source_.look(state_.wanted());
        set_next_look();
      }
    }
    return ended_by == 0 || ended_by == SIGINT ? 0 : survey::kExitSignalBase + ended_by;
  }

 private:
  // A terminal that was stopped doesn't catch up.
  void set_next_look() {
    next_look_ns_ = platform::monotonic_ns() + static_cast<std::uint64_t>(state_.interval_s * 1e9);
  }

  // False: the terminal is gone. A signal, of a new size too, ends the wait.
  bool wait_for_key() const {
    const std::uint64_t now_ns = platform::monotonic_ns();
    const std::uint64_t left_ns = next_look_ns_ > now_ns ? next_look_ns_ - now_ns : 0;
    pollfd input{STDIN_FILENO, POLLIN, 0};
    // While it is paused only keys wake it, and once a minute nothing.
    const std::uint64_t wait_ns = state_.paused ? 60 * kSecondNs : left_ns + 1;
    const timespec wait{static_cast<time_t>(wait_ns / kSecondNs),
                        static_cast<long>(wait_ns % kSecondNs)};
    if (ppoll(&input, 1, &wait, &signals_.mask_in_wait()) < 0) return errno == EINTR;
    return (input.revents & (POLLHUP | POLLERR | POLLNVAL)) == 0;
  }

  // All that have come, so that one held down doesn't lag behind.
  void take_keys() {
    for (int key = getch(); key != ERR && !state_.quit && !state_.change; key = getch()) {
      if (key != KEY_RESIZE) press(state_, our_key(key), model_, Screen::size());
    }
  }

  void carry_out() {
    const Change change = *std::exchange(state_.change, std::nullopt);
    take_result(state_, source_.change(change));
  }

  DataSource& source_;
  State state_;
  const Signals& signals_;
  const Screen& screen_;
  const Glyphs glyphs_;
  Model model_;
  std::uint64_t next_look_ns_ = 0;
};

}  // namespace

Glyphs glyphs_here() {
  std::setlocale(LC_CTYPE, "");
  return std::string_view(nl_langinfo(CODESET)) == "UTF-8" ? Glyphs::unicode : Glyphs::ascii;
}

bool is_terminal() { return isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0; }

std::optional<int> watch(DataSource& source, State state) {
  const Glyphs glyphs = glyphs_here();
  Model first = source.look(state.wanted());  // what can't be shown is said before the screen
  ended_by = 0;
  const Signals signals;
  const Screen screen;
  if (!screen.is_usable()) return std::nullopt;
  return Watch(source, std::move(state), signals, screen, glyphs, std::move(first)).run();
}

}  // namespace vgpu::tui

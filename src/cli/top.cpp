// SPDX-License-Identifier: Apache-2.0
// vgpu top: the terminal around top_view.h. Looks at fixed times, draws after every look and every
// key, and leaves the terminal as it found it, whatever ends it.
#include <curses.h>
#include <fmt/format.h>
#include <langinfo.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "top_view.h"
#include "verbs.h"
#include "vgpu/platform/clock.h"
#include "vgpu/survey/figures.h"
#include "vgpu/survey/json.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/quotas.h"
#include "vgpu/survey/text.h"

namespace vgpu::cli {

using survey::DriverKept, survey::figures_of, survey::find_installation, survey::GpuFigures,
    survey::Json, survey::keep_only, survey::kExitSignalBase, survey::kExitUsage,
    survey::optional_json, survey::percent_json, survey::policy_name, survey::print_json,
    survey::priority_name, survey::Problem, survey::simulation_wanted, survey::Snapshot,
    survey::Style, survey::take_snapshot, survey::TenantFigures, survey::text_json,
    survey::UseFigures;

namespace {

constexpr double kLeastIntervalS = 0.1, kMostIntervalS = 60;
constexpr std::size_t kPipeColumns = 120;

volatile std::sig_atomic_t ended_by = 0;  // the signal that came last; written by note_end
extern "C" void note_end(int signal) { ended_by = signal; }

double interval_of(const TopOptions& options) {
  if (options.interval.empty()) return 1;
  double seconds = 0;
  const char* const end = options.interval.data() + options.interval.size();
  const auto [stop, error] = std::from_chars(options.interval.data(), end, seconds);
  if (error != std::errc() || stop != end || !(seconds >= kLeastIntervalS) ||
      seconds > kMostIntervalS) {
    throw Problem(kExitUsage, "VG1009",
                  fmt::format("--interval: \"{}\" is no number of seconds from {:g} to {:g}",
                              options.interval, kLeastIntervalS, kMostIntervalS),
                  "vgpu top --interval 2");
  }
  return seconds;
}

TopState state_for(const TopOptions& options) {
  TopState state;
  state.interval_s = interval_of(options);
  if (options.sort.empty()) return state;
  const auto column = column_called(options.sort);
  if (!column) {
    throw Problem(kExitUsage, "VG1009",
                  fmt::format("--sort: there is no column \"{}\"; name, share, got, wait, debt or "
                              "memory",
                              options.sort),
                  "vgpu top --sort wait");
  }
  state.sort = *column;
  return state;
}

std::vector<GpuFigures> figures_for(const TopOptions& options) {
  Snapshot snapshot = take_snapshot(simulation_wanted(options.simulated));
  keep_only(snapshot, options.only);
  return figures_of(snapshot);
}

// What the figures don't show: said once, before them.
void say_what_is_missing(const TopOptions& options) {
  const Snapshot snapshot = take_snapshot(simulation_wanted(options.simulated));
  if (!snapshot.driver.available) fmt::print(stderr, "vgpu: {}\n", snapshot.driver.why);
  for (const auto& note : snapshot.notes) fmt::print(stderr, "vgpu: note: {}\n", note);
}

Json use_json(const UseFigures& use) {
  return {{"got_1s_percent", use.got_1s},
          {"got_10s_percent", use.got_10s},
          {"waited_percent",
           {{"turn", use.turn_1s}, {"limit", use.limit_1s}, {"in_flight", use.in_flight_1s}}},
          {"debt_ms", static_cast<double>(use.debt_ns) / 1e6},
          {"history_percent", use.history}};
}

Json tenant_json(const TenantFigures& tenant) {
  Json processes = Json::array();
  for (const auto& process : tenant.processes) {
    processes.push_back({{"pid", process.pid},
                         {"program", text_json(process.program)},
                         {"used_bytes", process.used_bytes},
                         {"use", process.use ? use_json(*process.use) : Json(nullptr)}});
  }
  const Quota& quota = tenant.quota;
  Json json = {{"id", tenant.id},
               {"name", tenant.name},
               {"share_percent", percent_json(quota.compute_share_percent)},
               {"limit_percent", percent_json(quota.compute_limit_percent)},
               {"policy", std::string(policy_name(quota.policy))},
               {"priority", std::string(priority_name(quota.priority))},
               {"owed_percent", tenant.owed ? Json(*tenant.owed) : Json(nullptr)}};
  json.update(use_json(tenant.use));
  json["memory"] = {
      {"used_bytes", tenant.used_bytes},
      {"limit_bytes", quota.limits_memory() ? Json(quota.memory_limit_bytes) : Json(nullptr)}};
  json["processes"] = processes;
  return json;
}

Json figures_json(const std::vector<GpuFigures>& figures) {
  Json gpus = Json::array();
  for (const auto& gpu : figures) {
    Json tenants = Json::array();
    for (const auto& tenant : gpu.tenants) tenants.push_back(tenant_json(tenant));
    gpus.push_back({{"index", gpu.gpu.nvml_index},
                    {"uuid", gpu.gpu.uuid_text()},
                    {"name", text_json(gpu.gpu.name)},
                    {"used_bytes", optional_json(gpu.gpu.used_bytes)},
                    {"total_bytes", optional_json(gpu.gpu.total_bytes)},
                    {"got_1s_percent", gpu.got_1s},
                    {"notes", gpu.notes},
                    {"tenants", tenants}});
  }
  return {{"version", 1}, {"gpus", gpus}};
}

Glyphs glyphs_here() {
  std::setlocale(LC_CTYPE, "");
  return std::string_view(nl_langinfo(CODESET)) == "UTF-8" ? Glyphs::unicode : Glyphs::ascii;
}

std::string_view escape_for(Ink ink, const Style& style) {
  switch (ink) {
    case Ink::bold:
    case Ink::title:
      return style.bold;
    case Ink::dim:
      return style.dim;
    case Ink::good:
      return style.green;
    case Ink::warning:
      return style.yellow;
    case Ink::bad:
      return style.red;
    case Ink::plain:
      break;
  }
  return "";
}

void print_table(const TopOptions& options, const TopState& state) {
  winsize window{};
  const bool sized = ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col != 0;
  const Style style = Style::for_descriptor(STDOUT_FILENO);
  for (const auto& line : draw_table(figures_for(options), state,
                                     sized ? window.ws_col : kPipeColumns, glyphs_here())) {
    if (style.plain.empty()) {
      fmt::print("{}\n", line.text());
      continue;
    }
    for (const auto& span : line.spans)
      fmt::print("{}{}{}", escape_for(span.ink, style), span.text, style.plain);
    fmt::print("\n");
  }
}

// The terminal in curses' hands; given back at the end.
class Screen {
 public:
  Screen() {
    struct sigaction note {};
    note.sa_handler = note_end;
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &note, nullptr);
    screen_ = newterm(nullptr, stdout, stdin);
    if (screen_ == nullptr) return;
    cbreak();
    noecho();
    nonl();
    keypad(stdscr, TRUE);
    set_escdelay(25);
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

  // The next key within so long; ERR: none.
  static int next_key(int wait_ms) {
    wtimeout(stdscr, wait_ms);
    return getch();
  }

 private:
  static constexpr std::array<std::pair<Ink, short>, 4> kColors = {{{Ink::title, COLOR_CYAN},
                                                                    {Ink::good, COLOR_GREEN},
                                                                    {Ink::warning, COLOR_YELLOW},
                                                                    {Ink::bad, COLOR_RED}}};
  static short pair_of(Ink ink) { return static_cast<short>(static_cast<int>(ink) + 1); }

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
  switch (key) {
    case KEY_UP:
      return kKeyUp;
    case KEY_DOWN:
      return kKeyDown;
    case KEY_LEFT:
      return kKeyLeft;
    case KEY_RIGHT:
      return kKeyRight;
    case KEY_PPAGE:
      return kKeyPageUp;
    case KEY_NPAGE:
      return kKeyPageDown;
    case KEY_HOME:
      return kKeyHome;
    case KEY_END:
      return kKeyEnd;
    case KEY_ENTER:
      return kKeyEnter;
    case 27:
      return kKeyEscape;
    case KEY_BACKSPACE:
      return kKeyBackspace;
    case KEY_F(1):
      return kKeyF1;
    case KEY_F(3):
      return kKeyF3;
    case KEY_F(4):
      return kKeyF4;
    case KEY_F(5):
      return kKeyF5;
    case KEY_F(6):
      return kKeyF6;
    case KEY_F(10):
      return kKeyF10;
    default:
      return key < 256 ? key : 0;
  }
}

int watch(const TopOptions& options, TopState state, const Screen& screen, Glyphs glyphs) {
  const auto interval_ns = static_cast<std::uint64_t>(state.interval_s * 1e9);
  std::vector<GpuFigures> figures = figures_for(options);
  std::uint64_t next_look_ns = platform::monotonic_ns() + interval_ns;
  while (!state.quit && ended_by == 0) {
    screen.show(draw_top(figures, state, Screen::size(), glyphs));
    const std::uint64_t now_ns = platform::monotonic_ns();
    const std::uint64_t left_ns = next_look_ns > now_ns ? next_look_ns - now_ns : 0;
    const int key = Screen::next_key(static_cast<int>(left_ns / 1'000'000) + 1);
    if (key != ERR && key != KEY_RESIZE) press(state, our_key(key), figures, Screen::size());
    if (platform::monotonic_ns() < next_look_ns) continue;
    if (!state.paused) figures = figures_for(options);
    // A terminal that was stopped doesn't catch up.
    next_look_ns = platform::monotonic_ns() + interval_ns;
  }
  return ended_by == 0 || ended_by == SIGINT ? 0 : kExitSignalBase + ended_by;
}

}  // namespace

int top_verb(const TopOptions& options) {
  const TopState state = state_for(options);
  if (options.json) {
    print_json(figures_json(figures_for(options)));
    return 0;
  }
  say_what_is_missing(options);
  if (options.once || isatty(STDIN_FILENO) == 0 || isatty(STDOUT_FILENO) == 0) {
    print_table(options, state);
    return 0;
  }
  const bool simulated = simulation_wanted(options.simulated);
  const DriverKept kept(find_installation(), simulated);
  (void)figures_for(options);  // what can't be shown is said before the screen is taken
  const Glyphs glyphs = glyphs_here();
  {
    const Screen screen;
    if (screen.is_usable()) return watch(options, state, screen, glyphs);
  }
  const char* terminal = std::getenv("TERM");
  fmt::print(stderr, "vgpu: note: no description of the terminal {}: one table only\n",
             terminal != nullptr && *terminal != '\0' ? terminal : "(TERM is not set)");
  print_table(options, state);
  return 0;
}

}  // namespace vgpu::cli

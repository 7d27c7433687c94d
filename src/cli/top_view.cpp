// SPDX-License-Identifier: Apache-2.0
// Rows, columns, sorting and keys; see top_view.h.
#include "top_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "vgpu/survey/quotas.h"
#include "vgpu/survey/text.h"

namespace vgpu::cli {

using survey::bar, survey::GpuFigures, survey::kRemembered, survey::Limiter, survey::Outsider,
    survey::ProcessFigures, survey::size_text, survey::TenantFigures, survey::UseFigures,
    survey::visible, survey::width_of;

namespace {

constexpr std::size_t kLeastName = 13;
constexpr std::size_t kMostName = 32;
constexpr std::size_t kFiguresWidth = 59;  // priority to memory, as kHeads adds up
constexpr std::size_t kLeastHistory = 7;

struct Head {
  std::string_view title;
  std::size_t width;
  std::optional<Column> sorts;
};
constexpr std::array<Head, 10> kHeads = {{{"P", 2, std::nullopt},
                                          {"SHARE", 6, Column::share},
                                          {"LIMIT", 6, std::nullopt},
                                          {"OWED", 5, std::nullopt},
                                          {"1 S", 5, Column::got},
                                          {"10 S", 5, std::nullopt},
                                          {"TURN", 5, Column::wait},
                                          {"CAP", 5, std::nullopt},
                                          {"DEBT", 7, Column::debt},
                                          {"MEMORY", 13, Column::memory}}};

struct Widths {
  std::size_t name = kLeastName;
  std::size_t history = kLeastHistory;
};

// The name grows first, the history line up to a cell for each second that is remembered.
Widths widths_for(std::size_t columns) {
  Widths widths;
  const std::size_t least = kLeastName + kFiguresWidth + 1 + kLeastHistory;
  std::size_t spare = columns > least ? columns - least : 0;
  const std::size_t to_history = std::min(spare, kRemembered - kLeastHistory);
  widths.history += to_history;
  spare -= to_history;
  widths.name += std::min(spare, kMostName - kLeastName);
  return widths;
}

// Braille cells show two seconds each, where one for each second doesn't fit.
std::size_t shown_seconds(std::size_t cells, Glyphs glyphs) {
  return std::min(kRemembered, glyphs == Glyphs::unicode ? cells * 2 : cells);
}

std::string fitted(std::string_view text, std::size_t width) {
  std::string out;
  std::size_t characters = 0;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at + 1;
    while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) ++end;
    if (characters == width) break;
    out += text.substr(at, end - at);
    ++characters;
    at = end;
  }
  return out;
}

std::string left(std::string_view text, std::size_t width) {
  std::string out = fitted(text, width);
  const std::size_t have = width_of(out);
  return have < width ? out + std::string(width - have, ' ') : out;
}

// A space before each, so that two figures never touch.
std::string right(std::string_view text, std::size_t width) {
  const std::string out = fitted(text, width - 1);
  return std::string(width - width_of(out), ' ') + out;
}

std::string percent(double value) {
  if (value > 0 && value < 0.05) return "0.1";
  return value == 0 || value >= 9.95 ? fmt::format("{:.0f}", value) : fmt::format("{:.1f}", value);
}

std::string percent_or_dash(std::uint8_t value) {
  return value == 0 ? "-" : fmt::format("{}", value);
}

std::string debt_text(std::uint64_t ns) {
  if (ns < 500'000) return "-";
  if (ns < 1'000'000'000) return fmt::format("{:.0f} ms", static_cast<double>(ns) / 1e6);
  return fmt::format("{:.1f} s", static_cast<double>(ns) / 1e9);
}

// "1.5G", "526M": three digits are enough beside a limit.
std::string short_size(std::uint64_t bytes) {
  const double mib = static_cast<double>(bytes) / (1024.0 * 1024.0);
  if (mib < 1000) return fmt::format("{:.0f}M", std::ceil(mib));
  const double gib = mib / 1024;
  if (gib >= 99.95 || gib == std::floor(gib)) return fmt::format("{:.0f}G", gib);
  return fmt::format("{:.1f}G", gib);
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), GpuUuid::lower);
  return out;
}

bool passes(const TenantFigures& tenant, const std::string& filter) {
  if (filter.empty()) return true;
  const std::string wanted = lower(filter);
  const auto has = [&](std::string_view text) {
    return lower(text).find(wanted) != std::string::npos;
  };
  return has(tenant.name) ||
         std::any_of(tenant.processes.begin(), tenant.processes.end(),
                     [&](const ProcessFigures& process) { return has(process.program); });
}

// The first of two in the order of a column: names from A, figures from the highest.
bool precedes(const TenantFigures& a, const TenantFigures& b, Column column) {
  const auto higher = [](auto x, auto y) { return x > y; };
  switch (column) {
    case Column::name:
      return a.name < b.name;
    case Column::share:
      return higher(a.quota.compute_share_percent, b.quota.compute_share_percent);
    case Column::got:
      return higher(a.use.got_1s, b.use.got_1s);
    case Column::wait:
      return higher(a.waited(), b.waited());
    case Column::debt:
      return higher(a.use.debt_ns, b.use.debt_ns);
    case Column::memory:
      return higher(a.used_bytes, b.used_bytes);
  }
  return false;
}

std::vector<const TenantFigures*> shown_tenants(const GpuFigures& gpu, const TopState& state) {
  std::vector<const TenantFigures*> tenants;
  for (const auto& tenant : gpu.tenants) {
    if (passes(tenant, state.filter)) tenants.push_back(&tenant);
  }
  std::stable_sort(tenants.begin(), tenants.end(), [&](const auto* a, const auto* b) {
    return state.reversed ? precedes(*b, *a, state.sort) : precedes(*a, *b, state.sort);
  });
  return tenants;
}

std::vector<RowKey> shown_rows(const std::vector<GpuFigures>& figures, const TopState& state) {
  std::vector<RowKey> rows;
  for (const auto& gpu : figures) {
    for (const auto* tenant : shown_tenants(gpu, state)) rows.push_back({gpu.gpu.uuid, tenant->id});
  }
  return rows;
}

// The body: one entry a line; `key` where it is a tenant's row.
struct BodyLine {
  Line line;
  std::optional<RowKey> key;
};

class Body {
 public:
  Body(const TopState& state, Widths widths, Glyphs glyphs)
      : state_(state), widths_(widths), glyphs_(glyphs) {}

  std::vector<BodyLine> lines(const std::vector<GpuFigures>& figures) {
    for (const auto& gpu : figures) add_gpu(gpu);
    return std::move(lines_);
  }

  Line heads() const {
    Line line;
    line.spans.push_back({left(" TENANT", widths_.name), head_ink(Column::name)});
    for (const auto& head : kHeads) {
      line.spans.push_back(
          {right(head.title, head.width), head.sorts ? head_ink(*head.sorts) : Ink::title});
    }
    line.spans.push_back(
        {" " + left(fmt::format("{} S", shown_seconds(widths_.history, glyphs_)), widths_.history),
         Ink::title});
    return line;
  }

 private:
  Ink head_ink(Column column) const { return column == state_.sort ? Ink::bold : Ink::title; }

  void add(Line line, std::optional<RowKey> key = std::nullopt) {
    lines_.push_back({std::move(line), std::move(key)});
  }

  void add_gpu(const GpuFigures& gpu) {
    const auto tenants = shown_tenants(gpu, state_);
    if (tenants.empty() && !state_.filter.empty()) return;
    add(gpu_line(gpu));
    for (const auto& note : gpu.notes) add({{{"  " + note, Ink::warning}}, false});
    for (const auto* tenant : tenants) add_tenant(gpu, *tenant);
    if (tenants.empty()) add({{{"  no tenant", Ink::dim}}, false});
    for (const auto& outsider : gpu.outsiders) add(outsider_line(outsider));
  }

  Line gpu_line(const GpuFigures& gpu) const {
    constexpr unsigned kBar = 10;
    Line line;
    line.spans.push_back(
        {fmt::format("GPU {}  {}", gpu.gpu.nvml_index, gpu.gpu.name.empty() ? "-" : gpu.gpu.name),
         Ink::bold});
    line.spans.push_back(
        {fmt::format("  time {} {} %  memory {} of {}", bar(gpu.got_1s / 100, kBar),
                     percent(gpu.got_1s), size_text(gpu.gpu.used_bytes),
                     size_text(gpu.gpu.total_bytes)),
         Ink::plain});
    return line;
  }

  void add_use(const UseFigures& use, Ink got_ink, Line& line) const {
    line.spans.push_back({right(percent(use.got_1s), kHeads[4].width), got_ink});
    line.spans.push_back({right(percent(use.got_10s), kHeads[5].width) +
                              right(percent(use.turn_1s), kHeads[6].width) +
                              right(percent(use.limit_1s), kHeads[7].width),
                          Ink::plain});
    line.spans.push_back({right(debt_text(use.debt_ns), kHeads[8].width),
                          use.debt_ns >= 100'000'000 ? Ink::warning : Ink::plain});
  }

  static std::string priority_letter(Priority priority) {
    switch (priority) {
      case Priority::high:
        return "H";
      case Priority::normal:
        return "";
      case Priority::low:
        return "L";
    }
    return "";
  }

  // Below its share although it wanted more.
  static bool falls_short(const TenantFigures& tenant) {
    return tenant.quota.compute_share_percent != 0 && tenant.waited() >= 1 &&
           tenant.use.got_1s + 1 < tenant.quota.compute_share_percent;
  }

  void add_tenant(const GpuFigures& gpu, const TenantFigures& tenant) {
    const RowKey key{gpu.gpu.uuid, tenant.id};
    const bool open = state_.open.count(key) != 0;
    const Quota& quota = tenant.quota;
    Line line;
    const char* mark = tenant.processes.empty() ? " " : open ? "-" : "+";
    line.spans.push_back({left(mark + visible(tenant.name), widths_.name), Ink::plain});
    line.spans.push_back({right(priority_letter(quota.priority), kHeads[0].width) +
                              right(percent_or_dash(quota.compute_share_percent), kHeads[1].width) +
                              right(percent_or_dash(quota.compute_limit_percent), kHeads[2].width) +
                              right(tenant.owed ? percent(*tenant.owed) : "-", kHeads[3].width),
                          Ink::plain});
    add_use(tenant.use, falls_short(tenant) ? Ink::warning : Ink::good, line);
    const std::string limit =
        quota.limits_memory() ? short_size(quota.memory_limit_bytes) : std::string("-");
    const bool nearly_full =
        quota.limits_memory() && tenant.used_bytes / 95 >= quota.memory_limit_bytes / 100;
    line.spans.push_back(
        {right(fmt::format("{}/{}", short_size(tenant.used_bytes), limit), kHeads[9].width),
         nearly_full ? Ink::bad : Ink::plain});
    line.spans.push_back(
        {" " + history_line(tenant.use.history, widths_.history, glyphs_), Ink::dim});
    add(std::move(line), key);
    if (!open) return;
    for (const auto& process : tenant.processes) add(process_line(process));
  }

  Line process_line(const ProcessFigures& process) const {
    Line line;
    const std::size_t name_and_terms =
        widths_.name + kHeads[0].width + kHeads[1].width + kHeads[2].width + kHeads[3].width;
    line.spans.push_back(
        {left(fmt::format("    {} {}", process.pid, visible(process.program)), name_and_terms),
         Ink::dim});
    if (process.use) {
      add_use(*process.use, Ink::plain, line);
    } else {
      std::size_t width = 0;
      for (std::size_t i = 4; i < 9; ++i) width += kHeads[i].width;
      line.spans.push_back({right("-", width), Ink::dim});
    }
    line.spans.push_back({right(short_size(process.used_bytes), kHeads[9].width), Ink::plain});
    if (process.use)
      line.spans.push_back(
          {" " + history_line(process.use->history, widths_.history, glyphs_), Ink::dim});
    return line;
  }

  static Line outsider_line(const Outsider& outsider) {
    const char* title = outsider.limiter == Limiter::absent    ? "UNLIMITED"
                        : outsider.limiter == Limiter::present ? "another tenant"
                                                               : "another user's";
    return {{{fmt::format(" {}", title), outsider.limiter == Limiter::absent ? Ink::bad : Ink::dim},
             {fmt::format("  pid {} {}  {}", outsider.pid == 0 ? "-" : std::to_string(outsider.pid),
                          outsider.program, size_text(outsider.used_bytes)),
              Ink::plain}},
            false};
  }

  const TopState& state_;
  Widths widths_;
  Glyphs glyphs_;
  std::vector<BodyLine> lines_;
};

Line cut(Line line, std::size_t columns) {
  std::size_t used = 0;
  for (auto& span : line.spans) {
    span.text = fitted(span.text, columns - used);
    used += width_of(span.text);
  }
  return line;
}

Line status_line(const std::vector<GpuFigures>& figures, const TopState& state) {
  std::set<std::string> tenants;
  for (const auto& gpu : figures) {
    for (const auto& tenant : gpu.tenants) tenants.insert(tenant.id);
  }
  const auto counted = [](std::size_t count, const char* what) {
    return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
  };
  Line line;
  line.spans.push_back({"vgpu top", Ink::bold});
  line.spans.push_back(
      {fmt::format("  {}, {}; by {}{}; every {:g} s", counted(figures.size(), "GPU"),
                   counted(tenants.size(), "tenant"), column_name(state.sort),
                   state.reversed ? " (reversed)" : "", state.interval_s),
       Ink::plain});
  if (state.paused) line.spans.push_back({"  PAUSED", Ink::warning});
  if (!state.filter.empty() && !state.typing_filter)
    line.spans.push_back({"  filter: " + state.filter, Ink::warning});
  return line;
}

Line keys_line(const TopState& state) {
  if (state.typing_filter)
    return {{{"Filter: ", Ink::bold}, {state.filter + "_", Ink::plain}}, false};
  return {{{"q quit  ? help  / filter  < > sort  I reverse  Enter processes  * all  Z pause",
            Ink::dim}},
          false};
}

std::vector<Line> help_lines() {
  const std::vector<std::string> text = {
      "vgpu top: who is owed how much of each GPU, and who gets it",
      "",
      "  P      priority: H high, L low",
      "  SHARE  percent of the GPU that the tenant is owed when others want it",
      "  LIMIT  percent that it may not pass",
      "  OWED   what it is due while it wants the GPU, as the others are now",
      "  1 S    GPU time got, percent of the last second; 10 S of the last ten",
      "  TURN   percent of the last second that launches waited for their turn",
      "  CAP    the same by its own compute limit",
      "  DEBT   GPU time that it had beyond what it was owed, and repays",
      "  MEMORY held / limit",
      "",
      "  Up Down PgUp PgDn Home End  move      Enter Space + -  open, close processes",
      "  < > Left Right F6           sort by   *                open or close all",
      "  I                           reverse   / F3 F4          filter; Esc clears it",
      "  P M W D N     sort by got, memory, wait (TURN and CAP), debt, name",
      "  Z             pause                   q F10 Ctrl-C     quit",
      "",
      "any key goes back"};
  std::vector<Line> lines;
  lines.reserve(text.size());
  for (const auto& one : text)
    lines.push_back({{{one, lines.empty() ? Ink::bold : Ink::plain}}, false});
  return lines;
}

// Where the body begins and how many of its lines fit.
struct Frame {
  bool has_status, has_heads, has_keys;
  std::size_t body_rows;
};
Frame frame_for(Size size) {
  Frame frame{size.rows >= 4, size.rows >= 3, size.rows >= 2, 0};
  frame.body_rows =
      size.rows - (frame.has_status ? 1 : 0) - (frame.has_heads ? 1 : 0) - (frame.has_keys ? 1 : 0);
  return frame;
}

void keep_in_sight(const std::vector<BodyLine>& body, std::size_t rows, TopState& state) {
  const auto selected = std::find_if(body.begin(), body.end(), [&](const BodyLine& line) {
    return state.selected && line.key == state.selected;
  });
  if (selected != body.end()) {
    auto at = static_cast<std::size_t>(selected - body.begin());
    // With the first row its GPU's line is seen too.
    std::size_t first = at;
    while (first > 0 && !body[first - 1].key && at - first < 2) --first;
    if (first < state.scroll) state.scroll = first;
    if (rows != 0 && at >= state.scroll + rows) state.scroll = at - rows + 1;
  }
  const std::size_t most = body.size() > rows ? body.size() - rows : 0;
  state.scroll = std::min(state.scroll, most);
}

void select_row(TopState& state, const std::vector<RowKey>& rows, std::ptrdiff_t by) {
  if (rows.empty()) {
    state.selected.reset();
    return;
  }
  const auto found = std::find_if(rows.begin(), rows.end(),
                                  [&](const RowKey& row) { return row == state.selected; });
  const std::ptrdiff_t at = found == rows.end() ? 0 : found - rows.begin() + by;
  const auto last = static_cast<std::ptrdiff_t>(rows.size()) - 1;
  state.selected = rows[static_cast<std::size_t>(std::clamp<std::ptrdiff_t>(at, 0, last))];
}

void type_filter(TopState& state, int key) {
  if (key == kKeyEscape) state.filter.clear();
  if (key == kKeyEscape || key == kKeyEnter || key == '\n' || key == '\r') {
    state.typing_filter = false;
  } else if (key == kKeyBackspace || key == 127 || key == 8) {
    if (!state.filter.empty()) state.filter.pop_back();
  } else if (key >= ' ' && key < 127) {
    state.filter += static_cast<char>(key);
  }
}

void sort_next(TopState& state, int by) {
  const int at =
      (static_cast<int>(state.sort) + by + static_cast<int>(kColumns)) % static_cast<int>(kColumns);
  state.sort = static_cast<Column>(at);
}

void set_open(TopState& state, bool open) {
  if (!state.selected) return;
  if (open) {
    state.open.insert(*state.selected);
  } else {
    state.open.erase(*state.selected);
  }
}

void toggle_all(TopState& state, const std::vector<RowKey>& rows) {
  if (state.open.empty()) {
    state.open.insert(rows.begin(), rows.end());
  } else {
    state.open.clear();
  }
}

// Each of these answers whether the key was one of its own.
bool move(TopState& state, int key, const std::vector<RowKey>& rows, std::size_t body_rows) {
  const auto page = static_cast<std::ptrdiff_t>(std::max<std::size_t>(body_rows, 2)) - 1;
  const auto all = static_cast<std::ptrdiff_t>(rows.size());
  switch (key) {
    case kKeyUp:
    case 'k':
      select_row(state, rows, -1);
      return true;
    case kKeyDown:
    case 'j':
      select_row(state, rows, 1);
      return true;
    case kKeyPageUp:
      select_row(state, rows, -page);
      return true;
    case kKeyPageDown:
      select_row(state, rows, page);
      return true;
    case kKeyHome:
    case 'g':
      select_row(state, rows, -all);
      state.scroll = 0;
      return true;
    case kKeyEnd:
    case 'G':
      select_row(state, rows, all);
      return true;
    default:
      return false;
  }
}

bool fold(TopState& state, int key, const std::vector<RowKey>& rows) {
  switch (key) {
    case kKeyEnter:
    case '\n':
    case '\r':
    case ' ':
    case kKeyF5:
      set_open(state, !(state.selected && state.open.count(*state.selected) != 0));
      return true;
    case '+':
      set_open(state, true);
      return true;
    case '-':
      set_open(state, false);
      return true;
    case '*':
      toggle_all(state, rows);
      return true;
    default:
      return false;
  }
}

bool resort(TopState& state, int key) {
  switch (key) {
    case '<':
    case ',':
    case kKeyLeft:
      sort_next(state, -1);
      return true;
    case '>':
    case '.':
    case kKeyRight:
    case kKeyF6:
      sort_next(state, 1);
      return true;
    case 'I':
    case 'i':
      state.reversed = !state.reversed;
      return true;
    case 'P':
      state.sort = Column::got;
      return true;
    case 'M':
      state.sort = Column::memory;
      return true;
    case 'W':
      state.sort = Column::wait;
      return true;
    case 'D':
      state.sort = Column::debt;
      return true;
    case 'N':
      state.sort = Column::name;
      return true;
    default:
      return false;
  }
}

void switch_mode(TopState& state, int key) {
  switch (key) {
    case 'q':
    case 'Q':
      state.quit = true;
      break;
    case '?':
    case 'h':
    case kKeyF1:
      state.help = true;
      break;
    case '/':
    case '\\':
    case kKeyF3:
    case kKeyF4:
      state.typing_filter = true;
      break;
    case kKeyEscape:
      state.filter.clear();
      break;
    case 'Z':
    case 'z':
      state.paused = !state.paused;
      break;
    default:
      break;
  }
}

}  // namespace

std::string Line::text() const {
  std::string out;
  for (const auto& span : spans) out += span.text;
  out.erase(out.find_last_not_of(' ') + 1);
  return out;
}

std::string_view column_name(Column column) {
  switch (column) {
    case Column::name:
      return "name";
    case Column::share:
      return "share";
    case Column::got:
      return "got";
    case Column::wait:
      return "wait";
    case Column::debt:
      return "debt";
    case Column::memory:
      return "memory";
  }
  return "got";
}

std::optional<Column> column_called(std::string_view name) {
  for (std::size_t i = 0; i < kColumns; ++i) {
    if (column_name(static_cast<Column>(i)) == name) return static_cast<Column>(i);
  }
  return std::nullopt;
}

std::string history_line(const std::vector<double>& newest_first, std::size_t width,
                         Glyphs glyphs) {
  const auto level = [&](std::size_t back, double most) {
    if (back >= newest_first.size() || newest_first[back] <= 0) return 0;
    return static_cast<int>(
        std::clamp(std::ceil(newest_first[back] * most / 100 - 1e-9), 1.0, most));
  };
  std::string out;
  if (glyphs == Glyphs::ascii) {
    constexpr std::string_view kLevels = " .:-=+*#";
    for (std::size_t i = width; i-- > 0;) out += kLevels[static_cast<std::size_t>(level(i, 7))];
    return out;
  }
  if (width >= newest_first.size()) {
    // Blocks of one to eight eighths: U+2581 to U+2588.
    for (std::size_t i = newest_first.size(); i-- > 0;) {
      const int eighths = level(i, 8);
      out += eighths == 0 ? " " : std::string("\xe2\x96") + static_cast<char>(0x80 + eighths);
    }
    return out;
  }
  // Braille: two seconds a cell, four dots high.
  constexpr std::array<unsigned, 5> kLeftDots = {0, 0x40, 0x44, 0x46, 0x47};
  constexpr std::array<unsigned, 5> kRightDots = {0, 0x80, 0xA0, 0xB0, 0xB8};
  for (std::size_t cell = width; cell-- > 0;) {
    const unsigned dots = kLeftDots[static_cast<std::size_t>(level(cell * 2 + 1, 4))] |
                          kRightDots[static_cast<std::size_t>(level(cell * 2, 4))];
    if (dots == 0) {
      out += ' ';
      continue;
    }
    out += "\xe2";
    out += static_cast<char>(0xA0 + (dots >> 6U));
    out += static_cast<char>(0x80 + (dots & 0x3FU));
  }
  return out;
}

std::vector<Line> draw_table(const std::vector<GpuFigures>& figures, const TopState& state,
                             std::size_t columns, Glyphs glyphs) {
  Body body(state, widths_for(columns), glyphs);
  std::vector<Line> lines{cut(body.heads(), columns)};
  for (auto& one : body.lines(figures)) lines.push_back(cut(std::move(one.line), columns));
  if (figures.empty()) lines.push_back({{{"no GPU and no tenant", Ink::plain}}, false});
  return lines;
}

std::vector<Line> draw_top(const std::vector<GpuFigures>& figures, TopState& state, Size size,
                           Glyphs glyphs) {
  std::vector<Line> lines;
  if (state.help) {
    lines = help_lines();
  } else {
    select_row(state, shown_rows(figures, state), 0);
    const Frame frame = frame_for(size);
    Body content(state, widths_for(size.columns), glyphs);
    const Line heads = content.heads();
    auto body = content.lines(figures);
    keep_in_sight(body, frame.body_rows, state);
    if (frame.has_status) lines.push_back(status_line(figures, state));
    if (frame.has_heads) lines.push_back(heads);
    for (std::size_t i = 0; i < frame.body_rows; ++i) {
      const std::size_t at = state.scroll + i;
      lines.push_back(at < body.size() ? body[at].line : Line{});
      lines.back().selected = at < body.size() && body[at].key && body[at].key == state.selected;
    }
    if (frame.has_keys) lines.push_back(keys_line(state));
  }
  lines.resize(size.rows);
  for (auto& line : lines) line = cut(std::move(line), size.columns);
  return lines;
}

void press(TopState& state, int key, const std::vector<GpuFigures>& figures, Size size) {
  constexpr int kControlC = 3;
  if (key == kControlC || key == kKeyF10) {
    state.quit = true;
  } else if (state.typing_filter) {
    type_filter(state, key);
  } else if (state.help) {
    state.help = false;
  } else {
    const auto rows = shown_rows(figures, state);
    if (!move(state, key, rows, frame_for(size).body_rows) && !fold(state, key, rows) &&
        !resort(state, key))
      switch_mode(state, key);
  }
}

}  // namespace vgpu::cli

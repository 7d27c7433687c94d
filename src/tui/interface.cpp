// SPDX-License-Identifier: Apache-2.0
// Frame, scrolling and keys; see interface.h.
#include "vgpu/tui/interface.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "editor.h"
#include "pages.h"
#include "vgpu/survey/problem.h"

namespace vgpu::tui {
namespace {

constexpr std::array<std::pair<View, std::string_view>, 5> kViews = {
    {{View::overview, "tenants"},
     {View::gpus, "GPUs"},
     {View::processes, "processes"},
     {View::events, "events"},
     {View::help, "help"}}};

Page page_for(const Model& model, const State& state, Size size, Glyphs glyphs) {
  if (state.editor) return editor_page(*state.editor, size.columns);
  switch (state.view) {
    case View::overview:
      return overview_page(model, state.order(), size.columns, glyphs);
    case View::gpus:
      return gpus_page(model, size.columns, glyphs);
    case View::processes:
      return processes_page(model, state.filter, size.columns);
    case View::events:
      return events_page(model, state.filter, size.columns);
    case View::help:
      return help_page(state);
    case View::tenant:
      break;
  }
  return state.tenant ? tenant_page(model, *state.tenant, size, glyphs) : Page{};
}

std::string counted(std::size_t count, std::string_view what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

Line status_line(const Model& model, const State& state, std::size_t columns) {
  std::set<std::string> tenants;
  for (const auto& gpu : model.gpus) {
    for (const auto& tenant : gpu.tenants) tenants.insert(tenant.id);
  }
  Line line = line_of(state.title, Ink::bold);
  std::string text =
      fmt::format("  {}, {}", counted(model.gpus.size(), "GPU"), counted(tenants.size(), "tenant"));
  if (state.view == View::overview && !state.editor)
    text += fmt::format("; by {}{}", column_name(state.sort), state.reversed ? " (reversed)" : "");
  text += fmt::format("; every {:g} s", state.interval_s);
  line.spans.push_back({text, Ink::plain});
  if (state.paused) line.spans.push_back({"  PAUSED", Ink::warning});
  if (!state.filter.empty() && !state.typing_filter)
    line.spans.push_back({"  filter: " + state.filter, Ink::warning});
  std::size_t used = 0;
  for (const auto& span : line.spans) used += cells_of(span.text);
  const std::string source = shown(model.source);
  if (used + 2 + cells_of(source) <= columns) {
    line.spans.push_back({std::string(columns - used - cells_of(source), ' '), Ink::plain});
    line.spans.push_back({source, Ink::dim});
  }
  return line;
}

std::string_view editor_keys(const Editor& editor) {
  switch (editor.step) {
    case Editor::Step::typing:
      return "Enter look at it  Up Down field  Left Right choose  Esc leave it";
    case Editor::Step::confirming:
      return "y change it  n back";
    case Editor::Step::answered:
      if (editor.result.done) return "any key goes back";
      return editor.result.rule == "share_room" && !editor.oversubscribe
                 ? "o all are scaled down instead  Enter type again  Esc leave it"
                 : "Enter type again  Esc leave it";
  }
  return "";
}

Line keys_line(const State& state) {
  if (state.editor) return line_of(std::string(editor_keys(*state.editor)), Ink::bold);
  if (state.typing_filter)
    return {{{"Filter: ", Ink::bold}, {state.filter + "_", Ink::plain}}, false};
  switch (state.view) {
    case View::help:
      return line_of("any key goes back", Ink::dim);
    case View::tenant:
      return line_of("q quit  Esc back  c change its quota  Up Down scroll  < > its GPUs  ? help",
                     Ink::dim);
    case View::overview:
      return line_of("q quit  ? help  Enter detail  c change  / filter  < > sort  1-4 Tab views",
                     Ink::dim);
    case View::gpus:
    case View::processes:
    case View::events:
      break;
  }
  return line_of("q quit  ? help  Enter detail  / filter  1 tenants 2 GPUs 3 processes 4 events",
                 Ink::dim);
}

// What is wrong with what is shown, if anything; in a line of its own.
std::string message_of(const Model& model) {
  if (!model.trouble.empty()) return model.trouble;
  return model.notes.empty() ? "" : "note: " + model.notes.front();
}

std::size_t body_rows(const Page& page, const Model& model, Size size) {
  const std::size_t around = 2 + page.heads.size() + (message_of(model).empty() ? 0 : 1);
  return size.rows > around ? size.rows - around : 1;
}

// The selection stays on what it is on; where that is gone or filtered away, on the first.
void settle(Place& place, const std::vector<std::string>& keys) {
  if (keys.empty()) {
    place.selected.reset();
  } else if (!place.selected ||
             std::find(keys.begin(), keys.end(), *place.selected) == keys.end()) {
    place.selected = keys.front();
  }
}

void keep_in_sight(const std::vector<BodyLine>& body, std::size_t rows, Place& place) {
  const auto selected = std::find_if(body.begin(), body.end(), [&](const BodyLine& line) {
    return !line.key.empty() && line.key == place.selected;
  });
  if (selected != body.end()) {
    const auto at = static_cast<std::size_t>(selected - body.begin());
    // With the first row its GPU's line is seen too.
    std::size_t first = at;
    while (first > 0 && body[first - 1].key.empty() && at - first < 2) --first;
    if (first < place.scroll) place.scroll = first;
    if (rows != 0 && at >= place.scroll + rows) place.scroll = at - rows + 1;
  }
  const std::size_t most = body.size() > rows ? body.size() - rows : 0;
  place.scroll = std::min(place.scroll, most);
}

Place& place_of(State& state) {
  static_assert(View::tenant > View::help);
  return state.places[state.view];
}

void move_by(Place& place, const std::vector<std::string>& keys, std::ptrdiff_t by) {
  if (keys.empty()) {  // nothing to select: the text itself moves
    const auto scroll = static_cast<std::ptrdiff_t>(place.scroll) + by;
    place.scroll = static_cast<std::size_t>(std::max<std::ptrdiff_t>(scroll, 0));
    return;
  }
  settle(place, keys);
  const auto at = std::find(keys.begin(), keys.end(), *place.selected) - keys.begin() + by;
  const auto last = static_cast<std::ptrdiff_t>(keys.size()) - 1;
  place.selected = keys[static_cast<std::size_t>(std::clamp<std::ptrdiff_t>(at, 0, last))];
}

std::vector<Line> too_small(Size size) {
  std::vector<Line> lines(size.rows);
  if (size.rows == 0) return lines;
  lines[0] = line_of(fmt::format("too small: {}x{}, needs {}x{}", size.columns, size.rows,
                                 kLeastSize.columns, kLeastSize.rows),
                     Ink::warning);
  return lines;
}

// --- keys; each of these answers whether the key was one of its own

bool move(State& state, int key, const Page& page, std::size_t rows) {
  const auto keys = page.keys();
  Place& place = place_of(state);
  const auto step = static_cast<std::ptrdiff_t>(std::max<std::size_t>(rows, 2)) - 1;
  const auto all = static_cast<std::ptrdiff_t>(page.body.size());
  // Pressed at the end of what doesn't select, it doesn't count up.
  const std::size_t most = page.body.size() > rows ? page.body.size() - rows : 0;
  place.scroll = std::min(place.scroll, most);
  switch (key) {
    case kKeyUp:
    case 'k':
      move_by(place, keys, -1);
      return true;
    case kKeyDown:
    case 'j':
      move_by(place, keys, 1);
      return true;
    case kKeyPageUp:
      move_by(place, keys, -step);
      return true;
    case kKeyPageDown:
      move_by(place, keys, step);
      return true;
    case kKeyHome:
    case 'g':
      move_by(place, keys, -all);
      place.scroll = 0;
      return true;
    case kKeyEnd:
    case 'G':
      move_by(place, keys, all);
      return true;
    default:
      return false;
  }
}

std::optional<RowKey> selected_row(const State& state) {
  if (state.view == View::tenant) return state.tenant;
  const auto place = state.places.find(state.view);
  if (state.view != View::overview || place == state.places.end() || !place->second.selected)
    return std::nullopt;
  return row_of(*place->second.selected);
}

void set_open(State& state, bool open) {
  const auto row = selected_row(state);
  if (!row) return;
  if (open) {
    state.open.insert(*row);
  } else {
    state.open.erase(*row);
  }
}

void toggle_all(State& state, const std::vector<std::string>& keys) {
  if (!state.open.empty()) {
    state.open.clear();
    return;
  }
  for (const auto& key : keys) {
    if (const auto row = row_of(key)) state.open.insert(*row);
  }
}

bool fold(State& state, int key, const Page& page) {
  if (state.view != View::overview) return false;
  switch (key) {
    case ' ':
    case kKeyF5: {
      const auto row = selected_row(state);
      set_open(state, !(row && state.open.count(*row) != 0));
      return true;
    }
    case '+':
      set_open(state, true);
      return true;
    case '-':
      set_open(state, false);
      return true;
    case '*':
      toggle_all(state, page.keys());
      return true;
    default:
      return false;
  }
}

void sort_next(State& state, int by) {
  const int at =
      (static_cast<int>(state.sort) + by + static_cast<int>(kColumns)) % static_cast<int>(kColumns);
  state.sort = static_cast<Column>(at);
}

bool sort_by_letter(State& state, int key) {
  constexpr std::array<std::pair<int, Column>, 5> kLetters = {{{'P', Column::got},
                                                               {'M', Column::memory},
                                                               {'W', Column::wait},
                                                               {'D', Column::debt},
                                                               {'N', Column::name}}};
  const auto found = std::find_if(kLetters.begin(), kLetters.end(),
                                  [&](const auto& letter) { return letter.first == key; });
  if (found == kLetters.end()) return false;
  state.sort = found->second;
  return true;
}

bool resort(State& state, int key) {
  if (state.view != View::overview) return false;
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
    default:
      return sort_by_letter(state, key);
  }
}

void go_to(State& state, View view) {
  if (view == View::help) state.under_help = state.view;
  if (view == View::tenant) state.before = state.view;
  state.view = view;
  state.look_now = true;
}

void go_back(State& state) {
  state.view = state.view == View::help ? state.under_help : state.before;
  state.look_now = true;
}

void show_tenant(State& state, const RowKey& row) {
  state.tenant = row;
  state.places[View::tenant] = {};
  go_to(state, View::tenant);
}

// The tenant on the first of its GPUs that is shown.
std::optional<RowKey> row_of_tenant(const Model& model, const std::string& id) {
  for (const auto& gpu : model.gpus) {
    for (const auto& tenant : gpu.tenants) {
      if (tenant.id == id) return RowKey{gpu.gpu.uuid, id};
    }
  }
  return std::nullopt;
}

// Whom the selected line is about.
std::optional<RowKey> row_meant(const State& state, const Model& model) {
  if (const auto row = selected_row(state)) return row;
  const auto place = state.places.find(state.view);
  if (place == state.places.end() || !place->second.selected) return std::nullopt;
  const std::string& key = *place->second.selected;
  if (state.view == View::processes) {
    for (const auto& process : model.processes) {
      if (key_of(process) != key) continue;
      for (const auto& on : process.gpus) {
        const RowKey row{on.gpu, process.tenant_id};
        if (model.row(row) != nullptr) return row;
      }
    }
  }
  if (state.view == View::events) {
    for (const auto& event : model.events) {
      if (std::to_string(event.sequence) == key) return row_of_tenant(model, event.subject);
    }
  }
  return std::nullopt;
}

void next_gpu(State& state, const Model& model, std::ptrdiff_t by) {
  const auto facts = model.tenants.find(state.tenant->tenant);
  if (facts == model.tenants.end() || facts->second.gpus.empty()) return;
  const auto& gpus = facts->second.gpus;
  const auto size = static_cast<std::ptrdiff_t>(gpus.size());
  const auto at = std::find(gpus.begin(), gpus.end(), state.tenant->gpu) - gpus.begin();
  state.tenant->gpu = gpus[static_cast<std::size_t>((at + by + size) % size)];
  state.look_now = true;
}

bool press_tenant(State& state, int key, const Model& model) {
  if (state.view != View::tenant || !state.tenant) return false;
  switch (key) {
    case kKeyEscape:
    case kKeyBackspace:
      go_back(state);
      return true;
    case '<':
    case ',':
    case kKeyLeft:
      next_gpu(state, model, -1);
      return true;
    case '>':
    case '.':
    case kKeyRight:
      next_gpu(state, model, 1);
      return true;
    default:
      return false;
  }
}

void next_view(State& state, int by) {
  const auto size = static_cast<int>(kViews.size()) - 1;  // without help
  const auto at = static_cast<int>(state.view == View::tenant ? state.before : state.view);
  go_to(state, static_cast<View>((at + by + size) % size));
}

bool switch_view(State& state, int key, const Model& model) {
  switch (key) {
    case '1':
    case '2':
    case '3':
    case '4':
      go_to(state, static_cast<View>(key - '1'));
      return true;
    case kKeyTab:
      next_view(state, 1);
      return true;
    case kKeyBackTab:
      next_view(state, -1);
      return true;
    case '?':
    case 'h':
    case kKeyF1:
      go_to(state, View::help);
      return true;
    case kKeyEnter:
      if (const auto row = row_meant(state, model); row && state.view != View::tenant)
        show_tenant(state, *row);
      return true;
    case 'c':
    case 'C':
      if (const auto row = row_meant(state, model)) state.editor = editor_for(model, *row);
      return true;
    default:
      return false;
  }
}

void switch_mode(State& state, int key) {
  switch (key) {
    case 'q':
    case 'Q':
      state.quit = true;
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
    case 'r':
    case 'R':
      state.look_now = true;
      break;
    default:
      break;
  }
}

void type_filter(State& state, int key) {
  constexpr std::size_t kMost = 60;
  if (key == kKeyEscape) state.filter.clear();
  if (key == kKeyEscape || key == kKeyEnter) {
    state.typing_filter = false;
  } else if (key == kKeyBackspace) {
    if (!state.filter.empty()) state.filter.pop_back();
  } else if (key >= ' ' && key < 127 && state.filter.size() < kMost) {
    state.filter += static_cast<char>(key);
  }
}

void press_in_editor(State& state, int key) {
  switch (press_editor(*state.editor, key)) {
    case EditorStep::stays:
      break;
    case EditorStep::closes:
      state.editor.reset();
      break;
    case EditorStep::asks:
      state.change = editor_change(*state.editor);
      break;
  }
}

// Terminals differ in what these send.
int plain_key(int key) {
  switch (key) {
    case '\n':
    case '\r':
      return kKeyEnter;
    case '\t':
      return kKeyTab;
    case 127:
    case 8:
      return kKeyBackspace;
    default:
      return key;
  }
}

}  // namespace

Wanted State::wanted() const {
  Wanted wanted;
  if (view == View::tenant) wanted.detail = tenant;
  wanted.plots = view == View::gpus;
  return wanted;
}

double interval_of(const std::string& typed, std::string_view flag, const std::string& next) {
  constexpr double kLeastS = 0.1, kMostS = 60;
  double seconds = 0;
  const char* const end = typed.data() + typed.size();
  const auto [stop, error] = std::from_chars(typed.data(), end, seconds);
  if (error != std::errc() || stop != end || !(seconds >= kLeastS) || seconds > kMostS) {
    throw survey::Problem(survey::kExitUsage, "VG1009",
                          fmt::format("{}: \"{}\" is no number of seconds from {:g} to {:g}", flag,
                                      typed, kLeastS, kMostS),
                          next);
  }
  return seconds;
}

std::string key_of(const RowKey& row) {
  return std::string(row.gpu.text().data()) + " " + row.tenant;
}

std::optional<RowKey> row_of(const std::string& key) {
  const auto blank = key.find(' ');
  if (blank == std::string::npos) return std::nullopt;
  const auto uuid = GpuUuid::parse(std::string_view(key).substr(0, blank));
  if (!uuid) return std::nullopt;
  return RowKey{*uuid, key.substr(blank + 1)};
}

std::vector<Line> draw(const Model& model, State& state, Size size, Glyphs glyphs) {
  std::vector<Line> lines;
  if (size.rows < kLeastSize.rows || size.columns < kLeastSize.columns) {
    lines = too_small(size);
  } else {
    if (state.editor) (void)refresh_editor(*state.editor, model);
    Page page = page_for(model, state, size, glyphs);
    const std::size_t rows = body_rows(page, model, size);
    Place none;
    Place& place = state.editor ? none : place_of(state);
    settle(place, page.keys());
    keep_in_sight(page.body, rows, place);
    lines.push_back(status_line(model, state, size.columns));
    for (auto& head : page.heads) lines.push_back(std::move(head));
    for (std::size_t i = 0; i < rows; ++i) {
      const std::size_t at = place.scroll + i;
      if (at >= page.body.size()) {
        lines.emplace_back();
        continue;
      }
      lines.push_back(std::move(page.body[at].line));
      lines.back().selected = !page.body[at].key.empty() && page.body[at].key == place.selected;
    }
    if (const std::string message = message_of(model); !message.empty())
      lines.push_back(line_of(shown(message), Ink::warning));
    lines.push_back(keys_line(state));
  }
  lines.resize(size.rows);
  for (auto& line : lines) line = cut(std::move(line), size.columns, glyphs);
  return lines;
}

void press(State& state, int typed, const Model& model, Size size) {
  constexpr int kControlC = 3;
  const int key = plain_key(typed);
  if (key == kControlC || key == kKeyF10) {
    state.quit = true;
    return;
  }
  if (state.editor) {
    if (!refresh_editor(*state.editor, model)) press_in_editor(state, key);
    return;
  }
  if (state.typing_filter) {
    type_filter(state, key);
    return;
  }
  if (state.view == View::help && key != 'q' && key != 'Q') {
    const Page help = help_page(state);
    if (help.body.size() <= body_rows(help, model, size) ||
        !move(state, key, help, body_rows(help, model, size)))
      go_back(state);
    return;
  }
  const Page page = page_for(model, state, size, Glyphs::ascii);
  settle(place_of(state), page.keys());
  if (!move(state, key, page, body_rows(page, model, size)) && !press_tenant(state, key, model) &&
      !fold(state, key, page) && !resort(state, key) && !switch_view(state, key, model))
    switch_mode(state, key);
}

void take_result(State& state, ChangeResult result) {
  if (!state.editor) return;
  state.editor->result = std::move(result);
  state.editor->step = Editor::Step::answered;
  state.look_now = true;
}

}  // namespace vgpu::tui

// SPDX-License-Identifier: Apache-2.0
// The interface as a whole: which view is shown, where one is in it, what a key does, and what the
// screen says. Model, state and size in, lines out. Pure: what has to be done elsewhere, a look or
// a change of a quota, is left in the state for the shell.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "vgpu/tui/cells.h"
#include "vgpu/tui/model.h"
#include "vgpu/tui/overview.h"

namespace vgpu::tui {

enum class View : unsigned char { overview, gpus, processes, events, help, tenant };

// Where one is in a view: the selected line, and the first that is shown.
struct Place {
  std::optional<std::string> selected;
  std::size_t scroll = 0;
};

// A quota that is being changed: typed, looked at once more, answered.
struct Editor {
  enum class Step : unsigned char { typing, confirming, answered };
  static constexpr std::size_t kFields = 5;  // share, limit, policy, memory, priority

  Step step = Step::typing;
  RowKey row;
  std::string name;
  std::uint32_t gpu_index = 0;
  std::uint64_t total_bytes = 0;  // 0: not known
  Quota before;
  std::array<std::string, kFields> typed;  // empty: stays
  std::size_t field = 0;
  std::string fault;  // what can't be understood
  Quota after;
  bool oversubscribe = false;
  ChangeResult result;
};

struct State {
  std::string title = "vgpu top";
  double interval_s = 1;
  View view = View::overview;
  View before = View::overview;      // where Esc leads back to from a tenant
  View under_help = View::overview;  // and any key from the help
  Column sort = Column::got;
  bool reversed = false;
  std::set<RowKey> open;  // rows that show their processes
  std::string filter;
  bool typing_filter = false;
  std::map<View, Place> places;
  std::optional<RowKey> tenant;  // that View::tenant shows
  std::optional<Editor> editor;
  bool paused = false;
  bool quit = false;

  // For the shell.
  bool look_now = false;         // what is shown has become another thing
  std::optional<Change> change;  // confirmed; its result goes to take_result()

  TableOrder order() const { return {sort, reversed, filter, open}; }
  Wanted wanted() const;
};

// Seconds between two looks, as typed: 0.1 to 60. Throws survey::Problem (usage) that names the
// flag and advises `next`.
double interval_of(const std::string& typed, std::string_view flag, const std::string& next);

inline constexpr Size kLeastSize{6, 40};

// Exactly size.rows lines, none wider than size.columns. Moves the scroll so that the selected line
// is seen, and selects the first where none is. Below kLeastSize it says just that.
std::vector<Line> draw(const Model& model, State& state, Size size, Glyphs glyphs);

void press(State& state, int key, const Model& model, Size size);

void take_result(State& state, ChangeResult result);

}  // namespace vgpu::tui

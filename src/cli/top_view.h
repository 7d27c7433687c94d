// SPDX-License-Identifier: Apache-2.0
// What `vgpu top` shows and how keys change it: figures, state and size in, lines out. Pure; the
// terminal is top.cpp's.
#pragma once

#include <compare>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "vgpu/survey/figures.h"

namespace vgpu::cli {

enum class Column : unsigned char { name, share, got, wait, debt, memory };
inline constexpr std::size_t kColumns = 6;
std::string_view column_name(Column column);
std::optional<Column> column_called(std::string_view name);

// A tenant's row on one GPU.
struct RowKey {
  GpuUuid gpu;
  std::string tenant;  // its id
  friend auto operator<=>(const RowKey&, const RowKey&) = default;
};

struct TopState {
  Column sort = Column::got;
  bool reversed = false;
  std::string filter;
  bool typing_filter = false;
  std::set<RowKey> open;  // rows that show their processes
  std::optional<RowKey> selected;
  std::size_t scroll = 0;  // first line of the body that is shown
  bool help = false;
  bool paused = false;
  bool quit = false;
  double interval_s = 1;
};

struct Size {
  std::size_t rows = 24;
  std::size_t columns = 80;
};

enum class Glyphs : unsigned char { ascii, unicode };
enum class Ink : unsigned char { plain, bold, dim, title, good, warning, bad };

struct Span {
  std::string text;
  Ink ink = Ink::plain;
};

struct Line {
  std::vector<Span> spans;
  bool selected = false;
  std::string text() const;
};

// Exactly size.rows lines, none wider than size.columns. Moves the scroll so that the selected row
// is seen, and selects the first where none is.
std::vector<Line> draw_top(const std::vector<survey::GpuFigures>& figures, TopState& state,
                           Size size, Glyphs glyphs);

// All of it as one table, without keys: for --once and pipes.
std::vector<Line> draw_table(const std::vector<survey::GpuFigures>& figures, const TopState& state,
                             std::size_t columns, Glyphs glyphs);

// Characters are their own keys.
enum Key : int {
  kKeyUp = 1000,
  kKeyDown,
  kKeyLeft,
  kKeyRight,
  kKeyPageUp,
  kKeyPageDown,
  kKeyHome,
  kKeyEnd,
  kKeyEnter,
  kKeyEscape,
  kKeyBackspace,
  kKeyF1,
  kKeyF3,
  kKeyF4,
  kKeyF5,
  kKeyF6,
  kKeyF10,
};
void press(TopState& state, int key, const std::vector<survey::GpuFigures>& figures, Size size);

// The last seconds, oldest first, in `width` cells; values are percents of 100.
std::string history_line(const std::vector<double>& newest_first, std::size_t width, Glyphs glyphs);

}  // namespace vgpu::cli

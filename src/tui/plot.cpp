// SPDX-License-Identifier: Apache-2.0
#include "vgpu/tui/plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

namespace vgpu::tui {
namespace {

constexpr std::size_t kAxis = 5;  // "100 |"

// How many of `most` steps a percentage fills; anything above 0 fills one.
std::size_t steps_of(std::optional<double> percent, std::size_t most) {
  if (!percent || *percent <= 0 || most == 0) return 0;
  const double full = std::ceil(*percent * static_cast<double>(most) / 100 - 1e-9);
  return static_cast<std::size_t>(std::clamp(full, 1.0, static_cast<double>(most)));
}

// Four dots a column, filled from below.
std::string braille(std::size_t left, std::size_t right) {
  constexpr std::array<unsigned, 5> kLeftDots = {0, 0x40, 0x44, 0x46, 0x47};
  constexpr std::array<unsigned, 5> kRightDots = {0, 0x80, 0xA0, 0xB0, 0xB8};
  const unsigned dots =
      kLeftDots[std::min<std::size_t>(left, 4)] | kRightDots[std::min<std::size_t>(right, 4)];
  if (dots == 0) return " ";
  std::string out = "\xe2";
  out += static_cast<char>(0xA0 + (dots >> 6U));
  out += static_cast<char>(0x80 + (dots & 0x3FU));
  return out;
}

std::size_t above(std::size_t steps, std::size_t below) {
  return steps > below ? steps - below : 0;
}

}  // namespace

std::size_t seconds_in(std::size_t cells, Glyphs glyphs) {
  return glyphs == Glyphs::unicode ? cells * 2 : cells;
}

std::string history_line(const std::vector<double>& newest_first, std::size_t width,
                         Glyphs glyphs) {
  const auto level = [&](std::size_t back, std::size_t most) {
    return back < newest_first.size() ? steps_of(newest_first[back], most) : 0;
  };
  std::string out;
  if (glyphs == Glyphs::ascii) {
    constexpr std::string_view kLevels = " .:-=+*#";
    for (std::size_t i = width; i-- > 0;) out += kLevels[level(i, 7)];
    return out;
  }
  if (width >= newest_first.size()) {
    // Blocks of one to eight eighths: U+2581 to U+2588.
    for (std::size_t i = newest_first.size(); i-- > 0;) {
      const std::size_t eighths = level(i, 8);
      out += eighths == 0 ? " " : std::string("\xe2\x96") + static_cast<char>(0x80 + eighths);
    }
    return out;
  }
  for (std::size_t cell = width; cell-- > 0;)
    out += braille(level(cell * 2 + 1, 4), level(cell * 2, 4));
  return out;
}

std::vector<std::string> plot(const std::vector<std::optional<double>>& newest_first,
                              std::size_t width, std::size_t rows, Glyphs glyphs) {
  const std::size_t each = glyphs == Glyphs::unicode ? 4 : 2;  // steps in a row's height
  const auto steps = [&](std::size_t back) {
    return back < newest_first.size() ? steps_of(newest_first[back], rows * each) : 0;
  };
  std::vector<std::string> lines;
  for (std::size_t row = rows; row-- > 0;) {
    std::string line;
    const std::size_t below = row * each;
    for (std::size_t cell = width; cell-- > 0;) {
      if (glyphs == Glyphs::unicode) {
        line += braille(above(steps(cell * 2 + 1), below), above(steps(cell * 2), below));
      } else {
        line += std::string_view(" .#")[std::min<std::size_t>(above(steps(cell), below), 2)];
      }
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

std::vector<Line> plot_with_axis(const std::vector<std::optional<double>>& newest_first,
                                 std::size_t columns, std::size_t rows, Glyphs glyphs) {
  std::vector<Line> lines;
  if (columns <= kAxis || rows == 0) return lines;
  const auto drawn = plot(newest_first, columns - kAxis, rows, glyphs);
  for (std::size_t row = 0; row < rows; ++row) {
    const char* label = row == 0 ? "100 |" : row + 1 == rows ? "  0 |" : "    |";
    lines.push_back({{{label, Ink::dim}, {drawn[row], Ink::good}}, false});
  }
  return lines;
}

}  // namespace vgpu::tui

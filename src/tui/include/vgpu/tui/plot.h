// SPDX-License-Identifier: Apache-2.0
// Histories in cells: one line beside a row, or a plot of several. Braille and blocks, or ASCII
// where there is no more. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "vgpu/tui/cells.h"

namespace vgpu::tui {

// Seconds that so many cells show.
std::size_t seconds_in(std::size_t cells, Glyphs glyphs);

// The last seconds, oldest first, in `width` cells; values are percents of 100.
std::string history_line(const std::vector<double>& newest_first, std::size_t width, Glyphs glyphs);

// The same `rows` high, from the top: filled up to each value, so a gap is something that isn't
// known or nothing at all. A value above 0 has a dot.
std::vector<std::string> plot(const std::vector<std::optional<double>>& newest_first,
                              std::size_t width, std::size_t rows, Glyphs glyphs);

// With an axis from 0 to 100 percent on its left; exactly `columns` wide at most.
std::vector<Line> plot_with_axis(const std::vector<std::optional<double>>& newest_first,
                                 std::size_t columns, std::size_t rows, Glyphs glyphs);

}  // namespace vgpu::tui

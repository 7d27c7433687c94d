// SPDX-License-Identifier: Apache-2.0
// How figures and words look to people: sizes in MiB or GiB, bars, tables, colours on a terminal
// only. Unknown is "-", never 0. Pure but for Style, which looks at the terminal once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vgpu::survey {

// "4 GiB", "1.5 GiB", "526 MiB", "100 KiB"; nullopt is "-".
std::string size_text(std::optional<std::uint64_t> bytes);

// A bar of `width` cells; unknown or no limit: all cells empty.
std::string bar(std::optional<double> fraction, unsigned width);

// Escape sequences, or nothing where output is no terminal or NO_COLOR is set.
struct Style {
  std::string_view bold, red, green, yellow, dim, plain;
  static Style for_descriptor(int descriptor);
};

// Names of programs are chosen by whoever runs them: what a terminal would act on, or what isn't
// UTF-8, is shown as "?".
std::string visible(std::string_view text);

// Characters, not bytes.
std::size_t width_of(std::string_view text);

// Columns aligned by the widest cell; the last column is left as it is. Widths count characters,
// not bytes.
std::string table(const std::vector<std::vector<std::string>>& rows, std::string_view indent);

// The nearest of `candidates` within two edits, or an empty view: for "did you mean".
std::string_view nearest(std::string_view word, const std::vector<std::string>& candidates);

// Text for a manual page: roff takes a dot or quote at a line's start for a request, a backslash
// for an escape and a plain dash for a hyphen.
std::string roff(std::string_view text);

}  // namespace vgpu::survey

// SPDX-License-Identifier: Apache-2.0
// What a screen is made of: lines of spans, in cells of a terminal, and keys as the views know
// them. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace vgpu::tui {

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
  std::string text() const;  // without blanks at its end
};

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
  kKeyTab,
  kKeyBackTab,
  kKeyF1,
  kKeyF3,
  kKeyF4,
  kKeyF5,
  kKeyF6,
  kKeyF10,
};

// Cells that UTF-8 text takes: wide characters two, what has none of its own zero.
std::size_t cells_of(std::string_view text);

// A name that somebody chose: what a terminal would act on, what isn't UTF-8, and what has no cell
// of its own (marks that join, or that turn the direction of writing) as "?".
std::string shown(std::string_view name);

// The beginning of a text that fits.
std::string fitted(std::string_view text, std::size_t cells);
// Exactly so many cells; on the right there is a blank before it, so that two figures never touch.
std::string on_the_left(std::string_view text, std::size_t cells);
std::string on_the_right(std::string_view text, std::size_t cells);

// Words in lines of at most so many cells; a word that is longer is broken.
std::vector<std::string> wrapped(std::string_view text, std::size_t cells);

// None wider than that, and with ASCII alone where the terminal has no more.
Line cut(Line line, std::size_t columns, Glyphs glyphs);

Line line_of(std::string text, Ink ink = Ink::plain);

}  // namespace vgpu::tui

// SPDX-License-Identifier: Apache-2.0
// The screen that a program's output makes: as much of xterm and vt100 as ncurses uses of them.
// What it doesn't know is a failure of the test, not something to skip.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vgpu::tui {

class Screen {
 public:
  Screen(std::size_t rows, std::size_t columns) { resize(rows, columns); }

  void write(std::string_view bytes);
  void resize(std::size_t rows, std::size_t columns);

  std::string text() const;  // lines without blanks at their ends
  bool has(std::string_view part) const { return text().find(part) != std::string::npos; }
  bool has_seen_color() const { return seen_color_; }
  bool is_alternate() const { return alternate_; }
  bool shows_cursor() const { return cursor_shown_; }
  // The first sequence that it didn't understand; empty: none.
  const std::string& unknown() const { return unknown_; }

 private:
  using Cells = std::vector<std::vector<std::string>>;  // a character each, UTF-8

  bool take(std::string_view& rest);
  bool take_escape(std::string_view& rest);
  bool take_sequence(std::string_view& rest);
  void put(std::string character);
  void line_feed();
  void apply(char final, bool is_private, const std::vector<int>& numbers);
  bool move(char final, std::size_t count, const std::vector<int>& numbers);
  bool erase(char final, int how, std::size_t count);
  bool shift(char final, std::size_t count);
  void set_mode(bool is_private, int mode, bool on);
  void note_colors(const std::vector<int>& numbers);
  void clear(std::size_t row, std::size_t from, std::size_t to);

  std::size_t rows_ = 0, columns_ = 0;
  Cells cells_;
  std::size_t row_ = 0, column_ = 0;
  std::size_t top_ = 0, bottom_ = 0;  // of what scrolls; `bottom_` isn't part of it
  bool wraps_next_ = false;
  std::string last_ = " ", pending_, unknown_;
  bool seen_color_ = false, alternate_ = false, cursor_shown_ = true;
};

}  // namespace vgpu::tui

// SPDX-License-Identifier: Apache-2.0
#include "screen.h"

#include <algorithm>
#include <utility>

namespace vgpu::tui {
namespace {

std::size_t size_of_character(unsigned char first) {
  return first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

}  // namespace

void Screen::resize(std::size_t rows, std::size_t columns) {
  rows_ = rows;
  columns_ = columns;
  cells_.resize(rows);
  for (auto& row : cells_) row.resize(columns, " ");
  top_ = 0;
  bottom_ = rows;
  row_ = std::min(row_, rows - 1);
  column_ = std::min(column_, columns - 1);
  wraps_next_ = false;
}

std::string Screen::text() const {
  std::string all;
  for (const auto& row : cells_) {
    std::string line;
    for (const auto& cell : row) line += cell;
    line.erase(line.find_last_not_of(' ') + 1);
    all += line + "\n";
  }
  return all;
}

void Screen::write(std::string_view bytes) {
  pending_ += bytes;
  std::string_view rest = pending_;
  while (!rest.empty() && take(rest)) {
  }
  pending_ = std::string(rest);
}

// False: the rest of it has yet to come.
bool Screen::take(std::string_view& rest) {
  const char first = rest.front();
  if (first == '\033') return take_escape(rest);
  const std::size_t size = size_of_character(static_cast<unsigned char>(first));
  if (rest.size() < size) return false;
  std::string character(rest.substr(0, size));
  rest.remove_prefix(size);
  switch (first) {
    case '\r':
      column_ = 0;
      wraps_next_ = false;
      break;
    case '\n':
      line_feed();
      break;
    case '\b':
      column_ = column_ == 0 ? 0 : column_ - 1;
      wraps_next_ = false;
      break;
    case '\t':
      column_ = std::min((column_ / 8 + 1) * 8, columns_ - 1);
      break;
    case '\a':
    case '\016':  // the other character set, and back: lines aren't drawn here
    case '\017':
    case '\0':
      break;
    default:
      put(std::move(character));
  }
  return true;
}

bool Screen::take_escape(std::string_view& rest) {
  if (rest.size() < 2) return false;
  switch (rest[1]) {
    case '[':
      return take_sequence(rest);
    case '(':
    case ')':
      if (rest.size() < 3) return false;
      rest.remove_prefix(3);
      return true;
    case ']': {  // up to a bell: a title, colours
      const auto end = rest.find('\a');
      if (end == std::string_view::npos) return false;
      rest.remove_prefix(end + 1);
      return true;
    }
    case 'M':
      if (row_ > top_) {
        --row_;
      } else {
        apply('T', false, {1});
      }
      break;
    case 'D':
      line_feed();
      break;
    case '7':
    case '8':
    case '=':
    case '>':
    case 'H':
      break;
    default:
      if (unknown_.empty()) unknown_ = std::string(rest.substr(1, 1));
  }
  rest.remove_prefix(2);
  return true;
}

bool Screen::take_sequence(std::string_view& rest) {
  const auto end =
      std::find_if(rest.begin() + 2, rest.end(), [](char c) { return c >= '@' && c <= '~'; });
  if (end == rest.end()) return false;
  const auto size = static_cast<std::size_t>(end - rest.begin()) + 1;
  std::string_view inside = rest.substr(2, size - 3);
  const bool is_private = !inside.empty() && (inside.front() == '?' || inside.front() == '>');
  if (is_private) inside.remove_prefix(1);
  std::vector<int> numbers{0};
  for (const char c : inside) {
    if (c >= '0' && c <= '9') numbers.back() = numbers.back() * 10 + (c - '0');
    if (c == ';') numbers.push_back(0);
  }
  apply(*end, is_private, numbers);
  rest.remove_prefix(size);
  return true;
}

void Screen::put(std::string character) {
  if (wraps_next_) {
    column_ = 0;
    line_feed();
  }
  cells_[row_][column_] = character;
  last_ = std::move(character);
  wraps_next_ = column_ + 1 == columns_;
  if (!wraps_next_) ++column_;
}

void Screen::line_feed() {
  wraps_next_ = false;
  if (row_ + 1 == bottom_) {
    apply('S', false, {1});
  } else if (row_ + 1 < rows_) {
    ++row_;
  }
}

void Screen::clear(std::size_t row, std::size_t from, std::size_t to) {
  const std::string blank(1, ' ');
  for (std::size_t i = from; i < std::min(to, columns_); ++i) cells_[row][i] = blank;
}

void Screen::apply(char final, bool is_private, const std::vector<int>& numbers) {
  const auto count = static_cast<std::size_t>(std::max(numbers[0], 1));
  if (final == 'm') {
    note_colors(numbers);
  } else if (final == 'h' || final == 'l') {
    for (const int mode : numbers) set_mode(is_private, mode, final == 'h');
  } else if (final == 'b') {
    const std::string again = last_;
    for (std::size_t i = 0; i < count; ++i) put(again);
  } else if (!move(final, count, numbers) && !erase(final, numbers[0], count) &&
             !shift(final, count) && final != 't' && final != 'c' && unknown_.empty()) {
    unknown_ = std::string("[") + final;
  }
}

bool Screen::move(char final, std::size_t count, const std::vector<int>& numbers) {
  const auto place = [&](std::size_t at) {
    return at < numbers.size() && numbers[at] > 0 ? static_cast<std::size_t>(numbers[at]) - 1 : 0;
  };
  switch (final) {
    case 'A':
      row_ = row_ > count ? row_ - count : 0;
      break;
    case 'B':
      row_ += count;
      break;
    case 'C':
      column_ += count;
      break;
    case 'D':
      column_ = column_ > count ? column_ - count : 0;
      break;
    case 'G':
      column_ = place(0);
      break;
    case 'd':
      row_ = place(0);
      break;
    case 'H':
    case 'f':
      row_ = place(0);
      column_ = place(1);
      break;
    case 'I':
      column_ = (column_ / 8 + count) * 8;
      break;
    case 'Z':
      column_ = (column_ + 7) / 8 > count ? ((column_ + 7) / 8 - count) * 8 : 0;
      break;
    case 'r':
      top_ = place(0);
      bottom_ = numbers.size() > 1 && numbers[1] > 0
                    ? std::min(static_cast<std::size_t>(numbers[1]), rows_)
                    : rows_;
      row_ = column_ = 0;
      break;
    default:
      return false;
  }
  row_ = std::min(row_, rows_ - 1);
  column_ = std::min(column_, columns_ - 1);
  wraps_next_ = false;
  return true;
}

bool Screen::erase(char final, int how, std::size_t count) {
  switch (final) {
    case 'J':
      for (std::size_t row = 0; row < rows_; ++row) {
        if (how == 2 || (how == 0 && row > row_) || (how == 1 && row < row_))
          clear(row, 0, columns_);
      }
      [[fallthrough]];
    case 'K':
      clear(row_, how == 0 ? column_ : 0, how == 1 ? column_ + 1 : columns_);
      return true;
    case 'X':
      clear(row_, column_, column_ + count);
      return true;
    default:
      return false;
  }
}

bool Screen::shift(char final, std::size_t count) {
  auto& line = cells_[row_];
  const std::string blank = " ";
  const auto rotate = [&](std::size_t first, std::size_t by, bool up) {
    for (std::size_t i = 0; i < std::min(by, bottom_ - first); ++i) {
      const auto begin = cells_.begin();
      const auto from = static_cast<std::ptrdiff_t>(first),
                 to = static_cast<std::ptrdiff_t>(bottom_);
      if (up) {
        std::rotate(begin + from, begin + from + 1, begin + to);
        clear(bottom_ - 1, 0, columns_);
      } else {
        std::rotate(begin + from, begin + to - 1, begin + to);
        clear(first, 0, columns_);
      }
    }
  };
  switch (final) {
    case 'P':
      line.erase(line.begin() + static_cast<std::ptrdiff_t>(column_),
                 line.begin() + static_cast<std::ptrdiff_t>(std::min(column_ + count, columns_)));
      line.resize(columns_, blank);
      return true;
    case '@':
      line.insert(line.begin() + static_cast<std::ptrdiff_t>(column_), count, blank);
      line.resize(columns_, blank);
      return true;
    case 'L':
      rotate(row_, count, false);
      return true;
    case 'M':
      rotate(row_, count, true);
      return true;
    case 'S':
      rotate(top_, count, true);
      return true;
    case 'T':
      rotate(top_, count, false);
      return true;
    default:
      return false;
  }
}

void Screen::set_mode(bool is_private, int mode, bool on) {
  if (!is_private) return;
  if (mode == 25) cursor_shown_ = on;
  if (mode == 1049) {
    alternate_ = on;
    for (std::size_t row = 0; row < rows_; ++row) clear(row, 0, columns_);
  }
}

void Screen::note_colors(const std::vector<int>& numbers) {
  for (const int number : numbers) {
    if ((number >= 30 && number <= 38) || (number >= 40 && number <= 48) ||
        (number >= 90 && number <= 107))
      seen_color_ = true;
  }
}

}  // namespace vgpu::tui

// SPDX-License-Identifier: Apache-2.0
#include "vgpu/tui/cells.h"

#include <algorithm>
#include <array>
#include <utility>

#include "vgpu/survey/text.h"

namespace vgpu::tui {
namespace {

using Range = std::pair<char32_t, char32_t>;

// Not wcwidth(): it says something else in each locale, and the views are pure.
constexpr std::array<Range, 13> kWithoutCell = {{{0x00AD, 0x00AD},
                                                 {0x0300, 0x036F},
                                                 {0x0483, 0x0489},
                                                 {0x061C, 0x061C},
                                                 {0x180B, 0x180F},
                                                 {0x1AB0, 0x1AFF},
                                                 {0x1DC0, 0x1DFF},
                                                 {0x200B, 0x200F},
                                                 {0x2028, 0x202E},
                                                 {0x2060, 0x206F},
                                                 {0x20D0, 0x20FF},
                                                 {0xFE00, 0xFE2F},
                                                 {0xFEFF, 0xFEFF}}};
constexpr std::array<Range, 9> kWide = {{{0x1100, 0x115F},
                                         {0x2E80, 0xA4CF},
                                         {0xA960, 0xA97F},
                                         {0xAC00, 0xD7A3},
                                         {0xF900, 0xFAFF},
                                         {0xFE30, 0xFE6F},
                                         {0xFF00, 0xFF60},
                                         {0xFFE0, 0xFFE6},
                                         {0x1F300, 0x3FFFD}}};

template <std::size_t N>
bool is_in(const std::array<Range, N>& ranges, char32_t character) {
  return std::any_of(ranges.begin(), ranges.end(), [&](const Range& range) {
    return character >= range.first && character <= range.second;
  });
}

std::size_t width_of(char32_t character) {
  if (is_in(kWithoutCell, character)) return 0;
  return is_in(kWide, character) ? 2 : 1;
}

// Takes the first character away; bytes that aren't UTF-8 are one each.
struct Character {
  char32_t value = 0;
  std::string_view bytes;
};
Character take(std::string_view& text) {
  const auto first = static_cast<unsigned char>(text.front());
  std::size_t size = first < 0xC0 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  size = std::min(size, text.size());
  char32_t value = size == 1 ? first : first & (0xFFU >> (size + 1));
  for (std::size_t i = 1; i < size; ++i)
    value = (value << 6U) | (static_cast<unsigned char>(text[i]) & 0x3FU);
  const Character character{value, text.substr(0, size)};
  text.remove_prefix(size);
  return character;
}

std::string ascii_of(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const Character character = take(text);
    out += character.value < 0x80 ? std::string(character.bytes)
                                  : std::string(width_of(character.value), '?');
  }
  return out;
}

}  // namespace

std::string Line::text() const {
  std::string out;
  for (const auto& span : spans) out += span.text;
  out.erase(out.find_last_not_of(' ') + 1);
  return out;
}

std::size_t cells_of(std::string_view text) {
  std::size_t cells = 0;
  while (!text.empty()) cells += width_of(take(text).value);
  return cells;
}

std::string shown(std::string_view name) {
  const std::string visible = survey::visible(name);
  std::string out;
  for (std::string_view rest = visible; !rest.empty();) {
    const Character character = take(rest);
    out += width_of(character.value) == 0 ? "?" : character.bytes;
  }
  return out;
}

std::string fitted(std::string_view text, std::size_t cells) {
  std::string out;
  while (!text.empty()) {
    const Character character = take(text);
    const std::size_t width = width_of(character.value);
    if (width > cells) break;
    cells -= width;
    out += character.bytes;
  }
  return out;
}

std::string on_the_left(std::string_view text, std::size_t cells) {
  const std::string out = fitted(text, cells);
  return out + std::string(cells - cells_of(out), ' ');
}

std::string on_the_right(std::string_view text, std::size_t cells) {
  if (cells == 0) return "";
  const std::string out = fitted(text, cells - 1);
  return std::string(cells - cells_of(out), ' ') + out;
}

std::vector<std::string> wrapped(std::string_view text, std::size_t cells) {
  std::vector<std::string> lines;
  std::string line;
  cells = std::max<std::size_t>(cells, 2);
  const auto end_line = [&] { lines.push_back(std::exchange(line, {})); };
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!line.empty() && cells_of(line) + 1 + cells_of(word) > cells) end_line();
    while (cells_of(word) > cells) {
      line = fitted(word, cells);
      word.remove_prefix(line.size());
      end_line();
    }
    if (!word.empty()) line += (line.empty() ? "" : " ") + std::string(word);
  }
  if (!line.empty()) end_line();
  return lines;
}

Line cut(Line line, std::size_t columns, Glyphs glyphs) {
  std::size_t used = 0;
  for (auto& span : line.spans) {
    if (glyphs == Glyphs::ascii) span.text = ascii_of(span.text);
    span.text = fitted(span.text, columns - used);
    used += cells_of(span.text);
  }
  return line;
}

Line line_of(std::string text, Ink ink) { return {{{std::move(text), ink}}, false}; }

}  // namespace vgpu::tui

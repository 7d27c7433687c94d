// SPDX-License-Identifier: Apache-2.0
// Reading of values with the place where they went wrong, and the one line that a bad value is
// refused with. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "vgpu/settings/settings.h"

namespace vgpu::settings {

// What is wrong with a text: where (offset in it), and what would be right.
struct Fault {
  std::size_t at = 0;
  Line why;
};

constexpr bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

// substr without its exception, which would bring libstdc++ into the user's process: past the end
// there is nothing.
constexpr std::string_view part(std::string_view text, std::size_t from,
                                std::size_t count = std::string_view::npos) {
  text.remove_prefix(from < text.size() ? from : text.size());
  text.remove_suffix(count < text.size() ? text.size() - count : 0);
  return text;
}

// A piece of a value that remembers where in the value it stands.
struct Piece {
  std::string_view text;
  std::size_t at = 0;

  constexpr Piece trimmed() const {
    Piece piece = *this;
    while (!piece.text.empty() && is_space(piece.text.front())) {
      piece.text.remove_prefix(1);
      ++piece.at;
    }
    while (!piece.text.empty() && is_space(piece.text.back())) piece.text.remove_suffix(1);
    return piece;
  }
  constexpr Piece from(std::size_t offset) const { return {part(text, offset), at + offset}; }
};

constexpr bool same_word(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (GpuUuid::lower(a[i]) != GpuUuid::lower(b[i])) return false;
  }
  return true;
}

// Entries of a comma-separated list; empty ones are handed out too, the caller knows what they
// mean.
class Entries {
 public:
  explicit constexpr Entries(std::string_view list) : rest_{list, 0} {}
  constexpr bool next(Piece& entry) {
    if (done_) return false;
    const std::size_t comma = rest_.text.find(',');
    entry = Piece{part(rest_.text, 0, comma), rest_.at}.trimmed();
    done_ = comma == std::string_view::npos;
    if (!done_) rest_ = rest_.from(comma + 1);
    return true;
  }

 private:
  Piece rest_;
  bool done_ = false;
};

// The variable's value without blanks around it; empty when it is unset, empty or blank.
std::string_view value_of(const Environment& environment, const char* name);

// `text` for a message: at most `most` characters around `at`, what can't be printed as '?'.
void append_excerpt(Line& line, std::string_view text, std::size_t at, std::size_t most = 80);

// NAME="text", column N: why.
void report(FixedVector<Line, 16>& lines, std::string_view name, std::string_view text,
            const Fault& fault);

bool parse_size(Piece piece, std::uint64_t& bytes, Fault& fault);
// A whole number of bytes without a unit, as JSON has it.
bool parse_bytes(Piece piece, std::uint64_t& bytes, Fault& fault);
bool parse_percent(Piece piece, std::uint64_t& percent, Fault& fault);
// One value of `kind` as a number: bytes, percent, an enum's value. "Off" is kNoLimit for sizes and
// 0 for percents.
bool parse_value(Value kind, Piece piece, std::uint64_t& value, Fault& fault);
bool parse_log(std::string_view text, LogSettings& log, Fault& fault);

}  // namespace vgpu::settings

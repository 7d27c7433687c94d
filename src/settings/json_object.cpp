// SPDX-License-Identifier: Apache-2.0
// See json_object.h. The grammar is RFC 8259's, less what a table of GPUs can't contain.
#include "vgpu/settings/json_object.h"

namespace vgpu::settings {
namespace {

constexpr unsigned kDeepest = 32;  // brackets within each other

}  // namespace

bool JsonText::fail(std::size_t at, std::string_view why) {
  failed_ = finished_ = true;
  fault_.at = at;
  fault_.why = Line(why);
  return false;
}

void JsonText::skip_blanks() {
  while (!at_end() && is_space(text_[at_])) ++at_;
}

bool JsonText::read_string(Piece& piece) {
  const std::size_t open = at_++;
  const std::size_t begin = at_;
  for (; !at_end(); ++at_) {
    const char c = text_[at_];
    if (c == '"') {
      piece = {part(text_, begin, at_ - begin), begin};
      ++at_;
      return true;
    }
    if (c == '\\' && !may_nest_) return fail(at_, "an escape; names of GPUs need none");
    if (c == '\\') ++at_;  // with what it escapes, a quote say
    if (static_cast<unsigned char>(c) < 0x20) return fail(at_, "a control character in a string");
  }
  return fail(open, "a string without its closing quote");
}

bool JsonText::read_number(Piece& piece) {
  const std::size_t begin = at_;
  const auto digits = [this] {
    const std::size_t from = at_;
    while (!at_end() && is_digit(text_[at_])) ++at_;
    return at_ - from;
  };
  if (peek() == '-') ++at_;
  const std::size_t whole = at_;
  if (digits() == 0) return fail(begin, "broken JSON: a number needs digits");
  if (at_ - whole > 1 && text_[whole] == '0')
    return fail(begin, "broken JSON: a number with a leading zero");
  if (peek() == '.') {
    ++at_;
    if (digits() == 0) return fail(at_, "broken JSON: digits are missing behind the point");
  }
  if (peek() == 'e' || peek() == 'E') {
    ++at_;
    if (peek() == '+' || peek() == '-') ++at_;
    if (digits() == 0) return fail(at_, "broken JSON: digits are missing in the exponent");
  }
  piece = {part(text_, begin, at_ - begin), begin};
  return true;
}

// From bracket to bracket; what lies between is looked at by who reads it.
bool JsonText::read_nested(Piece& piece) {
  const std::size_t begin = at_;
  std::uint32_t braces = 0;  // a bit for each open bracket, the innermost last: 1 is {
  unsigned depth = 0;
  while (!at_end()) {
    const char c = peek();
    if (c == '"') {
      Piece ignored;
      if (!read_string(ignored)) return false;
      continue;
    }
    ++at_;
    if (c == '{' || c == '[') {
      if (depth == kDeepest) return fail(begin, "brackets within brackets, too deep");
      braces = braces << 1 | (c == '{' ? 1 : 0);
      ++depth;
    } else if (c == '}' || c == ']') {
      if ((braces & 1) != (c == '}' ? 1u : 0u))
        return fail(at_ - 1, "broken JSON: another bracket");
      braces >>= 1;
      if (--depth > 0) continue;
      piece = {part(text_, begin, at_ - begin), begin};
      return true;
    }
  }
  return fail(begin, "a bracket without its closing one");
}

bool JsonText::read_value(JsonMember& member) {
  const char c = peek();
  if (c == '"') {
    member.kind = JsonMember::Kind::string;
    return read_string(member.value);
  }
  if (c == '-' || is_digit(c)) {
    member.kind = JsonMember::Kind::number;
    return read_number(member.value);
  }
  if (may_nest_ && (c == '{' || c == '[')) {
    member.kind = c == '{' ? JsonMember::Kind::object : JsonMember::Kind::array;
    return read_nested(member.value);
  }
  if (c == '{' || c == '[') return fail(at_, "a nested value; write one number for each GPU");
  for (const std::string_view word :
       {std::string_view("true"), std::string_view("false"), std::string_view("null")}) {
    if (part(text_, at_, word.size()) != word) continue;
    member.kind = JsonMember::Kind::word;
    member.value = {word, at_};
    at_ += word.size();
    return true;
  }
  return fail(at_, at_end() ? "broken JSON: ends before a value"
                            : "broken JSON: a number is expected here");
}

bool JsonText::finish() {
  ++at_;  // the closing brace
  finished_ = true;
  skip_blanks();
  return at_end()
             ? false
             : fail(at_,
                    "something follows the object; write one object, as in {\"0\": 1073741824}");
}

bool JsonText::goes_on(char open, char close) {
  if (finished_) return false;
  skip_blanks();
  if (!started_) {
    started_ = true;
    if (peek() != open)
      return fail(at_, "not a JSON object; write one keyed by GPU, as in {\"0\": 1073741824}");
    ++at_;
    skip_blanks();
    return peek() == close ? finish() : true;
  }
  if (peek() == close) return finish();
  if (peek() != ',') {
    return fail(at_, at_end() ? "broken JSON: ends before the closing brace"
                              : "broken JSON: a comma or } is expected here");
  }
  ++at_;
  skip_blanks();
  return true;
}

bool JsonObject::next(JsonMember& member) {
  if (!goes_on('{', '}')) return false;
  if (peek() != '"') {
    return fail(
        at_,
        at_end()
            ? "broken JSON: ends before the closing brace"
            : "broken JSON: a GPU in double quotes is expected here, as in {\"0\": 1073741824}");
  }
  if (!read_string(member.name)) return false;
  skip_blanks();
  if (peek() != ':') return fail(at_, "broken JSON: a colon is expected here");
  ++at_;
  skip_blanks();
  return read_value(member);
}

bool JsonArray::next(JsonMember& element) {
  element.name = {};
  return goes_on('[', ']') && read_value(element);
}

}  // namespace vgpu::settings

// SPDX-License-Identifier: Apache-2.0
// Sizes, percents and words: each reader says at which character a text stops being right, and what
// would be. No floating point: a size is exact to the byte, and what it is shown as reads back as
// the same number.
#include "vgpu/settings/text.h"

namespace vgpu::settings {
namespace {

constexpr std::uint64_t kMaxSize = (std::uint64_t{1} << 63) - 1;

bool fail(Fault& fault, std::size_t at, std::string_view why) {
  fault.at = at;
  fault.why = Line(why);
  return false;
}

bool fail_quoting(Fault& fault, Piece what, std::string_view why) {
  fault.at = what.at;
  fault.why = Line();
  if (what.text.empty()) {
    fault.why.append("nothing there");
  } else {
    fault.why.append('"');
    append_excerpt(fault.why, what.text, 0, 40);
    fault.why.append('"');
  }
  fault.why.append(why);
  return false;
}

constexpr std::string_view kSizeHint =
    " is not a size; write a number and B, K, M, G or T, as in 512MiB or 1.5G, or none";
constexpr std::string_view kTooLarge =
    "is 2^63 bytes or more; write a smaller size, or none for no limit";

// "K", "KB", "KiB", any case: how many bits a unit shifts by, or -1.
int unit_shift(std::string_view unit) {
  if (unit.empty() || same_word(unit, "B")) return 0;
  constexpr std::string_view kUnits = "kmgt";
  const std::size_t which = kUnits.find(GpuUuid::lower(unit[0]));
  if (which == std::string_view::npos) return -1;
  const std::string_view tail = part(unit, 1);
  if (!tail.empty() && !same_word(tail, "B") && !same_word(tail, "iB") && !same_word(tail, "i"))
    return -1;
  return static_cast<int>(10 * (which + 1));
}

// floor(0.DIGITS * 2^shift), digit by digit: DIGITS are cut after 18, far below one byte of any
// unit.
std::uint64_t fraction_of(std::string_view digits, int shift) {
  std::uint64_t numerator = 0;
  std::uint64_t denominator = 1;
  for (const char c : part(digits, 0, 18)) {
    numerator = numerator * 10 + static_cast<std::uint64_t>(c - '0');
    denominator *= 10;
  }
  std::uint64_t result = 0;
  for (int bit = 0; bit < shift; ++bit) {
    numerator *= 2;
    result *= 2;
    if (numerator >= denominator) {
      numerator -= denominator;
      ++result;
    }
  }
  return result;
}

std::size_t digits_at(std::string_view text, std::size_t from) {
  std::size_t count = 0;
  while (from + count < text.size() && is_digit(text[from + count])) ++count;
  return count;
}

// The value of decimal digits, at most `most`.
bool accumulate(std::string_view digits, std::uint64_t most, std::uint64_t& number) {
  number = 0;
  for (const char c : digits) {
    const auto digit = static_cast<std::uint64_t>(c - '0');
    if (number > (most - digit) / 10) return false;
    number = number * 10 + digit;
  }
  return true;
}

struct Word {
  std::string_view word;
  std::uint64_t value;
};

template <std::size_t N>
bool parse_word(Piece piece, const Word (&words)[N], std::uint64_t& value, Fault& fault) {
  for (const Word& word : words) {
    if (same_word(piece.text, word.word)) {
      value = word.value;
      return true;
    }
  }
  fail_quoting(fault, piece, "; write ");
  for (std::size_t i = 0; i < N; ++i) {
    if (i > 0) fault.why.append(i + 1 == N ? " or " : ", ");
    fault.why.append(words[i].word);
  }
  return false;
}

constexpr Word kPolicies[] = {{"elastic", static_cast<std::uint64_t>(Policy::elastic)},
                              {"fixed", static_cast<std::uint64_t>(Policy::fixed)}};
constexpr Word kPriorities[] = {{"high", static_cast<std::uint64_t>(Priority::high)},
                                {"normal", static_cast<std::uint64_t>(Priority::normal)},
                                {"low", static_cast<std::uint64_t>(Priority::low)}};
constexpr Word kHamiPolicies[] = {{"force", 0}, {"default", 1}, {"disable", 2}};
constexpr Word kHamiPriorities[] = {{"0", static_cast<std::uint64_t>(Priority::high)},
                                    {"1", static_cast<std::uint64_t>(Priority::low)}};
constexpr Word kBooleans[] = {{"true", 1}, {"false", 0}, {"1", 1},   {"0", 0},
                              {"on", 1},   {"off", 0},   {"yes", 1}, {"no", 0}};
constexpr Word kOnError[] = {{"refuse", 0}, {"open", 1}};
constexpr Word kIsolation[] = {{"soft", 0}, {"shared", 1}};
constexpr Word kLogLevels[] = {{"off", 0},  {"error", 1}, {"warning", 2},
                               {"warn", 2}, {"info", 3},  {"debug", 4}};

// HAMi's percent: any whole number, of which 0 and 100 or more are off.
bool parse_percent_lenient(Piece piece, std::uint64_t& percent, Fault& fault) {
  if (!piece.text.empty() && digits_at(piece.text, 0) == piece.text.size()) {
    if (!accumulate(piece.text, 100, percent) || percent == 100) percent = 0;
    return true;
  }
  return fail_quoting(
      fault, piece,
      " is not a percentage; write a whole number, of which 0 and 100 or more limit nothing");
}

// The most talkative level of "info", "debug,hyper=warn" or "module=trace"; what it doesn't know
// counts for nothing.
std::uint64_t directive_level(std::string_view text) {
  constexpr Word kDirectives[] = {{"off", 0},  {"error", 1}, {"warn", 2}, {"warning", 2},
                                  {"info", 3}, {"debug", 4}, {"trace", 4}};
  std::uint64_t level = 0;
  bool known = false;
  Entries entries(text);
  for (Piece entry; entries.next(entry);) {
    const std::size_t equals = entry.text.rfind('=');
    if (equals != std::string_view::npos) entry = entry.from(equals + 1).trimmed();
    for (const Word& word : kDirectives) {
      if (!same_word(entry.text, word.word)) continue;
      known = true;
      if (word.value > level) level = word.value;
    }
  }
  return known ? level : static_cast<std::uint64_t>(LogLevel::info);
}

}  // namespace

bool parse_size(Piece piece, std::uint64_t& bytes, Fault& fault) {
  if (same_word(piece.text, "none")) {
    bytes = kNoLimit;
    return true;
  }
  if (!piece.text.empty() && piece.text[0] == '-') {
    return fail_quoting(fault, piece, " is negative; write a size of at least one byte, or none");
  }
  const std::size_t whole = digits_at(piece.text, 0);
  if (whole == 0) return fail_quoting(fault, piece, kSizeHint);
  std::size_t fraction = 0;
  std::size_t used = whole;
  if (used < piece.text.size() && piece.text[used] == '.') {
    fraction = digits_at(piece.text, whole + 1);
    if (fraction == 0)
      return fail_quoting(fault, piece.from(whole), " needs digits behind it, as in 1.5G");
    used += 1 + fraction;
  }
  const Piece unit = piece.from(used).trimmed();
  const int shift = unit_shift(unit.text);
  if (shift < 0)
    return fail_quoting(fault, unit,
                        " is not a unit; write B, K, M, G or T, with or without iB, as in 4GiB");
  const std::string_view fraction_digits =
      part(piece.text, whole + (fraction > 0 ? 1 : 0), fraction);
  if (shift == 0 && fraction_digits.find_first_not_of('0') != std::string_view::npos) {
    return fail_quoting(fault, piece,
                        " is not a whole number of bytes; is the unit missing, as in 1.5G?");
  }
  std::uint64_t number = 0;
  if (!accumulate(part(piece.text, 0, whole), kMaxSize >> shift, number)) {
    return fail(fault, piece.at, kTooLarge);
  }
  const std::uint64_t size = (number << shift) + fraction_of(fraction_digits, shift);
  if (size == 0)
    return fail(fault, piece.at,
                "is zero; write a size of at least one byte, or none for no limit");
  bytes = size;
  return true;
}

bool parse_bytes(Piece piece, std::uint64_t& bytes, Fault& fault) {
  if (!piece.text.empty() && piece.text[0] == '-') {
    return fail_quoting(fault, piece, " is negative; write a whole number of bytes");
  }
  if (digits_at(piece.text, 0) != piece.text.size() || piece.text.empty()) {
    return fail_quoting(fault, piece, " is not a whole number of bytes, as in 1073741824");
  }
  if (!accumulate(piece.text, kMaxSize, bytes)) return fail(fault, piece.at, kTooLarge);
  if (bytes == 0)
    return fail(fault, piece.at,
                "is zero; write at least one byte, or leave this GPU out for no limit");
  return true;
}

bool parse_percent(Piece piece, std::uint64_t& percent, Fault& fault) {
  if (same_word(piece.text, "none")) {
    percent = 0;
    return true;
  }
  constexpr std::string_view kHint = "; write a whole number from 1 to 100";
  if (!piece.text.empty() && piece.text[0] == '-') {
    fail_quoting(fault, piece, " is negative");
  } else if (const std::size_t digits = digits_at(piece.text, 0);
             digits == 0 || digits != piece.text.size()) {
    fail_quoting(fault, piece, " is not a whole number of percent");
  } else if (!accumulate(piece.text, 100, percent)) {
    fail_quoting(fault, piece, " is over 100 percent");
  } else if (percent == 0) {
    fail(fault, piece.at, "is zero percent");
  } else {
    return true;
  }
  fault.why.append(kHint);
  return false;
}

bool parse_value(Value kind, Piece piece, std::uint64_t& value, Fault& fault) {
  switch (kind) {
    case Value::size:
      return parse_size(piece, value, fault);
    case Value::size_or_zero:
      if (piece.text == "0") {
        value = kNoLimit;
        return true;
      }
      return parse_size(piece, value, fault);
    case Value::bytes:
      return parse_bytes(piece, value, fault);
    case Value::percent:
      return parse_percent(piece, value, fault);
    case Value::percent_off:
      if (!parse_percent(piece, value, fault)) return false;
      if (value == 100) value = 0;
      return true;
    case Value::percent_lenient:
      return parse_percent_lenient(piece, value, fault);
    case Value::policy:
      return parse_word(piece, kPolicies, value, fault);
    case Value::hami_policy:
      return parse_word(piece, kHamiPolicies, value, fault);
    case Value::priority:
      return parse_word(piece, kPriorities, value, fault);
    case Value::hami_priority:
      return parse_word(piece, kHamiPriorities, value, fault);
    case Value::boolean:
      return parse_word(piece, kBooleans, value, fault);
    case Value::on_error:
      return parse_word(piece, kOnError, value, fault);
    case Value::isolation:
      if (same_word(piece.text, "hard") || same_word(piece.text, "partitioned")) {
        return fail_quoting(
            fault, piece,
            " can't be kept by a library in the program; write soft, or leave it out");
      }
      return parse_word(piece, kIsolation, value, fault);
    case Value::log_level:
      value = directive_level(piece.text);
      return true;
    case Value::log: {
      LogSettings log;
      return parse_log(piece.text, log, fault);
    }
    case Value::gpu:
    case Value::ratio:
    case Value::path:
    case Value::text:
      value = 0;
      return true;
  }
  return false;
}

bool parse_log(std::string_view text, LogSettings& log, Fault& fault) {
  const std::size_t colon = text.find(':');
  std::uint64_t level = 0;
  if (!parse_word(Piece{part(text, 0, colon), 0}.trimmed(), kLogLevels, level, fault)) return false;
  log = LogSettings{};
  log.level = static_cast<LogLevel>(level);
  if (colon == std::string_view::npos) return true;
  const Piece file = Piece{text, 0}.from(colon + 1).trimmed();
  if (file.text.empty())
    return fail(fault, colon,
                "no file behind the colon; write LEVEL:FILE, or LEVEL for standard error");
  log.path = file.text;
  if (log.path.truncated()) {
    log = LogSettings{};
    return fail(fault, file.at, "is a path of more than 255 bytes; write a shorter one");
  }
  return true;
}

bool parse_size(std::string_view text, std::uint64_t& bytes, Line& why) {
  Fault fault;
  if (parse_size(Piece{text, 0}.trimmed(), bytes, fault)) return true;
  why = fault.why;
  return false;
}

bool parse_percent(std::string_view text, std::uint8_t& percent, Line& why) {
  Fault fault;
  std::uint64_t value = 0;
  if (!parse_percent(Piece{text, 0}.trimmed(), value, fault)) {
    why = fault.why;
    return false;
  }
  percent = static_cast<std::uint8_t>(value);
  return true;
}

FixedString<24> format_size(std::uint64_t bytes) {
  FixedString<24> text;
  if (bytes == kNoLimit) return text.append("none"), text;
  constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
  constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
  if (bytes >= kGiB && bytes % kGiB == 0) {
    text.append_number(bytes / kGiB).append(" GiB");
  } else if (bytes >= kMiB && bytes % kMiB == 0) {
    text.append_number(bytes / kMiB).append(" MiB");
  } else {
    text.append_number(bytes).append(" B");
  }
  return text;
}

}  // namespace vgpu::settings

// SPDX-License-Identifier: Apache-2.0
// The table as data, and values from and to text.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "settings.h"

namespace vgpu::hypervisor::settings {
namespace {

constexpr std::size_t kMostText = 4096;
constexpr std::size_t kMostItems = 256;

struct Unit {
  std::string_view name;
  std::uint64_t milliseconds;
};
constexpr Unit kUnits[] = {
    {"ms", 1}, {"s", 1'000}, {"m", 60'000}, {"h", 3'600'000}, {"d", 86'400'000}};

bool parse_duration(std::string_view text, std::uint64_t& milliseconds) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end == text.data()) return false;
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  for (const Unit& known : kUnits) {
    if (unit != known.name) continue;
    if (number > INT64_MAX / 2 / known.milliseconds) return false;
    milliseconds = number * known.milliseconds;
    return true;
  }
  return false;
}

// "LEAST..MOST" of a row, each read by `read`.
template <class Read>
bool in_range(const Row& row, std::uint64_t value, Read&& read) {
  const std::size_t dots = row.form.find("..");
  if (dots == std::string_view::npos) return true;
  std::uint64_t least = 0, most = 0;
  return read(row.form.substr(0, dots), least) && read(row.form.substr(dots + 2), most) &&
         value >= least && value <= most;
}

bool read_number(std::string_view text, std::uint64_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

bool is_plain(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

std::string range_text(const Row& row) {
  const std::size_t dots = row.form.find("..");
  return dots == std::string_view::npos
             ? ""
             : fmt::format(" from {} to {}", row.form.substr(0, dots), row.form.substr(dots + 2));
}

}  // namespace

std::span<const Row> rows() {
  static constexpr Row kRows[] = {
#define VGPU_DAEMON_SETTING(field, key, flag, variable, kind, form, fallback, change, text) \
  {key, flag, variable, Kind::kind, form, fallback, Change::change, text},
#define VGPU_DAEMON_FOREIGN(...)
#define VGPU_DAEMON_POD(...)
#include "settings.def"
#undef VGPU_DAEMON_SETTING
#undef VGPU_DAEMON_FOREIGN
#undef VGPU_DAEMON_POD
  };
  return kRows;
}

std::span<const Foreign> foreign() {
  static constexpr Foreign kForeign[] = {
#define VGPU_DAEMON_SETTING(...)
#define VGPU_DAEMON_FOREIGN(what, name, effect, only, text) \
  {ForeignWhat::what, name, Effect::effect, only, text},
#define VGPU_DAEMON_POD(...)
#include "settings.def"
#undef VGPU_DAEMON_SETTING
#undef VGPU_DAEMON_FOREIGN
#undef VGPU_DAEMON_POD
  };
  return kForeign;
}

std::span<const PodRow> pod_rows() {
  static constexpr PodRow kPodRows[] = {
#define VGPU_DAEMON_SETTING(...)
#define VGPU_DAEMON_FOREIGN(...)
#define VGPU_DAEMON_POD(field, key, kind, needed, text) {key, needed, text},
#include "settings.def"
#undef VGPU_DAEMON_SETTING
#undef VGPU_DAEMON_FOREIGN
#undef VGPU_DAEMON_POD
  };
  return kPodRows;
}

std::span<const RuleRow> rule_rows() {
  static constexpr RuleRow kRuleRows[] = {
#define VGPU_DAEMON_SETTING(...)
#define VGPU_DAEMON_FOREIGN(...)
#define VGPU_DAEMON_POD(...)
#define VGPU_DAEMON_RULE(field, key, role, text) {key, RuleRole::role, text},
#include "settings.def"
#undef VGPU_DAEMON_SETTING
#undef VGPU_DAEMON_FOREIGN
#undef VGPU_DAEMON_POD
  };
  return kRuleRows;
}

std::string Place::text() const {
  return line == 0 ? name : fmt::format("{}:{}:{}", name, line, column);
}

std::string Fault::text() const { return place.text() + ": " + what; }

std::string_view source_name(Source source) {
  switch (source) {
    case Source::fallback:
      return "default";
    case Source::file:
      return "file";
    case Source::variable:
      return "environment";
    case Source::flag:
      return "flag";
  }
  return "default";
}

std::string placeholder(const Row& row) {
  switch (row.kind) {
    case Kind::boolean:
      return "true|false";
    case Kind::text:
      return "TEXT";
    case Kind::path:
      return "PATH";
    case Kind::choice:
      return std::string(row.form);
    case Kind::count:
      return "NUMBER";
    case Kind::size:
      return "SIZE";
    case Kind::duration:
      return "DURATION";
    case Kind::texts:
      return "LIST";
  }
  return "";
}

bool parse(const Row& /*row*/, std::string_view text, bool& value, std::string& why) {
  if (text == "true" || text == "1") {
    value = true;
  } else if (text == "false" || text == "0") {
    value = false;
  } else {
    why = fmt::format("\"{}\" is neither true nor false", text);
    return false;
  }
  return true;
}

bool parse(const Row& row, std::string_view text, std::string& value, std::string& why) {
  if (text.size() > kMostText || !is_plain(text)) {
    why = fmt::format("text of at most {} bytes without control characters is wanted", kMostText);
    return false;
  }
  if (row.kind == Kind::choice) {
    std::string_view rest = row.form;
    for (bool found = false; !found;) {
      const std::size_t bar = std::min(rest.find('|'), rest.size());
      found = rest.substr(0, bar) == text;
      if (!found && bar == rest.size()) {
        std::string words(row.form);
        for (auto at = words.find('|'); at != std::string::npos; at = words.find('|', at + 2))
          words.replace(at, 1, ", ");
        why = fmt::format("\"{}\" is none of: {}", text, words);
        return false;
      }
      rest.remove_prefix(std::min(bar + 1, rest.size()));
    }
  }
  value = text;
  return true;
}

bool parse(const Row& row, std::string_view text, std::uint64_t& value, std::string& why) {
  if (row.kind == Kind::size) {
    vgpu::settings::Line reason;
    std::uint64_t bytes = 0;
    if (text != "none" && vgpu::settings::parse_size(text, bytes, reason)) {
      value = bytes;
      return true;
    }
    why = fmt::format("\"{}\" is no size; write a number with B, K, M, G or T, as in 64MiB", text);
    return false;
  }
  std::uint64_t number = 0;
  if (!read_number(text, number) || !in_range(row, number, read_number)) {
    why = fmt::format("\"{}\" is no whole number{}", text, range_text(row));
    return false;
  }
  value = number;
  return true;
}

bool parse(const Row& row, std::string_view text, std::chrono::milliseconds& value,
           std::string& why) {
  std::uint64_t milliseconds = 0;
  if (!parse_duration(text, milliseconds) || !in_range(row, milliseconds, parse_duration)) {
    why = fmt::format("\"{}\" is no time{}; write a number with ms, s, m, h or d, as in 5s", text,
                      range_text(row));
    return false;
  }
  value = std::chrono::milliseconds(static_cast<std::int64_t>(milliseconds));
  return true;
}

bool parse(const Row& row, std::string_view text, std::vector<std::string>& value,
           std::string& why) {
  std::vector<std::string> items;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    std::string item;
    if (comma == 0) {
      why = "an empty item in the list";
      return false;
    }
    if (!parse(row, text.substr(0, comma), item, why)) return false;
    items.push_back(item);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  if (items.size() > kMostItems) {
    why = fmt::format("{} items; {} at most", items.size(), kMostItems);
    return false;
  }
  value = items;
  return true;
}

std::string duration_text(std::chrono::milliseconds value) {
  const auto count = static_cast<std::uint64_t>(value.count());
  for (std::size_t i = std::size(kUnits); i-- > 0;) {
    if (count != 0 && count % kUnits[i].milliseconds == 0)
      return fmt::format("{}{}", count / kUnits[i].milliseconds, kUnits[i].name);
  }
  return "0s";
}

namespace {

// JSON's escapes are TOML's.
std::string in_quotes(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

std::string toml_text(const Row& /*row*/, bool value) { return value ? "true" : "false"; }
std::string toml_text(const Row& /*row*/, const std::string& value) { return in_quotes(value); }
std::string toml_text(const Row& row, std::uint64_t value) {
  if (row.kind != Kind::size) return std::to_string(value);
  std::string text(vgpu::settings::format_size(value).view());
  std::erase(text, ' ');
  return in_quotes(text);
}
std::string toml_text(const Row& /*row*/, std::chrono::milliseconds value) {
  return in_quotes(duration_text(value));
}
std::string toml_text(const Row& /*row*/, const std::vector<std::string>& value) {
  std::vector<std::string> items;
  for (const std::string& item : value) items.push_back(in_quotes(item));
  return fmt::format("[{}]", fmt::join(items, ", "));
}

}  // namespace vgpu::hypervisor::settings

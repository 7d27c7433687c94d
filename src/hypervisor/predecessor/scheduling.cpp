// SPDX-License-Identifier: Apache-2.0
// Numbers may be JSON numbers or texts; what is missing keeps its default; a name that isn't known
// is said, because a misspelt one would change nothing.
#include "scheduling.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "vgpu/survey/text.h"

namespace vgpu::hypervisor {
namespace {

using nlohmann::json;

constexpr std::size_t kMostBytes = std::size_t{1} << 16;
constexpr int kMostDepth = 8;
constexpr std::size_t kMostNotices = 20;
constexpr double kLeastCapacity = 10.1;  // the largest launch costs 10

[[noreturn]] void fail(const std::string& field, const std::string& found, const char* expected) {
  throw SchedulingError{fmt::format("{}: {} is no good; {} expected", field, found, expected)};
}

std::string shown(const json& value) {
  const std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  return survey::visible(text.size() > 60 ? text.substr(0, 60) + "..." : text);
}

struct Parameter {
  const char* name;
  double least;
  double most;
  const char* expected;
  double SupplyTerms::*steers;  // nullptr: nothing
  const char* why_not;
};

constexpr const char* kNoController =
    "there is no such controller: tokens follow an account of GPU time, which has no gain to set";
constexpr const char* kNoFloor = "there is no floor: it would let long kernels pass their limit";
constexpr const char* kPositive = "a number above 0 is";
constexpr const char* kFraction = "a number from 0 to 1 is";
constexpr const char* kAnyGain = "a number of 0 or more is";

constexpr Parameter kParameters[] = {
    {"maxRefillRate", 1e-3, 1e12, kPositive, &SupplyTerms::rate_max, nullptr},
    {"minRefillRate", 0, 1e12, kAnyGain, nullptr, kNoFloor},
    {"filterAlpha", 0.01, 1, "a number from 0.01 to 1 is", &SupplyTerms::smoothing, nullptr},
    {"ki", 0, 1e6, kAnyGain, nullptr, kNoController},
    {"kd", 0, 1e6, kAnyGain, nullptr, kNoController},
    {"kp", 0, 1e6, kAnyGain, nullptr, kNoController},
    {"burstWindow", 0.05, 60, "seconds from 0.05 to 60 are", &SupplyTerms::burst_window_s, nullptr},
    {"capacityMin", 0, 1e12, kAnyGain, nullptr, kNoFloor},
    {"capacityMax", kLeastCapacity, 1e12, "a number from 10.1 (the largest launch costs 10) is",
     &SupplyTerms::capacity_max, nullptr},
    {"integralDecayFactor", 0, 1, kFraction, nullptr, kNoController},
};

std::optional<double> number_of(const json& value) {
  if (value.is_number()) return value.get<double>();
  if (!value.is_string()) return std::nullopt;
  const auto& text = value.get_ref<const std::string&>();
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// Operators of other versions send more; the predecessor passed over it without a word.
void ignore(const std::string& field, std::string_view near, Scheduling& out) {
  if (out.notices.size() >= kMostNotices) return;
  out.notices.push_back(
      near.empty()
          ? fmt::format("scheduling: {} isn't known and has no effect", field)
          : fmt::format("scheduling: {} isn't known and has no effect; {} is meant?", field, near));
}

void read_limits(const json& object, Scheduling& out) {
  std::string without_effect_floor, without_effect_gain;
  for (const auto& [key, value] : object.items()) {
    const std::string field = "elasticRateLimitParameters." + survey::visible(key);
    const Parameter* known = nullptr;
    for (const auto& parameter : kParameters) {
      if (key == parameter.name) known = &parameter;
    }
    if (known == nullptr) {
      std::vector<std::string> names;
      for (const auto& parameter : kParameters) names.emplace_back(parameter.name);
      const auto near = survey::nearest(key, names);
      ignore(field, near, out);
      continue;
    }
    if (value.is_null()) continue;
    const auto number = number_of(value);
    if (!number || !std::isfinite(*number) || *number < known->least || *number > known->most) {
      fail(field, shown(value), known->expected);
    }
    if (known->steers != nullptr) {
      out.supply.*(known->steers) = *number;
    } else {
      std::string& list = known->why_not == kNoFloor ? without_effect_floor : without_effect_gain;
      list += (list.empty() ? "" : ", ") + key;
    }
  }
  if (!without_effect_floor.empty()) {
    out.notices.push_back(
        fmt::format("scheduling: {} without effect: {}", without_effect_floor, kNoFloor));
  }
  if (!without_effect_gain.empty()) {
    out.notices.push_back(
        fmt::format("scheduling: {} without effect: {}", without_effect_gain, kNoController));
  }
}

// "5m", "1d", "1h 30m": numbers with a unit, as the predecessor takes them.
bool is_duration(const std::string& text) {
  std::size_t at = 0;
  bool any = false;
  while (at < text.size()) {
    if (text[at] == ' ') {
      ++at;
      continue;
    }
    const std::size_t digits = text.find_first_not_of("0123456789", at);
    if (digits == at || digits == std::string::npos) return false;
    std::size_t end = digits;
    while (end < text.size() && text[end] >= 'a' && text[end] <= 'z') ++end;
    const std::string_view unit = std::string_view(text).substr(digits, end - digits);
    bool known = false;
    for (const std::string_view name :
         {"ms", "s", "sec", "m", "min", "h", "hr", "d", "day", "days", "w", "week", "weeks"}) {
      known = known || unit == name;
    }
    if (!known) return false;
    any = true;
    at = end;
  }
  return any;
}

void read_freezing(const json& object, Scheduling& out) {
  bool any = false;
  for (const auto& [key, value] : object.items()) {
    if (key != "autoFreeze") {
      ignore("autoFreezeAndResume." + survey::visible(key), "", out);
      continue;
    }
    if (value.is_null()) continue;
    if (!value.is_array()) fail("autoFreezeAndResume.autoFreeze", shown(value), "a list is");
    for (std::size_t i = 0; i < value.size(); ++i) {
      const std::string where = fmt::format("autoFreezeAndResume.autoFreeze[{}]", i);
      const json& entry = value[i];
      if (!entry.is_object()) fail(where, shown(entry), "an object is");
      if (!entry.contains("qos")) throw SchedulingError{where + ": qos is missing"};
      for (const auto& [name, field] : entry.items()) {
        const std::string at = where + "." + survey::visible(name);
        if (name == "qos") {
          const bool known =
              field == "low" || field == "medium" || field == "high" || field == "critical";
          if (!known) fail(at, shown(field), "low, medium, high or critical is");
        } else if (name == "enable") {
          if (!field.is_boolean()) fail(at, shown(field), "true or false is");
          any = any || field.get<bool>();
        } else if (name == "freezeToMemTTL" || name == "freezeToDiskTTL") {
          if (!field.is_null() && (!field.is_string() || !is_duration(field.get<std::string>()))) {
            fail(at, shown(field), "a duration as in \"5m\" is");
          }
        } else {
          ignore(at, "", out);
        }
      }
    }
  }
  if (any) {
    out.notices.emplace_back(
        "scheduling: autoFreeze without effect: idle tenants aren't frozen by this version");
  }
}

}  // namespace

Scheduling parse_scheduling(const std::string& text) {
  Scheduling out;
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) return out;
  if (text.size() > kMostBytes) {
    throw SchedulingError{fmt::format("longer than {} bytes", kMostBytes)};
  }
  json root;
  try {
    root = json::parse(text, [](int depth, json::parse_event_t, json&) {
      if (depth > kMostDepth) throw SchedulingError{"nested more deeply than these settings are"};
      return true;
    });
  } catch (const json::parse_error& error) {
    throw SchedulingError{fmt::format("no JSON: at character {}", error.byte)};
  }
  if (root.is_null()) return out;
  if (!root.is_object()) throw SchedulingError{shown(root) + ": a JSON object is expected"};
  for (const auto& [key, value] : root.items()) {
    if (value.is_null()) continue;
    if (key == "multiProcessQueuingParameters") {
      // Operators send it; the predecessor left it alone too.
      out.notices.emplace_back(
          "scheduling: multiProcessQueuingParameters without effect: the arbiter's turns have no "
          "thresholds to set");
      continue;
    }
    const bool limits = key == "elasticRateLimitParameters";
    if (!limits && key != "autoFreezeAndResume") {
      ignore(survey::visible(key),
             survey::nearest(key, {"elasticRateLimitParameters", "autoFreezeAndResume"}), out);
      continue;
    }
    if (!value.is_object()) fail(key, shown(value), "an object is");
    limits ? read_limits(value, out) : read_freezing(value, out);
  }
  return out;
}

}  // namespace vgpu::hypervisor

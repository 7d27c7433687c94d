// SPDX-License-Identifier: Apache-2.0
// How machine-readable output writes what may be absent: null, never 0 or "".
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace vgpu::survey {

using Json = nlohmann::ordered_json;

inline Json optional_json(const std::optional<std::uint64_t>& value) {
  return value ? Json(*value) : Json(nullptr);
}
inline Json text_json(const std::string& text) {
  return text.empty() || text == "-" ? Json(nullptr) : Json(text);
}
// Of a quota: 0 is "none".
inline Json percent_json(std::uint8_t percent) {
  return percent == 0 ? Json(nullptr) : Json(percent);
}
// Names of programs and tenants may hold any bytes.
inline void print_json(const Json& json) {
  fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
}

struct Explanation;
// What `vgpu why --json` and the daemon say of one GPU.
Json explanation_json(const Explanation& explanation);

}  // namespace vgpu::survey

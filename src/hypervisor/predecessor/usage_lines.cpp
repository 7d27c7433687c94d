// SPDX-License-Identifier: Apache-2.0
// Escaping as InfluxDB's line protocol defines it; JSON by the library.
#include "usage_lines.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace vgpu::hypervisor {
namespace {

// What would end the line, or what readers refuse, becomes a blank: there is no escape for it.
std::string one_line(std::string_view text) {
  std::string out;
  for (const char c : text) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
  return out;
}

// A backslash at the end would escape what follows it, and can't be escaped itself.
std::string escaped(std::string_view text, std::string_view special) {
  std::string out;
  for (const char c : one_line(text)) {
    if (special.find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  if (!out.empty() && out.back() == '\\') out.back() = '/';
  return out;
}

bool is_writable(const UsageValue& value) {
  const auto* number = std::get_if<double>(&value);
  return number == nullptr || std::isfinite(*number);
}

}  // namespace

std::string influx_line(const UsageLine& line) {
  std::string out = escaped(line.measurement, ", ");
  for (const auto& [key, value] : line.tags) {
    if (!key.empty() && !value.empty()) {
      out += fmt::format(",{}={}", escaped(key, ",= "), escaped(value, ",= "));
    }
  }
  bool any = false;
  for (const auto& [key, value] : line.fields) {
    if (!is_writable(value)) continue;
    out += any ? ',' : ' ';
    any = true;
    out += escaped(key, ",= ");
    out += '=';
    if (const auto* number = std::get_if<double>(&value)) {
      out += fmt::format("{}", *number);
    } else if (const auto* whole = std::get_if<std::uint64_t>(&value)) {
      out += fmt::format("{}u", *whole);
    } else {
      out += fmt::format("{}i", std::get<std::int64_t>(value));
    }
  }
  return any ? fmt::format("{} {}\n", out, line.time_ms) : "";
}

std::string json_line(const UsageLine& line) {
  using Json = nlohmann::ordered_json;
  Json tags = Json::object(), fields = Json::object();
  for (const auto& [key, value] : line.tags) {
    if (!key.empty() && !value.empty()) tags[key] = value;
  }
  for (const auto& [key, value] : line.fields) {
    if (is_writable(value)) std::visit([&](auto v) { fields[key] = v; }, value);
  }
  if (fields.empty()) return "";
  const Json out = {
      {"measure", line.measurement}, {"ts", line.time_ms}, {"tag", tags}, {"field", fields}};
  return out.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

void UsageBatch::add(const std::string& measurement, const std::map<std::string, std::string>& tags,
                     std::string_view field, UsageType type, const std::optional<double>& value) {
  if (!value || !std::isfinite(*value)) return;
  Sum& sum = rows_[{measurement, tags}].sums[std::string(field)];
  sum.total += *value;
  sum.samples += 1;
  sum.type = type;
  sum.is_count = field.ends_with("_cnt");
}

void UsageBatch::add(const GpuUsage& usage) {
#define VGPU_GPU_FIELD(name, type, unit, meaning) \
  add("tf_gpu_usage", usage.tags, #name, UsageType::type, usage.name);
#define VGPU_WORKER_FIELD(name, type, unit, meaning)
#include "usage_fields.def"
#undef VGPU_GPU_FIELD
#undef VGPU_WORKER_FIELD
}

void UsageBatch::add(const WorkerUsage& usage) {
#define VGPU_GPU_FIELD(name, type, unit, meaning)
#define VGPU_WORKER_FIELD(name, type, unit, meaning) \
  add("tf_worker_usage", usage.tags, #name, UsageType::type, usage.name);
#include "usage_fields.def"
#undef VGPU_GPU_FIELD
#undef VGPU_WORKER_FIELD
}

std::vector<UsageLine> UsageBatch::take(std::uint64_t time_ms) {
  std::vector<UsageLine> lines;
  for (const auto& [key, row] : rows_) {
    UsageLine line{key.first, key.second, {}, time_ms};
    for (const auto& [name, sum] : row.sums) {
      const double value = sum.is_count ? sum.total : sum.total / static_cast<double>(sum.samples);
      switch (sum.type) {
        case UsageType::number:
          line.fields[name] = value;
          break;
        case UsageType::whole:
          line.fields[name] =
              static_cast<std::uint64_t>(std::llround(std::clamp(value, 0.0, 9e18)));
          break;
        case UsageType::integer:
          line.fields[name] =
              static_cast<std::int64_t>(std::llround(std::clamp(value, -9e18, 9e18)));
          break;
      }
    }
    lines.push_back(std::move(line));
  }
  rows_.clear();
  return lines;
}

std::string usage_fields_page() {
  std::string page = "| measurement | name | type | unit | what it is |\n|---|---|---|---|---|\n";
#define VGPU_USAGE_TAG(measurement, name, meaning) \
  page += "| `" #measurement "` | `" #name "` | tag | | " meaning " |\n";
#define VGPU_GPU_FIELD(name, type, unit, meaning) \
  page += "| `tf_gpu_usage` | `" #name "` | " #type " | " unit " | " meaning " |\n";
#define VGPU_WORKER_FIELD(name, type, unit, meaning) \
  page += "| `tf_worker_usage` | `" #name "` | " #type " | " unit " | " meaning " |\n";
#include "usage_fields.def"
#undef VGPU_GPU_FIELD
#undef VGPU_WORKER_FIELD
  return page;
}

}  // namespace vgpu::hypervisor

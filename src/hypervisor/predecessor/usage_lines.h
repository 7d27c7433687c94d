// SPDX-License-Identifier: Apache-2.0
// Lines of the usage log, in the predecessor's two formats: InfluxDB line protocol and one JSON
// object a line. Pure: values in, text out. Tag values are chosen by tenants and may be any bytes;
// one sample is one line whatever they are.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace vgpu::hypervisor {

enum class UsageFormat : unsigned char { influx, json };

using UsageValue = std::variant<double, std::uint64_t, std::int64_t>;
// In the order of that variant.
enum class UsageType : unsigned char { number, whole, integer };

struct UsageLine {
  std::string measurement;
  std::map<std::string, std::string> tags;   // empty values are left out: Influx has none
  std::map<std::string, UsageValue> fields;  // by name; infinite and undefined ones are left out
  std::uint64_t time_ms = 0;
};

// With the newline; empty where no field is left.
std::string influx_line(const UsageLine& line);
std::string json_line(const UsageLine& line);

// Batches of one-second samples; a field is averaged over the samples that had it. Counters
// (fields named ..._cnt) are added up.
struct GpuUsage {
  std::map<std::string, std::string> tags;
#define VGPU_GPU_FIELD(name, type, unit, meaning) std::optional<double> name;
#define VGPU_WORKER_FIELD(name, type, unit, meaning)
#include "usage_fields.def"
#undef VGPU_GPU_FIELD
#undef VGPU_WORKER_FIELD
};
struct WorkerUsage {
  std::map<std::string, std::string> tags;
#define VGPU_GPU_FIELD(name, type, unit, meaning)
#define VGPU_WORKER_FIELD(name, type, unit, meaning) std::optional<double> name;
#include "usage_fields.def"
#undef VGPU_GPU_FIELD
#undef VGPU_WORKER_FIELD
};

class UsageBatch {
 public:
  void add(const GpuUsage& usage);
  void add(const WorkerUsage& usage);
  // All lines, and nothing is left in it.
  std::vector<UsageLine> take(std::uint64_t time_ms);

 private:
  struct Sum {
    double total = 0;
    std::uint64_t samples = 0;
    UsageType type = UsageType::number;
    bool is_count = false;
  };
  struct Row {
    std::map<std::string, Sum> sums;
  };
  void add(const std::string& measurement, const std::map<std::string, std::string>& tags,
           std::string_view field, UsageType type, const std::optional<double>& value);

  std::map<std::pair<std::string, std::map<std::string, std::string>>, Row> rows_;
};

// The table of tags and fields for docs/predecessor-files.md.
std::string usage_fields_page();

}  // namespace vgpu::hypervisor

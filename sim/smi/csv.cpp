// SPDX-License-Identifier: Apache-2.0
// --query-gpu and --query-compute-apps. A field is a row of a table: its names, its unit, how to
// get its value; nullopt prints as [N/A], as in the real tool, and never as a number.
#include <cstdio>
#include <ctime>
#include <functional>

#include "output.h"

namespace vgpu::sim::smi {
namespace {

using Value = std::optional<std::string>;

template <class Subject>
struct Field {
  const char* name;
  const char* alias;  // another name that is accepted
  const char* unit;   // "" for text
  std::function<Value(const Subject&)> value;
};

Value number(const std::optional<unsigned>& value) {
  if (!value) return std::nullopt;
  return std::to_string(*value);
}

Value watts(const std::optional<unsigned>& milliwatts) {
  if (!milliwatts) return std::nullopt;
  char text[32];
  std::snprintf(text, sizeof text, "%u.%02u", *milliwatts / 1000, *milliwatts % 1000 / 10);
  return text;
}

Value known(std::string text) {
  if (text == "N/A" || text == "[N/A]") return std::nullopt;
  return text;
}

Value memory(const Gpu& gpu, unsigned long long nvmlMemory_v2_t::*part) {
  const auto all = gpu.memory();
  if (!all) return std::nullopt;
  return std::to_string(mebibytes((*all).*part));
}

Value rate(const Gpu& gpu, unsigned nvmlUtilization_t::*part) {
  const auto rates = gpu.utilization();
  if (!rates) return std::nullopt;
  return std::to_string((*rates).*part);
}

Value enabled(const std::optional<bool>& value) {
  if (!value) return std::nullopt;
  return *value ? "Enabled" : "Disabled";
}

Value timestamp() {
  char text[64];
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  std::tm parts{};
  localtime_r(&now.tv_sec, &parts);
  const std::size_t length = std::strftime(text, sizeof text, "%Y/%m/%d %H:%M:%S", &parts);
  std::snprintf(text + length, sizeof text - length, ".%03ld", now.tv_nsec / 1'000'000);
  return text;
}

const std::vector<Field<Gpu>>& gpu_fields() {
  static const std::vector<Field<Gpu>> fields{
      {"timestamp", "", "", [](const Gpu&) { return timestamp(); }},
      {"driver_version", "", "", [](const Gpu&) { return known(driver_version()); }},
      {"count", "", "", [](const Gpu&) { return Value(std::to_string(gpus().size())); }},
      {"index", "", "", [](const Gpu& gpu) { return Value(std::to_string(gpu.index())); }},
      {"name", "gpu_name", "", [](const Gpu& gpu) { return known(gpu.name()); }},
      {"uuid", "gpu_uuid", "", [](const Gpu& gpu) { return known(gpu.uuid()); }},
      {"serial", "gpu_serial", "", [](const Gpu& gpu) { return known(gpu.serial()); }},
      {"pci.bus_id", "gpu_bus_id", "", [](const Gpu& gpu) { return known(gpu.bus_id()); }},
      {"compute_cap", "", "", [](const Gpu& gpu) { return known(gpu.compute_capability()); }},
      {"compute_mode", "", "", [](const Gpu& gpu) { return known(gpu.compute_mode()); }},
      {"mig.mode.current", "", "", [](const Gpu& gpu) { return known(gpu.mig_mode()); }},
      {"persistence_mode", "", "", [](const Gpu& gpu) { return enabled(gpu.persistence()); }},
      {"display_active", "", "", [](const Gpu& gpu) { return enabled(gpu.display_active()); }},
      {"pstate", "", "",
       [](const Gpu& gpu) {
         const auto state = gpu.performance_state();
         return state ? Value("P" + std::to_string(*state)) : std::nullopt;
       }},
      {"memory.total", "", "MiB",
       [](const Gpu& gpu) { return memory(gpu, &nvmlMemory_v2_t::total); }},
      {"memory.reserved", "", "MiB",
       [](const Gpu& gpu) { return memory(gpu, &nvmlMemory_v2_t::reserved); }},
      {"memory.used", "", "MiB",
       [](const Gpu& gpu) { return memory(gpu, &nvmlMemory_v2_t::used); }},
      {"memory.free", "", "MiB",
       [](const Gpu& gpu) { return memory(gpu, &nvmlMemory_v2_t::free); }},
      {"utilization.gpu", "", "%",
       [](const Gpu& gpu) { return rate(gpu, &nvmlUtilization_t::gpu); }},
      {"utilization.memory", "", "%",
       [](const Gpu& gpu) { return rate(gpu, &nvmlUtilization_t::memory); }},
      {"temperature.gpu", "", "", [](const Gpu& gpu) { return number(gpu.temperature_celsius()); }},
      {"fan.speed", "", "%", [](const Gpu& gpu) { return number(gpu.fan_percent()); }},
      {"power.draw", "", "W", [](const Gpu& gpu) { return watts(gpu.power_milliwatts()); }},
      {"power.limit", "", "W", [](const Gpu& gpu) { return watts(gpu.power_limit_milliwatts()); }},
      {"clocks.sm", "clocks.current.sm", "MHz",
       [](const Gpu& gpu) { return number(gpu.clock_mhz(NVML_CLOCK_SM)); }},
      {"clocks.mem", "clocks.current.memory", "MHz",
       [](const Gpu& gpu) { return number(gpu.clock_mhz(NVML_CLOCK_MEM)); }},
  };
  return fields;
}

struct GpuProcess {
  const Gpu* gpu;
  Process process;
};

const std::vector<Field<GpuProcess>>& process_fields() {
  static const std::vector<Field<GpuProcess>> fields{
      {"timestamp", "", "", [](const GpuProcess&) { return timestamp(); }},
      {"gpu_name", "", "", [](const GpuProcess& use) { return known(use.gpu->name()); }},
      {"gpu_bus_id", "", "", [](const GpuProcess& use) { return known(use.gpu->bus_id()); }},
      {"gpu_serial", "", "", [](const GpuProcess& use) { return known(use.gpu->serial()); }},
      {"gpu_uuid", "", "", [](const GpuProcess& use) { return known(use.gpu->uuid()); }},
      {"pid", "", "", [](const GpuProcess& use) { return Value(std::to_string(use.process.pid)); }},
      {"process_name", "name", "",
       [](const GpuProcess& use) { return Value(process_name(use.process.pid)); }},
      {"used_gpu_memory", "used_memory", "MiB",
       [](const GpuProcess& use) {
         const auto& bytes = use.process.used_bytes;
         return bytes ? Value(std::to_string(mebibytes(*bytes))) : std::nullopt;
       }},
  };
  return fields;
}

template <class Subject>
int print(const std::vector<Subject>& subjects, const std::vector<Field<Subject>>& known_fields,
          const std::vector<std::string>& names, CsvFormat format) {
  std::vector<const Field<Subject>*> fields;
  for (const std::string& name : names) {
    const Field<Subject>* found = nullptr;
    for (const auto& field : known_fields) {
      if (name == field.name || (field.alias[0] != '\0' && name == field.alias)) found = &field;
    }
    if (found == nullptr) {
      std::printf("Field \"%s\" is not a valid field to query.\n\n", name.c_str());
      return 2;
    }
    fields.push_back(found);
  }
  const auto separator = [&](std::size_t i) { return i + 1 == fields.size() ? "\n" : ", "; };
  if (format.header) {
    for (std::size_t i = 0; i < fields.size(); ++i) {
      const bool unit = format.units && fields[i]->unit[0] != '\0';
      // A field goes by the name that was asked for, except for the one whose header the real tool
      // rewrites.
      const std::string title = names[i] == "used_memory" ? fields[i]->name : names[i];
      std::printf("%s%s%s%s%s", title.c_str(), unit ? " [" : "", unit ? fields[i]->unit : "",
                  unit ? "]" : "", separator(i));
    }
  }
  for (const Subject& subject : subjects) {
    for (std::size_t i = 0; i < fields.size(); ++i) {
      const Value value = fields[i]->value(subject);
      const bool unit = value && format.units && fields[i]->unit[0] != '\0';
      std::printf("%s%s%s%s", value.value_or("[N/A]").c_str(), unit ? " " : "",
                  unit ? fields[i]->unit : "", separator(i));
    }
  }
  return 0;
}

}  // namespace

int print_gpu_query(const std::vector<Gpu>& gpus, const std::vector<std::string>& fields,
                    CsvFormat format) {
  return print(gpus, gpu_fields(), fields, format);
}

int print_process_query(const std::vector<Gpu>& gpus, const std::vector<std::string>& fields,
                        CsvFormat format) {
  std::vector<GpuProcess> uses;
  for (const Gpu& gpu : gpus) {
    for (const Process& process : gpu.processes()) {
      if (process.type == 'C') uses.push_back({&gpu, process});
    }
  }
  return print(uses, process_fields(), fields, format);
}

}  // namespace vgpu::sim::smi

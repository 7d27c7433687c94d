// SPDX-License-Identifier: Apache-2.0
// A look-alike of nvidia-smi for machines without a GPU: the questions that people and scripts ask
// most, in the real tool's layout, answered by whatever libnvidia-ml.so.1 the loader finds. It says
// that it isn't the real one.
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "output.h"

using namespace vgpu::sim::smi;

namespace {

constexpr const char* kHelp =
    "nvidia-smi (vgpu simulated): shows the GPUs that NVML shows to this process.\n"
    "It is not NVIDIA's tool and knows a part of its options.\n"
    "\n"
    "  nvidia-smi                              table of GPUs and processes\n"
    "  nvidia-smi -L                           one line a GPU, with its UUID\n"
    "  nvidia-smi --query-gpu=FIELD,... --format=csv[,noheader][,nounits]\n"
    "  nvidia-smi --query-compute-apps=FIELD,... --format=csv[,noheader][,nounits]\n"
    "  nvidia-smi pmon [-c COUNT]              one line a process, every second\n"
    "  -i ID[,ID...]                           only these GPUs: index, UUID or PCI bus id\n"
    "\n"
    "Fields: index name uuid serial pci.bus_id driver_version count timestamp memory.total "
    "memory.used memory.free\n"
    "memory.reserved utilization.gpu utilization.memory temperature.gpu fan.speed power.draw "
    "power.limit pstate\n"
    "clocks.sm clocks.mem compute_mode compute_cap persistence_mode display_active "
    "mig.mode.current\n"
    "of processes: pid process_name used_memory gpu_uuid gpu_name gpu_bus_id gpu_serial timestamp\n"
    "\n"
    "  example: vgpu run --simulated --memory 4GiB -- nvidia-smi --query-gpu=memory.total "
    "--format=csv,noheader\n";

constexpr int kUsage = 2;
constexpr int kNoDevices = 6;

enum class Mode { table, list, query_gpu, query_apps, monitor };

struct Options {
  Mode mode = Mode::table;
  std::vector<std::string> fields;
  std::vector<std::string> ids;
  CsvFormat format;
  bool has_format = false;
  unsigned count = 0;  // pmon: 0 is forever
};

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t comma = text.find(',');
    std::string_view part = text.substr(0, comma);
    while (!part.empty() && part.front() == ' ') part.remove_prefix(1);
    while (!part.empty() && part.back() == ' ') part.remove_suffix(1);
    parts.emplace_back(part);
    if (comma == std::string_view::npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

int refuse(const char* what, std::string_view option) {
  std::printf("ERROR: %s %.*s. Please run 'nvidia-smi -h'.\n\n", what,
              static_cast<int>(option.size()), option.data());
  return kUsage;
}

bool read_format(std::string_view text, Options& options) {
  options.has_format = false;
  for (const std::string& word : split(text)) {
    if (word == "csv") {
      options.has_format = true;
    } else if (word == "noheader") {
      options.format.header = false;
    } else if (word == "nounits") {
      options.format.units = false;
    } else {
      return false;
    }
  }
  return options.has_format;
}

// 0: go on; else what to exit with, less one.
int read(const std::vector<std::string_view>& words, Options& options) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::string_view option = words[i];
    std::string_view value;
    const auto has_value = [&] {  // "--x=v", "-x v"
      if (const std::size_t equals = option.find('=');
          option.starts_with("--") && equals != std::string_view::npos) {
        value = option.substr(equals + 1);
        option = option.substr(0, equals);
        return true;
      }
      if (i + 1 == words.size()) return false;
      value = words[++i];
      return true;
    };
    if (option == "pmon" && i == 0) {
      options.mode = Mode::monitor;
    } else if (option == "-L" || option == "--list-gpus") {
      options.mode = Mode::list;
    } else if (option.starts_with("--query-gpu") && has_value() && option == "--query-gpu") {
      options.mode = Mode::query_gpu;
      options.fields = split(value);
    } else if (option.starts_with("--query-compute-apps") && has_value() &&
               option == "--query-compute-apps") {
      options.mode = Mode::query_apps;
      options.fields = split(value);
    } else if (option.starts_with("--format") && has_value() && option == "--format") {
      if (!read_format(value, options)) {
        std::puts("Format modifier is not recognized.");
        return 1 + kUsage;
      }
    } else if ((option == "-i" || option.starts_with("--id")) && has_value()) {
      options.ids = split(value);
    } else if (option == "-c" && options.mode == Mode::monitor && has_value()) {
      const auto [end, error] =
          std::from_chars(value.data(), value.data() + value.size(), options.count);
      if (error != std::errc() || end != value.data() + value.size() || options.count == 0) {
        return 1 + refuse("Not a count:", value);
      }
    } else {
      return 1 + refuse("Option is not recognized:", option);
    }
  }
  if ((options.mode == Mode::query_gpu || options.mode == Mode::query_apps) &&
      !options.has_format) {
    return 1 + refuse("A query needs", "--format=csv");
  }
  return 0;
}

bool is_named(const Gpu& gpu, const std::vector<std::string>& ids) {
  return std::any_of(ids.begin(), ids.end(), [&](const std::string& id) {
    return id == std::to_string(gpu.index()) || id == gpu.uuid() || id == gpu.bus_id();
  });
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string_view> words(argv + 1, argv + argc);
  if (!words.empty() && (words[0] == "-h" || words[0] == "--help")) {
    std::fputs(kHelp, stdout);
    return 0;
  }
  if (!words.empty() && words[0] == "--version") {
    std::printf("vgpu simulated SMI  : %s\nDRIVER version      : %s\nCUDA Version        : %s\n",
                driver_version().c_str(), driver_version().c_str(), cuda_version().c_str());
    return 0;
  }
  Options options;
  if (const int result = read(words, options); result != 0) return result - 1;

  std::vector<Gpu> selected = gpus();
  if (!options.ids.empty()) {
    selected.erase(std::remove_if(selected.begin(), selected.end(),
                                  [&](const Gpu& gpu) { return !is_named(gpu, options.ids); }),
                   selected.end());
  }
  if (selected.empty()) {
    std::puts("No devices were found");
    return kNoDevices;
  }
  switch (options.mode) {
    case Mode::table:
      print_table(selected);
      return 0;
    case Mode::list:
      print_list(selected);
      return 0;
    case Mode::query_gpu:
      return print_gpu_query(selected, options.fields, options.format);
    case Mode::query_apps:
      return print_process_query(selected, options.fields, options.format);
    case Mode::monitor:
      break;
  }
  for (unsigned round = 0; options.count == 0 || round < options.count; ++round) {
    if (round > 0) sleep(1);
    print_process_monitor(selected, round == 0);
    std::fflush(stdout);
  }
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include "record.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "worker.h"

namespace workload {
namespace {

std::string file_text(const char* path) {
  std::string text;
  if (std::FILE* file = std::fopen(path, "r")) {
    char piece[4096];
    for (std::size_t got = 0; (got = std::fread(piece, 1, sizeof piece, file)) > 0;)
      text.append(piece, got);
    std::fclose(file);
  }
  return text;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
  }
  return out + '"';
}

[[gnu::format(printf, 2, 3)]] void add(std::string& out, const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  out += text;
}

template <class Values>
void add_list(std::string& out, const char* name, const Values& values, const char* format) {
  add(out, ",\n\"%s\":[", name);
  const char* between = "";
  for (const auto value : values) {
    out += between;
    char text[32];
    std::snprintf(text, sizeof text, format, static_cast<double>(value));
    out += text;
    between = ",";
  }
  out += ']';
}

// Nearest rank; 0 of none.
std::uint32_t quantile(std::vector<std::uint32_t>& values, double part) {
  if (values.empty()) return 0;
  const auto rank =
      static_cast<std::size_t>(std::lround(part * static_cast<double>(values.size() - 1)));
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(rank),
                   values.end());
  return values[rank];
}

void add_launches(std::string& out, std::vector<std::uint32_t> launches) {
  add(out,
      ",\n\"launch_ns\":{\"count\":%zu,\"p10\":%u,\"p50\":%u,\"p90\":%u,\"p99\":%u,\"max\":%u}",
      launches.size(), quantile(launches, 0.1), quantile(launches, 0.5), quantile(launches, 0.9),
      quantile(launches, 0.99), quantile(launches, 1));
}

}  // namespace

std::string to_json(const Record& record, const Setting& setting, const Progress& progress,
                    const std::vector<std::uint32_t>& launch_ns,
                    const std::vector<float>& latency_us) {
  std::string out;
  add(out, "{\"complete\":%s,\"start_ns\":%lld,\"window_ns\":%lld",
      record.complete ? "true" : "false", static_cast<long long>(record.start_ns),
      static_cast<long long>(record.window_ns));
  add(out, ",\"batch_kernels\":%u,\"depth_kernels\":%u,\"blocks\":%u", record.batch_kernels,
      record.depth_kernels, record.blocks);
  add(out, ",\"cpu_ns\":%lld,\"thread_cpu_ns\":%lld,\"wall_ns\":%lld",
      static_cast<long long>(record.cpu_ns), static_cast<long long>(record.thread_cpu_ns),
      static_cast<long long>(record.wall_ns));
  out += ",\n\"gpu\":" + quoted(setting.gpu_name) + ",\"uuid\":" + quoted(setting.gpu_uuid);
  add(out, ",\"total_bytes\":%zu,\"free_bytes\":%zu,\"probe_code\":%d,\"back_to_back_ns\":%.3f",
      setting.total_bytes, setting.free_bytes, setting.probe_code, setting.back_to_back_ns);
  out += ",\"preloaded\":[";
  for (const auto& library : setting.preloaded)
    out += (out.back() == '[' ? "" : ",") + quoted(library);
  out += ']';
  add_launches(out, launch_ns);
  add_list(out, "work", progress.work(), "%.4f");
  add_list(out, "kernels", progress.kernels(), "%.0f");
  add_list(out, "latency_us", latency_us, "%.1f");
  return out + "}\n";
}

std::string uuid_text(const CUuuid& uuid) {
  std::string out = "GPU-";
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) out += '-';
    add(out, "%02x", static_cast<unsigned>(static_cast<unsigned char>(uuid.bytes[i])));
  }
  return out;
}

std::vector<std::string> preloaded_libraries() {
  const char* variable = std::getenv("LD_PRELOAD");
  std::string names = variable != nullptr ? variable : "";
  names += " " + file_text("/etc/ld.so.preload");
  const std::string maps = file_text("/proc/self/maps");
  std::vector<std::string> mapped;
  for (std::size_t at = 0; at < names.size();) {
    const std::size_t end = std::min(names.find_first_of(" :\n\t", at), names.size());
    const std::string name = names.substr(at, end - at);
    if (!name.empty() && maps.find(name) != std::string::npos) mapped.push_back(name);
    at = end + 1;
  }
  return mapped;
}

}  // namespace workload

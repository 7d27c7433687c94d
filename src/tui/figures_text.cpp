// SPDX-License-Identifier: Apache-2.0
// Figures as the views write them; see pages.h.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>

#include "pages.h"

namespace vgpu::tui {

std::string percent(double value) {
  if (value > 0 && value < 0.05) return "0.1";
  return value == 0 || value >= 9.95 ? fmt::format("{:.0f}", value) : fmt::format("{:.1f}", value);
}

std::string percent_or_dash(std::optional<double> value) { return value ? percent(*value) : "-"; }

std::string share_text(std::uint8_t percent) {
  return percent == 0 ? "-" : fmt::format("{}", percent);
}

std::string debt_text(std::uint64_t ns) {
  if (ns < 500'000) return "-";
  if (ns < 1'000'000'000) return fmt::format("{:.0f} ms", static_cast<double>(ns) / 1e6);
  return fmt::format("{:.1f} s", static_cast<double>(ns) / 1e9);
}

// Three digits are enough beside a limit.
std::string short_size(std::optional<std::uint64_t> bytes) {
  if (!bytes) return "-";
  const double mib = static_cast<double>(*bytes) / (1024.0 * 1024.0);
  if (mib < 1000) return fmt::format("{:.0f}M", std::ceil(mib));
  const double gib = mib / 1024;
  if (gib >= 99.95 || gib == std::floor(gib)) return fmt::format("{:.0f}G", gib);
  return fmt::format("{:.1f}G", gib);
}

std::string clock_text(std::uint64_t realtime_ns) {
  const auto seconds = static_cast<std::time_t>(realtime_ns / 1'000'000'000);
  std::tm local{};
  localtime_r(&seconds, &local);
  return fmt::format("{:02}:{:02}:{:02}", local.tm_hour, local.tm_min, local.tm_sec);
}

bool contains_folded(std::string_view text, std::string_view wanted) {
  const auto same = [](char a, char b) { return GpuUuid::lower(a) == GpuUuid::lower(b); };
  return std::search(text.begin(), text.end(), wanted.begin(), wanted.end(), same) != text.end();
}

std::string command_text(const Process& process) {
  std::string text = process.command_line.empty() ? process.program : process.command_line;
  const auto folder = text.substr(0, text.find(' ')).rfind('/');
  if (folder != std::string::npos) text.erase(0, folder + 1);
  return shown(text);
}

}  // namespace vgpu::tui

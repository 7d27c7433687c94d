// SPDX-License-Identifier: Apache-2.0
#include "history.h"

#include <algorithm>
#include <cmath>

#include "times.h"

namespace vgpu::hypervisor {
namespace {

constexpr std::uint32_t kNone = UINT32_MAX;
constexpr std::uint16_t kNone16 = UINT16_MAX;

std::uint16_t tenths(const std::optional<float>& percent) {
  if (!percent || !std::isfinite(*percent)) return kNone16;
  return static_cast<std::uint16_t>(std::clamp(std::lround(*percent * 10), 0L, 65'534L));
}

std::optional<float> percent_of(std::uint16_t value) {
  return value == kNone16 ? std::nullopt : std::optional(static_cast<float>(value) / 10);
}

}  // namespace

History::Packed History::pack(const HistoryPoint& point) {
  Packed packed{};
  packed.time_s = static_cast<std::uint32_t>(point.time_ns / kSecondNs);
  packed.used_mib = kNone;
  if (point.used_bytes)
    packed.used_mib =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(*point.used_bytes >> 20, kNone - 1));
  packed.got = tenths(point.got_percent);
  packed.owed = tenths(point.owed_percent);
  packed.waited = tenths(point.waited_percent);
  packed.busy = tenths(point.busy_percent);
  return packed;
}

HistoryPoint History::unpack(const Packed& packed) {
  HistoryPoint point;
  point.time_ns = packed.time_s * kSecondNs;
  if (packed.used_mib != kNone) point.used_bytes = std::uint64_t{packed.used_mib} << 20;
  point.got_percent = percent_of(packed.got);
  point.owed_percent = percent_of(packed.owed);
  point.waited_percent = percent_of(packed.waited);
  point.busy_percent = percent_of(packed.busy);
  return point;
}

void History::add_ten(Series& series, std::uint64_t end_s) {
  HistoryPoint point;
  point.time_ns = end_s * kSecondNs;
  const auto mean = [](Sum& sum) -> std::optional<double> {
    const Sum was = std::exchange(sum, {});
    return was.count == 0 ? std::nullopt : std::optional(was.value / was.count);
  };
  point.got_percent = mean(series.got);
  point.owed_percent = mean(series.owed);
  point.waited_percent = mean(series.waited);
  point.busy_percent = mean(series.busy);
  if (const auto used = mean(series.used)) point.used_bytes = static_cast<std::uint64_t>(*used);
  series.tens.push_back(pack(point));
  if (series.tens.size() > kTens) series.tens.pop_front();
}

void History::add(const GpuUuid& gpu, const std::string& tenant, const HistoryPoint& point) {
  auto at = series_.find(std::pair(gpu, tenant));
  if (at == series_.end()) {
    if (series_.size() >= kMostSeries) return;
    at = series_.try_emplace(std::pair(gpu, tenant)).first;
  }
  Series& series = at->second;
  const std::uint64_t second = point.time_ns / kSecondNs;
  if (!series.seconds.empty() && second <= series.seconds.back().time_s) return;
  const std::uint64_t ends = (second / 10 + (second % 10 != 0 ? 1 : 0)) * 10;
  if (series.tens_ends_s != 0 && ends > series.tens_ends_s) add_ten(series, series.tens_ends_s);
  series.tens_ends_s = ends;
  series.seconds.push_back(pack(point));
  if (series.seconds.size() > kSeconds) series.seconds.pop_front();
  const auto sum = [](Sum& into, const auto& value) {
    if (!value) return;
    into.value += static_cast<double>(*value);
    ++into.count;
  };
  sum(series.got, point.got_percent);
  sum(series.owed, point.owed_percent);
  sum(series.waited, point.waited_percent);
  sum(series.busy, point.busy_percent);
  sum(series.used, point.used_bytes);
}

void History::tidy(std::uint64_t now_ns) {
  std::erase_if(series_, [&](const auto& entry) {
    const Series& series = entry.second;
    const std::uint64_t last_ns =
        series.seconds.empty() ? 0 : series.seconds.back().time_s * kSecondNs;
    return last_ns + kKeptNs < now_ns;
  });
}

std::vector<HistoryPoint> History::read(const GpuUuid& gpu, std::string_view tenant,
                                        Resolution resolution) const {
  std::vector<HistoryPoint> points;
  const auto at = series_.find(std::pair(gpu, std::string(tenant)));
  if (at == series_.end()) return points;
  const auto& from = resolution == Resolution::seconds ? at->second.seconds : at->second.tens;
  points.reserve(from.size());
  std::transform(from.begin(), from.end(), std::back_inserter(points), unpack);
  return points;
}

}  // namespace vgpu::hypervisor

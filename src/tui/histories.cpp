// SPDX-License-Identifier: Apache-2.0
#include "histories.h"

#include <algorithm>

namespace vgpu::tui {

void Histories::add(const Key& key, std::uint64_t last_second,
                    const std::vector<double>& newest_first) {
  Series& series = series_[key];
  if (series.newest_first.empty())
    series.last_second = last_second - std::min<std::uint64_t>(last_second, newest_first.size());
  if (last_second <= series.last_second) return;
  const std::uint64_t passed = std::min<std::uint64_t>(last_second - series.last_second, kSeconds);
  for (std::uint64_t back = passed; back-- > 0;) {
    std::optional<double> value;  // nobody looked, and nobody remembers it
    if (back < newest_first.size()) value = newest_first[back];
    series.newest_first.push_front(value);
  }
  series.last_second = last_second;
  if (series.newest_first.size() > kSeconds) series.newest_first.resize(kSeconds);
}

void Histories::drop_older_than(std::uint64_t second) {
  std::erase_if(series_, [&](const auto& entry) { return entry.second.last_second < second; });
}

Plot Histories::plot(const Key& key) const {
  const auto found = series_.find(key);
  if (found == series_.end()) return {};
  return {{found->second.newest_first.begin(), found->second.newest_first.end()}};
}

}  // namespace vgpu::tui

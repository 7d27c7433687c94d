// SPDX-License-Identifier: Apache-2.0
// Percents by whole seconds, put together of looks that each remember a few. Pure; one thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vgpu/base/gpu_uuid.h"
#include "vgpu/tui/model.h"

namespace vgpu::tui {

class Histories {
 public:
  static constexpr std::size_t kSeconds = 600;

  using Key = std::pair<GpuUuid, std::string>;  // a tenant's id; empty: the whole GPU

  // `newest_first`: of the whole second `last_second` and those before it.
  void add(const Key& key, std::uint64_t last_second, const std::vector<double>& newest_first);
  // Forgets what wasn't fed since.
  void drop_older_than(std::uint64_t second);
  Plot plot(const Key& key) const;
  std::size_t size() const { return series_.size(); }

 private:
  struct Series {
    std::uint64_t last_second = 0;
    std::deque<std::optional<double>> newest_first;
  };
  std::map<Key, Series> series_;
};

}  // namespace vgpu::tui

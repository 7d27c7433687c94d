// SPDX-License-Identifier: Apache-2.0
// What was: ten minutes by seconds, a day by ten seconds, for each GPU and each tenant on it.
// Memory is bounded: 16 bytes a point, and a series that is no longer fed is dropped. Pure; one
// thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "control.h"
#include "node_state.h"

namespace vgpu::hypervisor {

class History {
 public:
  static constexpr std::size_t kSeconds = 600;
  static constexpr std::size_t kTens = 8'640;
  static constexpr std::size_t kMostSeries = 4'096;
  static constexpr std::uint64_t kKeptNs = 600'000'000'000;  // after the last point

  // One point a second, with the second's end. `tenant` empty: of the whole GPU.
  void add(const GpuUuid& gpu, const std::string& tenant, const HistoryPoint& point);
  // Drops what is no longer fed.
  void tidy(std::uint64_t now_ns);
  std::vector<HistoryPoint> read(const GpuUuid& gpu, std::string_view tenant,
                                 Resolution resolution) const;
  std::size_t series() const { return series_.size(); }

 private:
  struct Packed {
    std::uint32_t time_s;
    std::uint32_t used_mib;                 // kNone: not known
    std::uint16_t got, owed, waited, busy;  // tenths of a percent; kNone16: not known
  };
  static_assert(sizeof(Packed) == 16);
  struct Sum {
    double value = 0;
    unsigned count = 0;
  };
  struct Series {
    std::deque<Packed> seconds, tens;
    Sum got, owed, waited, busy, used;  // of the ten seconds that aren't over
    std::uint64_t tens_ends_s = 0;
  };
  static Packed pack(const HistoryPoint& point);
  static HistoryPoint unpack(const Packed& packed);
  static void add_ten(Series& series, std::uint64_t end_s);

  std::map<std::pair<GpuUuid, std::string>, Series, std::less<>> series_;
};

}  // namespace vgpu::hypervisor

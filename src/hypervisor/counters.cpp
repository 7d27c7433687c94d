// SPDX-License-Identifier: Apache-2.0
#include "counters.h"

#include <algorithm>

#include "times.h"

namespace vgpu::hypervisor {
namespace {

// A process writes a second's row a little after that second's end.
constexpr std::uint64_t kLateNs = 100'000'000;

}  // namespace

void Counters::add(std::uint64_t now_ns, const std::vector<shm::SeatFacts>& seats,
                   const std::function<std::optional<unsigned>(const GpuUuid&)>& busy_percent) {
  const bool first = last_ns_ == 0;
  const std::uint64_t passed_ns = first ? 0 : now_ns - last_ns_;
  const std::uint64_t present = now_ns / kSecondNs;
  // Seconds below this one are over, and written.
  const std::uint64_t ended = now_ns < kLateNs ? 0 : (now_ns - kLateNs) / kSecondNs;
  for (auto& [key, book] : seats_) book.seen = false;
  for (const auto& seat : seats) {
    const std::string tenant(seat.tenant.view());
    auto [at, is_new] = seats_.try_emplace({seat.seat, seat.pid, seat.start_time_ticks, tenant});
    SeatBook& book = at->second;
    book.seen = true;
    // What was before the daemon isn't ours to count.
    if (is_new && first) book = {seat.work_ns, ended, true};
    TenantCounters& counters = entries_[{tenant, seat.gpu}].counters;
    const std::uint64_t work_ns = seat.work_ns > book.work_ns ? seat.work_ns - book.work_ns : 0;
    book.work_ns = seat.work_ns;
    counters.gpu_time_ns += work_ns;
    if (seat.is_alone && work_ns == 0) {
      if (const auto busy = busy_percent(seat.gpu))
        counters.gpu_time_ns += passed_ns / 100 * std::min(*busy, 100u);
    }
    for (std::size_t i = std::size(seat.seconds); i-- > 0;) {
      if (present < i + 1) continue;
      const std::uint64_t second = present - 1 - i;
      if (second < book.next_second || second >= ended) continue;
      const shm::SeatSecond& row = seat.seconds[i];
      counters.launches += row.launches;
      counters.delayed_launches += row.delayed;
      counters.waited_turn_ns += row.waited_turn_ns;
      counters.waited_limit_ns += row.waited_limit_ns;
      counters.waited_in_flight_ns += row.waited_in_flight_ns;
    }
    book.next_second = std::max(book.next_second, ended);
  }
  std::erase_if(seats_, [](const auto& entry) { return !entry.second.seen; });
  last_ns_ = now_ns;
}

void Counters::set_denied(const std::string& tenant, const GpuUuid& gpu, std::uint64_t segment,
                          std::uint64_t denied) {
  Denied& book = entries_[{tenant, gpu}].denied;
  if (book.segment != segment) {
    book.before += book.now;
    book.now = 0;
    book.segment = segment;
  }
  book.now = std::max(book.now, denied);
}

TenantCounters Counters::of(const std::string& tenant, const GpuUuid& gpu) const {
  const auto at = entries_.find({tenant, gpu});
  if (at == entries_.end()) return {};
  TenantCounters counters = at->second.counters;
  counters.denied_allocations = at->second.denied.before + at->second.denied.now;
  return counters;
}

void Counters::forget(const std::string& tenant) {
  std::erase_if(entries_, [&](const auto& entry) { return entry.first.first == tenant; });
}

}  // namespace vgpu::hypervisor

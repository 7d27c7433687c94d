// SPDX-License-Identifier: Apache-2.0
// What all seats of a state directory say and are granted, look by look, as CSV: to see how turns
// follow each other, which figures by the second don't show. Only looks; a look at ten seats takes
// some microseconds.
//
//   seat_trace SECONDS [INTERVAL_US] > trace.csv      VGPU_STATE_DIR and the like say where
//
// It waits up to a minute for somebody to have a seat. Times are in microseconds from the look; 0
// stands for never, -1 for until further notice.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "vgpu/core/hosting.h"
#include "vgpu/platform/clock.h"
#include "vgpu/shm/node.h"

namespace {

using namespace vgpu;

struct Row {
  std::uint64_t at_ns;
  GpuUuid gpu;
  core::SeatView said;
  std::uint64_t grant_end_ns;
  std::uint64_t in_flight_ns;
  std::uint64_t last_place;
};

bool wait_for_seats(shm::Node& node) {
  const shm::StateDir dir =
      shm::state_dir([](const char* name) -> const char* { return std::getenv(name); });
  for (int tries = 0; tries < 600; ++tries) {
    if (node.is_open() || shm::Node::look(dir, node) == shm::Status::ok) {
      for (std::uint32_t seat = 0; seat < node.seats(); ++seat) {
        if (node.is_live(seat)) return true;
      }
    }
    usleep(100'000);
  }
  return false;
}

void look(const shm::Node& node, std::uint64_t now_ns, std::vector<Row>& rows) {
  for (std::uint32_t number = 0; number < node.seats(); ++number) {
    Row row{};
    if (!node.view(number, now_ns, row.gpu, row.said)) continue;
    const shm::Seat seat(node.seat(number));
    row.at_ns = now_ns;
    row.grant_end_ns = core::GrantWord::end_ns(seat.grant().load());
    row.in_flight_ns = seat.in_flight_ns();
    row.last_place = seat.last_place();
    rows.push_back(row);
  }
}

long long us_from(std::uint64_t at_ns, std::uint64_t time_ns) {
  if (time_ns == 0) return 0;
  if (time_ns == core::kForever) return -1;
  return (static_cast<long long>(time_ns) - static_cast<long long>(at_ns)) / 1'000;
}

void print(const std::vector<Row>& rows) {
  std::puts(
      "ms,seat,gpu,tenant,share,wants_since,busy_until,last_launch,work_left_us,place,"
      "counts_collectives,grant_end,in_flight_us,last_place");
  for (const Row& row : rows) {
    const core::SeatView& said = row.said;
    const bool is_unbounded = row.in_flight_ns == core::kForever;
    std::printf("%.3f,%u,%.13s,%llx,%u,%lld,%lld,%lld,%llu,%llu,%d,%lld,%lld,%llu\n",
                static_cast<double>(row.at_ns - rows.front().at_ns) / 1e6, said.seat,
                row.gpu.text().data(), static_cast<unsigned long long>(said.tenant),
                said.share_percent, us_from(row.at_ns, said.want_since_ns),
                us_from(row.at_ns, said.busy_until_ns), us_from(row.at_ns, said.last_launch_ns),
                static_cast<unsigned long long>(said.work_ns - said.done_ns) / 1'000,
                static_cast<unsigned long long>(said.place), said.counts_collectives ? 1 : 0,
                us_from(row.at_ns, row.grant_end_ns),
                is_unbounded ? -1 : static_cast<long long>(row.in_flight_ns / 1'000),
                static_cast<unsigned long long>(row.last_place));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 0;
  const int interval_us = argc > 2 ? std::atoi(argv[2]) : 200;
  if (!(seconds > 0 && seconds <= 600) || interval_us < 20 || interval_us > 1'000'000) {
    std::fputs("seat_trace SECONDS [INTERVAL_US]: at most 600 seconds, each 20 us to 1 s (200)\n",
               stderr);
    return 2;
  }
  shm::Node node;
  if (!wait_for_seats(node)) {
    std::fputs("seat_trace: nobody has a seat in that state directory\n", stderr);
    return 1;
  }
  std::vector<Row> rows;
  const std::uint64_t end_ns = platform::monotonic_ns() + static_cast<std::uint64_t>(seconds * 1e9);
  for (std::uint64_t now = 0; (now = platform::monotonic_ns()) < end_ns;) {
    look(node, now, rows);
    usleep(static_cast<useconds_t>(interval_us));
  }
  if (!rows.empty()) print(rows);
  return 0;
}

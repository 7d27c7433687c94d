// SPDX-License-Identifier: Apache-2.0
#include "usage.h"

#include <time.h>

#include <algorithm>

#include "../environment.h"
#include "../limiter.h"
#include "vgpu/platform/clock.h"
#include "vgpu/shm/node.h"

namespace vgpu::limiter {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;

// Of an instant of CLOCK_MONOTONIC.
std::uint64_t wall_clock_us(std::uint64_t at_ns, std::uint64_t now_ns) {
  timespec wall{};
  ::clock_gettime(CLOCK_REALTIME, &wall);
  const auto wall_ns = static_cast<std::uint64_t>(wall.tv_sec) * kSecondNs +
                       static_cast<std::uint64_t>(wall.tv_nsec);
  return (wall_ns - (now_ns - at_ns)) / 1'000;
}

}  // namespace

TenantUse tenant_use(int position, std::span<ProcessUse> out) {
  TenantUse use;
  const shm::TenantSpec spec = Limiter::active()->tenant().spec();
  const shm::StateDir& directory = Limiter::active()->state_directory();
  shm::Node node;
  const shm::Status status =
      directory.error == 0 ? shm::Node::look(directory, node) : shm::Status::unavailable;
  use.is_known = status == shm::Status::ok || status == shm::Status::not_found;
  if (status != shm::Status::ok) return use;
  const std::uint64_t now = platform::monotonic_ns();
  use.until_us = wall_clock_us(now / kSecondNs * kSecondNs, now);
  for (std::uint32_t seat = 0; seat < node.seats(); ++seat) {
    shm::SeatFacts facts;
    if (!node.facts(seat, now, facts)) continue;
    if (!(facts.gpu == spec.gpus[static_cast<std::size_t>(position)].uuid) ||
        facts.tenant.view() != spec.id.view())
      continue;
    ++use.count;
    if (use.listed == out.size()) continue;
    const std::uint64_t percent = facts.seconds[0].work_ns * 100 / kSecondNs;
    out[use.listed++] = {facts.pid, facts.pid_namespace, facts.start_time_ticks,
                         static_cast<unsigned>(std::min<std::uint64_t>(percent, 100)),
                         facts.is_alone};
  }
  return use;
}

}  // namespace vgpu::limiter

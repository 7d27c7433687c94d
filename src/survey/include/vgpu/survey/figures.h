// SPDX-License-Identifier: Apache-2.0
// What tenants got of each GPU and what they waited for, made of a snapshot: averages over whole
// seconds that have ended. Percents are of one GPU's time (got, owed) or of the wall time (waits).
// Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vgpu/base/quota.h"
#include "vgpu/survey/snapshot.h"

namespace vgpu::survey {

// Whole seconds that the seats remember.
inline constexpr std::size_t kRemembered = shm::kHistorySeconds - 1;
inline constexpr std::size_t kLongAverage = 10;

struct UseFigures {
  double got_1s = 0;
  double got_10s = 0;       // of a seat that is alone on its GPU: as got_1s
  double turn_1s = 0;       // a launch waited for its turn; of several processes the mean
  double limit_1s = 0;      // by its compute limit
  double in_flight_1s = 0;  // until what it had launched before was far enough
  std::uint64_t debt_ns = 0;
  std::vector<double> history;  // got, the last second first; kRemembered of them
};

struct ProcessFigures {
  std::int32_t pid = 0;  // in its own PID namespace
  std::string program;
  std::uint64_t used_bytes = 0;
  std::optional<UseFigures> use;  // none: it has no seat, so it hasn't launched anything there
  std::optional<double> got_1s;   // of `use`; alone where no more is known of it
};

struct TenantFigures {
  std::string id, name;
  Quota quota;
  std::optional<double> owed;  // while it wants the GPU; none: nobody of it has a seat
  UseFigures use;
  std::uint64_t used_bytes = 0;
  std::vector<ProcessFigures> processes;
  double waited() const { return use.turn_1s + use.limit_1s; }
};

struct GpuFigures {
  Gpu gpu;
  double got_1s = 0;               // all tenants together
  std::vector<std::string> notes;  // of its shares
  std::vector<TenantFigures> tenants;
  std::vector<Outsider> outsiders;
};

// The driver's GPUs, and after them those that only tenants know.
std::vector<GpuFigures> figures_of(const Snapshot& snapshot);

// Of one or several seats of one tenant on one GPU.
UseFigures use_of(const std::vector<const shm::SeatFacts*>& seats);
std::vector<const shm::SeatFacts*> seats_of(const Snapshot& snapshot, std::string_view tenant_id,
                                            const GpuUuid& gpu);

}  // namespace vgpu::survey

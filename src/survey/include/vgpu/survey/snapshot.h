// SPDX-License-Identifier: Apache-2.0
// What there is at one moment, in plain values: GPUs, the tenants of this user, their processes and
// seats, and whoever is on a GPU without being one of them. `ls`, `top`, `why`, `run` and `set`
// decide and draw from it; nothing in it refers to the machine any more.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vgpu/shm/node.h"
#include "vgpu/shm/tenant.h"
#include "vgpu/survey/gpus.h"

namespace vgpu::survey {

struct ListedTenant {
  shm::TenantSpec spec;
  std::vector<std::uint64_t> charged_bytes;  // by the spec's GPUs
  std::vector<std::uint64_t> denied;         // refused allocations so far, likewise
  std::vector<shm::ProcessView> processes;
};

// Does a process that is in none of the tenants shown have the limiter in it? Another user's may,
// or one under another state directory; `unknown` where it can't be looked into.
// The others are as a daemon knows them. `predecessor`: that process's work is limited by a file
// and takes no turns. `arbitrated`: it is in another user's tenant, and takes turns with this
// user's.
enum class Limiter : unsigned char { absent, present, predecessor, unknown, arbitrated };

Limiter limiter_of(std::uint32_t pid);

// A process on a GPU that is none of this user's tenants'.
struct Outsider {
  std::uint32_t pid = 0;  // 0: of another PID namespace
  std::string program;
  std::optional<std::uint64_t> used_bytes;
  Limiter limiter = Limiter::unknown;
  bool exempt = false;              // a daemon's guard lets it do without the limiter
  std::optional<bool> unlimited{};  // as a daemon judges it; none: none has
  bool is_unlimited() const { return unlimited.value_or(!exempt && limiter == Limiter::absent); }
};

struct Snapshot {
  std::uint64_t now_ns = 0;  // CLOCK_MONOTONIC, as the seats' times
  Driver driver;
  std::vector<ListedTenant> tenants;
  std::map<GpuUuid, std::vector<Outsider>> outsiders;
  std::vector<shm::SeatFacts> seats;
  bool launches_are_stopped = false;  // until a daemon is there again: its policy for its loss
  std::string seats_unreadable;       // why not; empty: they could be read, or there are none yet
  std::vector<std::string> notes;
};

// The live seats as of `now_ns`. Answers why they can't be read; empty: they were, or there are
// none yet.
std::string read_seats(const shm::StateDir& dir, std::uint64_t now_ns, Snapshot& snapshot);

// Who is alone on a GPU counts nothing: what it did in the last second is what NVML says of the
// GPU.
void measure_lone_seats(Snapshot& snapshot);

// Removes on its way what ended tenants and processes left behind.
Snapshot take_snapshot(bool simulated);

// By its index, its UUID in any case with or without "GPU-", or the beginning of one.
bool is_called(const std::string& only, const Gpu& gpu);

// Leaves the GPUs and tenants that are called so, by name, id, UUID, index or the beginning of one;
// empty: all of them. Throws Problem when nothing is.
void keep_only(Snapshot& snapshot, const std::string& only);

// A tenant's place for a GPU in its spec, where it is one of its own.
std::optional<std::size_t> own_gpu(const shm::TenantSpec& spec, const GpuUuid& uuid);

}  // namespace vgpu::survey

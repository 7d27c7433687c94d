// SPDX-License-Identifier: Apache-2.0
// What the interface shows of one moment, in plain values, whoever says it; and who can: the one
// data source, of which there are two kinds (sources.h). What isn't known is nullopt or empty,
// never 0. Names, programs and command lines may hold any bytes.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "vgpu/survey/causes.h"
#include "vgpu/survey/figures.h"
#include "vgpu/survey/quotas.h"

namespace vgpu::tui {

// What a GPU is beside its figures.
struct GpuSample {
  std::optional<unsigned> memory_busy_percent;
  std::optional<unsigned> temperature_celsius;
  std::optional<std::uint64_t> power_milliwatts;
  std::optional<std::uint64_t> power_limit_milliwatts;
  std::optional<unsigned> sm_clock_mhz;
  std::optional<unsigned> memory_clock_mhz;
  std::vector<std::string> throttled_by;
  std::string trouble;                       // why it isn't well; empty: it is, as far as known
  std::optional<unsigned> promised_percent;  // shares of its tenants, added up
};

// What a tenant is beside its figures.
struct TenantFacts {
  std::string name;
  std::string owner;                         // a user's name or number; empty: not known
  std::optional<std::uint64_t> made_ns;      // CLOCK_REALTIME
  std::vector<GpuUuid> gpus;                 // of its set, by index
  std::map<GpuUuid, std::uint64_t> refused;  // allocations so far
};

struct ProcessOnGpu {
  GpuUuid gpu;
  std::uint32_t index = 0;
  std::optional<std::uint64_t> used_bytes;
  std::optional<double> got_1s;
};

struct Process {
  std::int32_t pid = 0;      // as who asks sees it; 0: that can't be told
  std::int32_t own_pid = 0;  // in its own PID namespace; 0: not known
  std::string user;
  std::string program;
  std::string command_line;
  std::string tenant_id;  // empty: none
  std::string tenant;     // its name
  survey::Limiter limiter = survey::Limiter::unknown;
  bool exempt = false;  // from the daemon's guard
  std::vector<ProcessOnGpu> gpus;
  std::optional<bool> unlimited{};  // as a daemon judges it; none: none has
  bool is_unlimited() const {
    return unlimited.value_or(tenant_id.empty() && !exempt && limiter == survey::Limiter::absent);
  }
};

struct Event {
  std::uint64_t sequence = 0;  // tells it from the others of this source
  std::uint64_t time_ns = 0;   // CLOCK_REALTIME
  std::string kind;            // "tenant_began"
  std::string subject;         // a tenant's id, a GPU's UUID, a pid, or empty
  std::string text;            // one line
};

// By seconds, the last one first.
struct Plot {
  std::vector<std::optional<double>> got;  // percent of the GPU
};

// A tenant's row on one GPU.
struct RowKey {
  GpuUuid gpu;
  std::string tenant;  // its id
  friend auto operator<=>(const RowKey&, const RowKey&) = default;
};

// Of one tenant on one GPU, which is asked for by name.
struct Detail {
  RowKey row;
  Plot plot;
  std::optional<survey::Explanation> why;
  std::string why_not;  // why there is no explanation
};

inline constexpr std::size_t kMostEvents = 1'000;

struct Model {
  std::string source;         // "daemon of node-1", "segments"
  std::string trouble;        // what is amiss with the source, in one line
  std::uint64_t time_ns = 0;  // CLOCK_REALTIME
  std::vector<survey::GpuFigures> gpus;
  std::map<GpuUuid, GpuSample> samples;
  std::map<GpuUuid, Plot> plots;               // of whole GPUs, where they were wanted
  std::map<std::string, TenantFacts> tenants;  // by id
  std::vector<Process> processes;              // tenants' first
  std::vector<Event> events;                   // in order; at most kMostEvents
  std::optional<Detail> detail;                // where it was wanted and is known
  std::vector<std::string> notes;              // what can't be read, in words
  std::string no_driver;                       // why there is none; empty: there is one

  const survey::GpuFigures* gpu(const GpuUuid& uuid) const;
  const survey::TenantFigures* row(const RowKey& key) const;
};

// Leaves the GPUs and tenants that are called so, by name, id, UUID, index or the beginning of one;
// empty: all of them. Throws survey::Problem when nothing is.
void keep_only(Model& model, const std::string& only);

// Beyond what is always there.
struct Wanted {
  std::optional<RowKey> detail;
  bool plots = false;
};

struct Change {
  RowKey row;
  survey::QuotaFlags flags;
  bool oversubscribe = false;
};

struct Room {
  std::uint32_t gpu_index = 0;
  std::optional<std::uint64_t> memory_bytes;
  std::optional<unsigned> share_percent;
};

struct ChangeResult {
  bool done = false;
  std::string text;        // done: "memory 4 GiB -> 2 GiB"; else what was refused
  std::string code, rule;  // of the refusal: "VG1014", "share_room"; may be empty
  std::string next;        // what helps; may be empty
  std::vector<Room> room;  // what would fit
};

class DataSource {
 public:
  virtual ~DataSource() = default;
  // Throws survey::Problem where nothing can be said at all.
  virtual Model look(const Wanted& wanted) = 0;
  // On the row's GPU alone. Throws nothing: a failure is a refusal.
  virtual ChangeResult change(const Change& change) = 0;
};

}  // namespace vgpu::tui

// SPDX-License-Identifier: Apache-2.0
// What the daemon knows of its node at one moment, in plain values. Made anew every 100 ms or so,
// never changed afterwards, shared by pointer: whoever serves, draws or logs reads one moment and
// locks nothing. What isn't known is nullopt, never 0. Times are CLOCK_REALTIME in ns unless they
// say monotonic; percents of GPUs are of one GPU's time, of waits of the wall time.
//
// Names, command lines and programs are chosen by whoever runs them: any bytes, at most kMostText.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "state_directories.h"
#include "vgpu/base/gpu_uuid.h"
#include "vgpu/base/quota.h"

namespace vgpu::hypervisor {

inline constexpr std::size_t kMostText = 4096;

enum class GpuHealth : unsigned char {
  ok,
  unreadable,  // NVML answers with errors, or not at all
  lost,        // it was there and NVML has it no more (fell off the bus, or is being reset)
};
std::string_view health_name(GpuHealth health);

struct MigDevice {
  std::string uuid;  // "MIG-..."
  std::string name;
  std::optional<unsigned> gpu_instance;
  std::optional<unsigned> compute_instance;
  std::optional<std::uint64_t> total_bytes;
  std::optional<std::uint64_t> used_bytes;
};

// The slow figures of one GPU, once a second.
struct GpuSample {
  std::optional<std::uint64_t> used_bytes;
  std::optional<unsigned> busy_percent;         // of the time, kernels of anybody ran
  std::optional<unsigned> memory_busy_percent;  // of the time, memory was read or written
  std::optional<unsigned> encoder_percent;
  std::optional<unsigned> decoder_percent;
  std::optional<unsigned> temperature_celsius;
  std::optional<std::uint64_t> power_milliwatts;
  std::optional<std::uint64_t> power_limit_milliwatts;
  std::optional<std::uint64_t> energy_millijoules;  // since the driver was loaded
  std::optional<unsigned> sm_clock_mhz;
  std::optional<unsigned> memory_clock_mhz;
  std::optional<std::uint64_t> throttle_reasons;  // NVML's bits; throttle_names() has their words
  std::optional<unsigned> pcie_generation;
  std::optional<unsigned> pcie_width;
  std::optional<std::uint64_t> pcie_transmit_bytes_per_s;
  std::optional<std::uint64_t> pcie_receive_bytes_per_s;
};
// Those bits that hold something back: "idle" and the like don't.
std::uint64_t holding_back(std::uint64_t throttle_reasons);
// "software_power_cap", "hardware_thermal_slowdown", ...: of those.
std::vector<std::string> throttle_names(std::uint64_t reasons);

// Of the time between two moments (CLOCK_MONOTONIC), how much a kernel of each process ran, by the
// driver's count; who isn't in it ran none. Fractions, 0 to 1.
struct BusyWindow {
  std::uint64_t from_ns = 0;
  std::uint64_t until_ns = 0;
  std::vector<std::pair<pid_t, double>> by_process;  // as the daemon sees them
};
using BusyWindows = std::vector<BusyWindow>;

struct GpuState {
  GpuUuid uuid;
  std::uint32_t index = 0;  // NVML's
  std::string name;
  std::string pci_bus_id;
  std::optional<std::uint64_t> total_bytes;
  std::optional<double> fp16_tflops;  // by the table of models; none: it isn't in there
  GpuHealth health = GpuHealth::ok;
  std::string health_text;                          // why it isn't ok; empty: it is
  std::optional<std::uint64_t> unhealthy_since_ns;  // since when it isn't
  GpuSample sample;
  std::optional<std::uint64_t> sampled_ns;            // when `sample` was read last
  std::map<std::uint64_t, std::uint64_t> xid_counts;  // seen by this daemon, by XID
  std::optional<std::uint64_t> last_xid;
  std::optional<std::uint64_t> last_xid_ns;
  bool mig_enabled = false;
  std::vector<MigDevice> mig_devices;
  double got_percent_1s = 0;             // all tenants together
  unsigned promised_percent = 0;         // shares of live tenants, added up
  std::vector<std::string> share_notes;  // why shares can't be vouched for, or are scaled
  std::string closed;                    // why nothing new is admitted to it now; empty: it is
  // The last seconds, in order; null: nobody asked for them.
  std::shared_ptr<const BusyWindows> busy_windows;
  std::string uuid_text() const { return uuid.text().data(); }
};

// Since the daemon first saw the tenant; they only grow, also when its processes die.
struct TenantCounters {
  std::uint64_t gpu_time_ns = 0;
  std::uint64_t launches = 0;
  std::uint64_t delayed_launches = 0;
  std::uint64_t waited_turn_ns = 0;
  std::uint64_t waited_limit_ns = 0;
  std::uint64_t waited_in_flight_ns = 0;
  std::uint64_t denied_allocations = 0;  // since the tenant was made
};

struct TenantGpuState {
  GpuUuid gpu;
  std::uint32_t index = 0;
  std::uint64_t total_bytes = 0;
  Quota quota;
  std::uint64_t charged_bytes = 0;
  std::optional<std::uint64_t> driver_bytes;  // of its processes by NVML, where it says so for all
  std::optional<double> owed_percent;  // while it wants the GPU; none: nobody of it has a seat
  double got_percent_1s = 0;
  double got_percent_10s = 0;
  double waited_turn_percent_1s = 0;
  double waited_limit_percent_1s = 0;
  double waited_in_flight_percent_1s = 0;
  std::uint64_t debt_ns = 0;
  TenantCounters counters;
  std::string uuid_text() const { return gpu.text().data(); }
};

struct TenantState {
  DirectoryPointer directory;  // where it is, and what it is called there
  std::string own_id;
  std::string id;    // stable, unique on the node
  std::string name;  // what people type
  uid_t owner = 0;
  bool owner_is_trusted = false;  // may make and change any tenant
  std::optional<std::uint64_t> made_ns;
  bool made_by_daemon = false;
  std::uint64_t quota_restored = 0;  // how often somebody had written it past the daemon
  std::vector<TenantGpuState> gpus;  // of its set, by index
  std::size_t process_count = 0;
};

enum class LimiterPresence : unsigned char {
  absent,
  present,
  unknown,
  elsewhere,    // there, and the process is in no tenant though this daemon knows all users'
  predecessor,  // its pod's file limits it (predecessor/pod_files.h); the arbiter doesn't see it
};
std::string_view presence_name(LimiterPresence presence);

struct ProcessGpuState {
  GpuUuid gpu;
  std::optional<std::uint64_t> charged_bytes;  // of a tenant's process
  std::optional<std::uint64_t> driver_bytes;   // by NVML
  std::optional<double> got_percent_1s;        // none: no seat there
};

struct ProcessState {
  std::optional<pid_t> host_pid;  // as the daemon sees it; none: it can't be told
  pid_t own_pid = 0;              // in its own PID namespace; 0: not known
  std::uint64_t start_time_ticks = 0;
  std::optional<uid_t> owner;
  std::string user;  // its name, or the number; empty: not known
  std::string program;
  std::string command_line;
  std::string tenant;  // its id; empty: none
  LimiterPresence limiter = LimiterPresence::unknown;
  bool exempt = false;  // by the guard's list: reported by nobody, ended by nobody
  std::vector<ProcessGpuState> gpus;
};

enum class EventKind : unsigned char {
#define VGPU_EVENT(name) name,
#include "event_kinds.def"
#undef VGPU_EVENT
};
std::string_view event_name(EventKind kind);  // "tenant_began"
std::span<const std::string_view> event_names();

struct Event {
  std::uint64_t sequence = 0;  // from 1, without gaps, for as long as the daemon lives
  std::uint64_t time_ns = 0;
  EventKind kind = EventKind::daemon_started;
  std::string subject;  // a tenant's id, a GPU's UUID, a pid, or empty: the node
  std::string text;     // one line
};

struct DriverState {
  bool available = false;
  bool simulated = false;
  std::string version;
  std::string cuda_version;
  std::string why;  // not available: the reason in words
};

struct NodeState {
  std::uint64_t sequence = 0;  // one more with each moment
  std::uint64_t time_ns = 0;
  std::uint64_t monotonic_ns = 0;
  std::uint64_t started_ns = 0;
  std::string node_name;
  std::string daemon_version;
  std::string boot_id;  // tells this run of the daemon from others: event sequences belong to it
  std::string state_directory;                 // its own, where it makes tenants of its own user
  std::vector<std::string> state_directories;  // all that it looks after
  bool looks_after_users = false;              // and others of theirs when they come
  DriverState driver;
  bool driver_is_read = false;                     // NVML was asked, whatever came of it
  std::optional<std::uint64_t> processes_read_ns;  // when NVML's processes and memory were read
  std::optional<std::uint64_t> segments_read_ns;   // when tenants and seats were read
  bool hosts_arbiter = false;                      // this daemon; else a tenant's process does
  std::vector<GpuState> gpus;                      // by index
  std::vector<TenantState> tenants;                // by id
  std::vector<ProcessState> processes;             // tenants' first, by tenant and pid
  std::size_t unlimited_processes = 0;             // of `processes`: no limiter, not exempt
  std::uint64_t last_event = 0;                    // its sequence; 0: none yet
  std::size_t waiting = 0;                         // tenants that wait for room
  std::vector<std::string> notes;                  // what can't be read or kept, in words

  const TenantState* tenant(std::string_view id) const;
  const GpuState* gpu(const GpuUuid& uuid) const;
  // By the name that a pod's is known by: only what somebody made who may make any tenant, since
  // users call theirs what they like.
  const TenantState* tenant_for_pods(std::string_view name) const;
  // Processes of no tenant that have no limiter: what the guard is there for.
  static bool is_unlimited(const ProcessState& process) {
    return process.tenant.empty() && !process.exempt &&
           (process.limiter == LimiterPresence::absent ||
            process.limiter == LimiterPresence::elsewhere);
  }
};
using StatePointer = std::shared_ptr<const NodeState>;

// One tenant on one GPU, or a GPU as a whole, over one interval.
struct HistoryPoint {
  std::uint64_t time_ns = 0;          // its end
  std::optional<float> got_percent;   // of a whole GPU: what its tenants got
  std::optional<float> owed_percent;  // of a whole GPU: none
  std::optional<float> waited_percent;
  std::optional<float> busy_percent;  // of a whole GPU, by NVML
  std::optional<std::uint64_t> used_bytes;
};

}  // namespace vgpu::hypervisor

// SPDX-License-Identifier: Apache-2.0
#include "metrics.h"

#include <prometheus/text_serializer.h>
#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>

#include "vgpu/survey/text.h"

namespace vgpu::hypervisor::http {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

constexpr double kPercent = 100, kNsPerSecond = 1e9, kPerMilli = 1e3, kPerMega = 1e6;

// One family under way. A value that isn't known adds nothing, and neither does a family without
// values.
class Family {
 public:
  Family(std::vector<MetricFamily>& out, MetricType type, const char* name, const char* help)
      : out_(out) {
    family_.name = name;
    family_.help = help;
    family_.type = type;
  }
  Family(const Family&) = delete;
  Family& operator=(const Family&) = delete;
  ~Family() {
    if (!family_.metric.empty()) out_.push_back(std::move(family_));
  }
  void add(const Labels& labels, double value) {
    ClientMetric metric;
    metric.label = labels;
    (family_.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
    family_.metric.push_back(std::move(metric));
  }
  template <class Number>
  void add(const Labels& labels, const std::optional<Number>& value, double unit = 1) {
    if (value) add(labels, static_cast<double>(*value) / unit);
  }

 private:
  std::vector<MetricFamily>& out_;
  MetricFamily family_;
};

Labels labels_of(const GpuState& gpu) { return {{"gpu", gpu.uuid_text()}}; }

Labels with(Labels labels, const char* name, std::string value) {
  labels.push_back({name, survey::visible(value)});
  return labels;
}

class Collector {
 public:
  Collector(const NodeState& state, std::vector<MetricFamily>& out) : state_(state), out_(out) {}

  void node() {
    gauge("vgpu_node_info", "The node and what runs on it; always 1.")
        .add({{"node", survey::visible(state_.node_name)},
              {"version", state_.daemon_version},
              {"driver_version", state_.driver.version},
              {"simulated", state_.driver.simulated ? "true" : "false"}},
             1);
    gauge("vgpu_driver_available", "Whether NVML could be loaded and answers.")
        .add({}, state_.driver.available ? 1 : 0);
    gauge("vgpu_arbiter_hosted", "Whether this daemon hosts the arbiter.")
        .add({}, state_.hosts_arbiter ? 1 : 0);
    gauge("vgpu_unlimited_processes", "Processes on a GPU that have no limiter.")
        .add({}, static_cast<double>(state_.unlimited_processes));
    gauge("vgpu_waiting_tenants", "Tenants that wait for room.")
        .add({}, static_cast<double>(state_.waiting));
    counter("vgpu_events_total", "Events since the daemon started.")
        .add({}, static_cast<double>(state_.last_event));
    Family age(out_, MetricType::Gauge, "vgpu_reading_age_seconds",
               "Time since processes (NVML) and tenants (shared memory) were read.");
    add_age(age, "processes", state_.processes_read_ns);
    add_age(age, "tenants", state_.segments_read_ns);
  }

  void gpus() {
    each_gpu("vgpu_gpu_info", "A GPU's identity; always 1.", [](Family& to, const GpuState& gpu) {
      Labels labels = labels_of(gpu);
      labels = with(labels, "index", std::to_string(gpu.index));
      labels = with(labels, "name", gpu.name);
      to.add(with(labels, "pci_bus_id", gpu.pci_bus_id), 1);
    });
    each_gpu("vgpu_gpu_healthy", "Whether NVML has the GPU and it answers.",
             [](Family& to, const GpuState& gpu) {
               to.add(labels_of(gpu), gpu.health == GpuHealth::ok ? 1 : 0);
             });
    each_gpu("vgpu_gpu_share_got_ratio", "GPU time of all tenants over the last second.",
             [](Family& to, const GpuState& gpu) {
               to.add(labels_of(gpu), gpu.got_percent_1s / kPercent);
             });
    each_gpu("vgpu_gpu_share_promised_ratio", "Shares of live tenants, added up.",
             [](Family& to, const GpuState& gpu) {
               to.add(labels_of(gpu), gpu.promised_percent / kPercent);
             });
    each_gpu("vgpu_gpu_memory_total_bytes", "Memory of the GPU.",
             [](Family& to, const GpuState& gpu) { to.add(labels_of(gpu), gpu.total_bytes); });
    each_gpu("vgpu_gpu_mig_devices", "MIG devices of the GPU; only of one in MIG mode.",
             [](Family& to, const GpuState& gpu) {
               if (gpu.mig_enabled)
                 to.add(labels_of(gpu), static_cast<double>(gpu.mig_devices.size()));
             });
    samples();
    gpu_errors();
  }

  void tenants() {
    {
      Family processes(out_, MetricType::Gauge, "vgpu_tenant_processes", "Live processes.");
      for (const auto& tenant : state_.tenants)
        processes.add(labels_of(tenant), static_cast<double>(tenant.process_count));
    }
    shares();
    memory();
    waits();
  }

 private:
  struct Place {
    const TenantState& tenant;
    const TenantGpuState& gpu;
    Labels labels;
  };

  Family gauge(const char* name, const char* help) {
    return Family(out_, MetricType::Gauge, name, help);
  }
  Family counter(const char* name, const char* help) {
    return Family(out_, MetricType::Counter, name, help);
  }

  static Labels labels_of(const TenantState& tenant) {
    return {{"tenant", survey::visible(tenant.name)}, {"tenant_id", survey::visible(tenant.id)}};
  }
  static Labels labels_of(const GpuState& gpu) { return http::labels_of(gpu); }

  void add_age(Family& to, const char* what, const std::optional<std::uint64_t>& read_ns) {
    if (!read_ns) return;
    const double age =
        state_.time_ns > *read_ns ? static_cast<double>(state_.time_ns - *read_ns) : 0;
    to.add({{"of", what}}, age / kNsPerSecond);
  }

  template <class Add>
  void each_gpu(const char* name, const char* help, Add add, MetricType type = MetricType::Gauge) {
    Family family(out_, type, name, help);
    for (const auto& gpu : state_.gpus) add(family, gpu);
  }

  template <class Add>
  void each_place(MetricType type, const char* name, const char* help, Add add) {
    Family family(out_, type, name, help);
    for (const auto& tenant : state_.tenants) {
      for (const auto& gpu : tenant.gpus) {
        Labels labels = labels_of(tenant);
        labels.push_back({"gpu", gpu.uuid_text()});
        add(family, Place{tenant, gpu, std::move(labels)});
      }
    }
  }

  template <class Field>
  void sample(const char* name, const char* help, Field GpuSample::*field, double unit,
              MetricType type = MetricType::Gauge) {
    each_gpu(
        name, help,
        [&](Family& to, const GpuState& gpu) { to.add(labels_of(gpu), gpu.sample.*field, unit); },
        type);
  }

  void samples() {
    sample("vgpu_gpu_memory_used_bytes", "Memory in use, by NVML.", &GpuSample::used_bytes, 1);
    sample("vgpu_gpu_busy_ratio", "Time in which kernels of anybody ran, by NVML.",
           &GpuSample::busy_percent, kPercent);
    sample("vgpu_gpu_memory_busy_ratio", "Time in which memory was read or written, by NVML.",
           &GpuSample::memory_busy_percent, kPercent);
    sample("vgpu_gpu_encoder_busy_ratio", "Use of the video encoder.", &GpuSample::encoder_percent,
           kPercent);
    sample("vgpu_gpu_decoder_busy_ratio", "Use of the video decoder.", &GpuSample::decoder_percent,
           kPercent);
    sample("vgpu_gpu_temperature_celsius", "Temperature of the chip.",
           &GpuSample::temperature_celsius, 1);
    sample("vgpu_gpu_power_watts", "Power drawn.", &GpuSample::power_milliwatts, kPerMilli);
    sample("vgpu_gpu_power_limit_watts", "Power that may be drawn.",
           &GpuSample::power_limit_milliwatts, kPerMilli);
    sample("vgpu_gpu_energy_joules_total", "Energy used since the driver was loaded.",
           &GpuSample::energy_millijoules, kPerMilli, MetricType::Counter);
    sample("vgpu_gpu_sm_clock_hertz", "Clock of the multiprocessors.", &GpuSample::sm_clock_mhz,
           1 / kPerMega);
    sample("vgpu_gpu_memory_clock_hertz", "Clock of the memory.", &GpuSample::memory_clock_mhz,
           1 / kPerMega);
    sample("vgpu_gpu_pcie_transmit_bytes_per_second", "Sent over PCIe, lately.",
           &GpuSample::pcie_transmit_bytes_per_s, 1);
    sample("vgpu_gpu_pcie_receive_bytes_per_second", "Received over PCIe, lately.",
           &GpuSample::pcie_receive_bytes_per_s, 1);
  }

  void gpu_errors() {
    each_gpu("vgpu_gpu_throttled", "1 for each reason that holds the clocks back now.",
             [](Family& to, const GpuState& gpu) {
               if (!gpu.sample.throttle_reasons) return;
               for (const auto& reason : throttle_names(*gpu.sample.throttle_reasons))
                 to.add(with(labels_of(gpu), "reason", reason), 1);
             });
    each_gpu(
        "vgpu_gpu_xid_errors_total", "XID errors that this daemon saw.",
        [](Family& to, const GpuState& gpu) {
          for (const auto& [xid, count] : gpu.xid_counts)
            to.add(with(labels_of(gpu), "xid", std::to_string(xid)), static_cast<double>(count));
        },
        MetricType::Counter);
    each_gpu("vgpu_gpu_unlimited_processes", "Processes on this GPU that have no limiter.",
             [this](Family& to, const GpuState& gpu) {
               double count = 0;
               for (const auto& process : state_.processes) {
                 if (!NodeState::is_unlimited(process)) continue;
                 for (const auto& there : process.gpus) count += there.gpu == gpu.uuid ? 1 : 0;
               }
               to.add(labels_of(gpu), count);
             });
  }

  void shares() {
    constexpr MetricType kGauge = MetricType::Gauge, kCounter = MetricType::Counter;
    each_place(kGauge, "vgpu_tenant_share_ratio", "Share of the GPU that is promised.",
               [](Family& to, const Place& at) {
                 if (at.gpu.quota.compute_share_percent != 0)
                   to.add(at.labels, at.gpu.quota.compute_share_percent / kPercent);
               });
    each_place(kGauge, "vgpu_tenant_compute_limit_ratio", "Most of the GPU's time it may use.",
               [](Family& to, const Place& at) {
                 if (at.gpu.quota.compute_limit_percent != 0)
                   to.add(at.labels, at.gpu.quota.compute_limit_percent / kPercent);
               });
    each_place(
        kGauge, "vgpu_tenant_share_owed_ratio",
        "Part of the GPU that it is owed while it wants the GPU.",
        [](Family& to, const Place& at) { to.add(at.labels, at.gpu.owed_percent, kPercent); });
    each_place(
        kGauge, "vgpu_tenant_share_got_ratio", "GPU time that it got over the last second.",
        [](Family& to, const Place& at) { to.add(at.labels, at.gpu.got_percent_1s / kPercent); });
    each_place(kGauge, "vgpu_tenant_debt_seconds", "GPU time that it used beyond its part.",
               [](Family& to, const Place& at) {
                 to.add(at.labels, static_cast<double>(at.gpu.debt_ns) / kNsPerSecond);
               });
    each_place(kCounter, "vgpu_tenant_gpu_time_seconds_total", "GPU time that it got.",
               [](Family& to, const Place& at) {
                 to.add(at.labels, static_cast<double>(at.gpu.counters.gpu_time_ns) / kNsPerSecond);
               });
  }

  void memory() {
    constexpr MetricType kGauge = MetricType::Gauge, kCounter = MetricType::Counter;
    each_place(kGauge, "vgpu_tenant_memory_used_bytes", "Memory that it is charged for.",
               [](Family& to, const Place& at) {
                 to.add(at.labels, static_cast<double>(at.gpu.charged_bytes));
               });
    each_place(kGauge, "vgpu_tenant_memory_driver_bytes",
               "Memory of its processes by the driver's count, where it says so for all.",
               [](Family& to, const Place& at) { to.add(at.labels, at.gpu.driver_bytes); });
    each_place(kGauge, "vgpu_tenant_memory_limit_bytes", "Memory that it may hold.",
               [](Family& to, const Place& at) {
                 if (at.gpu.quota.limits_memory())
                   to.add(at.labels, static_cast<double>(at.gpu.quota.memory_limit_bytes));
               });
    each_place(kCounter, "vgpu_tenant_memory_denied_total", "Allocations refused at its limit.",
               [](Family& to, const Place& at) {
                 to.add(at.labels, static_cast<double>(at.gpu.counters.denied_allocations));
               });
  }

  void waits() {
    constexpr MetricType kCounter = MetricType::Counter;
    each_place(kCounter, "vgpu_tenant_launches_total", "Launches of kernels and graphs.",
               [](Family& to, const Place& at) {
                 to.add(at.labels, static_cast<double>(at.gpu.counters.launches));
               });
    each_place(kCounter, "vgpu_tenant_delayed_launches_total",
               "Launches that waited for a turn, a limit or work in flight.",
               [](Family& to, const Place& at) {
                 to.add(at.labels, static_cast<double>(at.gpu.counters.delayed_launches));
               });
    each_place(kCounter, "vgpu_tenant_waited_seconds_total",
               "Time that launches waited, by what for.", [](Family& to, const Place& at) {
                 const TenantCounters& counters = at.gpu.counters;
                 const auto add = [&](const char* reason, std::uint64_t ns) {
                   to.add(with(at.labels, "reason", reason),
                          static_cast<double>(ns) / kNsPerSecond);
                 };
                 add("turn", counters.waited_turn_ns);
                 add("limit", counters.waited_limit_ns);
                 add("in_flight", counters.waited_in_flight_ns);
               });
  }

  const NodeState& state_;
  std::vector<MetricFamily>& out_;
};

void add_own(std::vector<MetricFamily>& out, const NodeState& state, const ServerFigures& server,
             const OwnFigures& own) {
  constexpr MetricType kGauge = MetricType::Gauge, kCounter = MetricType::Counter;
  const auto one = [&](MetricType type, const char* name, const char* help, double value) {
    Family(out, type, name, help).add({}, value);
  };
  one(kCounter, "process_cpu_seconds_total", "CPU time of the daemon.", own.cpu_seconds);
  one(kGauge, "process_resident_memory_bytes", "Memory of the daemon.", own.resident_bytes);
  one(kGauge, "process_open_fds", "Descriptors that the daemon has open.", own.open_files);
  one(kGauge, "process_start_time_seconds", "When the daemon started, in seconds since 1970.",
      static_cast<double>(state.started_ns) / kNsPerSecond);
  one(kCounter, "vgpu_http_requests_total", "Requests that came.",
      static_cast<double>(server.requests));
  one(kGauge, "vgpu_http_connections", "Connections that are open.",
      static_cast<double>(server.connections));
  one(kGauge, "vgpu_http_streams", "Event streams that are open.",
      static_cast<double>(server.streams));
  Family refused(out, kCounter, "vgpu_http_refused_total", "Requests refused, by why.");
  const auto add = [&](const char* reason, std::uint64_t count) {
    refused.add({{"reason", reason}}, static_cast<double>(count));
  };
  add("rate", server.refused_rate);
  add("connections", server.refused_connections);
  add("size", server.refused_size);
  add("timeout", server.timed_out);
  add("unauthorized", server.unauthorized);
}

}  // namespace

OwnFigures read_own_figures() {
  OwnFigures own;
  timespec cpu{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
  own.cpu_seconds =
      static_cast<double>(cpu.tv_sec) + static_cast<double>(cpu.tv_nsec) / kNsPerSecond;
  std::ifstream pages("/proc/self/statm");
  double size = 0, resident = 0;
  if (pages >> size >> resident)
    own.resident_bytes = resident * static_cast<double>(sysconf(_SC_PAGESIZE));
  std::error_code ignored;
  for ([[maybe_unused]] const auto& file :
       std::filesystem::directory_iterator("/proc/self/fd", ignored))
    own.open_files += 1;
  return own;
}

std::vector<MetricFamily> metrics_of(const NodeState& state, const ServerFigures& server,
                                     const OwnFigures& own) {
  std::vector<MetricFamily> out;
  Collector collector(state, out);
  collector.node();
  collector.gpus();
  collector.tenants();
  add_own(out, state, server, own);
  return out;
}

std::string metrics_text(const std::vector<MetricFamily>& families) {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families);
  return out.str();
}

}  // namespace vgpu::hypervisor::http

// SPDX-License-Identifier: Apache-2.0
#include "node_state_json.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>

#include "vgpu/survey/gpus.h"

namespace vgpu::hypervisor {
namespace {

template <class Value>
Json maybe(const std::optional<Value>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json maybe_text(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

Json maybe_time(const std::optional<std::uint64_t>& realtime_ns) {
  return realtime_ns ? Json(time_text(*realtime_ns)) : Json(nullptr);
}

// Percents to two places: more is noise.
Json percent(double value) {
  return Json(
      static_cast<double>(static_cast<std::int64_t>(value * 100 + (value < 0 ? -0.5 : 0.5))) / 100);
}
template <class Number>
Json maybe_percent(const std::optional<Number>& value) {
  return value ? percent(static_cast<double>(*value)) : Json(nullptr);
}

Json percent_or_null(std::uint8_t value) { return value == 0 ? Json(nullptr) : Json(value); }

Json age_ms(const NodeState& state, const std::optional<std::uint64_t>& read_ns) {
  if (!read_ns) return nullptr;
  return state.time_ns > *read_ns ? (state.time_ns - *read_ns) / 1'000'000 : 0;
}

Json sample_json(const GpuSample& sample) {
  Json throttle = nullptr;
  if (sample.throttle_reasons) throttle = throttle_names(*sample.throttle_reasons);
  return {{"used_bytes", maybe(sample.used_bytes)},
          {"busy_percent", maybe(sample.busy_percent)},
          {"memory_busy_percent", maybe(sample.memory_busy_percent)},
          {"encoder_percent", maybe(sample.encoder_percent)},
          {"decoder_percent", maybe(sample.decoder_percent)},
          {"temperature_celsius", maybe(sample.temperature_celsius)},
          {"power_milliwatts", maybe(sample.power_milliwatts)},
          {"power_limit_milliwatts", maybe(sample.power_limit_milliwatts)},
          {"energy_millijoules", maybe(sample.energy_millijoules)},
          {"sm_clock_mhz", maybe(sample.sm_clock_mhz)},
          {"memory_clock_mhz", maybe(sample.memory_clock_mhz)},
          {"throttle_reasons", throttle},
          {"pcie_generation", maybe(sample.pcie_generation)},
          {"pcie_width", maybe(sample.pcie_width)},
          {"pcie_transmit_bytes_per_s", maybe(sample.pcie_transmit_bytes_per_s)},
          {"pcie_receive_bytes_per_s", maybe(sample.pcie_receive_bytes_per_s)}};
}

Json mig_json(const MigDevice& device) {
  return {{"uuid", device.uuid},
          {"name", maybe_text(device.name)},
          {"gpu_instance", maybe(device.gpu_instance)},
          {"compute_instance", maybe(device.compute_instance)},
          {"total_bytes", maybe(device.total_bytes)},
          {"used_bytes", maybe(device.used_bytes)},
          {"enforced",
           {{"memory", survey::kEnforcedOnMig.memory},
            {"compute", survey::kEnforcedOnMig.compute},
            {"why", std::string(survey::kEnforcedOnMig.why)}}}};
}

Json counters_json(const TenantCounters& counters) {
  return {{"gpu_time_ns", counters.gpu_time_ns},
          {"launches", counters.launches},
          {"delayed_launches", counters.delayed_launches},
          {"waited_turn_ns", counters.waited_turn_ns},
          {"waited_limit_ns", counters.waited_limit_ns},
          {"waited_in_flight_ns", counters.waited_in_flight_ns},
          {"denied_allocations", counters.denied_allocations}};
}

Json tenant_gpu_json(const TenantGpuState& gpu) {
  return {{"uuid", gpu.uuid_text()},
          {"index", gpu.index},
          {"total_bytes", gpu.total_bytes},
          {"quota", quota_json(gpu.quota)},
          {"charged_bytes", gpu.charged_bytes},
          {"driver_bytes", maybe(gpu.driver_bytes)},
          {"owed_percent", maybe_percent(gpu.owed_percent)},
          {"got_percent_1s", percent(gpu.got_percent_1s)},
          {"got_percent_10s", percent(gpu.got_percent_10s)},
          {"waited_turn_percent_1s", percent(gpu.waited_turn_percent_1s)},
          {"waited_limit_percent_1s", percent(gpu.waited_limit_percent_1s)},
          {"waited_in_flight_percent_1s", percent(gpu.waited_in_flight_percent_1s)},
          {"debt_ns", gpu.debt_ns},
          {"counters", counters_json(gpu.counters)}};
}

}  // namespace

std::string time_text(std::uint64_t realtime_ns) {
  const auto seconds = static_cast<std::time_t>(realtime_ns / 1'000'000'000);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(seconds),
                     realtime_ns / 1'000'000 % 1000);
}

std::string dumped(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json quota_json(const Quota& quota) {
  return {{"memory_limit_bytes",
           quota.limits_memory() ? Json(quota.memory_limit_bytes) : Json(nullptr)},
          {"share_percent", percent_or_null(quota.compute_share_percent)},
          {"limit_percent", percent_or_null(quota.compute_limit_percent)},
          {"policy", std::string(survey::policy_name(quota.policy))},
          {"priority", std::string(survey::priority_name(quota.priority))},
          {"memory_source", std::string(survey::source_name(quota.memory_source))},
          {"compute_source", std::string(survey::source_name(quota.compute_source))}};
}

Json node_json(const NodeState& state) {
  return {{"name", state.node_name},
          {"version", state.daemon_version},
          {"run", state.boot_id},
          {"state_directory", state.state_directory},
          {"state_directories", state.state_directories},
          {"looks_after_users", state.looks_after_users},
          {"started", time_text(state.started_ns)},
          {"time", time_text(state.time_ns)},
          {"sequence", state.sequence},
          {"last_event", state.last_event},
          {"driver",
           {{"available", state.driver.available},
            {"simulated", state.driver.simulated},
            {"version", maybe_text(state.driver.version)},
            {"cuda_version", maybe_text(state.driver.cuda_version)},
            {"why", maybe_text(state.driver.why)}}},
          {"hosts_arbiter", state.hosts_arbiter},
          {"processes_age_ms", age_ms(state, state.processes_read_ns)},
          {"tenants_age_ms", age_ms(state, state.segments_read_ns)},
          {"gpu_count", state.gpus.size()},
          {"tenant_count", state.tenants.size()},
          {"process_count", state.processes.size()},
          {"unlimited_process_count", state.unlimited_processes},
          {"waiting_count", state.waiting},
          {"notes", state.notes}};
}

Json gpu_json(const GpuState& gpu) {
  Json xids = Json::object(), devices = Json::array();
  for (const auto& [xid, count] : gpu.xid_counts) xids[std::to_string(xid)] = count;
  for (const auto& device : gpu.mig_devices) devices.push_back(mig_json(device));
  return {{"uuid", gpu.uuid_text()},
          {"index", gpu.index},
          {"name", maybe_text(gpu.name)},
          {"pci_bus_id", maybe_text(gpu.pci_bus_id)},
          {"total_bytes", maybe(gpu.total_bytes)},
          {"fp16_tflops", maybe(gpu.fp16_tflops)},
          {"health", std::string(health_name(gpu.health))},
          {"health_text", maybe_text(gpu.health_text)},
          {"unhealthy_since", maybe_time(gpu.unhealthy_since_ns)},
          {"sampled", maybe_time(gpu.sampled_ns)},
          {"sample", sample_json(gpu.sample)},
          {"xid_counts", xids},
          {"last_xid", maybe(gpu.last_xid)},
          {"last_xid_time", maybe_time(gpu.last_xid_ns)},
          {"mig_enabled", gpu.mig_enabled},
          {"mig_devices", devices},
          {"got_percent_1s", percent(gpu.got_percent_1s)},
          {"promised_percent", gpu.promised_percent},
          {"share_notes", gpu.share_notes},
          {"closed", maybe_text(gpu.closed)}};
}

Json tenant_json(const TenantState& tenant) {
  Json gpus = Json::array();
  for (const auto& gpu : tenant.gpus) gpus.push_back(tenant_gpu_json(gpu));
  return {{"id", tenant.id},
          {"name", tenant.name},
          {"owner_uid", tenant.owner},
          {"made", maybe_time(tenant.made_ns)},
          {"made_by_daemon", tenant.made_by_daemon},
          {"process_count", tenant.process_count},
          {"gpus", gpus}};
}

Json process_json(const ProcessState& process) {
  Json gpus = Json::array();
  for (const auto& gpu : process.gpus) {
    gpus.push_back({{"uuid", std::string(gpu.gpu.text().data())},
                    {"charged_bytes", maybe(gpu.charged_bytes)},
                    {"driver_bytes", maybe(gpu.driver_bytes)},
                    {"got_percent_1s", maybe_percent(gpu.got_percent_1s)}});
  }
  return {{"host_pid", maybe(process.host_pid)},
          {"own_pid", process.own_pid == 0 ? Json(nullptr) : Json(process.own_pid)},
          {"owner_uid", maybe(process.owner)},
          {"user", maybe_text(process.user)},
          {"program", maybe_text(process.program)},
          {"command_line", maybe_text(process.command_line)},
          {"tenant", maybe_text(process.tenant)},
          {"limiter", std::string(presence_name(process.limiter))},
          {"exempt", process.exempt},
          {"unlimited", NodeState::is_unlimited(process)},
          {"gpus", gpus}};
}

Json event_json(const Event& event) {
  return {{"sequence", event.sequence},
          {"time", time_text(event.time_ns)},
          {"kind", std::string(event_name(event.kind))},
          {"subject", maybe_text(event.subject)},
          {"text", event.text}};
}

Json history_json(const std::vector<HistoryPoint>& points) {
  Json list = Json::array();
  for (const auto& point : points) {
    list.push_back({{"time", time_text(point.time_ns)},
                    {"got_percent", maybe_percent(point.got_percent)},
                    {"owed_percent", maybe_percent(point.owed_percent)},
                    {"waited_percent", maybe_percent(point.waited_percent)},
                    {"busy_percent", maybe_percent(point.busy_percent)},
                    {"used_bytes", maybe(point.used_bytes)}});
  }
  return list;
}

Json recent_json(const GpuUuid& gpu, const std::string& tenant,
                 const std::vector<HistoryPoint>& oldest_first, std::size_t seconds) {
  Json got = Json::array();
  std::optional<std::uint64_t> later_s;
  for (auto point = oldest_first.rbegin(); point != oldest_first.rend(); ++point) {
    const std::uint64_t second = point->time_ns / 1'000'000'000;
    for (; later_s && second + 1 < *later_s && got.size() < seconds; --*later_s)
      got.push_back(nullptr);
    if (got.size() >= seconds) break;
    got.push_back(maybe_percent(point->got_percent));
    later_s = second;
  }
  return {{"gpu", std::string(gpu.text().data())},
          {"tenant", maybe_text(tenant)},
          {"got_percent", got}};
}

Json state_json(const NodeState& state) {
  Json gpus = Json::array(), tenants = Json::array(), processes = Json::array();
  for (const auto& gpu : state.gpus) gpus.push_back(gpu_json(gpu));
  for (const auto& tenant : state.tenants) tenants.push_back(tenant_json(tenant));
  for (const auto& process : state.processes) processes.push_back(process_json(process));
  return {
      {"node", node_json(state)}, {"gpus", gpus}, {"tenants", tenants}, {"processes", processes}};
}

Json refusal_json(const Refusal& refusal) {
  Json room = Json::array();
  for (const auto& gpu : refusal.room) {
    room.push_back({{"uuid", std::string(gpu.gpu.text().data())},
                    {"index", gpu.index},
                    {"memory_bytes", maybe(gpu.memory_bytes)},
                    {"share_percent", maybe(gpu.share_percent)}});
  }
  return {{"kind", std::string(refusal_name(refusal.kind))},
          {"code", maybe_text(refusal.code)},
          {"rule", maybe_text(refusal.rule)},
          {"message", refusal.what},
          {"hint", maybe_text(refusal.next)},
          {"waiting_helps", refusal.waiting_helps},
          {"room", room}};
}

Json created_json(const CreatedTenant& created) {
  Json gpus = Json::array();
  for (const auto& gpu : created.gpus) {
    gpus.push_back({{"uuid", std::string(gpu.gpu.text().data())},
                    {"index", gpu.index},
                    {"quota", quota_json(gpu.quota)}});
  }
  return {{"id", created.id}, {"own_id", created.own_id},         {"name", created.name},
          {"gpus", gpus},     {"rule", maybe_text(created.rule)}, {"notices", created.notices}};
}

Json changed_json(const ChangedTenant& changed) {
  Json gpus = Json::array();
  for (const auto& gpu : changed.gpus) {
    gpus.push_back(
        {{"uuid", std::string(gpu.gpu.text().data())},
         {"index", gpu.index},
         {"before", quota_json(gpu.before)},
         {"after", quota_json(gpu.after)},
         {"held_bytes", gpu.held_bytes},
         {"wanted_memory_bytes",
          gpu.wanted_memory_bytes == kNoLimit ? Json(nullptr) : Json(gpu.wanted_memory_bytes)}});
  }
  return {{"id", changed.id}, {"name", changed.name}, {"gpus", gpus}};
}

Json ended_json(const EndedTenant& ended) {
  return {{"id", ended.id}, {"processes_signalled", ended.processes_signalled}};
}

Json renamed_json(const RenamedTenant& renamed) {
  return {{"id", renamed.id}, {"before", renamed.before}, {"after", renamed.after}};
}

}  // namespace vgpu::hypervisor

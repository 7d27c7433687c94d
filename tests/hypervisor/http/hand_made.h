// SPDX-License-Identifier: Apache-2.0
// A moment made by hand, with everything in it that a node can have, and a Control that holds it.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "control.h"
#include "node_state.h"

namespace vgpu::hypervisor::http_test {

inline constexpr const char* kHostile = "<img src=x onerror=alert(1)>\"'&\n\\";

inline GpuUuid uuid_of(unsigned char last) {
  GpuUuid uuid{};
  uuid.bytes[15] = last;
  return uuid;
}

inline GpuState full_gpu() {
  GpuState gpu;
  gpu.uuid = uuid_of(1);
  gpu.name = "NVIDIA H200";
  gpu.pci_bus_id = "00000000:01:00.0";
  gpu.total_bytes = 141ULL << 30;
  gpu.fp16_tflops = 989.5;
  gpu.sample = {70ULL << 30, 93,   40,   0,    0, 61, 512'000,   700'000,
                123'456'789, 1980, 3201, 0x24, 5, 16, 1'000'000, 2'000'000};
  gpu.sampled_ns = 1'764'000'000'000'000'000;
  gpu.xid_counts = {{31, 2}, {79, 1}};
  gpu.last_xid = 79;
  gpu.last_xid_ns = 1'764'000'000'000'000'000;
  gpu.mig_enabled = true;
  gpu.mig_devices = {{"MIG-1", "1g.18gb", 7, 0, 18ULL << 30, 1ULL << 30}};
  gpu.got_percent_1s = 91.5;
  gpu.promised_percent = 130;
  gpu.share_notes = {"shares add up to 130 % and are scaled down"};
  return gpu;
}

inline TenantState full_tenant(const std::string& id, const std::string& name) {
  TenantState tenant;
  tenant.id = id;
  tenant.name = name;
  tenant.owner = 1000;
  tenant.made_ns = 1'764'000'000'000'000'000;
  tenant.process_count = 1;
  TenantGpuState gpu;
  gpu.gpu = uuid_of(1);
  gpu.total_bytes = 141ULL << 30;
  gpu.quota.memory_limit_bytes = 8ULL << 30;
  gpu.quota.compute_share_percent = 30;
  gpu.quota.compute_limit_percent = 50;
  gpu.quota.priority = Priority::high;
  gpu.quota.memory_source = gpu.quota.compute_source = Source::run;
  gpu.charged_bytes = 5ULL << 30;
  gpu.driver_bytes = 5ULL << 30;
  gpu.owed_percent = 23;
  gpu.got_percent_1s = 22.75;
  gpu.got_percent_10s = 23;
  gpu.waited_turn_percent_1s = 12;
  gpu.debt_ns = 1'500'000;
  gpu.counters = {7'000'000'000, 1000, 400, 3'000'000'000, 500'000'000, 250'000'000, 3};
  tenant.gpus = {gpu};
  return tenant;
}

inline NodeState full_state() {
  NodeState state;
  state.sequence = 17;
  state.time_ns = 1'764'000'001'000'000'000;
  state.started_ns = 1'764'000'000'000'000'000;
  state.node_name = "node-1";
  state.daemon_version = "0.1.0";
  state.boot_id = "run-1";
  state.state_directory = "/run/vgpu";
  state.driver = {true, true, "580.159.04", "13.0", ""};
  state.processes_read_ns = state.time_ns - 200'000'000;
  state.segments_read_ns = state.time_ns - 10'000'000;
  state.hosts_arbiter = true;
  GpuState lost;
  lost.uuid = uuid_of(2);
  lost.index = 1;
  lost.health = GpuHealth::lost;
  lost.health_text = "it fell off the bus";
  lost.unhealthy_since_ns = state.started_ns;
  state.gpus = {full_gpu(), lost};
  state.tenants = {full_tenant("ml.trainer-aaaa", "ml.trainer"), full_tenant("odd-bbbb", kHostile)};
  state.tenants[1].gpus[0].quota = {};
  ProcessState process;
  process.host_pid = 4711;
  process.own_pid = 7;
  process.owner = 1000;
  process.user = "ann";
  process.program = "python3";
  process.command_line = kHostile;
  process.tenant = "ml.trainer-aaaa";
  process.limiter = LimiterPresence::present;
  process.gpus = {{uuid_of(1), 5ULL << 30, 5ULL << 30, 22.75}};
  ProcessState stranger;
  stranger.host_pid = 4712;
  stranger.program = "miner\xff";  // no UTF-8
  stranger.limiter = LimiterPresence::absent;
  stranger.gpus = {{uuid_of(1), std::nullopt, 1ULL << 30, std::nullopt}};
  state.processes = {process, stranger};
  state.unlimited_processes = 1;
  state.last_event = 3;
  state.notes = {"a note"};
  return state;
}

// Holds one moment and three events; does what is asked of the tenants that the moment has.
class HandMadeControl final : public Control {
 public:
  explicit HandMadeControl(NodeState state = full_state())
      : state_(std::make_shared<const NodeState>(std::move(state))) {
    for (const char* text : {"started", "began", kHostile}) say(EventKind::tenant_began, text);
  }
  void say(EventKind kind, const std::string& text) {
    const std::lock_guard lock(mutex_);
    events_.push_back(
        {events_.size() + 1, 1'764'000'000'000'000'000, kind, "ml.trainer-aaaa", text});
    came_.notify_all();
  }
  void set(NodeState state) {
    const std::lock_guard lock(mutex_);
    state_ = std::make_shared<const NodeState>(std::move(state));
  }

  // As with the daemon a moment is gone when nobody holds it any more: it is empty then, which
  // shows in what is answered from one that wasn't held.
  StatePointer state() const override {
    const std::lock_guard lock(mutex_);
    return {new NodeState(*state_), [this](NodeState* gone) {
              *gone = NodeState();
              const std::lock_guard again(gone_mutex_);
              gone_.emplace_back(gone);
            }};
  }
  StatePointer state_after(std::uint64_t, std::chrono::milliseconds) const override {
    return state();
  }
  EventBatch events_after(std::uint64_t sequence, std::size_t most,
                          std::chrono::milliseconds wait) const override {
    std::unique_lock lock(mutex_);
    came_.wait_for(lock, wait, [&] { return events_.size() > sequence; });
    EventBatch batch;
    batch.next = sequence;
    for (std::uint64_t at = sequence; at < events_.size() && batch.events.size() < most; ++at) {
      batch.events.push_back(events_[at]);
      batch.next = at + 1;
    }
    return batch;
  }
  std::vector<HistoryPoint> history(const GpuUuid&, std::string_view, Resolution) const override {
    HistoryPoint known, unknown;
    known = {1'764'000'000'000'000'000, 22.5F, 23.F, 12.F, 90.F, 5ULL << 30};
    unknown.time_ns = 1'764'000'001'000'000'000;
    return {known, unknown};
  }
  std::vector<survey::Explanation> explain(std::string_view tenant_id) const override {
    survey::Explanation why;
    why.gpu = uuid_of(1);
    why.seconds = 15;
    why.got_percent = 22.5;
    why.summary = "it got 23 % of the GPU";
    why.causes = {{survey::CauseKind::turn, 12, 12, std::string("behind ") + kHostile, ""},
                  {survey::CauseKind::idle, 1, std::nullopt, "it had nothing to do", "more work"}};
    if (state()->tenant(tenant_id) == nullptr) return {};
    return {why};
  }
  Outcome<CreatedTenant> create(const Asker& asker, const CreateRequest& request) override {
    note(asker);
    if (request.wait) wait_for_room(*request.wait);
    if (request.memory == "1TiB") {
      return Refusal{RefusalKind::no_room,
                     "VG1014",
                     "memory",
                     "there isn't so much",
                     "ask for less",
                     {{uuid_of(1), 0, 71ULL << 30, 70}},
                     true};
    }
    return CreatedTenant{request.name + "-cccc", request.name + "-cccc", request.name,
                         {{uuid_of(1), 0, {}}},  {"a notice"},           "a rule"};
  }
  Outcome<TakenTenant> taken(const Asker& asker, std::string_view tenant) override {
    note(asker);
    if (state()->tenant(tenant) == nullptr) return unknown(tenant);
    return TakenTenant{std::string(tenant)};
  }
  Outcome<JoinedTenant> join(const Asker& asker, const JoinRequest& request) override {
    note(asker);
    if (!request.tenant.empty()) return unknown(request.tenant);
    return JoinedTenant{"rule-x@7", "rule-x", "rule-x", "x", "/", "/"};
  }
  Outcome<ChangedTenant> change(const Asker& asker, std::string_view tenant,
                                const ChangeRequest&) override {
    note(asker);
    if (state()->tenant(tenant) == nullptr) return unknown(tenant);
    Quota after;
    after.compute_share_percent = 40;
    return ChangedTenant{std::string(tenant), "ml.trainer", {{uuid_of(1), 0, {}, after}}};
  }
  Outcome<EndedTenant> end(const Asker& asker, std::string_view tenant,
                           const EndRequest& request) override {
    note(asker);
    if (state()->tenant(tenant) == nullptr) return unknown(tenant);
    return EndedTenant{std::string(tenant), request.with_processes ? 1U : 0U};
  }
  Outcome<RenamedTenant> rename(const Asker& asker, std::string_view tenant,
                                const std::string& name) override {
    note(asker);
    if (state()->tenant(tenant) == nullptr) return unknown(tenant);
    return RenamedTenant{std::string(tenant), "ml.trainer", name};
  }
  Outcome<FoundProcess> found_in_pod(const PodProcessRequest& request) override {
    if (request.uid != "its-uid" || request.own_pid != 9)
      return Refusal{RefusalKind::not_found, "", "", "no file is kept for the pod", "", {}};
    return FoundProcess{4799};
  }
  // Those that wait for room, which never comes.
  std::size_t waiting() const {
    const std::lock_guard lock(mutex_);
    return waiting_;
  }
  std::vector<Asker> askers() const {
    const std::lock_guard lock(mutex_);
    return askers_;
  }

 private:
  static Refusal unknown(std::string_view tenant) {
    return {
        RefusalKind::not_found, "VG1003", "", "no tenant is called " + std::string(tenant), "", {}};
  }
  void wait_for_room(const Patience& patience) {
    std::unique_lock lock(mutex_);
    ++waiting_;
    while (patience.is_there() && !patience.is_ending())
      came_.wait_for(lock, std::chrono::milliseconds(10));
    --waiting_;
  }
  void note(const Asker& asker) {
    const std::lock_guard lock(mutex_);
    askers_.push_back(asker);
  }
  mutable std::mutex gone_mutex_;
  mutable std::vector<std::unique_ptr<NodeState>> gone_;
  mutable std::mutex mutex_;
  mutable std::condition_variable came_;
  StatePointer state_;
  std::vector<Event> events_;
  std::vector<Asker> askers_;
  std::size_t waiting_ = 0;
};

}  // namespace vgpu::hypervisor::http_test

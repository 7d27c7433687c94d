// SPDX-License-Identifier: Apache-2.0
// The segments as a data source; see sources.h.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <deque>

#include "histories.h"
#include "vgpu/platform/clock.h"
#include "vgpu/survey/change.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/process_tree.h"
#include "vgpu/survey/shares.h"
#include "vgpu/survey/snapshot.h"
#include "vgpu/survey/tenants.h"
#include "vgpu/tui/sources.h"

namespace vgpu::tui {

using platform::realtime_ns, survey::GpuFigures, survey::Limiter, survey::ListedTenant,
    survey::PidTranslator, survey::Problem, survey::Snapshot;

namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;

std::string owner_of(std::int32_t pid) {
  struct stat facts {};
  if (pid == 0 || stat(fmt::format("/proc/{}", pid).c_str(), &facts) != 0) return "";
  return survey::user_name(facts.st_uid);
}

// Of one process of a tenant on the tenant's GPUs.
std::vector<ProcessOnGpu> places_of(const Snapshot& snapshot, const ListedTenant& tenant,
                                    const shm::ProcessView& process) {
  std::vector<ProcessOnGpu> places;
  for (std::size_t i = 0; i < tenant.spec.gpus.size(); ++i) {
    const shm::TenantGpu& gpu = tenant.spec.gpus[i];
    if (!gpu.in_set) continue;
    std::vector<const shm::SeatFacts*> own;
    for (const auto* seat : survey::seats_of(snapshot, tenant.spec.id.view(), gpu.uuid)) {
      if (seat->pid == process.pid && seat->pid_namespace == process.pid_namespace)
        own.push_back(seat);
    }
    if (own.empty() && process.charged_bytes[i] == 0) continue;
    ProcessOnGpu on{gpu.uuid, gpu.nvml_index, process.charged_bytes[i], std::nullopt};
    if (!own.empty()) on.got_1s = survey::use_of(own).got_1s;
    places.push_back(on);
  }
  return places;
}

void add_members(const Snapshot& snapshot, const std::string& user, Model& model) {
  PidTranslator translator;
  for (const auto& tenant : snapshot.tenants) {
    for (const auto& view : tenant.processes) {
      Process process;
      process.own_pid = view.pid;
      process.pid = translator.outer_pid(view.pid_namespace, view.pid);
      process.user = user;
      process.program = view.program.view();
      if (process.pid != 0) process.command_line = survey::command_line(process.pid);
      process.tenant_id = tenant.spec.id.view();
      process.tenant = tenant.spec.name.view();
      process.limiter = Limiter::present;
      process.gpus = places_of(snapshot, tenant, view);
      if (!process.gpus.empty()) model.processes.push_back(std::move(process));
    }
  }
}

void add_outsiders(const Snapshot& snapshot, Model& model) {
  const std::size_t first = model.processes.size();
  for (const auto& gpu : snapshot.driver.gpus) {
    const auto found = snapshot.outsiders.find(gpu.uuid);
    if (found == snapshot.outsiders.end()) continue;
    for (const auto& outsider : found->second) {
      const auto pid = static_cast<std::int32_t>(outsider.pid);
      auto known = std::find_if(model.processes.begin() + static_cast<std::ptrdiff_t>(first),
                                model.processes.end(),
                                [&](const Process& one) { return pid != 0 && one.pid == pid; });
      if (known == model.processes.end()) {
        Process process;
        process.pid = pid;
        process.user = owner_of(pid);
        process.program = outsider.program;
        if (pid != 0) process.command_line = survey::command_line(pid);
        process.limiter = outsider.limiter;
        model.processes.push_back(std::move(process));
        known = model.processes.end() - 1;
      }
      known->gpus.push_back({gpu.uuid, gpu.nvml_index, outsider.used_bytes, std::nullopt});
    }
  }
}

TenantFacts facts_of(const ListedTenant& tenant, const std::string& user) {
  TenantFacts facts;
  facts.name = tenant.spec.name.view();
  facts.owner = user;
  for (std::size_t i = 0; i < tenant.spec.gpus.size(); ++i) {
    if (!tenant.spec.gpus[i].in_set) continue;
    facts.gpus.push_back(tenant.spec.gpus[i].uuid);
    facts.refused[tenant.spec.gpus[i].uuid] = tenant.denied[i];
  }
  return facts;
}

// The rules' names, as the daemon has them in its answers.
std::string rule_of(std::string_view code) {
  if (code == "VG1014") return "share_room";
  if (code == "VG1017") return "memory_in_use";
  if (code == "VG1007") return "owner";
  if (code == "VG1022") return "tenant";
  return code == "VG1004" || code == "VG1010" ? "quota" : "";
}

class SegmentsSource final : public DataSource {
 public:
  explicit SegmentsSource(bool simulated)
      : simulated_(simulated),
        kept_(survey::find_installation(), simulated),
        user_(survey::user_name(geteuid())) {}

  Model look(const Wanted& wanted) override {
    Snapshot snapshot = survey::take_snapshot(simulated_);
    Model model = model_of(snapshot);
    remember(snapshot.now_ns, model);
    model.samples = samples_of(model);
    if (wanted.plots) {
      for (const auto& gpu : model.gpus)
        model.plots[gpu.gpu.uuid] = histories_.plot({gpu.gpu.uuid, ""});
    }
    if (wanted.detail) model.detail = detail_of(*wanted.detail, snapshot);
    tell(model);
    keep(std::move(snapshot));
    return model;
  }

  ChangeResult change(const Change& change) override {
    const shm::StateDir dir = survey::state_directory(false);
    try {
      survey::refuse_from_inside();
      survey::TenantChange made(
          change.flags, change.row.gpu.text().data(), {.oversubscribe = change.oversubscribe},
          survey::state_directory(true, survey::kExitFailed), change.row.tenant);
      made.apply();
      const auto& first = made.changes().front();
      ChangeResult result;
      result.done = true;
      result.text = survey::change_text(first.before, first.after);
      return result;
    } catch (const Problem& problem) {
      ChangeResult result;
      result.text = problem.what;
      result.code = problem.code;
      result.rule = rule_of(problem.code);
      result.next = problem.next;
      if (result.rule == "share_room") result.room = room_on(dir, change.row);
      return result;
    }
  }

 private:
  Model model_of(const Snapshot& snapshot) const {
    Model model;
    model.source = "no daemon";
    model.time_ns = realtime_ns();
    model.gpus = survey::figures_of(snapshot);
    model.notes = snapshot.notes;
    if (!snapshot.driver.available) model.no_driver = snapshot.driver.why;
    for (const auto& tenant : snapshot.tenants)
      model.tenants[std::string(tenant.spec.id.view())] = facts_of(tenant, user_);
    add_members(snapshot, user_, model);
    add_outsiders(snapshot, model);
    return model;
  }

  void remember(std::uint64_t now_ns, const Model& model) {
    const std::uint64_t last_second = now_ns / kSecondNs - 1;
    for (const auto& gpu : model.gpus) {
      std::vector<double> sum(survey::kRemembered);
      for (const auto& tenant : gpu.tenants) {
        histories_.add({gpu.gpu.uuid, tenant.id}, last_second, tenant.use.history);
        for (std::size_t i = 0; i < sum.size() && i < tenant.use.history.size(); ++i)
          sum[i] += tenant.use.history[i];
      }
      histories_.add({gpu.gpu.uuid, ""}, last_second, sum);
    }
    histories_.drop_older_than(last_second - std::min(last_second, std::uint64_t{60}));
  }

  static std::map<GpuUuid, GpuSample> samples_of(const Model& model) {
    std::map<GpuUuid, GpuSample> samples;
    for (const auto& gpu : model.gpus) {
      unsigned promised = 0;
      for (const auto& tenant : gpu.tenants) promised += tenant.quota.compute_share_percent;
      samples[gpu.gpu.uuid].promised_percent = promised;
    }
    return samples;
  }

  Detail detail_of(const RowKey& row, const Snapshot& snapshot) const {
    Detail detail;
    detail.row = row;
    detail.plot = histories_.plot({row.gpu, row.tenant});
    const Snapshot& before = earlier_ ? *earlier_ : candidate_ ? *candidate_ : snapshot;
    for (auto& explanation : survey::explain(before, snapshot, row.tenant)) {
      if (explanation.gpu == row.gpu) detail.why = std::move(explanation);
    }
    if (!detail.why) detail.why_not = "it has done nothing on this GPU";
    return detail;
  }

  void tell(Model& model) {
    if (last_) {
      for (auto& event : differences(*last_, model, sequence_)) events_.push_back(std::move(event));
    }
    while (events_.size() > kMostEvents) events_.pop_front();
    last_ = model;
    model.events.assign(events_.begin(), events_.end());
  }

  // What held a tenant back shows between two looks that are a second apart.
  void keep(Snapshot snapshot) {
    if (candidate_ && snapshot.now_ns < candidate_->now_ns + kSecondNs) return;
    earlier_ = std::move(candidate_);
    candidate_ = std::move(snapshot);
  }

  std::vector<Room> room_on(const shm::StateDir& dir, const RowKey& row) const {
    std::vector<Room> room;
    if (!last_) return room;
    const auto live = survey::live_specs(dir);
    for (const auto& gpu : last_->gpus) {
      const unsigned taken = survey::promised(live, gpu.gpu.uuid, row.tenant).sum_percent();
      room.push_back({gpu.gpu.nvml_index, std::nullopt, taken >= 100 ? 0 : 100 - taken});
    }
    return room;
  }

  const bool simulated_;
  const survey::DriverKept kept_;
  const std::string user_;
  Histories histories_;
  std::optional<Snapshot> earlier_, candidate_;
  std::optional<Model> last_;
  std::deque<Event> events_;
  std::uint64_t sequence_ = 0;
};

}  // namespace

std::unique_ptr<DataSource> segments_source(bool simulated) {
  return std::make_unique<SegmentsSource>(simulated);
}

}  // namespace vgpu::tui

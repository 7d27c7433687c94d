// SPDX-License-Identifier: Apache-2.0
// The daemon's API as a data source; see sources.h. What it answers is read without trust: what is
// missing or of another type isn't known.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <deque>
#include <limits>
#include <map>

#include "histories.h"
#include "vgpu/survey/change.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/quotas.h"
#include "vgpu/tui/sources.h"

namespace vgpu::tui {

using client::Json, client::percent_encoded, survey::GpuFigures, survey::kRemembered,
    survey::Limiter, survey::TenantFigures;

namespace {

const Json& at(const Json& object, const char* name) {
  static const Json nothing;
  const auto found = object.is_object() ? object.find(name) : object.end();
  return object.is_object() && found != object.end() ? *found : nothing;
}

std::string text(const Json& object, const char* name) {
  const Json& value = at(object, name);
  return value.is_string() ? value.get<std::string>() : "";
}

bool flag(const Json& object, const char* name) {
  const Json& value = at(object, name);
  return value.is_boolean() && value.get<bool>();
}

template <class Number = std::uint64_t>
std::optional<Number> count(const Json& object, const char* name) {
  const Json& value = at(object, name);
  if (!value.is_number_unsigned()) return std::nullopt;
  const auto wide = value.get<std::uint64_t>();
  if (wide > std::numeric_limits<Number>::max()) return std::nullopt;
  return static_cast<Number>(wide);
}

std::optional<double> figure(const Json& value) {
  return value.is_number() ? std::optional(value.get<double>()) : std::nullopt;
}
std::optional<double> figure(const Json& object, const char* name) {
  return figure(at(object, name));
}

std::vector<std::string> texts(const Json& object, const char* name) {
  std::vector<std::string> all;
  for (const Json& one : at(object, name)) {
    if (one.is_string()) all.push_back(one.get<std::string>());
  }
  return all;
}

GpuUuid uuid(const Json& object, const char* name) {
  return GpuUuid::parse(text(object, name)).value_or(GpuUuid{});
}

// "2026-11-26T03:00:27.123Z"
std::optional<std::uint64_t> time_of(const std::string& text) {
  std::tm utc{};
  unsigned ms = 0;
  if (std::sscanf(text.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d.%3uZ", &utc.tm_year, &utc.tm_mon,
                  &utc.tm_mday, &utc.tm_hour, &utc.tm_min, &utc.tm_sec, &ms) != 7)
    return std::nullopt;
  utc.tm_year -= 1900;
  utc.tm_mon -= 1;
  const std::time_t seconds = timegm(&utc);
  if (seconds < 0) return std::nullopt;
  return static_cast<std::uint64_t>(seconds) * 1'000'000'000 + std::uint64_t{ms} * 1'000'000;
}

Source source_of(const std::string& name) {
  for (const Source source : {Source::daemon, Source::run, Source::vgpu, Source::tensor_fusion,
                              Source::hami, Source::vgpu_manager}) {
    if (survey::source_name(source) == name) return source;
  }
  return Source::none;
}

Quota quota_of(const Json& json) {
  Quota quota;
  quota.memory_limit_bytes = count(json, "memory_limit_bytes").value_or(kNoLimit);
  quota.compute_share_percent = count<std::uint8_t>(json, "share_percent").value_or(0);
  quota.compute_limit_percent = count<std::uint8_t>(json, "limit_percent").value_or(0);
  quota.policy = text(json, "policy") == "fixed" ? Policy::fixed : Policy::elastic;
  const std::string priority = text(json, "priority");
  quota.priority = priority == "high"  ? Priority::high
                   : priority == "low" ? Priority::low
                                       : Priority::normal;
  quota.memory_source = source_of(text(json, "memory_source"));
  quota.compute_source = source_of(text(json, "compute_source"));
  return quota;
}

Limiter limiter_of(const std::string& word) {
  if (word == "absent") return Limiter::absent;
  if (word == "predecessor") return Limiter::predecessor;
  return word == "present" ? Limiter::present : Limiter::unknown;
}

// What every tenant got by seconds, the last one first; null: not known, which a line can't show.
using Recent = std::map<std::pair<GpuUuid, std::string>, std::vector<double>>;
Recent recent_of(const Json& json) {
  Recent all;
  for (const Json& one : at(json, "series")) {
    auto& values = all[{uuid(one, "gpu"), text(one, "tenant")}];
    for (const Json& value : at(one, "got_percent")) values.push_back(figure(value).value_or(0));
    values.resize(kRemembered);
  }
  return all;
}

GpuFigures gpu_of(const Json& json) {
  GpuFigures figures;
  figures.gpu.uuid = uuid(json, "uuid");
  figures.gpu.nvml_index = count<std::uint32_t>(json, "index").value_or(0);
  figures.gpu.name = text(json, "name");
  figures.gpu.pci_bus_id = text(json, "pci_bus_id");
  figures.gpu.total_bytes = count(json, "total_bytes");
  figures.gpu.used_bytes = count(at(json, "sample"), "used_bytes");
  figures.gpu.busy_percent = count<unsigned>(at(json, "sample"), "busy_percent");
  figures.gpu.mig_enabled = flag(json, "mig_enabled");
  figures.gpu.mig_devices = at(json, "mig_devices").is_array() ? at(json, "mig_devices").size() : 0;
  figures.got_1s = figure(json, "got_percent_1s").value_or(0);
  figures.notes = texts(json, "share_notes");
  if (const std::string closed = text(json, "closed"); !closed.empty())
    figures.notes.push_back("nothing new is admitted while " + closed);
  return figures;
}

GpuSample sample_of(const Json& json) {
  const Json& from = at(json, "sample");
  GpuSample sample;
  sample.memory_busy_percent = count<unsigned>(from, "memory_busy_percent");
  sample.temperature_celsius = count<unsigned>(from, "temperature_celsius");
  sample.power_milliwatts = count(from, "power_milliwatts");
  sample.power_limit_milliwatts = count(from, "power_limit_milliwatts");
  sample.sm_clock_mhz = count<unsigned>(from, "sm_clock_mhz");
  sample.memory_clock_mhz = count<unsigned>(from, "memory_clock_mhz");
  sample.throttled_by = texts(from, "throttle_reasons");
  if (const std::string health = text(json, "health"); health != "ok") {
    const std::string why = text(json, "health_text");
    sample.trouble = fmt::format("{}{}{}", health, why.empty() ? "" : ": ", why);
  }
  sample.promised_percent = count<unsigned>(json, "promised_percent");
  return sample;
}

TenantFigures tenant_of(const Json& tenant, const Json& on, const Recent& recent) {
  TenantFigures figures;
  figures.id = text(tenant, "id");
  figures.name = text(tenant, "name");
  figures.quota = quota_of(at(on, "quota"));
  figures.owed = figure(on, "owed_percent");
  figures.used_bytes = count(on, "charged_bytes").value_or(0);
  figures.use.got_1s = figure(on, "got_percent_1s").value_or(0);
  figures.use.got_10s = figure(on, "got_percent_10s").value_or(0);
  figures.use.turn_1s = figure(on, "waited_turn_percent_1s").value_or(0);
  figures.use.limit_1s = figure(on, "waited_limit_percent_1s").value_or(0);
  figures.use.in_flight_1s = figure(on, "waited_in_flight_percent_1s").value_or(0);
  figures.use.debt_ns = count(on, "debt_ns").value_or(0);
  const auto known = recent.find({uuid(on, "uuid"), figures.id});
  if (known != recent.end()) figures.use.history = known->second;
  figures.use.history.resize(kRemembered);
  return figures;
}

class Reader {
 public:
  Reader(const Json& state, const Recent& recent) : state_(state), recent_(recent) {}

  Model model() {
    const Json& node = at(state_, "node");
    model_.source = "daemon of " + text(node, "name");
    model_.time_ns = time_of(text(node, "time")).value_or(0);
    model_.notes = texts(node, "notes");
    if (!flag(at(node, "driver"), "available")) model_.no_driver = text(at(node, "driver"), "why");
    for (const Json& gpu : at(state_, "gpus")) {
      model_.gpus.push_back(gpu_of(gpu));
      model_.samples[model_.gpus.back().gpu.uuid] = sample_of(gpu);
    }
    for (const Json& tenant : at(state_, "tenants")) add_tenant(tenant);
    for (const Json& process : at(state_, "processes")) add_process(process);
    return std::move(model_);
  }

 private:
  GpuFigures* gpu(const GpuUuid& uuid) {
    const auto found = std::find_if(model_.gpus.begin(), model_.gpus.end(),
                                    [&](const GpuFigures& one) { return one.gpu.uuid == uuid; });
    return found == model_.gpus.end() ? nullptr : &*found;
  }

  void add_tenant(const Json& tenant) {
    const std::string id = text(tenant, "id");
    TenantFacts& facts = model_.tenants[id];
    facts.name = text(tenant, "name");
    facts.made_ns = time_of(text(tenant, "made"));
    for (const Json& on : at(tenant, "gpus")) {
      const GpuUuid where = uuid(on, "uuid");
      facts.gpus.push_back(where);
      facts.refused[where] = count(at(on, "counters"), "denied_allocations").value_or(0);
      if (gpu(where) == nullptr) add_unknown_gpu(on, where);
      gpu(where)->tenants.push_back(tenant_of(tenant, on, recent_));
    }
  }

  // One that only the tenant knows.
  void add_unknown_gpu(const Json& on, const GpuUuid& where) {
    GpuFigures figures;
    figures.gpu.uuid = where;
    figures.gpu.nvml_index = count<std::uint32_t>(on, "index").value_or(0);
    figures.gpu.total_bytes = count(on, "total_bytes");
    model_.gpus.push_back(std::move(figures));
  }

  void add_process(const Json& json) {
    Process process;
    process.pid = count<std::int32_t>(json, "host_pid").value_or(0);
    process.own_pid = count<std::int32_t>(json, "own_pid").value_or(0);
    process.user = text(json, "user");
    process.program = text(json, "program");
    process.command_line = text(json, "command_line");
    process.tenant_id = text(json, "tenant");
    process.limiter = limiter_of(text(json, "limiter"));
    process.exempt = flag(json, "exempt");
    if (at(json, "unlimited").is_boolean()) process.unlimited = flag(json, "unlimited");
    if (const auto facts = model_.tenants.find(process.tenant_id); facts != model_.tenants.end()) {
      process.tenant = facts->second.name;
      if (facts->second.owner.empty()) facts->second.owner = process.user;
    }
    for (const Json& on : at(json, "gpus")) add_place(process, on);
    model_.processes.push_back(std::move(process));
  }

  void add_place(Process& process, const Json& on) {
    const GpuUuid where = uuid(on, "uuid");
    GpuFigures* figures = gpu(where);
    const auto charged = count(on, "charged_bytes"), driver = count(on, "driver_bytes");
    process.gpus.push_back({where, figures == nullptr ? 0 : figures->gpu.nvml_index,
                            charged ? charged : driver, figure(on, "got_percent_1s")});
    if (figures == nullptr) return;
    if (process.tenant_id.empty()) {
      figures->outsiders.push_back({static_cast<std::uint32_t>(std::max(process.pid, 0)),
                                    process.program, driver, process.limiter, process.exempt,
                                    process.unlimited});
      return;
    }
    for (auto& tenant : figures->tenants) {
      if (tenant.id != process.tenant_id) continue;
      const std::int32_t pid = process.own_pid != 0 ? process.own_pid : process.pid;
      tenant.processes.push_back(
          {pid, process.program, charged.value_or(0), std::nullopt, figure(on, "got_percent_1s")});
    }
  }

  const Json& state_;
  const Recent& recent_;
  Model model_;
};

// Points in order of time; seconds without one aren't known.
Plot plot_of(const Json& points) {
  Plot plot;
  std::optional<std::uint64_t> later;
  for (auto point = points.rbegin(); point != points.rend(); ++point) {
    const auto time_ns = time_of(text(*point, "time"));
    if (!time_ns) continue;
    const std::uint64_t second = *time_ns / 1'000'000'000;
    while (later && second + 1 < *later && plot.got.size() < Histories::kSeconds) {
      plot.got.emplace_back();
      --*later;
    }
    if (later && second >= *later) continue;
    plot.got.push_back(figure(*point, "got_percent"));
    later = second;
  }
  return plot;
}

survey::Explanation explanation_of(const Json& json) {
  survey::Explanation why;
  why.gpu_index = count<std::uint32_t>(json, "index").value_or(0);
  why.gpu = uuid(json, "uuid");
  why.seconds = count<unsigned>(json, "seconds").value_or(0);
  why.got_percent = figure(json, "got_percent").value_or(0);
  why.summary = text(json, "summary");
  for (const Json& cause : at(json, "causes")) {
    survey::Cause one;
    one.percent = figure(cause, "percent");
    one.text = text(cause, "text");
    one.next = text(cause, "do");
    why.causes.push_back(std::move(one));
  }
  return why;
}

class DaemonSource final : public DataSource {
 public:
  explicit DaemonSource(client::Daemon daemon) : daemon_(std::move(daemon)) {}

  Model look(const Wanted& wanted) override {
    const Json recent = daemon_.get(fmt::format("/api/v2/histories?seconds={}", kRemembered));
    const Json state = daemon_.get("/api/v2/state");
    Model model = Reader(state, recent_of(recent)).model();
    read_events(count(at(state, "node"), "last_event").value_or(0));
    model.events.assign(events_.begin(), events_.end());
    if (wanted.plots) {
      for (const auto& gpu : model.gpus) {
        model.plots[gpu.gpu.uuid] =
            plot_of(daemon_.get("/api/v2/gpus/" + gpu.gpu.uuid_text() + "/history"));
      }
    }
    if (wanted.detail && model.row(*wanted.detail) != nullptr)
      model.detail = detail_of(*wanted.detail);
    return model;
  }

  ChangeResult change(const Change& change) override {
    ChangeResult result;
    try {
      survey::refuse_from_inside();
      const Json changed = daemon_.change(change.row.tenant, change.flags,
                                          change.row.gpu.text().data(), change.oversubscribe);
      const Json& gpus = at(changed, "gpus");
      const Json first = gpus.is_array() && !gpus.empty() ? gpus.front() : Json();
      result.done = true;
      result.text =
          survey::change_text(quota_of(at(first, "before")), quota_of(at(first, "after")));
      wait_until_seen();
    } catch (const survey::Problem& problem) {
      result.text = problem.what;
      result.code = problem.code;
      result.next = problem.next;
    } catch (const client::Refused& refused) {
      result.text = refused.what();
      result.code = refused.code;
      result.rule = refused.rule;
      result.next = refused.next;
      for (const auto& room : refused.room)
        result.room.push_back({room.gpu_index, room.memory_bytes, room.share_percent});
    } catch (const client::Unreachable& trouble) {
      result.text = fmt::format("{}; whether it was changed isn't known", trouble.what());
    }
    return result;
  }

 private:
  // Until what is asked next was looked at after now: the second moment from here, which the daemon
  // makes at once after a change.
  void wait_until_seen() {
    constexpr int kTries = 25;
    constexpr useconds_t kBetweenUs = 20'000;
    const auto sequence = [this] {
      return count(daemon_.get("/api/v2/node"), "sequence").value_or(0);
    };
    try {
      const std::uint64_t from = sequence();
      for (int i = 0; i < kTries && sequence() < from + 2; ++i) usleep(kBetweenUs);
    } catch (const std::runtime_error&) {
      // It was changed all the same; the next look says what is amiss.
    }
  }

  // A daemon that was started anew counts its events from the start. Of those before this
  // interface's start the last are enough.
  void read_events(std::uint64_t last_event) {
    constexpr int kAtOnce = 500, kBatches = 20;
    if (run_.empty() && last_event > kMostEvents) next_event_ = last_event - kMostEvents;
    for (int i = 0; i < kBatches; ++i) {
      const Json batch =
          daemon_.get(fmt::format("/api/v2/events?after={}&limit={}", next_event_, kAtOnce));
      if (const std::string run = text(batch, "run"); run != run_) {
        const bool again = !run_.empty();
        run_ = run;
        if (again) {
          next_event_ = 0;
          continue;
        }
      }
      const Json& list = at(batch, "events");
      for (const Json& event : list) add_event(event);
      next_event_ = count(batch, "next").value_or(next_event_);
      if (!list.is_array() || list.size() < kAtOnce) return;
    }
  }

  void add_event(const Json& json) {
    // Sequences of an earlier run of the daemon would come again.
    events_.push_back({++sequence_, time_of(text(json, "time")).value_or(0), text(json, "kind"),
                       text(json, "subject"), text(json, "text")});
    if (events_.size() > kMostEvents) events_.pop_front();
  }

  Detail detail_of(const RowKey& row) {
    Detail detail;
    detail.row = row;
    const std::string tenant = "/api/v2/tenants/" + percent_encoded(row.tenant);
    try {
      detail.plot =
          plot_of(daemon_.get(fmt::format("{}/history?gpu={}", tenant, row.gpu.text().data())));
      for (const Json& one : daemon_.get(tenant + "/why")) {
        if (uuid(one, "uuid") == row.gpu) detail.why = explanation_of(one);
      }
      if (!detail.why) detail.why_not = "it has done nothing on this GPU";
    } catch (const client::Refused& refused) {  // it ended between two questions
      detail.why_not = refused.what();
    }
    return detail;
  }

  client::Daemon daemon_;
  std::string run_;
  std::uint64_t next_event_ = 0;
  std::deque<Event> events_;
  std::uint64_t sequence_ = 0;
};

}  // namespace

std::unique_ptr<DataSource> daemon_source(client::Daemon daemon) {
  return std::make_unique<DaemonSource>(std::move(daemon));
}

}  // namespace vgpu::tui

// SPDX-License-Identifier: Apache-2.0
// The views that are lists: GPUs, processes, events, help; see pages.h.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "pages.h"
#include "vgpu/survey/text.h"
#include "vgpu/tui/plot.h"

namespace vgpu::tui {

using survey::GpuFigures, survey::Limiter, survey::size_text;

namespace {

constexpr std::size_t kPlotRows = 4;

std::string sensors_text(const GpuSample& sample) {
  std::vector<std::string> parts;
  if (sample.temperature_celsius) parts.push_back(fmt::format("{} C", *sample.temperature_celsius));
  if (sample.power_milliwatts) {
    std::string power = fmt::format("{} W", *sample.power_milliwatts / 1000);
    if (sample.power_limit_milliwatts)
      power += fmt::format(" of {} W", *sample.power_limit_milliwatts / 1000);
    parts.push_back(power);
  }
  if (sample.sm_clock_mhz) parts.push_back(fmt::format("SM {} MHz", *sample.sm_clock_mhz));
  if (sample.memory_clock_mhz)
    parts.push_back(fmt::format("memory {} MHz", *sample.memory_clock_mhz));
  if (sample.memory_busy_percent)
    parts.push_back(fmt::format("memory busy {} %", *sample.memory_busy_percent));
  return fmt::format("{}", fmt::join(parts, "  "));
}

std::string tenants_text(const GpuFigures& gpu, const GpuSample* sample) {
  std::string text =
      fmt::format("{} tenant{}", gpu.tenants.size(), gpu.tenants.size() == 1 ? "" : "s");
  if (sample != nullptr && sample->promised_percent)
    text += fmt::format(", shares of {} %", *sample->promised_percent);
  if (gpu.gpu.busy_percent) text += fmt::format(", busy {} % by NVML", *gpu.gpu.busy_percent);
  return text;
}

std::string limiter_text(const Process& process) {
  if (!process.tenant_id.empty()) return shown(process.tenant);
  if (process.is_unlimited()) return "UNLIMITED";
  if (process.exempt) return "(exempt)";
  switch (process.limiter) {
    case Limiter::predecessor:
    case Limiter::present:
      return "(another's)";
    case Limiter::absent:
    case Limiter::unknown:
    case Limiter::arbitrated:
      return "(unknown)";
  }
  return "-";
}

bool passes(const Process& process, const std::string& filter) {
  return filter.empty() || contains_folded(process.tenant, filter) ||
         contains_folded(process.program, filter) ||
         contains_folded(process.command_line, filter) || contains_folded(process.user, filter);
}

constexpr std::size_t kPid = 8, kUser = 10, kTenant = 16, kGpu = 4, kGot = 5, kMemory = 8;

// One line for each GPU that it is on; its name on the first.
void add_process(const Process& process, Page& page) {
  const std::string key = key_of(process);
  const Ink ink = process.is_unlimited() ? Ink::bad : Ink::plain;
  const std::string pid = process.pid != 0       ? std::to_string(process.pid)
                          : process.own_pid != 0 ? fmt::format("({})", process.own_pid)
                                                 : "-";
  const std::string what = command_text(process);
  bool first = true;
  for (const ProcessOnGpu& on : process.gpus) {
    Line line;
    line.spans.push_back({on_the_right(first ? pid : "", kPid) + " " +
                              on_the_left(first ? shown(process.user) : "", kUser - 1) + " ",
                          Ink::plain});
    line.spans.push_back({on_the_left(first ? limiter_text(process) : "", kTenant), ink});
    line.spans.push_back({on_the_right(std::to_string(on.index), kGpu) +
                              on_the_right(percent_or_dash(on.got_1s), kGot) +
                              on_the_right(short_size(on.used_bytes), kMemory) + "  ",
                          Ink::plain});
    line.spans.push_back({first ? what : "", Ink::plain});
    page.add(std::move(line), first ? key : "");
    first = false;
  }
}

Ink ink_of(const Event& event) {
  const auto is = [&](std::initializer_list<std::string_view> kinds) {
    return std::find(kinds.begin(), kinds.end(), event.kind) != kinds.end();
  };
  if (is({"unlimited_found", "over_memory", "guard_acted", "gpu_lost", "gpu_unreadable",
          "xid_error", "driver_lost"}))
    return Ink::bad;
  if (is({"memory_refused", "throttled", "hosting_lost"})) return Ink::warning;
  if (is({"quota_changed", "tenant_began", "tenant_ended", "tenant_renamed"})) return Ink::good;
  return Ink::plain;
}

std::string plain_words(std::string kind) {
  std::replace(kind.begin(), kind.end(), '_', ' ');
  return kind;
}

}  // namespace

std::vector<std::string> Page::keys() const {
  std::vector<std::string> all;
  for (const auto& line : body) {
    if (!line.key.empty()) all.push_back(line.key);
  }
  return all;
}

std::string key_of(const Process& process) {
  return fmt::format("{} {} {}", process.pid, process.own_pid, process.tenant_id);
}

Page gpus_page(const Model& model, std::size_t columns, Glyphs glyphs) {
  Page page;
  page.heads.push_back(line_of(fmt::format("GPUS: got by their tenants together, last {} s",
                                           columns > 5 ? seconds_in(columns - 5, glyphs) : 0),
                               Ink::title));
  for (const auto& gpu : model.gpus) {
    const auto found = model.samples.find(gpu.gpu.uuid);
    const GpuSample* sample = found == model.samples.end() ? nullptr : &found->second;
    page.add(gpu_line(gpu, nullptr, columns));
    if (sample != nullptr && !sample->trouble.empty())
      page.add(line_of("  " + shown(sample->trouble), Ink::bad));
    page.add(line_of("  " + tenants_text(gpu, sample)));
    if (gpu.gpu.mig_enabled) page.add(mig_line(gpu));
    if (sample != nullptr) {
      if (const std::string sensors = sensors_text(*sample); !sensors.empty())
        page.add(line_of("  " + sensors));
      if (!sample->throttled_by.empty()) {
        page.add(line_of(fmt::format("  throttled: {}", fmt::join(sample->throttled_by, ", ")),
                         Ink::warning));
      }
    }
    page.add(line_of("  " + gpu.gpu.uuid_text(), Ink::dim));
    const auto plot = model.plots.find(gpu.gpu.uuid);
    if (plot != model.plots.end()) {
      for (auto& line : plot_with_axis(plot->second.got, columns, kPlotRows, glyphs))
        page.add(std::move(line));
    }
  }
  if (model.gpus.empty()) page.add(line_of("no GPU"));
  if (!model.no_driver.empty()) page.add(line_of(model.no_driver, Ink::dim));
  return page;
}

Page processes_page(const Model& model, const std::string& filter, std::size_t columns) {
  Page page;
  page.heads.push_back(line_of(
      on_the_left(on_the_right("PID", kPid) + " " + on_the_left("USER", kUser) +
                      on_the_left("TENANT", kTenant) + on_the_right("GPU", kGpu) +
                      on_the_right("1 S", kGot) + on_the_right("MEMORY", kMemory) + "  PROGRAM",
                  columns),
      Ink::title));
  for (const auto& process : model.processes) {
    if (passes(process, filter)) add_process(process, page);
  }
  if (page.body.empty())
    page.add(line_of(filter.empty() ? "no process is on a GPU" : "no process is called so"));
  return page;
}

Page events_page(const Model& model, const std::string& filter, std::size_t columns) {
  constexpr std::size_t kTime = 10, kKind = 17;
  Page page;
  page.heads.push_back(line_of(
      on_the_left(on_the_left("TIME", kTime) + on_the_left("EVENT", kKind) + "WHAT", columns),
      Ink::title));
  for (auto at = model.events.rbegin(); at != model.events.rend(); ++at) {
    const std::string kind = plain_words(at->kind);
    if (!filter.empty() && !contains_folded(at->text, filter) && !contains_folded(kind, filter) &&
        !contains_folded(at->subject, filter))
      continue;
    page.add({{{on_the_left(clock_text(at->time_ns), kTime), Ink::dim},
               {on_the_left(kind, kKind), ink_of(*at)},
               {shown(at->text), Ink::plain}},
              false},
             std::to_string(at->sequence));
  }
  if (page.body.empty()) page.add(line_of("nothing has happened yet"));
  return page;
}

Page help_page(const State& state) {
  static constexpr std::string_view kText[] = {
      "  1 tenants  2 GPUs  3 processes  4 events  Tab next  Esc back  q quit",
      "  Up Down PgUp PgDn Home End  move   Enter  a tenant's details, plot, reasons",
      "  space + -  open, close processes  *  all of them",
      "  c  change a quota, after a look at what it was and will be",
      "  < > Left Right F6  sort by   I  reverse   / F4  filter, Esc clears it",
      "  P M W D N  sort by got, memory, wait (TURN and CAP), debt, name   Z  pause",
      "",
      "  P      priority: H high, L low",
      "  SHARE  percent of the GPU that the tenant is owed when others want it",
      "  LIMIT  percent that it may not pass",
      "  OWED   what it is due while it wants the GPU, as the others are now",
      "  1 S    GPU time got, percent of the last second; 10 S of the last ten",
      "  TURN   percent of the last second that launches waited for their turn",
      "  CAP    the same by its own compute limit",
      "  DEBT   GPU time that it had beyond what it was owed, and repays",
      "  MEMORY held / limit",
      "  A narrow screen leaves columns out.",
  };
  Page page;
  page.heads.push_back(
      line_of(state.title + ": who is owed how much of each GPU, and who gets it", Ink::bold));
  for (const auto text : kText) page.add(line_of(std::string(text)));
  return page;
}

}  // namespace vgpu::tui

// SPDX-License-Identifier: Apache-2.0
// One tenant on one of its GPUs: quota, figures, history, what held it back, processes.
#include <fmt/format.h>

#include <algorithm>

#include "pages.h"
#include "vgpu/survey/change.h"
#include "vgpu/survey/text.h"
#include "vgpu/tui/plot.h"

namespace vgpu::tui {

using survey::GpuFigures, survey::limit_text, survey::policy_name, survey::priority_name,
    survey::size_text, survey::source_name, survey::TenantFigures;

namespace {

class TenantPage {
 public:
  TenantPage(const Model& model, const RowKey& row, Size size, Glyphs glyphs)
      : model_(model), row_(row), size_(size), glyphs_(glyphs) {}

  Page page() {
    const GpuFigures* gpu = model_.gpu(row_.gpu);
    const TenantFigures* tenant = model_.row(row_);
    const auto known = model_.tenants.find(row_.tenant);
    const TenantFacts* facts = known == model_.tenants.end() ? nullptr : &known->second;
    if (gpu == nullptr || tenant == nullptr) {
      page_.heads.push_back(line_of(fmt::format("TENANT {}", shown(row_.tenant)), Ink::title));
      page_.add(line_of("it has ended, or is no longer on this GPU; Esc leads back"));
      return std::move(page_);
    }
    add_heads(*gpu, *tenant, facts);
    add_figures(*gpu, *tenant, facts);
    add_plot();
    add_reasons();
    add_processes();
    return std::move(page_);
  }

 private:
  void add(std::string text, Ink ink = Ink::plain) { page_.add(line_of(std::move(text), ink)); }
  void add(std::string_view title, std::string text, Ink ink = Ink::plain) {
    page_.add({{{on_the_left(title, 9), Ink::dim}, {std::move(text), ink}}, false});
  }

  void add_heads(const GpuFigures& gpu, const TenantFigures& tenant, const TenantFacts* facts) {
    std::string text = fmt::format("TENANT {} on GPU {}  {}", shown(tenant.name),
                                   gpu.gpu.nvml_index, shown(gpu.gpu.name));
    if (facts != nullptr && facts->gpus.size() > 1) {
      const auto at = std::find(facts->gpus.begin(), facts->gpus.end(), row_.gpu);
      text += fmt::format("  ({} of its {} GPUs: < >)", at - facts->gpus.begin() + 1,
                          facts->gpus.size());
    }
    page_.heads.push_back(line_of(text, Ink::title));
  }

  void add_figures(const GpuFigures& gpu, const TenantFigures& tenant, const TenantFacts* facts) {
    const Quota& quota = tenant.quota;
    const auto percent_of = [](std::uint8_t value) {
      return value == 0 ? std::string("none") : fmt::format("{} %", value);
    };
    std::string who = "id " + shown(tenant.id);
    if (facts != nullptr && !facts->owner.empty()) who += ", of " + shown(facts->owner);
    if (facts != nullptr && facts->made_ns) who += ", since " + clock_text(*facts->made_ns);
    add("tenant", who);
    add("quota", fmt::format("share {}, limit {}, {}, priority {} (by {})",
                             percent_of(quota.compute_share_percent),
                             percent_of(quota.compute_limit_percent), policy_name(quota.policy),
                             priority_name(quota.priority), source_name(quota.compute_source)));
    std::string memory = fmt::format("{} of {} (by {})", size_text(tenant.used_bytes),
                                     quota.limits_memory() ? limit_text(quota.memory_limit_bytes)
                                                           : size_text(gpu.gpu.total_bytes),
                                     source_name(quota.memory_source));
    if (facts != nullptr) {
      const auto refused = facts->refused.find(row_.gpu);
      if (refused != facts->refused.end() && refused->second != 0)
        memory += fmt::format(", {} allocations refused", refused->second);
    }
    add("memory", memory);
    add("time", fmt::format("owed {} %, got {} % (1 s), {} % (10 s), debt {}",
                            percent_or_dash(tenant.owed), percent(tenant.use.got_1s),
                            percent(tenant.use.got_10s), debt_text(tenant.use.debt_ns)));
    add("waited", fmt::format("{} % for its turn, {} % by its limit, {} % for its own work",
                              percent(tenant.use.turn_1s), percent(tenant.use.limit_1s),
                              percent(tenant.use.in_flight_1s)));
    for (const auto& note : gpu.notes) add("", shown(note), Ink::warning);
  }

  const Detail* detail() const {
    return model_.detail && model_.detail->row == row_ ? &*model_.detail : nullptr;
  }

  void add_plot() {
    const Detail* known = detail();
    if (known == nullptr || size_.columns < 12) return;
    // A third of a tall screen; 80x24 has room for the rest beside it.
    const std::size_t rows = std::clamp<std::size_t>(size_.rows / 4, 3, 12);
    const std::size_t seconds =
        std::min(seconds_in(size_.columns - 5, glyphs_), known->plot.got.size());
    add(fmt::format("got of the GPU's time, last {} s", seconds), Ink::title);
    for (auto& line : plot_with_axis(known->plot.got, size_.columns, rows, glyphs_))
      page_.add(std::move(line));
  }

  void add_wrapped(std::string_view bullet, std::string_view text, Ink ink) {
    const std::size_t indent = cells_of(bullet);
    bool first = true;
    for (auto& line : wrapped(shown(text), size_.columns - std::min(size_.columns, indent))) {
      add((first ? std::string(bullet) : std::string(indent, ' ')) + line, ink);
      first = false;
    }
  }

  void add_reasons() {
    const Detail* known = detail();
    if (known == nullptr) return;
    if (!known->why) {
      if (!known->why_not.empty()) add_wrapped("why: ", known->why_not, Ink::dim);
      return;
    }
    add_wrapped("why: ", known->why->summary, Ink::title);
    if (known->why->causes.empty()) add("  - nothing held it back");
    for (const auto& cause : known->why->causes) {
      add_wrapped("  - ", cause.text, Ink::plain);
      if (!cause.next.empty()) add_wrapped("    do: ", cause.next, Ink::dim);
    }
  }

  void add_processes() {
    add(fmt::format("{}{}{}{}  PROGRAM", on_the_right("PID", 8), on_the_right("OWN PID", 9),
                    on_the_right("1 S", 6), on_the_right("MEMORY", 8)),
        Ink::title);
    bool any = false;
    for (const auto& process : model_.processes) {
      if (process.tenant_id != row_.tenant) continue;
      for (const auto& on : process.gpus) {
        if (on.gpu != row_.gpu) continue;
        any = true;
        const auto pid_text = [](std::int32_t pid) {
          return pid == 0 ? std::string("-") : std::to_string(pid);
        };
        add(on_the_right(pid_text(process.pid), 8) + on_the_right(pid_text(process.own_pid), 9) +
            on_the_right(percent_or_dash(on.got_1s), 6) +
            on_the_right(short_size(on.used_bytes), 8) + "  " + command_text(process));
      }
    }
    if (!any) add("  no process of it uses this GPU", Ink::dim);
  }

  const Model& model_;
  const RowKey& row_;
  const Size size_;
  const Glyphs glyphs_;
  Page page_;
};

}  // namespace

Page tenant_page(const Model& model, const RowKey& row, Size size, Glyphs glyphs) {
  return TenantPage(model, row, size, glyphs).page();
}

}  // namespace vgpu::tui

// SPDX-License-Identifier: Apache-2.0
// Rows, columns and their order; see overview.h.
#include "vgpu/tui/overview.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "pages.h"
#include "vgpu/survey/text.h"
#include "vgpu/tui/plot.h"

namespace vgpu::tui {

using survey::bar, survey::GpuFigures, survey::kRemembered, survey::Limiter, survey::Outsider,
    survey::ProcessFigures, survey::size_text, survey::TenantFigures, survey::UseFigures;

namespace {

constexpr std::size_t kLeastName = 13;
constexpr std::size_t kMostName = 32;
constexpr std::size_t kLeastHistory = 7;

enum class Cell : unsigned char {
  priority,
  share,
  limit,
  owed,
  got_1s,
  got_10s,
  turn,
  cap,
  debt,
  memory
};

struct Head {
  Cell cell;
  std::string_view title;
  std::size_t width;
  unsigned given_up;  // the order in which narrow screens do without; the history line goes first
  std::optional<Column> sorts;
};
constexpr std::array<Head, 10> kHeads = {{{Cell::priority, "P", 2, 3, std::nullopt},
                                          {Cell::share, "SHARE", 6, 8, Column::share},
                                          {Cell::limit, "LIMIT", 6, 5, std::nullopt},
                                          {Cell::owed, "OWED", 5, 2, std::nullopt},
                                          {Cell::got_1s, "1 S", 5, 10, Column::got},
                                          {Cell::got_10s, "10 S", 5, 6, std::nullopt},
                                          {Cell::turn, "TURN", 5, 7, Column::wait},
                                          {Cell::cap, "CAP", 5, 1, std::nullopt},
                                          {Cell::debt, "DEBT", 7, 4, Column::debt},
                                          {Cell::memory, "MEMORY", 13, 9, Column::memory}}};

struct Layout {
  std::vector<Head> heads;
  std::size_t name = kLeastName;
  std::size_t history = 0;  // 0: there is none
  std::size_t terms = 0;    // cells before what a process has too

  std::size_t least() const {
    std::size_t sum = kLeastName;
    for (const Head& head : heads) sum += head.width;
    return sum;
  }
};

bool is_term(Cell cell) { return cell < Cell::got_1s; }

// The history line grows first, up to a cell for each second that is remembered, then the name.
Layout layout_for(std::size_t columns) {
  Layout layout;
  layout.heads.assign(kHeads.begin(), kHeads.end());
  const std::size_t with_history = layout.least() + 1 + kLeastHistory;
  if (columns >= with_history) {
    const std::size_t spare = columns - with_history;
    layout.history = kLeastHistory + std::min(spare, kRemembered - kLeastHistory);
    layout.name += std::min(columns - layout.least() - 1 - layout.history, kMostName - kLeastName);
  }
  for (unsigned next = 1; layout.least() > columns && !layout.heads.empty(); ++next)
    std::erase_if(layout.heads, [&](const Head& head) { return head.given_up == next; });
  if (layout.history == 0 && columns > layout.least())
    layout.name += std::min(columns - layout.least(), kMostName - kLeastName);
  for (const Head& head : layout.heads) layout.terms += is_term(head.cell) ? head.width : 0;
  return layout;
}

// Braille cells show two seconds each, where one for each second doesn't fit.
std::size_t shown_seconds(std::size_t cells, Glyphs glyphs) {
  return std::min(kRemembered, seconds_in(cells, glyphs));
}

bool passes(const TenantFigures& tenant, const std::string& filter) {
  return filter.empty() || contains_folded(tenant.name, filter) ||
         std::any_of(tenant.processes.begin(), tenant.processes.end(),
                     [&](const ProcessFigures& process) {
                       return contains_folded(process.program, filter);
                     });
}

// The first of two in the order of a column: names from A, figures from the highest.
bool precedes(const TenantFigures& a, const TenantFigures& b, Column column) {
  const auto higher = [](auto x, auto y) { return x > y; };
  switch (column) {
    case Column::name:
      return a.name < b.name;
    case Column::share:
      return higher(a.quota.compute_share_percent, b.quota.compute_share_percent);
    case Column::got:
      return higher(a.use.got_1s, b.use.got_1s);
    case Column::wait:
      return higher(a.waited(), b.waited());
    case Column::debt:
      return higher(a.use.debt_ns, b.use.debt_ns);
    case Column::memory:
      return higher(a.used_bytes, b.used_bytes);
  }
  return false;
}

std::vector<const TenantFigures*> shown_tenants(const GpuFigures& gpu, const TableOrder& order) {
  std::vector<const TenantFigures*> tenants;
  for (const auto& tenant : gpu.tenants) {
    if (passes(tenant, order.filter)) tenants.push_back(&tenant);
  }
  std::stable_sort(tenants.begin(), tenants.end(), [&](const auto* a, const auto* b) {
    return order.reversed ? precedes(*b, *a, order.sort) : precedes(*a, *b, order.sort);
  });
  return tenants;
}

std::string priority_letter(Priority priority) {
  switch (priority) {
    case Priority::high:
      return "H";
    case Priority::normal:
      return "";
    case Priority::low:
      return "L";
  }
  return "";
}

// Below its share although it wanted more.
bool falls_short(const TenantFigures& tenant) {
  return tenant.quota.compute_share_percent != 0 && tenant.waited() >= 1 &&
         tenant.use.got_1s + 1 < tenant.quota.compute_share_percent;
}

bool is_nearly_full(const TenantFigures& tenant) {
  return tenant.quota.limits_memory() &&
         tenant.used_bytes / 95 >= tenant.quota.memory_limit_bytes / 100;
}

Span use_span(Cell cell, const UseFigures& use) {
  switch (cell) {
    case Cell::got_1s:
      return {percent(use.got_1s), Ink::plain};
    case Cell::got_10s:
      return {percent(use.got_10s), Ink::plain};
    case Cell::turn:
      return {percent(use.turn_1s), Ink::plain};
    case Cell::cap:
      return {percent(use.limit_1s), Ink::plain};
    case Cell::debt:
      return {debt_text(use.debt_ns), use.debt_ns >= 100'000'000 ? Ink::warning : Ink::plain};
    case Cell::priority:
    case Cell::share:
    case Cell::limit:
    case Cell::owed:
    case Cell::memory:
      break;
  }
  return {"-", Ink::plain};
}

Span tenant_span(Cell cell, const TenantFigures& tenant) {
  const Quota& quota = tenant.quota;
  switch (cell) {
    case Cell::priority:
      return {priority_letter(quota.priority), Ink::plain};
    case Cell::share:
      return {share_text(quota.compute_share_percent), Ink::plain};
    case Cell::limit:
      return {share_text(quota.compute_limit_percent), Ink::plain};
    case Cell::owed:
      return {percent_or_dash(tenant.owed), Ink::plain};
    case Cell::got_1s:
      return {percent(tenant.use.got_1s), falls_short(tenant) ? Ink::warning : Ink::good};
    case Cell::memory:
      return {fmt::format(
                  "{}/{}", short_size(tenant.used_bytes),
                  quota.limits_memory() ? short_size(quota.memory_limit_bytes) : std::string("-")),
              is_nearly_full(tenant) ? Ink::bad : Ink::plain};
    case Cell::got_10s:
    case Cell::turn:
    case Cell::cap:
    case Cell::debt:
      break;
  }
  return use_span(cell, tenant.use);
}

Span process_span(Cell cell, const ProcessFigures& process) {
  if (cell == Cell::memory) return {short_size(process.used_bytes), Ink::plain};
  if (process.use) return use_span(cell, *process.use);
  if (cell == Cell::got_1s) return {percent_or_dash(process.got_1s), Ink::plain};
  return {"-", Ink::dim};
}

// The body, GPU by GPU.
class Body {
 public:
  Body(const TableOrder& order, const Layout& layout, std::size_t columns, Glyphs glyphs,
       Page& page)
      : order_(order), layout_(layout), columns_(columns), glyphs_(glyphs), page_(page) {}

  void add_gpu(const GpuFigures& gpu, const GpuSample* sample) {
    const auto tenants = shown_tenants(gpu, order_);
    if (tenants.empty() && !order_.filter.empty()) return;
    page_.add(gpu_line(gpu, sample, columns_));
    if (gpu.gpu.mig_enabled) page_.add(mig_line(gpu));
    for (const auto& note : gpu.notes) page_.add(line_of("  " + note, Ink::warning));
    for (const auto* tenant : tenants) add_tenant(gpu, *tenant);
    if (tenants.empty()) page_.add(line_of("  no tenant", Ink::dim));
    for (const auto& outsider : gpu.outsiders) page_.add(outsider_line(outsider));
  }

  Line heads() const {
    Line line;
    line.spans.push_back({on_the_left(" TENANT", layout_.name), head_ink(Column::name)});
    for (const Head& head : layout_.heads) {
      line.spans.push_back(
          {on_the_right(head.title, head.width), head.sorts ? head_ink(*head.sorts) : Ink::title});
    }
    if (layout_.history != 0) {
      line.spans.push_back(
          {" " + on_the_left(fmt::format("{} S", shown_seconds(layout_.history, glyphs_)),
                             layout_.history),
           Ink::title});
    }
    return line;
  }

 private:
  Ink head_ink(Column column) const { return column == order_.sort ? Ink::bold : Ink::title; }

  void add_history(const UseFigures& use, Line& line) const {
    if (layout_.history == 0) return;
    line.spans.push_back({" " + history_line(use.history, layout_.history, glyphs_), Ink::dim});
  }

  void add_tenant(const GpuFigures& gpu, const TenantFigures& tenant) {
    const RowKey row{gpu.gpu.uuid, tenant.id};
    const bool open = order_.open.count(row) != 0;
    const char* mark = tenant.processes.empty() ? " " : open ? "-" : "+";
    Line line = line_of(on_the_left(mark + shown(tenant.name), layout_.name));
    for (const Head& head : layout_.heads) {
      const Span span = tenant_span(head.cell, tenant);
      line.spans.push_back({on_the_right(span.text, head.width), span.ink});
    }
    add_history(tenant.use, line);
    page_.add(std::move(line), key_of(row));
    if (!open) return;
    for (const auto& process : tenant.processes) add_process(process);
  }

  void add_process(const ProcessFigures& process) {
    Line line = line_of(on_the_left(fmt::format("    {} {}", process.pid, shown(process.program)),
                                    layout_.name + layout_.terms),
                        Ink::dim);
    for (const Head& head : layout_.heads) {
      if (is_term(head.cell)) continue;
      const Span span = process_span(head.cell, process);
      line.spans.push_back({on_the_right(span.text, head.width), span.ink});
    }
    if (process.use) add_history(*process.use, line);
    page_.add(std::move(line));
  }

  const TableOrder& order_;
  const Layout& layout_;
  std::size_t columns_;
  Glyphs glyphs_;
  Page& page_;
};

Page page_of(const std::vector<GpuFigures>& figures, const std::map<GpuUuid, GpuSample>& samples,
             const TableOrder& order, std::size_t columns, Glyphs glyphs) {
  Page page;
  const Layout layout = layout_for(columns);
  Body body(order, layout, columns, glyphs, page);
  page.heads.push_back(body.heads());
  for (const auto& gpu : figures) {
    const auto sample = samples.find(gpu.gpu.uuid);
    body.add_gpu(gpu, sample == samples.end() ? nullptr : &sample->second);
  }
  return page;
}

}  // namespace

Line gpu_line(const GpuFigures& gpu, const GpuSample* sample, std::size_t columns) {
  constexpr unsigned kBar = 10;
  Line line = line_of(fmt::format("GPU {}  {}", gpu.gpu.nvml_index,
                                  gpu.gpu.name.empty() ? "-" : shown(gpu.gpu.name)),
                      Ink::bold);
  if (sample != nullptr && !sample->trouble.empty())
    line.spans.push_back({"  " + shown(sample->trouble), Ink::bad});
  line.spans.push_back({fmt::format("  time {} {} %  memory {} of {}", bar(gpu.got_1s / 100, kBar),
                                    percent(gpu.got_1s), size_text(gpu.gpu.used_bytes),
                                    size_text(gpu.gpu.total_bytes)),
                        Ink::plain});
  if (sample == nullptr) return line;
  // Half a figure is worse than none.
  const auto add_if_it_fits = [&](std::string text) {
    std::size_t used = cells_of(text);
    for (const auto& span : line.spans) used += cells_of(span.text);
    if (used <= columns) line.spans.push_back({std::move(text), Ink::dim});
  };
  if (sample->temperature_celsius)
    add_if_it_fits(fmt::format("  {} C", *sample->temperature_celsius));
  if (sample->power_milliwatts)
    add_if_it_fits(fmt::format("  {} W", *sample->power_milliwatts / 1000));
  return line;
}

Line mig_line(const GpuFigures& gpu) {
  return line_of(fmt::format("  {}; quotas are of the whole GPU", survey::mig_text(gpu.gpu)),
                 Ink::warning);
}

Line outsider_line(const Outsider& outsider) {
  const char* title = outsider.is_unlimited()                ? "UNLIMITED"
                      : outsider.exempt                      ? "exempt"
                      : outsider.limiter == Limiter::present ? "another tenant"
                                                             : "another user's";
  return {{{fmt::format(" {}", title), outsider.is_unlimited() ? Ink::bad : Ink::dim},
           {fmt::format("  pid {} {}  {}", outsider.pid == 0 ? "-" : std::to_string(outsider.pid),
                        shown(outsider.program), size_text(outsider.used_bytes)),
            Ink::plain}},
          false};
}

std::string_view column_name(Column column) {
  switch (column) {
    case Column::name:
      return "name";
    case Column::share:
      return "share";
    case Column::got:
      return "got";
    case Column::wait:
      return "wait";
    case Column::debt:
      return "debt";
    case Column::memory:
      return "memory";
  }
  return "got";
}

std::optional<Column> column_called(std::string_view name) {
  for (std::size_t i = 0; i < kColumns; ++i) {
    if (column_name(static_cast<Column>(i)) == name) return static_cast<Column>(i);
  }
  return std::nullopt;
}

Page overview_page(const Model& model, const TableOrder& order, std::size_t columns,
                   Glyphs glyphs) {
  Page page = page_of(model.gpus, model.samples, order, columns, glyphs);
  if (!page.body.empty()) return page;
  const bool filtered = !order.filter.empty() && !model.gpus.empty();
  page.add(line_of(filtered ? "nothing is called so" : "no GPU and no tenant"));
  if (!model.no_driver.empty()) page.add(line_of(model.no_driver, Ink::dim));
  return page;
}

std::vector<Line> draw_table(const std::vector<GpuFigures>& figures, const TableOrder& order,
                             std::size_t columns, Glyphs glyphs) {
  Page page = page_of(figures, {}, order, columns, glyphs);
  std::vector<Line> lines;
  for (auto& line : page.heads) lines.push_back(cut(std::move(line), columns, glyphs));
  for (auto& one : page.body) lines.push_back(cut(std::move(one.line), columns, glyphs));
  if (figures.empty()) lines.push_back(line_of("no GPU and no tenant"));
  return lines;
}

}  // namespace vgpu::tui

// SPDX-License-Identifier: Apache-2.0
// The table of GPUs and tenants: who is owed and gets what. Figures in, lines out; pure.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "vgpu/survey/figures.h"
#include "vgpu/tui/cells.h"
#include "vgpu/tui/model.h"

namespace vgpu::tui {

enum class Column : unsigned char { name, share, got, wait, debt, memory };
inline constexpr std::size_t kColumns = 6;
std::string_view column_name(Column column);
std::optional<Column> column_called(std::string_view name);

struct TableOrder {
  Column sort = Column::got;
  bool reversed = false;
  std::string filter;          // by tenant and program
  std::set<RowKey> open = {};  // rows that show their processes
};

// All of it as one table, without keys: for --once and pipes.
std::vector<Line> draw_table(const std::vector<survey::GpuFigures>& figures,
                             const TableOrder& order, std::size_t columns, Glyphs glyphs);

}  // namespace vgpu::tui

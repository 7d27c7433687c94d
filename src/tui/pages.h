// SPDX-License-Identifier: Apache-2.0
// What each view shows, before it is cut to a screen: head lines that stay, and a body that
// scrolls. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "vgpu/tui/interface.h"

namespace vgpu::tui {

struct BodyLine {
  Line line;
  std::string key;  // empty: it can't be selected
};

struct Page {
  std::vector<Line> heads;
  std::vector<BodyLine> body;

  void add(Line line, std::string key = "") { body.push_back({std::move(line), std::move(key)}); }
  std::vector<std::string> keys() const;
};

Page overview_page(const Model& model, const TableOrder& order, std::size_t columns, Glyphs glyphs);
Page gpus_page(const Model& model, std::size_t columns, Glyphs glyphs);
Page processes_page(const Model& model, const std::string& filter, std::size_t columns);
Page events_page(const Model& model, const std::string& filter, std::size_t columns);
Page tenant_page(const Model& model, const RowKey& row, Size size, Glyphs glyphs);
Page help_page(const State& state);
Page editor_page(const Editor& editor, std::size_t columns);

// Keys of the rows of overview_page, and back.
std::string key_of(const RowKey& row);
std::optional<RowKey> row_of(const std::string& key);
// Of processes_page.
std::string key_of(const Process& process);

// Figures as the views write them.
std::string percent(double value);                           // "12", "3.4", "0.1": above 0 never 0
std::string percent_or_dash(std::optional<double> value);    // "-" where it isn't known
std::string share_text(std::uint8_t percent);                // "-" for none
std::string debt_text(std::uint64_t ns);                     // "12 ms", "-" below half of one
std::string short_size(std::optional<std::uint64_t> bytes);  // "1.5G", "526M", "-"
std::string clock_text(std::uint64_t realtime_ns);           // "14:02:31", local time
bool contains_folded(std::string_view text, std::string_view wanted);  // ASCII letters in any case

// What a process is called: its command line, the program without its folder.
std::string command_text(const Process& process);

// Of a GPU: "GPU 0  NVIDIA H200", its bar and what is known of it.
Line gpu_line(const survey::GpuFigures& gpu, const GpuSample* sample, std::size_t columns);
// Of a GPU in MIG mode.
Line mig_line(const survey::GpuFigures& gpu);
Line outsider_line(const survey::Outsider& outsider);

}  // namespace vgpu::tui

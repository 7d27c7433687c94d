// SPDX-License-Identifier: Apache-2.0
// The overview without an interface: one table on standard output.
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "vgpu/survey/text.h"
#include "vgpu/tui/terminal.h"

namespace vgpu::tui {
namespace {

using survey::Style;

constexpr std::size_t kPipeColumns = 120;

std::string_view escape_for(Ink ink, const Style& style) {
  switch (ink) {
    case Ink::bold:
    case Ink::title:
      return style.bold;
    case Ink::dim:
      return style.dim;
    case Ink::good:
      return style.green;
    case Ink::warning:
      return style.yellow;
    case Ink::bad:
      return style.red;
    case Ink::plain:
      break;
  }
  return "";
}

}  // namespace

void print_table(const Model& model, const State& state) {
  winsize window{};
  const bool sized = ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col != 0;
  const Style style = Style::for_descriptor(STDOUT_FILENO);
  for (const auto& line :
       draw_table(model.gpus, state.order(), sized ? window.ws_col : kPipeColumns, glyphs_here())) {
    if (style.plain.empty()) {
      fmt::print("{}\n", line.text());
      continue;
    }
    for (const auto& span : line.spans)
      fmt::print("{}{}{}", escape_for(span.ink, style), span.text, style.plain);
    fmt::print("\n");
  }
}

std::string no_terminal_text() {
  const char* terminal = std::getenv("TERM");
  return fmt::format("no description of the terminal {}",
                     terminal != nullptr && *terminal != '\0' ? terminal : "(TERM is not set)");
}

}  // namespace vgpu::tui

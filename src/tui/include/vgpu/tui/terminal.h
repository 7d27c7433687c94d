// SPDX-License-Identifier: Apache-2.0
// The terminal, in ncurses' hands: takes the screen, draws after every look and every key, and
// gives the terminal back as it was, whatever ends it: a key, an exception, or a signal.
#pragma once

#include <optional>
#include <string>

#include "vgpu/tui/interface.h"
#include "vgpu/tui/model.h"

namespace vgpu::tui {

// By the locale, which it sets for characters.
Glyphs glyphs_here();

// Both standard input and output are one.
bool is_terminal();

// The overview once, on standard output: with colours where that is a terminal.
void print_table(const Model& model, const State& state);

// Why there is no interface, for a note: "no description of the terminal xyz".
std::string no_terminal_text();

// Until it is quit. The exit status: 0, also after Ctrl-C; 128+n where signal n ended it. Nothing:
// the terminal has no description, and all is as it was. What source.look() throws passes, with the
// screen given back.
std::optional<int> watch(DataSource& source, State state);

}  // namespace vgpu::tui

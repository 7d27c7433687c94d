// SPDX-License-Identifier: Apache-2.0
// Lines of the limiter. Silent unless VGPU_LOG (or TF_ENABLE_LOG and its sisters) asks; never on
// stdout; one write() a line, so that lines of several processes don't mix. say() is for what the
// user must see: it goes to stderr.
#pragma once

#include <string_view>

#include "vgpu/settings/settings.h"

namespace vgpu::limiter {

using settings::LogLevel;

// "vgpu: <text>\n" on stderr, whatever the log settings are.
void say(std::string_view text);

// "<L> <code> <text>\n", for example log(LogLevel::info, "VG2001", "tenant.joined id=train").
void log(LogLevel level, const char* code, std::string_view text);
bool log_enabled(LogLevel level);

}  // namespace vgpu::limiter

// SPDX-License-Identifier: Apache-2.0
// What systemd wants to hear of a service (sd_notify), without its library. Says nothing where
// nobody listens.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace vgpu::hypervisor {

// "READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=..."; lines with newlines between.
void notify(std::string_view state);

// How often the watchdog wants a sign at the latest; none: there is no watchdog.
std::optional<std::chrono::microseconds> watchdog_interval();

}  // namespace vgpu::hypervisor

// SPDX-License-Identifier: Apache-2.0
// hypervisor mount-shm: the tmpfs in which the predecessor's files lie. The decision is pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vgpu::hypervisor {

// The file system of the last mount on that path by /proc/self/mountinfo; none: nothing is.
std::optional<std::string> mounted_there(std::string_view mountinfo, std::string_view path);

struct Mounting {
  bool must_mount = false;
  std::string refusal;  // why it can't be done; empty: it can
};
Mounting mounting_for(std::string_view mountinfo, std::string_view path);

}  // namespace vgpu::hypervisor

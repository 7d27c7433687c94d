// SPDX-License-Identifier: Apache-2.0
// A directory for a process that must get at nothing beside it: a mount of its own that is attached
// nowhere. A descriptor of the directory itself would lead a container out of its file system, by
// "..".
#pragma once

#include <string>

#include "vgpu/platform/file.h"

namespace vgpu::hypervisor {

enum class View : unsigned char { to_write, to_read };

// Not open: the kernel is older than 5.12, or the daemon lacks CAP_SYS_ADMIN; errno says.
platform::File detached_view(const std::string& directory, View view);

}  // namespace vgpu::hypervisor

// SPDX-License-Identifier: Apache-2.0
// The files that the build puts into the binary (embed.cmake).
#pragma once

#include <string_view>

namespace vgpu::hypervisor::http {

// The bytes of page/NAME or NAME; empty: there is no such file.
std::string_view embedded(std::string_view name);

}  // namespace vgpu::hypervisor::http

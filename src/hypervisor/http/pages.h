// SPDX-License-Identifier: Apache-2.0
// The web page and the API's description, from the binary itself.
#pragma once

#include <string_view>

#include "router.h"

namespace vgpu::hypervisor::http {

// The bytes of page/NAME or NAME; empty: there is no such file.
std::string_view embedded(std::string_view name);

void add_page_routes(Router& router);

}  // namespace vgpu::hypervisor::http

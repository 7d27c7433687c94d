// SPDX-License-Identifier: Apache-2.0
// The web page and the API's description, from the binary itself.
#pragma once

#include "router.h"

namespace vgpu::hypervisor::http {

void add_page_routes(Router& router);

}  // namespace vgpu::hypervisor::http

// SPDX-License-Identifier: Apache-2.0
// What a daemon answers to `GET /api/v1/pod`: the predecessor's fields, and under `vgpu` what our
// own says beyond them. Pure.
#pragma once

#include <string_view>

#include "vgpu/pod/limits.h"

namespace vgpu::pod {

// False with the reason: it isn't such an answer, says `success: false`, or asks for an isolation
// that no library can give.
bool parse_answer(std::string_view body, Limits& limits, Why& why);
// Of `POST /api/v1/process`: whether it succeeded, with the daemon's message where it didn't.
bool parse_success(std::string_view body, Why& why);

}  // namespace vgpu::pod

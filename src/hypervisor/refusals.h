// SPDX-License-Identifier: Apache-2.0
// What can't be done, as the daemon says it: the tool's problems and admission's refusals in the
// words of control.h.
#pragma once

#include "control.h"
#include "vgpu/admission/admission.h"
#include "vgpu/survey/problem.h"

namespace vgpu::hypervisor {

Refusal refusal_of(const survey::Problem& problem);

// With kind, code and the rule's name; the text is admission's, the room is left to the caller.
Refusal refusal_of(const admission::Refusal& refusal, const admission::Node& node);

Refusal refuse_request(std::string what, std::string next = "");

}  // namespace vgpu::hypervisor

// SPDX-License-Identifier: Apache-2.0
// Faults of the simulated NVML, for tests: files in the machine's folder, read while it runs.
//   nvml.faults  lines "GPU error=CODE" (each question about that GPU answers it) and
//                "GPU slow=MS" (takes so much longer) and "GPU clocks=REASONS" (a number: NVML's
//                bits of what holds its clocks back); no line, no fault
//   nvml.xids    lines "GPU XID", appended: events for whoever waits for them
// Any thread.
#pragma once

#include <string>

#include "vgpu/api/nvml_abi.h"

namespace vgpu::sim::nvml {

// NVML_SUCCESS: none.
nvmlReturn_t fault_of(unsigned index);
unsigned long long clocks_held_by(unsigned index);

}  // namespace vgpu::sim::nvml

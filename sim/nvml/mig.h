// SPDX-License-Identifier: Apache-2.0
// Handles of MIG devices (vgpu/sim/mig.h). Questions that aren't answered here or by their name in
// another file refuse such a handle. Any thread.
#pragma once

#include <optional>

#include "library.h"
#include "vgpu/sim/mig.h"

namespace vgpu::sim::nvml {

struct MigInstance {
  nvmlDevice_t whole = nullptr;  // the GPU that it is a part of
  unsigned number = 0;           // among that GPU's
  MigDevice device;
};

bool is_in_mig_mode(nvmlDevice_t whole);
// What the handle stands for; nullopt: it is no MIG device's, or that one isn't there any more.
std::optional<MigInstance> mig_instance(nvmlDevice_t handle);

}  // namespace vgpu::sim::nvml

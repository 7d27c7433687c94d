// SPDX-License-Identifier: Apache-2.0
// The environment that makes a program a tenant's process: the caller's own, and our few variables.
// Shared by run and exec.
#pragma once

#include <string>
#include <vector>

#include "vgpu/survey/gpus.h"

namespace vgpu::cli {

struct TenantEnvironment {
  std::string tenant_id;
  std::string visible_devices;  // empty: the caller's CUDA_VISIBLE_DEVICES stays
  bool simulated = false;
};

std::vector<std::string> tenant_environment(const TenantEnvironment& wanted,
                                            const survey::Installation& installation);

// Where the program is looked for: PATH, with the simulated GPU's nvidia-smi in front where that
// GPU is used.
std::string search_path(const survey::Installation& installation, bool simulated);

// What can't be combined with a tenant: an enclosing one, and variables that switch hooks off.
// Throws Problem.
void refuse_inherited_settings();

// The limiter's path, fit for LD_PRELOAD. Throws Problem.
const std::string& required_limiter(const survey::Installation& installation);

}  // namespace vgpu::cli

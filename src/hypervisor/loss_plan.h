// SPDX-License-Identifier: Apache-2.0
// What the users' processes do when the daemon is gone: within a directory one of them hosts and
// shares hold; among directories that use the same GPUs each keeps to a window of every tenth of a
// second, as long as its part of the shares. Pure.
#pragma once

#include <map>
#include <vector>

#include "vgpu/base/gpu_uuid.h"
#include "vgpu/shm/node.h"

namespace vgpu::hypervisor {

// Of one directory: on each GPU that its processes used lately, what their shares add up to.
struct DirectoryUse {
  std::map<GpuUuid, double> percent;
};

// What a tenant without a share counts for.
inline constexpr double kUnsharedPercent = 10;

// One plan for each directory, in the same order.
std::vector<shm::LossPlan> loss_plans(shm::OnDaemonLoss policy,
                                      const std::vector<DirectoryUse>& directories);

}  // namespace vgpu::hypervisor

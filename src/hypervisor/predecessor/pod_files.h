// SPDX-License-Identifier: Apache-2.0
// Keeps the files of declared pods (pod_keeper.h) as long as their tenants are there: limits as the
// tenant's quota has them, processes and what they hold and ran as the daemon knows it. A thread of
// its own, which steps every 10 ms while there is a file, and otherwise wakes with the daemon's
// beat only.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "control.h"
#include "pod_file.h"
#include "pod_files_options.h"
#include "services.h"

namespace vgpu::hypervisor {

// What a tenant's file says of its GPUs. A share without a limit limits nobody here. Pure.
std::vector<PodGpu> pod_gpus_of(const TenantState& tenant);

// `say` gets what is worth a line in the daemon's log; it is called from the thread.
std::unique_ptr<Service> start_pod_files(Control& control, const PodFilesOptions& options,
                                         std::function<void(const std::string&)> say);

}  // namespace vgpu::hypervisor

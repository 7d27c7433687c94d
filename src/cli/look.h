// SPDX-License-Identifier: Apache-2.0
// What there is, as `ls`, `run`, `why` and `doctor` judge it: survey's snapshot, and what the
// daemon, where one looks after this user's tenants, knows of the processes that this user can't
// look into.
#pragma once

#include "vgpu/survey/snapshot.h"

namespace vgpu::cli {

// Asks a daemon only where somebody else is on a GPU.
survey::Snapshot look(bool simulated);

}  // namespace vgpu::cli

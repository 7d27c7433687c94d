// SPDX-License-Identifier: Apache-2.0
// A kernel launch as every form of it ends up: checked, charged for what it needs first (code,
// local memory, heap, printf), and put into a stream.
#pragma once

#include "driver.h"
#include "engine.h"

namespace vgpu::sim {

struct LaunchShape {
  unsigned grid[3];
  unsigned block[3];
  unsigned shared_bytes;
};

CUresult check_shape(const Device& device, CUfunction function, const LaunchShape& shape);
// Makes the context hold a stack of so many bytes for every thread that can be resident.
bool hold_local(CUcontext context, std::uint64_t bytes_per_thread);
// What the device has to hold before the function can run in the context.
CUresult prepare_launch(CUcontext context, CUfunction function);
// The kernel as an operation of a stream; `value` holds the parameter that states its duration, if
// one does.
Op kernel_op(const Device& device, unsigned sm_count, CUfunction function, const LaunchShape& shape,
             std::uint64_t duration_ns);
// The duration that the parameters state.
std::uint64_t stated_duration(CUfunction function, void** params, void** extra);

}  // namespace vgpu::sim

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
// What one launch does: the directives of its kernel with the values of its parameters.
struct Effects {
  std::uint64_t spin_ns = 0;
  std::uint64_t arrive = 0;  // addresses; 0: it does none of that
  std::uint64_t wait = 0;
  std::uint32_t wait_value = 0;
};
Effects stated_effects(CUfunction function, void** params, void** extra);
// The kernel as an operation of a stream.
Op kernel_op(const Device& device, unsigned sm_count, const LaunchShape& shape,
             const Effects& effects);

}  // namespace vgpu::sim

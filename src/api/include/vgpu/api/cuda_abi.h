// SPDX-License-Identifier: Apache-2.0
// The part of the CUDA driver's ABI that vgpu meets: types, constants and layouts, under the names
// that <cuda.h> gives them, so that a hook reads as the API is documented. No prototypes: symbols
// and their signatures are the rows of driver_hooks.def and driver_calls.def. tests/abi holds every
// size, offset, value and signature against a CUDA toolkit where one is installed. Unversioned
// names mean what they mean in <cuda.h>; never include both in one file.
#pragma once

#include "vgpu/api/cuda_device.h"   // IWYU pragma: export
#include "vgpu/api/cuda_graph.h"    // IWYU pragma: export
#include "vgpu/api/cuda_handles.h"  // IWYU pragma: export
#include "vgpu/api/cuda_launch.h"   // IWYU pragma: export
#include "vgpu/api/cuda_memory.h"   // IWYU pragma: export
#include "vgpu/api/cuda_result.h"   // IWYU pragma: export
#include "vgpu/api/cuda_stream.h"   // IWYU pragma: export

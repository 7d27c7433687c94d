// SPDX-License-Identifier: Apache-2.0
// Each declaration and each row of the driver's tables against <cuda.h>, where a toolkit has it.
// Sizes, alignments, offsets and values must be equal, and each signature must be the toolkit's
// once our types are replaced by their namesakes. It is compiled by the test itself, so that a
// toolkit that differs fails this test and not the build; a failed assertion names the row.
#include <cstddef>
#include <cstdint>

namespace ours {
#include "vgpu/api/cuda_abi.h"
// After it: the names of ours.
#include "toolkit_constants.h"
}  // namespace ours

// Shows the ABI's own names: without it <cuda.h> renames cuMemAlloc to cuMemAlloc_v2 and hides the
// legacy entries.
#define __CUDA_API_VERSION_INTERNAL 1
#include <cuda.h>
#include <cudaProfiler.h>

// These four stand in headers that need those of OpenGL and VDPAU.
extern "C" {
CUresult cuGLCtxCreate(CUcontext*, unsigned int, CUdevice);
CUresult cuGLCtxCreate_v2(CUcontext*, unsigned int, CUdevice);
CUresult cuVDPAUCtxCreate(CUcontext*, unsigned int, CUdevice, cuuint32_t, void*);
CUresult cuVDPAUCtxCreate_v2(CUcontext*, unsigned int, CUdevice, cuuint32_t, void*);
}

#include "toolkit_compare.h"

namespace ours::rows {
#define VGPU_DRIVER_FUNCTION(symbol, params, args) using symbol = CUresult params;
#include "vgpu/api/driver_functions.def"
#undef VGPU_DRIVER_FUNCTION
}  // namespace ours::rows

#define VGPU_DRIVER_FUNCTION(symbol, params, args) \
  static_assert(std::is_same_v<namesake<ours::rows::symbol>, decltype(::symbol)>, #symbol);
#include "vgpu/api/driver_functions.def"
#undef VGPU_DRIVER_FUNCTION

int main() { return different_pointers(); }

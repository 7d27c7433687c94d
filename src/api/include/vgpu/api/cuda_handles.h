// SPDX-License-Identifier: Apache-2.0
// Scalars, opaque handles and callbacks of the driver API; what the other cuda_*.h headers are made
// of. Part of vgpu/api/cuda_abi.h, which says what holds for all of them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vgpu/api/cuda_result.h"

using cuuint32_t = std::uint32_t;
using cuuint64_t = std::uint64_t;
using CUdeviceptr_v2 = unsigned long long;
using CUdeviceptr = CUdeviceptr_v2;
using CUdevice = int;
using CUcontext = struct CUctx_st*;
using CUmodule = struct CUmod_st*;
using CUfunction = struct CUfunc_st*;
using CUlibrary = struct CUlib_st*;
using CUkernel = struct CUkern_st*;
using CUarray = struct CUarray_st*;
using CUmipmappedArray = struct CUmipmappedArray_st*;
using CUevent = struct CUevent_st*;
using CUstream = struct CUstream_st*;
using CUexternalMemory = struct CUextMemory_st*;
using CUexternalSemaphore = struct CUextSemaphore_st*;
using CUgraph = struct CUgraph_st*;
using CUgraphNode = struct CUgraphNode_st*;
using CUgraphExec = struct CUgraphExec_st*;
using CUmemoryPool = struct CUmemPoolHandle_st*;
using CUuserObject = struct CUuserObject_st*;
using CUgraphConditionalHandle = cuuint64_t;
using CUgraphDeviceNode = struct CUgraphDeviceUpdatableNode_st*;
using CUgreenCtx = struct CUgreenCtx_st*;

struct CUuuid {
  char bytes[16];
};

struct CUmemFabricHandle {
  unsigned char data[64];
};

struct CUipcEventHandle {
  char reserved[64];
};

struct CUipcMemHandle {
  char reserved[64];
};

using CUlinkState = struct CUlinkState_st*;
using CUhostFn = void (*)(void*);
using CUstreamCallback = void (*)(CUstream, CUresult, void*);
using CUoccupancyB2DSize = size_t (*)(int);
using CUmemGenericAllocationHandle = unsigned long long;
using CUdevResourceDesc = struct CUdevResourceDesc_st*;
using CUdeviceptr_v1 = unsigned int;

// The version of the driver API that these declarations are of.
inline constexpr int CUDA_VERSION = 13000;
inline constexpr int CU_IPC_HANDLE_SIZE = 64;
inline constexpr CUdevice CU_DEVICE_CPU = -1;
inline constexpr CUdevice CU_DEVICE_INVALID = -2;

// Not constexpr: no constant expression makes a pointer from a number. Compilers initialise them
// statically.
inline const CUstream CU_STREAM_LEGACY = reinterpret_cast<CUstream>(1);
inline const CUstream CU_STREAM_PER_THREAD = reinterpret_cast<CUstream>(2);

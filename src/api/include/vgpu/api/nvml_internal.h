// SPDX-License-Identifier: Apache-2.0
// The private table through which nvidia-smi asks for processes (nvmlInternalGetExportTable). No
// header describes it; what follows was seen on driver 580.159.04 by watching nvidia-smi, and holds
// for a table of exactly this id and size. A table begins with its size in bytes, then come
// functions, null where one is missing.
#pragma once

#include <cstddef>

#include "vgpu/api/nvml_abi.h"

namespace vgpu::nvml_internal {

inline constexpr unsigned char kProcessTableId[16] = {
    0xc4, 0xfe, 0x3e, 0x6c, 0xc9, 0x8f, 0x6c, 0x4e, 0xa3, 0x27, 0xee, 0x69, 0x6e, 0x12, 0xf7, 0xc4};
inline constexpr std::size_t kProcessTableBytes = 2160;
inline constexpr std::size_t kProcessTableSlots = kProcessTableBytes / sizeof(void*);

// Slots, counted from the size word, which is slot 0.
inline constexpr std::size_t kUtilizationSlot = 145;  // per process, what pmon shows
inline constexpr std::size_t kComputeProcessesSlot = 213;
inline constexpr std::size_t kGraphicsProcessesSlot = 214;
inline constexpr std::size_t kMpsProcessesSlot = 215;

struct Process {
  nvmlProcessDetail_v1_t detail;
  char command_line[4096];  // as /proc/PID/cmdline has it
};
static_assert(sizeof(Process) == 4128);

// Like nvmlDeviceGetComputeRunningProcesses: too short a list is NVML_ERROR_INSUFFICIENT_SIZE, and
// the count becomes what is needed.
using GetProcesses = nvmlReturn_t (*)(nvmlDevice_t device, unsigned int* count, Process* processes);

}  // namespace vgpu::nvml_internal

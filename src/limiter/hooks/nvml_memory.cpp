// SPDX-License-Identifier: Apache-2.0
// How much memory NVML shows: what CUDA shows, to the byte. CUDA's figures leave out what the
// driver keeps for itself, so with a limit the reserve is what of the limit is left to attempts
// (decision 0006), and used is what the tenant is charged: 0 when it holds nothing. Any thread.
#include <cstdint>

#include "../hooks.h"
#include "nvml_view.h"
#include "view.h"

namespace vgpu::hooks {

using namespace limiter;

namespace {

// In the older form the reserve is part of what is used, so that total is used and free.
void show(nvmlMemory_t& memory, std::uint64_t reserved_bytes, int position) {
  const std::uint64_t total_bytes =
      memory.total > reserved_bytes ? memory.total - reserved_bytes : 0;
  const MemoryView view = view_of(position, memory.free, total_bytes);
  if (!view.limited) return;
  memory = {view.total_bytes, view.free_bytes, view.used_bytes + view.reserved_bytes};
}

std::uint64_t reserved_bytes(nvmlDevice_t device) {
  nvmlMemory_v2_t memory{};
  memory.version = nvmlMemory_v2;
  if (real_nvml().nvmlDeviceGetMemoryInfo_v2 == nullptr ||
      real_nvml().nvmlDeviceGetMemoryInfo_v2(device, &memory) != NVML_SUCCESS) {
    return 0;
  }
  return memory.reserved;
}

}  // namespace

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t* memory) {
  const nvmlReturn_t result = real_nvml().nvmlDeviceGetMemoryInfo(device, memory);
  if (result != NVML_SUCCESS) return result;
  const int position = nvml_position(device);
  if (position != Limiter::kNoPosition) show(*memory, reserved_bytes(device), position);
  return result;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t* memory) {
  const nvmlReturn_t result = real_nvml().nvmlDeviceGetMemoryInfo_v2(device, memory);
  if (result != NVML_SUCCESS) return result;
  const int position = nvml_position(device);
  if (position == Limiter::kNoPosition) return result;
  const std::uint64_t total_bytes =
      memory->total > memory->reserved ? memory->total - memory->reserved : 0;
  const MemoryView view = view_of(position, memory->free, total_bytes);
  if (view.limited)
    *memory = {memory->version, view.total_bytes, view.reserved_bytes, view.free_bytes,
               view.used_bytes};
  return result;
}

// How much of the window is the tenant's nobody knows: not more than it holds, and not more than
// all use. Where the window covers the whole memory, the driver's figure would be what all tenants
// hold.
nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t* memory) {
  const nvmlReturn_t result = real_nvml().nvmlDeviceGetBAR1MemoryInfo(device, memory);
  if (result != NVML_SUCCESS) return result;
  const int position = nvml_position(device);
  if (position == Limiter::kNoPosition) return result;
  const MemoryView view = view_of(position, memory->bar1Free, memory->bar1Total);
  if (!view.limited || view.used_bytes >= memory->bar1Used) return result;
  memory->bar1Free += memory->bar1Used - view.used_bytes;
  memory->bar1Used = view.used_bytes;
  return result;
}

nvmlReturn_t nvmlDeviceGetConfComputeProtectedMemoryUsage(nvmlDevice_t device,
                                                          nvmlMemory_t* memory) {
  const nvmlReturn_t result =
      real_nvml().nvmlDeviceGetConfComputeProtectedMemoryUsage(device, memory);
  if (result != NVML_SUCCESS || memory->total == 0) return result;  // 0: memory isn't protected
  const int position = nvml_position(device);
  if (position != Limiter::kNoPosition) show(*memory, 0, position);
  return result;
}

}  // namespace vgpu::hooks

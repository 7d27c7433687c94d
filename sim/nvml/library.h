// SPDX-License-Identifier: Apache-2.0
// What the files of the simulated NVML share: whether it is initialised, the devices behind the
// handles, and the ways in which NVML hands out text and lists. The answers to odd arguments are
// those of driver 580.159.04. Any thread.
#pragma once

#include <cstring>
#include <string_view>

#include "faults.h"
#include "vgpu/api/nvml_abi.h"
#include "vgpu/sim/device_state.h"

struct nvmlDevice_st {  // a handle points into one array that lives as long as the library
  const vgpu::sim::DeviceInfo* info = nullptr;
  unsigned index = 0;
};

namespace vgpu::sim::nvml {

// Initialised, and by this very process: a forked child starts without NVML, as with the real one.
bool ready();
DeviceState& state();
unsigned device_count();
nvmlDevice_t device_at(unsigned index);
// Any pointer: whether it is one of the handles.
bool is_device(nvmlDevice_t device);

// The start of every question about a device.
inline nvmlReturn_t check(nvmlDevice_t device, const void* out) {
  if (!ready()) return NVML_ERROR_UNINITIALIZED;
  if (!is_device(device) || out == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  return fault_of(device->index);
}

inline nvmlReturn_t copy_text(std::string_view text, char* out, unsigned size) {
  if (out == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  if (size <= text.size()) return NVML_ERROR_INSUFFICIENT_SIZE;
  std::memcpy(out, text.data(), text.size());
  out[text.size()] = '\0';
  return NVML_SUCCESS;
}

// NVML's protocol for lists: too little room says how much is needed; no list is no error as long
// as it would be empty. fill(i) writes element i.
template <class Fill>
nvmlReturn_t copy_list(std::size_t needed, bool has_room, unsigned* count, Fill&& fill) {
  const unsigned room = *count;
  *count = static_cast<unsigned>(needed);
  if (needed == 0) return NVML_SUCCESS;
  if (room < needed) return NVML_ERROR_INSUFFICIENT_SIZE;
  if (!has_room) return NVML_ERROR_INVALID_ARGUMENT;
  for (std::size_t i = 0; i < needed; ++i) fill(i);
  return NVML_SUCCESS;
}

}  // namespace vgpu::sim::nvml

#define VGPU_SIM_NVML extern "C" __attribute__((visibility("default"))) nvmlReturn_t

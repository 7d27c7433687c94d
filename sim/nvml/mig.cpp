// SPDX-License-Identifier: Apache-2.0
#include "mig.h"

#include <array>

namespace vgpu::sim::nvml {
namespace {

// For as many devices as a GPU may have, whether or not they are there.
std::array<nvmlDevice_st, kMaxDevices * kMostMigDevices> mig_handles;

// number(part) of a MIG device; a whole GPU has none.
template <class Number>
nvmlReturn_t answer_number(nvmlDevice_t device, unsigned* out, Number&& number) {
  if (!ready()) return NVML_ERROR_UNINITIALIZED;
  if (out == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  if (const auto part = mig_instance(device)) {
    *out = number(*part);
    return NVML_SUCCESS;
  }
  const nvmlReturn_t error = check(device, out);
  return error != NVML_SUCCESS ? error : NVML_ERROR_NOT_SUPPORTED;
}

}  // namespace

bool is_in_mig_mode(nvmlDevice_t whole) { return mig_devices(state(), whole->index).has_value(); }

std::optional<MigInstance> mig_instance(nvmlDevice_t handle) {
  if (handle < mig_handles.data() || handle >= mig_handles.data() + mig_handles.size())
    return std::nullopt;
  const auto place = static_cast<unsigned>(handle - mig_handles.data());
  const unsigned gpu = place / kMostMigDevices, number = place % kMostMigDevices;
  const auto devices = gpu < device_count() ? mig_devices(state(), gpu) : std::nullopt;
  if (!devices || number >= devices->size()) return std::nullopt;
  return MigInstance{device_at(gpu), number, (*devices)[number]};
}

}  // namespace vgpu::sim::nvml

using namespace vgpu::sim::nvml;

VGPU_SIM_NVML nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int* current,
                                   unsigned int* pending) {
  if (const nvmlReturn_t error = check(device, current == nullptr ? current : pending);
      error != NVML_SUCCESS)
    return error;
  if (!is_in_mig_mode(device)) return NVML_ERROR_NOT_SUPPORTED;
  *current = *pending = NVML_FEATURE_ENABLED;
  return NVML_SUCCESS;
}

VGPU_SIM_NVML nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int* count) {
  if (const nvmlReturn_t error = check(device, count); error != NVML_SUCCESS) return error;
  *count = is_in_mig_mode(device) ? vgpu::sim::kMostMigDevices : 0;
  return NVML_SUCCESS;
}

VGPU_SIM_NVML nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index,
                                                  nvmlDevice_t* part) {
  if (const nvmlReturn_t error = check(device, part); error != NVML_SUCCESS) return error;
  const auto devices = vgpu::sim::mig_devices(state(), device->index);
  if (!devices) return NVML_ERROR_NOT_SUPPORTED;
  if (index >= vgpu::sim::kMostMigDevices) return NVML_ERROR_INVALID_ARGUMENT;
  if (index >= devices->size()) return NVML_ERROR_NOT_FOUND;
  *part = &mig_handles[device->index * vgpu::sim::kMostMigDevices + index];
  return NVML_SUCCESS;
}

VGPU_SIM_NVML nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t part, nvmlDevice_t* whole) {
  if (!ready()) return NVML_ERROR_UNINITIALIZED;
  const auto known = mig_instance(part);
  if (!known || whole == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  *whole = known->whole;
  return NVML_SUCCESS;
}

VGPU_SIM_NVML nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int* is_mig) {
  if (ready() && is_mig != nullptr && mig_instance(device)) {
    *is_mig = 1;
    return NVML_SUCCESS;
  }
  const nvmlReturn_t error = check(device, is_mig);
  if (error == NVML_SUCCESS) *is_mig = 0;
  return error;
}

// Each GPU instance has one compute instance.
VGPU_SIM_NVML nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned int* id) {
  return answer_number(device, id, [](const MigInstance& part) { return part.number; });
}
VGPU_SIM_NVML nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned int* id) {
  return answer_number(device, id, [](const MigInstance&) { return 0U; });
}

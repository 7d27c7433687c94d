// SPDX-License-Identifier: Apache-2.0
// Which GPUs NVML shows: the tenant's, in NVML's order, with indices of their own; any other GPU
// doesn't exist, however it is named. Handles are the driver's own, so that everything that isn't
// hooked works with them. Any thread.
#include <cstdint>

#include "../hooks.h"
#include "nvml_view.h"

namespace vgpu::hooks {

using namespace limiter;

namespace {

constexpr unsigned int kNoSuchIndex = 0xffffffffU;
constexpr unsigned int kMostDevices = 64;  // what a machine has, with room

nvmlReturn_t count_shown(nvmlReturn_t result, unsigned int* count) {
  if (result == NVML_SUCCESS) *count = shown_gpus().count;
  return result;
}

template <class Function>
nvmlReturn_t by_index(Function real_function, unsigned int index, nvmlDevice_t* device) {
  const ShownGpus shown = shown_gpus();
  if (device == nullptr || index >= shown.count) return real_function(kNoSuchIndex, device);
  return nvml_handle(static_cast<int>(shown.positions[index]), device);
}

template <class Function, class Name>
nvmlReturn_t by_name(Function real_function, Name name, nvmlDevice_t* device) {
  if (device == nullptr) return real_function(name, device);
  nvmlDevice_t found = nullptr;
  const nvmlReturn_t result = real_function(name, &found);
  if (result != NVML_SUCCESS) return result;
  if (!is_shown(found)) return NVML_ERROR_NOT_FOUND;
  *device = found;
  return NVML_SUCCESS;
}

// Lists of devices that say how many there are when no list is given, and fill what fits.
// ask(count, devices) is the driver's call. One of them leaves a count alone that is more than
// there are, so it is asked for the number first.
template <class Ask>
nvmlReturn_t filter_devices(unsigned int* count, nvmlDevice_t* devices, Ask ask) {
  if (count == nullptr || (devices != nullptr && *count == 0)) return ask(count, devices);
  nvmlDevice_t all[kMostDevices] = {};
  unsigned int found = 0;
  nvmlReturn_t result = ask(&found, nullptr);
  if (result != NVML_SUCCESS) return result;
  if (found > kMostDevices) found = kMostDevices;
  if (found != 0) result = ask(&found, all);
  if (result != NVML_SUCCESS) return result;
  unsigned int shown = 0;
  for (unsigned int i = 0; i < found; ++i) {
    if (!is_shown(all[i])) continue;
    if (devices != nullptr) {
      if (shown == *count) break;
      devices[shown] = all[i];
    }
    ++shown;
  }
  *count = shown;
  return NVML_SUCCESS;
}

}  // namespace

nvmlReturn_t nvmlDeviceGetCount(unsigned int* count) {
  return count_shown(real_nvml().nvmlDeviceGetCount(count), count);
}
nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int* count) {
  return count_shown(real_nvml().nvmlDeviceGetCount_v2(count), count);
}

nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t* device) {
  return by_index(real_nvml().nvmlDeviceGetHandleByIndex, index, device);
}
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t* device) {
  return by_index(real_nvml().nvmlDeviceGetHandleByIndex_v2, index, device);
}
nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char* bus_id, nvmlDevice_t* device) {
  return by_name(real_nvml().nvmlDeviceGetHandleByPciBusId, bus_id, device);
}
nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char* bus_id, nvmlDevice_t* device) {
  return by_name(real_nvml().nvmlDeviceGetHandleByPciBusId_v2, bus_id, device);
}
nvmlReturn_t nvmlDeviceGetHandleBySerial(const char* serial, nvmlDevice_t* device) {
  return by_name(real_nvml().nvmlDeviceGetHandleBySerial, serial, device);
}
nvmlReturn_t nvmlDeviceGetHandleByUUID(const char* uuid, nvmlDevice_t* device) {
  return by_name(real_nvml().nvmlDeviceGetHandleByUUID, uuid, device);
}
nvmlReturn_t nvmlDeviceGetHandleByUUIDV(const nvmlUUID_t* uuid, nvmlDevice_t* device) {
  return by_name(real_nvml().nvmlDeviceGetHandleByUUIDV, uuid, device);
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int* index) {
  const nvmlReturn_t result = real_nvml().nvmlDeviceGetIndex(device, index);
  if (result != NVML_SUCCESS) return result;
  // A MIG device has an index within its GPU, which stays.
  const int position = Limiter::active()->position_of(device);
  const ShownGpus shown = shown_gpus();
  for (std::uint32_t i = 0; i < shown.count; ++i) {
    if (static_cast<int>(shown.positions[i]) == position) *index = i;
  }
  return result;
}

nvmlReturn_t nvmlDeviceGetTopologyNearestGpus(nvmlDevice_t device, nvmlGpuTopologyLevel_t level,
                                              unsigned int* count, nvmlDevice_t* devices) {
  return filter_devices(count, devices, [&](unsigned int* some, nvmlDevice_t* found) {
    return real_nvml().nvmlDeviceGetTopologyNearestGpus(device, level, some, found);
  });
}

nvmlReturn_t nvmlSystemGetTopologyGpuSet(unsigned int cpu, unsigned int* count,
                                         nvmlDevice_t* devices) {
  return filter_devices(count, devices, [&](unsigned int* some, nvmlDevice_t* found) {
    return real_nvml().nvmlSystemGetTopologyGpuSet(cpu, some, found);
  });
}

// Unlike the two above, this one refuses a list that is too short.
nvmlReturn_t nvmlUnitGetDevices(nvmlUnit_t unit, unsigned int* count, nvmlDevice_t* devices) {
  if (count == nullptr) return real_nvml().nvmlUnitGetDevices(unit, count, devices);
  nvmlDevice_t all[kMostDevices] = {};
  unsigned int found = kMostDevices;
  const nvmlReturn_t result = real_nvml().nvmlUnitGetDevices(unit, &found, all);
  if (result != NVML_SUCCESS) return result;
  unsigned int shown = 0;
  for (unsigned int i = 0; i < found && i < kMostDevices; ++i) {
    if (is_shown(all[i])) all[shown++] = all[i];
  }
  return answer_list(shown, devices != nullptr, count, [&](std::size_t i) { devices[i] = all[i]; });
}

}  // namespace vgpu::hooks

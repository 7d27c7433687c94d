// SPDX-License-Identifier: Apache-2.0
// What a simulated GPU is, apart from its use: name, UUID, PCI place, clocks, power, modes. Figures
// that nobody can derive a behaviour from (watts, degrees) are steady: a share of the model's
// limit. Any thread.
#include <cstdio>
#include <string>

#include "library.h"
#include "mig.h"

using namespace vgpu::sim::nvml;

namespace {

constexpr unsigned kIdlePowerPercent = 10;
constexpr unsigned kTemperatureCelsius = 30;
constexpr unsigned kVendorAndDevice = 0x100010deU;  // a device number that NVIDIA doesn't use

nvmlReturn_t answer(nvmlDevice_t device, unsigned int* out, unsigned value) {
  if (const nvmlReturn_t error = check(device, out); error != NVML_SUCCESS) return error;
  *out = value;
  return NVML_SUCCESS;
}

nvmlReturn_t answer_text(nvmlDevice_t device, char* out, unsigned size, const std::string& text) {
  if (const nvmlReturn_t error = check(device, out); error != NVML_SUCCESS) return error;
  return copy_text(text, out, size);
}

nvmlReturn_t answer_missing(nvmlDevice_t device, const void* out) {
  const nvmlReturn_t error = check(device, out);
  return error != NVML_SUCCESS ? error : NVML_ERROR_NOT_SUPPORTED;
}

unsigned architecture(int major,
                      int minor) {  // NVML's numbers: 6 Turing, 7 Ampere, 8 Ada, 9 Hopper
  if (major == 7) return 6;
  if (major == 8) return minor == 9 ? 8 : 7;
  return 9;
}

}  // namespace

VGPU_SIM_NVML nvmlDeviceGetName(nvmlDevice_t device, char* name, unsigned int size) {
  if (const auto part = ready() ? mig_instance(device) : std::nullopt)
    return copy_text(std::string(part->whole->info->model->name) + " MIG " + part->device.profile,
                     name, size);
  if (const nvmlReturn_t error = check(device, name); error != NVML_SUCCESS) return error;
  return copy_text(device->info->model->name, name, size);
}

VGPU_SIM_NVML nvmlDeviceGetUUID(nvmlDevice_t device, char* uuid, unsigned int size) {
  if (const auto part = ready() ? mig_instance(device) : std::nullopt)
    return copy_text(part->device.uuid_text(), uuid, size);
  if (const nvmlReturn_t error = check(device, uuid); error != NVML_SUCCESS) return error;
  return copy_text(device->info->uuid.text().data(), uuid, size);
}

VGPU_SIM_NVML nvmlDeviceGetSerial(nvmlDevice_t device, char* serial, unsigned int size) {
  if (const nvmlReturn_t error = check(device, serial); error != NVML_SUCCESS) return error;
  unsigned long long digits = 0;
  for (const unsigned char byte : device->info->uuid.bytes) digits = digits * 31 + byte;
  char text[NVML_DEVICE_SERIAL_BUFFER_SIZE];
  std::snprintf(text, sizeof text, "%013llu", digits % 10'000'000'000'000ULL);
  return copy_text(text, serial, size);
}

VGPU_SIM_NVML nvmlDeviceGetVbiosVersion(nvmlDevice_t device, char* version, unsigned int size) {
  return answer_text(device, version, size, "simulated");
}
VGPU_SIM_NVML nvmlDeviceGetBoardPartNumber(nvmlDevice_t device, char* number, unsigned int size) {
  return answer_text(device, number, size, "vgpu-simulated");
}

VGPU_SIM_NVML nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t* pci) {
  if (const nvmlReturn_t error = check(device, pci); error != NVML_SUCCESS) return error;
  const auto& info = *device->info;
  *pci = {};
  std::snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04X:%02X:%02X.0",
                info.pci_domain & 0xffffU, info.pci_bus & 0xffU, info.pci_device & 0xffU);
  std::snprintf(pci->busId, sizeof pci->busId, "%s", info.pci_bus_id().c_str());
  pci->domain = info.pci_domain;
  pci->bus = info.pci_bus;
  pci->device = info.pci_device;
  pci->pciDeviceId = kVendorAndDevice;
  return NVML_SUCCESS;
}
VGPU_SIM_NVML nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t* pci) {
  nvmlPciInfo_t whole;
  const nvmlReturn_t result = nvmlDeviceGetPciInfo_v3(device, pci == nullptr ? nullptr : &whole);
  if (result == NVML_SUCCESS)
    std::memcpy(pci, &whole, offsetof(nvmlPciInfo_t, busId));  // the older struct ends there
  return result;
}
VGPU_SIM_NVML nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t* pci) {
  nvmlPciInfo_t whole;
  const nvmlReturn_t result = nvmlDeviceGetPciInfo_v3(device, pci == nullptr ? nullptr : &whole);
  if (result == NVML_SUCCESS) std::memcpy(pci, &whole, offsetof(nvmlPciInfo_t, pciSubSystemId));
  return result;
}
VGPU_SIM_NVML nvmlDeviceGetPciInfoExt(nvmlDevice_t device, nvmlPciInfoExt_t* pci) {
  if (const nvmlReturn_t error = check(device, pci); error != NVML_SUCCESS) return error;
  if (pci->version != nvmlPciInfoExt_v1) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  const auto& info = *device->info;
  *pci = {nvmlPciInfoExt_v1,
          info.pci_domain,
          info.pci_bus,
          info.pci_device,
          kVendorAndDevice,
          0,
          3,
          2,
          {}};
  std::snprintf(pci->busId, sizeof pci->busId, "%s", info.pci_bus_id().c_str());
  return NVML_SUCCESS;
}

VGPU_SIM_NVML nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int* minor) {
  if (const nvmlReturn_t error = check(device, minor); error != NVML_SUCCESS) return error;
  *minor = device->index;
  return NVML_SUCCESS;
}
VGPU_SIM_NVML nvmlDeviceGetBrand(nvmlDevice_t device, unsigned int* brand) {
  return answer(device, brand, NVML_BRAND_NVIDIA);
}
VGPU_SIM_NVML nvmlDeviceGetArchitecture(nvmlDevice_t device, unsigned int* out) {
  if (const nvmlReturn_t error = check(device, out); error != NVML_SUCCESS) return error;
  *out = architecture(device->info->model->compute_major, device->info->model->compute_minor);
  return NVML_SUCCESS;
}
VGPU_SIM_NVML nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int* major, int* minor) {
  if (const nvmlReturn_t error = check(device, major); error != NVML_SUCCESS) return error;
  if (minor == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  *major = device->info->model->compute_major;
  *minor = device->info->model->compute_minor;
  return NVML_SUCCESS;
}
VGPU_SIM_NVML nvmlDeviceGetMemoryBusWidth(nvmlDevice_t device, unsigned int* bits) {
  if (const nvmlReturn_t error = check(device, bits); error != NVML_SUCCESS) return error;
  *bits = static_cast<unsigned>(device->info->model->bus_width_bits);
  return NVML_SUCCESS;
}

VGPU_SIM_NVML nvmlDeviceGetComputeMode(nvmlDevice_t device, nvmlComputeMode_t* mode) {
  if (const nvmlReturn_t error = check(device, mode); error != NVML_SUCCESS) return error;
  *mode = NVML_COMPUTEMODE_DEFAULT;
  return NVML_SUCCESS;
}
VGPU_SIM_NVML nvmlDeviceGetPersistenceMode(nvmlDevice_t device, unsigned int* mode) {
  return answer(device, mode, NVML_FEATURE_DISABLED);
}
VGPU_SIM_NVML nvmlDeviceGetDisplayMode(nvmlDevice_t device, unsigned int* mode) {
  return answer(device, mode, NVML_FEATURE_DISABLED);
}
VGPU_SIM_NVML nvmlDeviceGetDisplayActive(nvmlDevice_t device, unsigned int* active) {
  return answer(device, active, NVML_FEATURE_DISABLED);
}
VGPU_SIM_NVML nvmlDeviceGetAccountingMode(nvmlDevice_t device, unsigned int* mode) {
  return answer(device, mode, NVML_FEATURE_DISABLED);
}
VGPU_SIM_NVML nvmlDeviceGetVirtualizationMode(nvmlDevice_t device, unsigned int* mode) {
  return answer(device, mode, 0);
}
VGPU_SIM_NVML nvmlDeviceGetMultiGpuBoard(nvmlDevice_t device, unsigned int* multi) {
  return answer(device, multi, 0);
}
VGPU_SIM_NVML nvmlDeviceGetPerformanceState(nvmlDevice_t device, unsigned int* state) {
  return answer(device, state, NVML_PSTATE_0);
}

VGPU_SIM_NVML nvmlDeviceGetNumFans(nvmlDevice_t device, unsigned int* fans) {
  return answer(device, fans, 0);
}
VGPU_SIM_NVML nvmlDeviceGetFanSpeed(nvmlDevice_t device, unsigned int* percent) {
  return answer_missing(device, percent);
}
VGPU_SIM_NVML nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor,
                                       unsigned int* celsius) {
  if (const nvmlReturn_t error = check(device, celsius); error != NVML_SUCCESS) return error;
  if (sensor != NVML_TEMPERATURE_GPU) return NVML_ERROR_INVALID_ARGUMENT;
  *celsius = kTemperatureCelsius;
  return NVML_SUCCESS;
}
VGPU_SIM_NVML nvmlDeviceGetPowerManagementMode(nvmlDevice_t device, unsigned int* mode) {
  return answer(device, mode, NVML_FEATURE_ENABLED);
}
VGPU_SIM_NVML nvmlDeviceGetPowerManagementLimit(nvmlDevice_t device, unsigned int* milliwatts) {
  if (const nvmlReturn_t error = check(device, milliwatts); error != NVML_SUCCESS) return error;
  *milliwatts = 1000U * static_cast<unsigned>(device->info->model->power_limit_watts);
  return NVML_SUCCESS;
}
VGPU_SIM_NVML nvmlDeviceGetPowerManagementDefaultLimit(nvmlDevice_t device,
                                                       unsigned int* milliwatts) {
  return nvmlDeviceGetPowerManagementLimit(device, milliwatts);
}
VGPU_SIM_NVML nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, unsigned int* milliwatts) {
  return nvmlDeviceGetPowerManagementLimit(device, milliwatts);
}
VGPU_SIM_NVML nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int* milliwatts) {
  const nvmlReturn_t result = nvmlDeviceGetPowerManagementLimit(device, milliwatts);
  if (result == NVML_SUCCESS) *milliwatts = *milliwatts / 100 * kIdlePowerPercent;
  return result;
}

VGPU_SIM_NVML nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int* mhz) {
  if (const nvmlReturn_t error = check(device, mhz); error != NVML_SUCCESS) return error;
  if (static_cast<unsigned>(type) >= NVML_CLOCK_COUNT) return NVML_ERROR_INVALID_ARGUMENT;
  const auto& model = *device->info->model;
  *mhz =
      static_cast<unsigned>(type == NVML_CLOCK_MEM ? model.memory_clock_mhz : model.sm_clock_mhz);
  return NVML_SUCCESS;
}
VGPU_SIM_NVML nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, nvmlClockType_t type,
                                        unsigned int* mhz) {
  return nvmlDeviceGetClockInfo(device, type, mhz);
}

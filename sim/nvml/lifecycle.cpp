// SPDX-License-Identifier: Apache-2.0
// Starting and stopping the simulated NVML, return codes as text, versions, and handles of devices.
// Any thread.
#include <pthread.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <mutex>
#include <optional>
#include <string>

#include "library.h"

namespace vgpu::sim::nvml {
namespace {

std::mutex mutex;
// A child that is forked while a thread is in here goes on with the mutex free.
[[maybe_unused]] const int at_fork =
    pthread_atfork([] { mutex.lock(); }, [] { mutex.unlock(); }, [] { mutex.unlock(); });
unsigned references = 0;  // nvmlInit less nvmlShutdown, in the process `owner`
pid_t owner = 0;
DeviceState* shared = nullptr;
std::array<nvmlDevice_st, kMaxDevices> handles;
unsigned handle_count = 0;

nvmlReturn_t initialise() {
  const std::scoped_lock lock(mutex);
  if (owner != getpid()) {
    owner = getpid();
    references = 0;
  }
  if (shared == nullptr) {
    shared = DeviceState::instance();
    if (shared == nullptr) return NVML_ERROR_DRIVER_NOT_LOADED;
    for (const DeviceInfo& info : shared->devices()) {
      handles[handle_count] = {&info, handle_count};
      ++handle_count;
    }
  }
  ++references;
  return NVML_SUCCESS;
}

template <class Accepts>
nvmlReturn_t find(nvmlDevice_t* device, Accepts&& accepts) {
  for (unsigned i = 0; i < handle_count; ++i) {
    if (!accepts(*handles[i].info)) continue;
    *device = &handles[i];
    return NVML_SUCCESS;
  }
  return NVML_ERROR_NOT_FOUND;
}

struct BusId {
  unsigned domain = 0;
  unsigned bus = 0;
  unsigned device = 0;
};

std::optional<BusId> parse_bus_id(const char* text) {
  BusId id;
  unsigned function = 0;
  int end = 0;
  if (std::sscanf(text, "%x:%x:%x.%x%n", &id.domain, &id.bus, &id.device, &function, &end) == 4 &&
      text[end] == '\0') {
    return id;
  }
  end = 0;
  id.domain = 0;
  if (std::sscanf(text, "%x:%x.%x%n", &id.bus, &id.device, &function, &end) == 3 &&
      text[end] == '\0')
    return id;
  return std::nullopt;
}

}  // namespace

bool ready() {
  const std::scoped_lock lock(mutex);
  return references > 0 && owner == getpid();
}
DeviceState& state() { return *shared; }
unsigned device_count() { return handle_count; }
nvmlDevice_t device_at(unsigned index) { return &handles[index]; }
bool is_device(nvmlDevice_t device) {
  return device >= handles.data() && device < handles.data() + handle_count;
}

}  // namespace vgpu::sim::nvml

using namespace vgpu::sim::nvml;

VGPU_SIM_NVML nvmlInit() { return initialise(); }
VGPU_SIM_NVML nvmlInit_v2() { return initialise(); }
VGPU_SIM_NVML nvmlInitWithFlags(unsigned int) { return initialise(); }

VGPU_SIM_NVML nvmlShutdown() {
  const std::scoped_lock lock(mutex);
  if (references == 0 || owner != getpid()) return NVML_ERROR_UNINITIALIZED;
  --references;
  return NVML_SUCCESS;
}

extern "C" __attribute__((visibility("default"))) const char* nvmlErrorString(nvmlReturn_t result) {
  switch (result) {
    case NVML_SUCCESS:
      return "Success";
    case NVML_ERROR_UNINITIALIZED:
      return "Uninitialized";
    case NVML_ERROR_INVALID_ARGUMENT:
      return "Invalid Argument";
    case NVML_ERROR_NOT_SUPPORTED:
      return "Not Supported";
    case NVML_ERROR_NO_PERMISSION:
      return "Insufficient Permissions";
    case NVML_ERROR_ALREADY_INITIALIZED:
      return "Already Initialized";
    case NVML_ERROR_NOT_FOUND:
      return "Not Found";
    case NVML_ERROR_INSUFFICIENT_SIZE:
      return "Insufficient Size";
    case NVML_ERROR_INSUFFICIENT_POWER:
      return "Insufficient External Power";
    case NVML_ERROR_DRIVER_NOT_LOADED:
      return "Driver Not Loaded";
    case NVML_ERROR_TIMEOUT:
      return "Timeout";
    case NVML_ERROR_IRQ_ISSUE:
      return "Interrupt Request Issue";
    case NVML_ERROR_LIBRARY_NOT_FOUND:
      return "NVML Shared Library Not Found";
    case NVML_ERROR_FUNCTION_NOT_FOUND:
      return "Function Not Found";
    case NVML_ERROR_CORRUPTED_INFOROM:
      return "Corrupted infoROM";
    case NVML_ERROR_GPU_IS_LOST:
      return "GPU is lost";
    case NVML_ERROR_RESET_REQUIRED:
      return "GPU requires reset";
    case NVML_ERROR_OPERATING_SYSTEM:
      return "GPU access blocked by the operating system";
    case NVML_ERROR_LIB_RM_VERSION_MISMATCH:
      return "Driver/library version mismatch";
    case NVML_ERROR_IN_USE:
      return "In use by another client";
    case NVML_ERROR_MEMORY:
      return "Insufficient Memory";
    case NVML_ERROR_NO_DATA:
      return "No data";
    case NVML_ERROR_VGPU_ECC_NOT_SUPPORTED:
      return "vGPU ECC not supported";
    case NVML_ERROR_INSUFFICIENT_RESOURCES:
      return "Insufficient Resources";
    case NVML_ERROR_FREQ_NOT_SUPPORTED:
      return "Invalid Frequency";
    case NVML_ERROR_ARGUMENT_VERSION_MISMATCH:
      return "Argument version mismatch";
    case NVML_ERROR_DEPRECATED:
      return "Requested functionality has been deprecated";
    case NVML_ERROR_NOT_READY:
      return "System is not in ready state";
    case NVML_ERROR_GPU_NOT_FOUND:
      return "No supported GPUs were found";
    case NVML_ERROR_INVALID_STATE:
      return "Resource not in correct state to perform requested operation";
    case NVML_ERROR_RESET_TYPE_NOT_SUPPORTED:
      return "Reset type is not supported for given device";
    case NVML_ERROR_UNKNOWN:
      break;
  }
  return "Unknown Error";
}

VGPU_SIM_NVML nvmlSystemGetDriverVersion(char* version, unsigned int size) {
  return ready() ? copy_text(vgpu::sim::kDriverVersion, version, size) : NVML_ERROR_UNINITIALIZED;
}
VGPU_SIM_NVML nvmlSystemGetNVMLVersion(char* version, unsigned int size) {
  return copy_text(std::string("13.") + vgpu::sim::kDriverVersion, version, size);
}
VGPU_SIM_NVML nvmlSystemGetCudaDriverVersion(int* version) {
  if (version == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  *version = vgpu::sim::kDriverApiVersion;
  return NVML_SUCCESS;
}
VGPU_SIM_NVML nvmlSystemGetCudaDriverVersion_v2(int* version) {
  return nvmlSystemGetCudaDriverVersion(version);
}

VGPU_SIM_NVML nvmlSystemGetProcessName(unsigned int pid, char* name, unsigned int size) {
  if (!ready()) return NVML_ERROR_UNINITIALIZED;
  if (name == nullptr || size == 0) return NVML_ERROR_INVALID_ARGUMENT;
  std::ifstream file("/proc/" + std::to_string(pid) + "/cmdline");
  std::string program;
  if (!std::getline(file, program, '\0')) return NVML_ERROR_NOT_FOUND;
  return copy_text(std::string_view(program).substr(0, size - 1), name, size);
}

VGPU_SIM_NVML nvmlDeviceGetCount_v2(unsigned int* count) {
  if (!ready()) return NVML_ERROR_UNINITIALIZED;
  if (count == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  *count = device_count();
  return NVML_SUCCESS;
}
VGPU_SIM_NVML nvmlDeviceGetCount(unsigned int* count) { return nvmlDeviceGetCount_v2(count); }

VGPU_SIM_NVML nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t* device) {
  if (!ready()) return NVML_ERROR_UNINITIALIZED;
  if (device == nullptr || index >= device_count()) return NVML_ERROR_INVALID_ARGUMENT;
  *device = device_at(index);
  return NVML_SUCCESS;
}
VGPU_SIM_NVML nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t* device) {
  return nvmlDeviceGetHandleByIndex_v2(index, device);
}

// By its exact spelling, but "GPU-" may be missing: what NVML takes.
VGPU_SIM_NVML nvmlDeviceGetHandleByUUID(const char* uuid, nvmlDevice_t* device) {
  if (!ready()) return NVML_ERROR_UNINITIALIZED;
  if (uuid == nullptr || device == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  return find(device, [&](const vgpu::sim::DeviceInfo& info) {
    const auto text = info.uuid.text();
    return std::string_view(text.data()) == uuid || std::string_view(text.data() + 4) == uuid;
  });
}

VGPU_SIM_NVML nvmlDeviceGetHandleByUUIDV(const nvmlUUID_t* uuid, nvmlDevice_t* device) {
  if (!ready()) return NVML_ERROR_UNINITIALIZED;
  if (uuid == nullptr || device == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  if (uuid->version != nvmlUUID_v1) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  if (uuid->type == NVML_UUID_TYPE_ASCII) return nvmlDeviceGetHandleByUUID(uuid->value.str, device);
  if (uuid->type != NVML_UUID_TYPE_BINARY) return NVML_ERROR_INVALID_ARGUMENT;
  return find(device, [&](const vgpu::sim::DeviceInfo& info) {
    return std::memcmp(info.uuid.bytes.data(), uuid->value.bytes, sizeof uuid->value.bytes) == 0;
  });
}

VGPU_SIM_NVML nvmlDeviceGetHandleByPciBusId_v2(const char* bus_id, nvmlDevice_t* device) {
  if (!ready()) return NVML_ERROR_UNINITIALIZED;
  if (bus_id == nullptr || device == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  const auto id = parse_bus_id(bus_id);
  if (!id) return NVML_ERROR_INVALID_ARGUMENT;
  return find(device, [&](const vgpu::sim::DeviceInfo& info) {
    return info.pci_domain == id->domain && info.pci_bus == id->bus &&
           info.pci_device == id->device;
  });
}
VGPU_SIM_NVML nvmlDeviceGetHandleByPciBusId(const char* bus_id, nvmlDevice_t* device) {
  return nvmlDeviceGetHandleByPciBusId_v2(bus_id, device);
}

extern "C" nvmlReturn_t nvmlDeviceGetSerial(nvmlDevice_t device, char* serial, unsigned int size);

VGPU_SIM_NVML nvmlDeviceGetHandleBySerial(const char* serial, nvmlDevice_t* device) {
  if (!ready()) return NVML_ERROR_UNINITIALIZED;
  if (serial == nullptr || device == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  for (unsigned i = 0; i < device_count(); ++i) {
    char own[NVML_DEVICE_SERIAL_BUFFER_SIZE];
    if (nvmlDeviceGetSerial(device_at(i), own, sizeof own) != NVML_SUCCESS ||
        std::strcmp(own, serial) != 0)
      continue;
    *device = device_at(i);
    return NVML_SUCCESS;
  }
  return NVML_ERROR_NOT_FOUND;
}

VGPU_SIM_NVML nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int* index) {
  if (const nvmlReturn_t error = check(device, index); error != NVML_SUCCESS) return error;
  *index = device->index;
  return NVML_SUCCESS;
}

VGPU_SIM_NVML nvmlSystemGetTopologyGpuSet(unsigned int, unsigned int* count,
                                          nvmlDevice_t* devices) {
  if (!ready()) return NVML_ERROR_UNINITIALIZED;
  if (count == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  if (devices == nullptr) {
    *count = device_count();
    return NVML_SUCCESS;
  }
  if (*count == 0) return NVML_ERROR_INVALID_ARGUMENT;
  // A count of more than there are stays what it was: the real one does that.
  for (unsigned i = 0; i < *count && i < device_count(); ++i) devices[i] = device_at(i);
  return NVML_SUCCESS;
}

// Every simulated GPU hangs on one CPU, none shares a switch with another.
VGPU_SIM_NVML nvmlDeviceGetTopologyNearestGpus(nvmlDevice_t device, nvmlGpuTopologyLevel_t level,
                                               unsigned int* count, nvmlDevice_t* devices) {
  if (const nvmlReturn_t error = check(device, count); error != NVML_SUCCESS) return error;
  const unsigned others = level == NVML_TOPOLOGY_NODE ? device_count() - 1 : 0;
  if (devices == nullptr || *count == 0) {
    *count = others;
    return NVML_SUCCESS;
  }
  unsigned written = 0;
  for (unsigned i = 0; i < device_count() && written < *count && written < others; ++i) {
    if (device_at(i) != device) devices[written++] = device_at(i);
  }
  *count = written;
  return NVML_SUCCESS;
}

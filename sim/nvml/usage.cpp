// SPDX-License-Identifier: Apache-2.0
// What a simulated GPU is used for: memory in both forms, processes in every form, utilization. All
// of it is read from the state that the simulated driver's processes share. Any thread.
#include <algorithm>
#include <array>
#include <bit>
#include <ctime>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "library.h"
#include "mig.h"
#include "vgpu/api/nvml_internal.h"

using namespace vgpu::sim::nvml;
using vgpu::sim::DeviceState;
using vgpu::sim::DeviceUse;
using vgpu::sim::ProcessUse;

namespace {

constexpr unsigned kNoInstance = 0xffffffffU;
constexpr std::uint64_t kSamplePeriodNs = 200'000'000;
constexpr unsigned kSampleRoom =
    100;  // what NVML asks callers to provide, however many samples there are

DeviceUse look(nvmlDevice_t device) { return state().look(static_cast<int>(device->index)); }

std::uint64_t realtime_us() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000U +
         static_cast<std::uint64_t>(now.tv_nsec) / 1000U;
}

// Percent of the last sample period that a counter of busy nanoseconds grew by. The state keeps
// sums only, so the period begins when this process first looks.
struct Gauge {
  std::uint64_t at_ns = 0;
  std::uint64_t busy_ns = 0;
  unsigned percent = 0;

  bool read(std::uint64_t now_ns, std::uint64_t busy_now_ns) {
    if (at_ns == 0 || busy_now_ns < busy_ns) {
      *this = {now_ns, busy_now_ns, 0};
      return false;
    }
    if (now_ns - at_ns < kSamplePeriodNs) return false;
    percent = static_cast<unsigned>(
        std::min<std::uint64_t>(100, (busy_now_ns - busy_ns) * 100 / (now_ns - at_ns)));
    at_ns = now_ns;
    busy_ns = busy_now_ns;
    return true;
  }
};

struct ProcessGauge {
  Gauge gauge;
  std::uint64_t timestamp_us = 0;
};

struct Gauges {
  Gauge device;
  std::map<std::pair<pid_t, std::uint64_t>, ProcessGauge> processes;
};

std::mutex gauges_mutex;
[[maybe_unused]] const int at_fork = pthread_atfork(
    [] { gauges_mutex.lock(); }, [] { gauges_mutex.unlock(); }, [] { gauges_mutex.unlock(); });
Gauges gauges[vgpu::sim::kMaxDevices];

unsigned device_percent(nvmlDevice_t device) {
  const DeviceUse use = look(device);
  const std::scoped_lock lock(gauges_mutex);
  Gauge& gauge = gauges[device->index].device;
  gauge.read(DeviceState::now_ns(), use.busy_ns);
  return gauge.percent;
}

struct ProcessSample {
  pid_t pid;
  std::uint64_t timestamp_us;
  unsigned percent;
};

std::vector<ProcessSample> process_samples(nvmlDevice_t device, std::uint64_t newer_than_us) {
  const DeviceUse use = look(device);
  const std::scoped_lock lock(gauges_mutex);
  std::vector<ProcessSample> samples;
  for (const ProcessUse& process : use.processes) {
    ProcessGauge& known = gauges[device->index].processes[{process.pid, process.start_time}];
    if (known.gauge.read(DeviceState::now_ns(), process.busy_ns))
      known.timestamp_us = realtime_us();
    if (known.gauge.percent > 0 && known.timestamp_us > newer_than_us) {
      samples.push_back({process.pid, known.timestamp_us, known.gauge.percent});
    }
  }
  return samples;
}

template <class Info>
Info describe(const ProcessUse& process) {
  Info info{};
  info.pid = static_cast<unsigned>(process.pid);
  info.usedGpuMemory = process.visible_bytes;
  if constexpr (requires { info.gpuInstanceId; }) {
    info.gpuInstanceId = kNoInstance;
    info.computeInstanceId = kNoInstance;
  }
  return info;
}

// Clients of MPS are those that nvml.mps in the machine's folder names, a pid a line: they are in
// its list, and not among the others.
enum class Kind : unsigned char { compute, mps };

std::vector<ProcessUse> processes_of(nvmlDevice_t device, Kind kind) {
  std::set<pid_t> clients;
  std::ifstream file(state().folder() + "/nvml.mps");
  for (pid_t pid = 0; file >> pid;) clients.insert(pid);
  if (kind == Kind::mps && clients.empty()) return {};  // to look at the device takes long
  std::vector<ProcessUse> processes = look(device).processes;
  std::erase_if(processes, [&](const ProcessUse& process) {
    return (clients.count(process.pid) != 0) != (kind == Kind::mps);
  });
  return processes;
}

template <Kind kind, class Info>
nvmlReturn_t list_processes(nvmlDevice_t device, unsigned* count, Info* infos) {
  if (const nvmlReturn_t error = check(device, count); error != NVML_SUCCESS) return error;
  const auto processes = processes_of(device, kind);
  return copy_list(processes.size(), infos != nullptr, count,
                   [&](std::size_t i) { infos[i] = describe<Info>(processes[i]); });
}

// Nothing draws here.
nvmlReturn_t no_processes(nvmlDevice_t device, unsigned* count) {
  if (const nvmlReturn_t error = check(device, count); error != NVML_SUCCESS) return error;
  *count = 0;
  return NVML_SUCCESS;
}

nvmlReturn_t idle_engine(nvmlDevice_t device, unsigned* percent, unsigned* period_us) {
  if (const nvmlReturn_t error = check(device, percent); error != NVML_SUCCESS) return error;
  if (period_us == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  *percent = 0;
  *period_us = static_cast<unsigned>(kSamplePeriodNs / 1000U);
  return NVML_SUCCESS;
}

template <Kind kind>
nvmlReturn_t internal_processes(nvmlDevice_t device, unsigned* count,
                                vgpu::nvml_internal::Process* out) {
  if (const nvmlReturn_t error = check(device, count); error != NVML_SUCCESS) return error;
  const auto processes = processes_of(device, kind);
  return copy_list(processes.size(), out != nullptr, count, [&](std::size_t i) {
    out[i] = {};
    out[i].detail = describe<nvmlProcessDetail_v1_t>(processes[i]);
    std::ifstream file("/proc/" + std::to_string(processes[i].pid) + "/cmdline");
    file.read(out[i].command_line, sizeof out[i].command_line - 1);
  });
}
nvmlReturn_t internal_no_processes(nvmlDevice_t device, unsigned* count,
                                   vgpu::nvml_internal::Process*) {
  return no_processes(device, count);
}

}  // namespace

VGPU_SIM_NVML nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t* memory) {
  if (const auto part = ready() && memory != nullptr ? mig_instance(device) : std::nullopt) {
    *memory = {part->device.total_bytes, part->device.total_bytes, 0};
    return NVML_SUCCESS;
  }
  if (const nvmlReturn_t error = check(device, memory); error != NVML_SUCCESS) return error;
  const std::uint64_t total = device->info->nvml_total_bytes;
  const std::uint64_t used =
      std::min(total, device->info->reserved_bytes + look(device).used_bytes);
  *memory = {total, total - used, used};  // this older form counts the reserve as used
  return NVML_SUCCESS;
}

VGPU_SIM_NVML nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t* memory) {
  if (const nvmlReturn_t error = check(device, memory); error != NVML_SUCCESS) return error;
  if (memory->version != nvmlMemory_v2) return NVML_ERROR_FUNCTION_NOT_FOUND;
  const std::uint64_t total = device->info->nvml_total_bytes;
  const std::uint64_t reserved = device->info->reserved_bytes;
  const std::uint64_t used = std::min(total - reserved, look(device).used_bytes);
  *memory = {nvmlMemory_v2, total, reserved, total - reserved - used, used};
  return NVML_SUCCESS;
}

// The window covers the whole memory, as on current data-centre GPUs, and what is in use is mapped.
VGPU_SIM_NVML nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t* memory) {
  if (const nvmlReturn_t error = check(device, memory); error != NVML_SUCCESS) return error;
  const std::uint64_t total = std::bit_ceil(device->info->nvml_total_bytes);
  const std::uint64_t used = std::min(total, look(device).used_bytes);
  *memory = {total, total - used, used};
  return NVML_SUCCESS;
}

VGPU_SIM_NVML nvmlDeviceGetConfComputeProtectedMemoryUsage(nvmlDevice_t device,
                                                           nvmlMemory_t* memory) {
  if (const nvmlReturn_t error = check(device, memory); error != NVML_SUCCESS) return error;
  *memory = {};
  return NVML_SUCCESS;
}

VGPU_SIM_NVML nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, unsigned int* count,
                                                   nvmlProcessInfo_v1_t* infos) {
  return list_processes<Kind::compute>(device, count, infos);
}
VGPU_SIM_NVML nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned int* count,
                                                      nvmlProcessInfo_v2_t* infos) {
  return list_processes<Kind::compute>(device, count, infos);
}
VGPU_SIM_NVML nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int* count,
                                                      nvmlProcessInfo_t* infos) {
  return list_processes<Kind::compute>(device, count, infos);
}
VGPU_SIM_NVML nvmlDeviceGetGraphicsRunningProcesses(nvmlDevice_t device, unsigned int* count,
                                                    nvmlProcessInfo_v1_t*) {
  return no_processes(device, count);
}
VGPU_SIM_NVML nvmlDeviceGetGraphicsRunningProcesses_v2(nvmlDevice_t device, unsigned int* count,
                                                       nvmlProcessInfo_v2_t*) {
  return no_processes(device, count);
}
VGPU_SIM_NVML nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned int* count,
                                                       nvmlProcessInfo_t*) {
  return no_processes(device, count);
}
VGPU_SIM_NVML nvmlDeviceGetMPSComputeRunningProcesses(nvmlDevice_t device, unsigned int* count,
                                                      nvmlProcessInfo_v1_t* infos) {
  return list_processes<Kind::mps>(device, count, infos);
}
VGPU_SIM_NVML nvmlDeviceGetMPSComputeRunningProcesses_v2(nvmlDevice_t device, unsigned int* count,
                                                         nvmlProcessInfo_v2_t* infos) {
  return list_processes<Kind::mps>(device, count, infos);
}
VGPU_SIM_NVML nvmlDeviceGetMPSComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int* count,
                                                         nvmlProcessInfo_t* infos) {
  return list_processes<Kind::mps>(device, count, infos);
}

VGPU_SIM_NVML nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device,
                                                    nvmlProcessDetailList_t* list) {
  if (const nvmlReturn_t error = check(device, list); error != NVML_SUCCESS) return error;
  if (list->version != nvmlProcessDetailList_v1) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  if (list->mode > NVML_PROCESS_MODE_MPS) return NVML_ERROR_INVALID_ARGUMENT;
  if (list->mode == NVML_PROCESS_MODE_MPS)
    return list_processes<Kind::mps>(device, &list->numProcArrayEntries, list->procArray);
  if (list->mode != NVML_PROCESS_MODE_COMPUTE)
    return no_processes(device, &list->numProcArrayEntries);
  return list_processes<Kind::compute>(device, &list->numProcArrayEntries, list->procArray);
}

VGPU_SIM_NVML nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t* rates) {
  if (const nvmlReturn_t error = check(device, rates); error != NVML_SUCCESS) return error;
  if (is_in_mig_mode(device)) return NVML_ERROR_NOT_SUPPORTED;  // as NVIDIA's documentation says
  *rates = {device_percent(device), 0};
  return NVML_SUCCESS;
}

VGPU_SIM_NVML nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device,
                                                     unsigned long long* reasons) {
  if (const nvmlReturn_t error = check(device, reasons); error != NVML_SUCCESS) return error;
  *reasons = clocks_held_by(device->index);
  return NVML_SUCCESS;
}

VGPU_SIM_NVML nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device,
                                                        unsigned long long* reasons) {
  return nvmlDeviceGetCurrentClocksEventReasons(device, reasons);
}

VGPU_SIM_NVML nvmlDeviceGetProcessUtilization(nvmlDevice_t device,
                                              nvmlProcessUtilizationSample_t* samples,
                                              unsigned int* count,
                                              unsigned long long last_seen_us) {
  if (const nvmlReturn_t error = check(device, count); error != NVML_SUCCESS) return error;
  if (is_in_mig_mode(device)) return NVML_ERROR_NOT_SUPPORTED;
  if (samples == nullptr) {
    *count = kSampleRoom;
    return NVML_ERROR_INSUFFICIENT_SIZE;
  }
  const auto found = process_samples(device, last_seen_us);
  if (found.empty()) return NVML_ERROR_NOT_FOUND;
  return copy_list(found.size(), true, count, [&](std::size_t i) {
    samples[i] = {
        static_cast<unsigned>(found[i].pid), found[i].timestamp_us, found[i].percent, 0, 0, 0};
  });
}

VGPU_SIM_NVML nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device,
                                                    nvmlProcessesUtilizationInfo_t* info) {
  if (const nvmlReturn_t error = check(device, info); error != NVML_SUCCESS) return error;
  if (info->version != nvmlProcessesUtilizationInfo_v1) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  if (info->procUtilArray == nullptr) {
    info->processSamplesCount = kSampleRoom;
    return NVML_ERROR_INSUFFICIENT_SIZE;
  }
  const auto found = process_samples(device, info->lastSeenTimeStamp);
  if (found.empty()) return NVML_ERROR_NOT_FOUND;
  return copy_list(found.size(), true, &info->processSamplesCount, [&](std::size_t i) {
    info->procUtilArray[i] = {found[i].timestamp_us,
                              static_cast<unsigned>(found[i].pid),
                              found[i].percent,
                              0,
                              0,
                              0,
                              0,
                              0};
  });
}

VGPU_SIM_NVML nvmlDeviceGetSamples(nvmlDevice_t device, nvmlSamplingType_t type,
                                   unsigned long long last_seen_us, nvmlValueType_t* value_type,
                                   unsigned int* count, nvmlSample_t* samples) {
  if (const nvmlReturn_t error = check(device, count); error != NVML_SUCCESS) return error;
  if (value_type == nullptr || static_cast<unsigned>(type) > NVML_OFA_UTILIZATION_SAMPLES) {
    return NVML_ERROR_INVALID_ARGUMENT;
  }
  if (type != NVML_GPU_UTILIZATION_SAMPLES && type != NVML_MEMORY_UTILIZATION_SAMPLES)
    return NVML_ERROR_NOT_SUPPORTED;
  *value_type = NVML_VALUE_TYPE_UNSIGNED_INT;
  if (samples == nullptr) {
    *count = kSampleRoom;
    return NVML_SUCCESS;
  }
  if (*count == 0) return NVML_ERROR_INVALID_ARGUMENT;
  const std::uint64_t now_us = realtime_us();
  if (now_us <= last_seen_us) return NVML_ERROR_NOT_FOUND;
  *count = 1;
  samples[0] = {};
  samples[0].timeStamp = now_us;
  samples[0].sampleValue.uiVal = type == NVML_GPU_UTILIZATION_SAMPLES ? device_percent(device) : 0;
  return NVML_SUCCESS;
}

VGPU_SIM_NVML nvmlDeviceGetEncoderUtilization(nvmlDevice_t device, unsigned int* percent,
                                              unsigned int* period_us) {
  return idle_engine(device, percent, period_us);
}
VGPU_SIM_NVML nvmlDeviceGetDecoderUtilization(nvmlDevice_t device, unsigned int* percent,
                                              unsigned int* period_us) {
  return idle_engine(device, percent, period_us);
}
VGPU_SIM_NVML nvmlDeviceGetJpgUtilization(nvmlDevice_t device, unsigned int* percent,
                                          unsigned int* period_us) {
  return idle_engine(device, percent, period_us);
}
VGPU_SIM_NVML nvmlDeviceGetOfaUtilization(nvmlDevice_t device, unsigned int* percent,
                                          unsigned int* period_us) {
  return idle_engine(device, percent, period_us);
}

// The one private table that is known, with the functions in it that are
// (vgpu/api/nvml_internal.h).
VGPU_SIM_NVML nvmlInternalGetExportTable(const void** table, const void* id) {
  namespace internal = vgpu::nvml_internal;
  if (table == nullptr || id == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  if (std::memcmp(id, internal::kProcessTableId, sizeof internal::kProcessTableId) != 0)
    return NVML_ERROR_NOT_FOUND;
  static const auto functions = [] {
    std::array<const void*, internal::kProcessTableSlots> slots{};
    slots[0] = reinterpret_cast<const void*>(internal::kProcessTableBytes);
    slots[internal::kComputeProcessesSlot] =
        reinterpret_cast<const void*>(&internal_processes<Kind::compute>);
    slots[internal::kGraphicsProcessesSlot] = reinterpret_cast<const void*>(&internal_no_processes);
    slots[internal::kMpsProcessesSlot] =
        reinterpret_cast<const void*>(&internal_processes<Kind::mps>);
    return slots;
  }();
  *table = functions.data();
  return NVML_SUCCESS;
}

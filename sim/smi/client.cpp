// SPDX-License-Identifier: Apache-2.0
// Questions to NVML, each with its own way of having no answer.
#include "client.h"

#include <dlfcn.h>

#include <array>
#include <cstdio>
#include <cstdlib>

namespace vgpu::sim::smi {
namespace {

template <class Function>
void look_up(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function != nullptr) return;
  std::fprintf(stderr, "nvidia-smi (vgpu simulated): libnvidia-ml.so.1 has no %s\n", name);
  std::exit(13);
}

Functions load() {
  void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
  if (library == nullptr) {
    std::fprintf(stderr,
                 "nvidia-smi (vgpu simulated): %s\n  try: vgpu run --simulated -- nvidia-smi\n",
                 dlerror());
    std::exit(12);
  }
  Functions functions;
#define VGPU_SMI_FUNCTION(symbol, params) look_up(library, #symbol, functions.symbol);
#include "functions.def"
#undef VGPU_SMI_FUNCTION
  look_up(library, "nvmlErrorString", functions.nvmlErrorString);
  if (const nvmlReturn_t error = functions.nvmlInit_v2(); error != NVML_SUCCESS) {
    std::printf("Failed to initialize NVML: %s\n", functions.nvmlErrorString(error));
    std::exit(error);
  }
  return functions;
}

using TextQuery = nvmlReturn_t (*)(nvmlDevice_t, char*, unsigned int);
std::string text(TextQuery query, nvmlDevice_t device) {
  std::array<char, 96> out{};
  return query(device, out.data(), out.size()) == NVML_SUCCESS ? out.data() : "[N/A]";
}

using NumberQuery = nvmlReturn_t (*)(nvmlDevice_t, unsigned int*);
std::optional<unsigned> number(NumberQuery query, nvmlDevice_t device) {
  unsigned out = 0;
  if (query(device, &out) != NVML_SUCCESS) return std::nullopt;
  return out;
}

std::optional<bool> enabled(NumberQuery query, nvmlDevice_t device) {
  const auto out = number(query, device);
  if (!out) return std::nullopt;
  return *out == NVML_FEATURE_ENABLED;
}

using ListQuery = nvmlReturn_t (*)(nvmlDevice_t, unsigned int*, nvmlProcessInfo_t*);
void append(std::vector<Process>& processes, ListQuery query, nvmlDevice_t device, char type) {
  std::vector<nvmlProcessInfo_t> infos(16);
  unsigned count = 0;
  nvmlReturn_t result = NVML_SUCCESS;
  do {  // the list may grow between two questions
    count = static_cast<unsigned>(infos.size());
    result = query(device, &count, infos.data());
    if (result == NVML_ERROR_INSUFFICIENT_SIZE) infos.resize(count + 16);
  } while (result == NVML_ERROR_INSUFFICIENT_SIZE);
  if (result != NVML_SUCCESS) return;
  for (unsigned i = 0; i < count; ++i) {
    Process process{infos[i].pid, infos[i].usedGpuMemory, type};
    if (infos[i].usedGpuMemory == static_cast<unsigned long long>(NVML_VALUE_NOT_AVAILABLE))
      process.used_bytes.reset();
    processes.push_back(process);
  }
}

}  // namespace

const Functions& nvml() {
  static const Functions functions = load();
  return functions;
}

unsigned Gpu::index() const { return number(nvml().nvmlDeviceGetIndex, device_).value_or(0); }
std::string Gpu::name() const { return text(nvml().nvmlDeviceGetName, device_); }
std::string Gpu::uuid() const { return text(nvml().nvmlDeviceGetUUID, device_); }
std::string Gpu::serial() const { return text(nvml().nvmlDeviceGetSerial, device_); }
std::string Gpu::bus_id() const {
  nvmlPciInfo_t pci{};
  return nvml().nvmlDeviceGetPciInfo_v3(device_, &pci) == NVML_SUCCESS ? pci.busId : "[N/A]";
}
std::optional<nvmlMemory_v2_t> Gpu::memory() const {
  nvmlMemory_v2_t memory{};
  memory.version = nvmlMemory_v2;
  if (nvml().nvmlDeviceGetMemoryInfo_v2(device_, &memory) != NVML_SUCCESS) return std::nullopt;
  return memory;
}
std::optional<nvmlUtilization_t> Gpu::utilization() const {
  nvmlUtilization_t rates{};
  if (nvml().nvmlDeviceGetUtilizationRates(device_, &rates) != NVML_SUCCESS) return std::nullopt;
  return rates;
}
std::optional<unsigned> Gpu::fan_percent() const {
  return number(nvml().nvmlDeviceGetFanSpeed, device_);
}
std::optional<unsigned> Gpu::temperature_celsius() const {
  unsigned celsius = 0;
  if (nvml().nvmlDeviceGetTemperature(device_, NVML_TEMPERATURE_GPU, &celsius) != NVML_SUCCESS)
    return std::nullopt;
  return celsius;
}
std::optional<unsigned> Gpu::power_milliwatts() const {
  return number(nvml().nvmlDeviceGetPowerUsage, device_);
}
std::optional<unsigned> Gpu::power_limit_milliwatts() const {
  return number(nvml().nvmlDeviceGetEnforcedPowerLimit, device_);
}
std::optional<unsigned> Gpu::performance_state() const {
  return number(nvml().nvmlDeviceGetPerformanceState, device_);
}
std::optional<unsigned> Gpu::clock_mhz(nvmlClockType_t type) const {
  unsigned mhz = 0;
  if (nvml().nvmlDeviceGetClockInfo(device_, type, &mhz) != NVML_SUCCESS) return std::nullopt;
  return mhz;
}
std::optional<bool> Gpu::persistence() const {
  return enabled(nvml().nvmlDeviceGetPersistenceMode, device_);
}
std::optional<bool> Gpu::display_active() const {
  return enabled(nvml().nvmlDeviceGetDisplayActive, device_);
}
std::string Gpu::compute_mode() const {
  constexpr std::array<const char*, NVML_COMPUTEMODE_COUNT> kNames{"Default", "E. Thread",
                                                                   "Prohibited", "E. Process"};
  const auto mode = number(nvml().nvmlDeviceGetComputeMode, device_);
  return mode && *mode < kNames.size() ? kNames[*mode] : "N/A";
}
std::string Gpu::mig_mode() const {
  unsigned current = 0;
  unsigned pending = 0;
  if (nvml().nvmlDeviceGetMigMode(device_, &current, &pending) != NVML_SUCCESS) return "N/A";
  return current == NVML_FEATURE_ENABLED ? "Enabled" : "Disabled";
}
std::string Gpu::compute_capability() const {
  int major = 0;
  int minor = 0;
  if (nvml().nvmlDeviceGetCudaComputeCapability(device_, &major, &minor) != NVML_SUCCESS)
    return "[N/A]";
  return std::to_string(major) + "." + std::to_string(minor);
}
std::vector<Process> Gpu::processes() const {
  std::vector<Process> processes;
  append(processes, nvml().nvmlDeviceGetComputeRunningProcesses_v3, device_, 'C');
  append(processes, nvml().nvmlDeviceGetGraphicsRunningProcesses_v3, device_, 'G');
  return processes;
}
std::optional<unsigned> Gpu::process_percent(unsigned pid) const {
  std::vector<nvmlProcessUtilizationSample_t> samples;
  unsigned count = 0;
  nvmlReturn_t result = nvml().nvmlDeviceGetProcessUtilization(device_, nullptr, &count, 0);
  if (result == NVML_ERROR_INSUFFICIENT_SIZE) {
    samples.resize(count);
    result = nvml().nvmlDeviceGetProcessUtilization(device_, samples.data(), &count, 0);
  }
  if (result == NVML_ERROR_NOT_FOUND) return 0;  // no sample: nothing ran
  if (result != NVML_SUCCESS) return std::nullopt;
  for (unsigned i = 0; i < count; ++i) {
    if (samples[i].pid == pid) return samples[i].smUtil;
  }
  return 0;
}

std::vector<Gpu> gpus() {
  std::vector<Gpu> out;
  unsigned count = 0;
  if (nvml().nvmlDeviceGetCount_v2(&count) != NVML_SUCCESS) return out;
  for (unsigned i = 0; i < count; ++i) {
    nvmlDevice_t device = nullptr;
    if (nvml().nvmlDeviceGetHandleByIndex_v2(i, &device) == NVML_SUCCESS) out.emplace_back(device);
  }
  return out;
}

std::string driver_version() {
  std::array<char, NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE> out{};
  return nvml().nvmlSystemGetDriverVersion(out.data(), out.size()) == NVML_SUCCESS ? out.data()
                                                                                   : "N/A";
}

std::string cuda_version() {
  int version = 0;
  if (nvml().nvmlSystemGetCudaDriverVersion_v2(&version) != NVML_SUCCESS) return "N/A";
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string process_name(unsigned pid) {
  std::array<char, 1024> out{};
  if (nvml().nvmlSystemGetProcessName(pid, out.data(), out.size()) == NVML_SUCCESS)
    return out.data();
  return "[Not Found]";
}

}  // namespace vgpu::sim::smi

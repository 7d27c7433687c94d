// SPDX-License-Identifier: Apache-2.0
#include "nvml_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <span>
#include <utility>

#include "times.h"
#include "vgpu/survey/gpus.h"

namespace vgpu::hypervisor {
namespace {

constexpr std::size_t kMostProcesses = 16'384;
constexpr unsigned kMostDevices = 256;
constexpr int kMostXidsAtOnce = 64;
constexpr unsigned long long kXidEvents = 0x8;  // nvmlEventTypeXidCriticalError

struct EventData {  // nvmlEventData_t
  nvmlDevice_t device;
  unsigned long long type;
  unsigned long long data;
  unsigned gpu_instance;
  unsigned compute_instance;
};
static_assert(sizeof(EventData) == 32);

}  // namespace

Nvml::Nvml(std::string library) : library_(std::move(library)) {}

Nvml::~Nvml() { stop(); }  // never dlclosed: NVML registers destructors of its own

template <class Function>
Function* Nvml::call(const char* name) const {
  return handle_ == nullptr ? nullptr : reinterpret_cast<Function*>(dlsym(handle_, name));
}

template <class Value, class Function>
std::optional<Value> Nvml::ask(const char* name, std::size_t device) const {
  auto* function = call<Function>(name);
  Value value{};
  if (function == nullptr || function(devices_[device], &value) != NVML_SUCCESS)
    return std::nullopt;
  return value;
}

std::string Nvml::error_text(nvmlReturn_t result) const {
  auto* text = call<const char*(nvmlReturn_t)>("nvmlErrorString");
  return text != nullptr ? text(result) : fmt::format("NVML error {}", static_cast<int>(result));
}

void Nvml::stop() {
  if (!started_) return;
  if (events_ != nullptr) {
    if (auto* end = call<nvmlReturn_t(void*)>("nvmlEventSetFree")) end(events_);
    events_ = nullptr;
  }
  if (auto* shutdown = call<nvmlReturn_t()>("nvmlShutdown")) shutdown();
  devices_.clear();
  started_ = false;
}

std::string Nvml::start() {
  stop();
  if (library_.empty())
    return "the simulated GPU is not installed (no simulated/libnvidia-ml.so.1 beside the limiter)";
  if (handle_ == nullptr) handle_ = dlopen(library_.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle_ == nullptr) return dlerror();
  auto* init = call<nvmlReturn_t()>("nvmlInit_v2");
  auto* count_of = call<nvmlReturn_t(unsigned*)>("nvmlDeviceGetCount_v2");
  auto* device_of = call<nvmlReturn_t(unsigned, nvmlDevice_t*)>("nvmlDeviceGetHandleByIndex_v2");
  if (init == nullptr || count_of == nullptr || device_of == nullptr)
    return fmt::format("{} is no NVML", library_);
  if (const nvmlReturn_t result = init(); result != NVML_SUCCESS) return error_text(result);
  started_ = true;
  unsigned count = 0;
  if (const nvmlReturn_t result = count_of(&count); result != NVML_SUCCESS) {
    stop();
    return error_text(result);
  }
  for (unsigned index = 0; index < std::min(count, kMostDevices); ++index) {
    nvmlDevice_t device = nullptr;
    // Lost, or not ours to see: it keeps its index by not being listed.
    if (device_of(index, &device) == NVML_SUCCESS) devices_.push_back(device);
  }
  begin_events();
  return "";
}

void Nvml::begin_events() {
  auto* create = call<nvmlReturn_t(void**)>("nvmlEventSetCreate");
  auto* enlist =
      call<nvmlReturn_t(nvmlDevice_t, unsigned long long, void*)>("nvmlDeviceRegisterEvents");
  if (create == nullptr || enlist == nullptr || create(&events_) != NVML_SUCCESS) {
    events_ = nullptr;
    return;
  }
  for (nvmlDevice_t device : devices_) enlist(device, kXidEvents, events_);
}

std::vector<XidSeen> Nvml::take_xids() {
  std::vector<XidSeen> seen;
  auto* wait = call<nvmlReturn_t(void*, EventData*, unsigned)>("nvmlEventSetWait_v2");
  if (events_ == nullptr || wait == nullptr) return seen;
  for (int i = 0; i < kMostXidsAtOnce; ++i) {
    EventData event{};
    if (wait(events_, &event, 0) != NVML_SUCCESS) break;
    if ((event.type & kXidEvents) == 0) continue;
    const auto device = std::find(devices_.begin(), devices_.end(), event.device);
    NvmlIdentity who;
    if (device != devices_.end())
      (void)identity(static_cast<std::size_t>(device - devices_.begin()), who);
    seen.push_back({who.uuid, event.data, realtime_ns()});
  }
  return seen;
}

DriverState Nvml::driver() const {
  DriverState state;
  state.available = started_;
  std::array<char, NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE> text{};
  auto* version = call<nvmlReturn_t(char*, unsigned)>("nvmlSystemGetDriverVersion");
  if (version != nullptr && version(text.data(), text.size()) == NVML_SUCCESS)
    state.version = text.data();
  int cuda = 0;
  auto* get_cuda = call<nvmlReturn_t(int*)>("nvmlSystemGetCudaDriverVersion_v2");
  if (get_cuda != nullptr && get_cuda(&cuda) == NVML_SUCCESS)
    state.cuda_version = fmt::format("{}.{}", cuda / 1000, cuda % 1000 / 10);
  return state;
}

std::optional<unsigned> Nvml::count_now() const {
  unsigned count = 0;
  auto* count_of = call<nvmlReturn_t(unsigned*)>("nvmlDeviceGetCount_v2");
  if (count_of == nullptr || count_of(&count) != NVML_SUCCESS) return std::nullopt;
  return count;
}

nvmlReturn_t Nvml::identity(std::size_t device, NvmlIdentity& out) const {
  using GetText = nvmlReturn_t(nvmlDevice_t, char*, unsigned);
  auto* get_uuid = call<GetText>("nvmlDeviceGetUUID");
  auto* get_name = call<GetText>("nvmlDeviceGetName");
  if (get_uuid == nullptr) return NVML_ERROR_FUNCTION_NOT_FOUND;
  std::array<char, NVML_DEVICE_UUID_V2_BUFFER_SIZE> uuid{};
  std::array<char, NVML_DEVICE_NAME_V2_BUFFER_SIZE> name{};
  const nvmlReturn_t result = get_uuid(devices_[device], uuid.data(), uuid.size());
  if (result != NVML_SUCCESS) return result;
  out.uuid = GpuUuid::parse(uuid.data()).value_or(GpuUuid{});
  if (get_name != nullptr && get_name(devices_[device], name.data(), name.size()) == NVML_SUCCESS)
    out.name = name.data();
  out.index = ask<unsigned>("nvmlDeviceGetIndex", device).value_or(static_cast<unsigned>(device));
  if (const auto pci = ask<nvmlPciInfo_t>("nvmlDeviceGetPciInfo_v3", device))
    out.pci_bus_id = pci->busId;
  std::uint64_t total = 0, used = 0;
  if (memory(device, total, used) == NVML_SUCCESS) out.total_bytes = total;
  return NVML_SUCCESS;
}

nvmlReturn_t Nvml::memory(std::size_t device, std::uint64_t& total, std::uint64_t& used) const {
  auto* get = call<nvmlReturn_t(nvmlDevice_t, nvmlMemory_t*)>("nvmlDeviceGetMemoryInfo");
  if (get == nullptr) return NVML_ERROR_FUNCTION_NOT_FOUND;
  nvmlMemory_t memory{};
  const nvmlReturn_t result = get(devices_[device], &memory);
  total = memory.total;
  used = memory.used;
  return result;
}

nvmlReturn_t Nvml::processes(std::size_t device, std::vector<NvmlProcess>& out) const {
  out.clear();
  nvmlReturn_t first_error = NVML_SUCCESS;
  for (const char* name : survey::kNvmlProcessLists) {
    auto* list = call<nvmlReturn_t(nvmlDevice_t, unsigned*, nvmlProcessInfo_t*)>(name);
    if (list == nullptr) continue;
    std::vector<nvmlProcessInfo_t>& infos = room_;
    if (infos.empty()) infos.resize(64);
    auto count = static_cast<unsigned>(infos.size());
    nvmlReturn_t result = list(devices_[device], &count, infos.data());
    while (result == NVML_ERROR_INSUFFICIENT_SIZE && infos.size() < kMostProcesses) {
      infos.resize(std::min(std::max<std::size_t>(infos.size() * 2, count + 16), kMostProcesses));
      count = static_cast<unsigned>(infos.size());
      result = list(devices_[device], &count, infos.data());
    }
    if (result == NVML_ERROR_NOT_SUPPORTED || result == NVML_ERROR_FUNCTION_NOT_FOUND) continue;
    // What fails with the clients of MPS alone says nothing of the GPU.
    const bool is_needed = name != std::end(survey::kNvmlProcessLists)[-1];
    if (result != NVML_SUCCESS) {
      if (is_needed && first_error == NVML_SUCCESS) first_error = result;
      continue;
    }
    constexpr auto kNotAvailable = static_cast<unsigned long long>(NVML_VALUE_NOT_AVAILABLE);
    for (const auto& info : std::span(infos).first(std::min<std::size_t>(count, infos.size()))) {
      NvmlProcess process{info.pid, std::nullopt};
      if (info.usedGpuMemory != kNotAvailable) process.used_bytes = info.usedGpuMemory;
      out.push_back(process);
    }
  }
  // A process may be in several lists, and of several foreign ones each is pid 0.
  std::stable_sort(out.begin(), out.end(), [](const auto& a, const auto& b) {
    return a.pid != b.pid ? a.pid < b.pid : a.used_bytes > b.used_bytes;
  });
  out.erase(std::unique(out.begin(), out.end(),
                        [](const auto& a, const auto& b) { return a.pid == b.pid && a.pid != 0; }),
            out.end());
  return first_error;
}

nvmlReturn_t Nvml::busy_samples(std::size_t device, std::uint64_t newer_than_us,
                                std::vector<BusySample>& out) const {
  out.clear();
  auto* get = call<nvmlReturn_t(nvmlDevice_t, nvmlProcessUtilizationSample_t*, unsigned*,
                                unsigned long long)>("nvmlDeviceGetProcessUtilization");
  if (get == nullptr) return NVML_ERROR_FUNCTION_NOT_FOUND;
  if (samples_room_.empty()) samples_room_.resize(128);
  nvmlReturn_t result = NVML_ERROR_INSUFFICIENT_SIZE;
  auto count = static_cast<unsigned>(samples_room_.size());
  for (;;) {
    count = static_cast<unsigned>(samples_room_.size());
    result = get(devices_[device], samples_room_.data(), &count, newer_than_us);
    if (result != NVML_ERROR_INSUFFICIENT_SIZE || samples_room_.size() >= kMostProcesses) break;
    samples_room_.resize(std::min(samples_room_.size() * 2, kMostProcesses));
  }
  if (result == NVML_ERROR_NOT_FOUND) return NVML_SUCCESS;
  if (result != NVML_SUCCESS) return result;
  for (const auto& sample :
       std::span(samples_room_).first(std::min<std::size_t>(count, samples_room_.size())))
    out.push_back({sample.pid, sample.timeStamp, sample.smUtil});
  return NVML_SUCCESS;
}

void Nvml::sample(std::size_t device, GpuSample& out) const {
  if (const auto rates = ask<nvmlUtilization_t>("nvmlDeviceGetUtilizationRates", device)) {
    out.busy_percent = rates->gpu;
    out.memory_busy_percent = rates->memory;
  } else {
    out.busy_percent = out.memory_busy_percent = std::nullopt;
  }
  const auto coder = [&](const char* name) -> std::optional<unsigned> {
    auto* get = call<nvmlReturn_t(nvmlDevice_t, unsigned*, unsigned*)>(name);
    unsigned percent = 0, period_us = 0;
    if (get == nullptr || get(devices_[device], &percent, &period_us) != NVML_SUCCESS)
      return std::nullopt;
    return percent;
  };
  out.encoder_percent = coder("nvmlDeviceGetEncoderUtilization");
  out.decoder_percent = coder("nvmlDeviceGetDecoderUtilization");
  const auto by_kind = [&](const char* name, int kind) -> std::optional<unsigned> {
    auto* get = call<nvmlReturn_t(nvmlDevice_t, int, unsigned*)>(name);
    unsigned value = 0;
    if (get == nullptr || get(devices_[device], kind, &value) != NVML_SUCCESS) return std::nullopt;
    return value;
  };
  out.temperature_celsius = by_kind("nvmlDeviceGetTemperature", NVML_TEMPERATURE_GPU);
  out.sm_clock_mhz = by_kind("nvmlDeviceGetClockInfo", NVML_CLOCK_SM);
  out.memory_clock_mhz = by_kind("nvmlDeviceGetClockInfo", NVML_CLOCK_MEM);
  out.power_milliwatts = ask<unsigned>("nvmlDeviceGetPowerUsage", device);
  out.power_limit_milliwatts = ask<unsigned>("nvmlDeviceGetEnforcedPowerLimit", device);
  out.energy_millijoules = ask<unsigned long long>("nvmlDeviceGetTotalEnergyConsumption", device);
  out.throttle_reasons = ask<unsigned long long>("nvmlDeviceGetCurrentClocksEventReasons", device);
  if (!out.throttle_reasons) {  // its name in older drivers
    out.throttle_reasons =
        ask<unsigned long long>("nvmlDeviceGetCurrentClocksThrottleReasons", device);
  }
  out.pcie_generation = ask<unsigned>("nvmlDeviceGetCurrPcieLinkGeneration", device);
  out.pcie_width = ask<unsigned>("nvmlDeviceGetCurrPcieLinkWidth", device);
}

void Nvml::pcie_rates(std::size_t device, GpuSample& out) const {
  auto* get = call<nvmlReturn_t(nvmlDevice_t, int, unsigned*)>("nvmlDeviceGetPcieThroughput");
  const auto rate = [&](int counter) -> std::optional<std::uint64_t> {
    unsigned kilobytes = 0;
    if (get == nullptr || get(devices_[device], counter, &kilobytes) != NVML_SUCCESS)
      return std::nullopt;
    return std::uint64_t{kilobytes} * 1024;
  };
  out.pcie_transmit_bytes_per_s = rate(0);
  out.pcie_receive_bytes_per_s = rate(1);
}

bool Nvml::mig(std::size_t device, std::vector<MigDevice>& out) const {
  out.clear();
  auto* get_mode = call<nvmlReturn_t(nvmlDevice_t, unsigned*, unsigned*)>("nvmlDeviceGetMigMode");
  unsigned now = 0, later = 0;
  if (get_mode == nullptr || get_mode(devices_[device], &now, &later) != NVML_SUCCESS || now == 0)
    return false;
  auto* get = call<nvmlReturn_t(nvmlDevice_t, unsigned, nvmlDevice_t*)>(
      "nvmlDeviceGetMigDeviceHandleByIndex");
  const unsigned most = std::min(
      ask<unsigned>("nvmlDeviceGetMaxMigDeviceCount", device).value_or(0), survey::kMostMigDevices);
  for (unsigned i = 0; get != nullptr && i < most; ++i) {
    nvmlDevice_t part = nullptr;
    if (get(devices_[device], i, &part) != NVML_SUCCESS) continue;
    MigDevice found;
    using GetText = nvmlReturn_t(nvmlDevice_t, char*, unsigned);
    std::array<char, NVML_DEVICE_UUID_V2_BUFFER_SIZE> text{};
    if (auto* uuid = call<GetText>("nvmlDeviceGetUUID");
        uuid != nullptr && uuid(part, text.data(), text.size()) == NVML_SUCCESS)
      found.uuid = text.data();
    if (auto* name = call<GetText>("nvmlDeviceGetName");
        name != nullptr && name(part, text.data(), text.size()) == NVML_SUCCESS)
      found.name = text.data();
    using GetNumber = nvmlReturn_t(nvmlDevice_t, unsigned*);
    unsigned number = 0;
    if (auto* id = call<GetNumber>("nvmlDeviceGetGpuInstanceId");
        id != nullptr && id(part, &number) == NVML_SUCCESS)
      found.gpu_instance = number;
    if (auto* id = call<GetNumber>("nvmlDeviceGetComputeInstanceId");
        id != nullptr && id(part, &number) == NVML_SUCCESS)
      found.compute_instance = number;
    nvmlMemory_t memory{};
    auto* get_memory = call<nvmlReturn_t(nvmlDevice_t, nvmlMemory_t*)>("nvmlDeviceGetMemoryInfo");
    if (get_memory != nullptr && get_memory(part, &memory) == NVML_SUCCESS) {
      found.total_bytes = memory.total;
      found.used_bytes = memory.used;
    }
    out.push_back(std::move(found));
  }
  return true;
}

}  // namespace vgpu::hypervisor

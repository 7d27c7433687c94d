// SPDX-License-Identifier: Apache-2.0
// A program with a GPU and an eye on NVML, driven by its arguments in order:
//   use ORDINAL BYTES   context and memory on a CUDA device      cuda       what cuMemGetInfo says
//   devices             every device with index and names        memory     of every device, both
//   forms processes           of every device, every list              find UUID  codes of every
//   way to name a device utilization         codes of everything that tells it        init
//   nvmlInit_v2 (nothing else initialises) fork                go on in a child, which the parent
//   waits for wait                print "ready PID", go on when stdin ends
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "nvml_client.h"
#include "vgpu/api/nvml_internal.h"
#include "vgpu/base/gpu_uuid.h"

namespace {

nvml_client::Functions nvml;

std::vector<nvmlDevice_t> all_devices() {
  std::vector<nvmlDevice_t> devices;
  unsigned int count = 0;
  nvml.nvmlDeviceGetCount_v2(&count);
  for (unsigned int i = 0; i < count; ++i) {
    nvmlDevice_t device = nullptr;
    if (nvml.nvmlDeviceGetHandleByIndex_v2(i, &device) == NVML_SUCCESS) devices.push_back(device);
  }
  return devices;
}

std::string uuid_of(nvmlDevice_t device) {
  char text[96] = "";
  nvml.nvmlDeviceGetUUID(device, text, sizeof(text));
  return text;
}

void devices() {
  unsigned int old_count = 0;
  unsigned int count = 0;
  nvml.nvmlDeviceGetCount(&old_count);
  nvml.nvmlDeviceGetCount_v2(&count);
  unsigned int of_cpu = 0;
  nvml.nvmlSystemGetTopologyGpuSet(0, &of_cpu, nullptr);
  nvmlDevice_t set[32] = {};
  unsigned int room = 32;
  nvml.nvmlSystemGetTopologyGpuSet(0, &room, set);
  unsigned int filled = 0;
  while (filled < 32 && set[filled] != nullptr) ++filled;
  std::printf("count %u %u %u %u\n", old_count, count, of_cpu, filled);
  for (unsigned int i = 0; i < count; ++i) {
    nvmlDevice_t device = nullptr;
    nvmlDevice_t old_device = nullptr;
    nvml.nvmlDeviceGetHandleByIndex_v2(i, &device);
    nvml.nvmlDeviceGetHandleByIndex(i, &old_device);
    unsigned int index = 99;
    nvml.nvmlDeviceGetIndex(device, &index);
    std::printf("device %u index %u %s %s\n", i, index, uuid_of(device).c_str(),
                device == old_device ? "same" : "other");
  }
  nvmlDevice_t beyond = nullptr;
  std::printf("beyond %d\n", nvml.nvmlDeviceGetHandleByIndex_v2(count, &beyond));
}

void memory() {
  for (const nvmlDevice_t device : all_devices()) {
    nvmlMemory_t old{};
    nvmlMemory_v2_t current{};
    current.version = nvmlMemory_v2;
    nvml.nvmlDeviceGetMemoryInfo(device, &old);
    nvml.nvmlDeviceGetMemoryInfo_v2(device, &current);
    std::printf("memory %llu %llu %llu\n", old.total, old.free, old.used);
    nvmlBAR1Memory_t bar1{};
    nvml.nvmlDeviceGetBAR1MemoryInfo(device, &bar1);
    std::printf("bar1 %llu %llu %llu\n", bar1.bar1Total, bar1.bar1Free, bar1.bar1Used);
    std::printf("memory_v2 %llu %llu %llu %llu\n", current.total, current.reserved, current.free,
                current.used);
  }
}

template <class Info, class Function>
void print_list(const char* name, unsigned int index, nvmlDevice_t device, Function function) {
  Info infos[64];
  unsigned int count = 64;
  if (const nvmlReturn_t result = function(device, &count, infos); result != NVML_SUCCESS) {
    std::printf("%s %u error %d\n", name, index, result);
    return;
  }
  for (unsigned int i = 0; i < count; ++i)
    std::printf("%s %u %u %llu\n", name, index, infos[i].pid, infos[i].usedGpuMemory);
}

void print_details(unsigned int index, nvmlDevice_t device) {
  nvmlProcessDetail_v1_t details[64];
  nvmlProcessDetailList_t list{nvmlProcessDetailList_v1, NVML_PROCESS_MODE_COMPUTE, 64, details};
  if (nvml.nvmlDeviceGetRunningProcessDetailList(device, &list) != NVML_SUCCESS) return;
  for (unsigned int i = 0; i < list.numProcArrayEntries; ++i) {
    std::printf("detail %u %u %llu\n", index, details[i].pid, details[i].usedGpuMemory);
  }
}

// As nvidia-smi of driver 580 does it.
void print_internal(unsigned int index, nvmlDevice_t device) {
  namespace internal = vgpu::nvml_internal;
  const void* table = nullptr;
  if (nvml.nvmlInternalGetExportTable(&table, internal::kProcessTableId) != NVML_SUCCESS) return;
  const auto* slots = static_cast<const void* const*>(table);
  if (reinterpret_cast<std::size_t>(slots[0]) != internal::kProcessTableBytes) return;
  const auto list = reinterpret_cast<internal::GetProcesses>(
      const_cast<void*>(slots[internal::kComputeProcessesSlot]));
  std::vector<internal::Process> processes(64);
  unsigned int count = 64;
  if (list(device, &count, processes.data()) != NVML_SUCCESS) return;
  for (unsigned int i = 0; i < count; ++i) {
    const auto& detail = processes[i].detail;
    std::printf("internal %u %u %llu %s\n", index, detail.pid, detail.usedGpuMemory,
                processes[i].command_line);
  }
}

void processes() {
  for (const nvmlDevice_t device : all_devices()) {
    unsigned int index = 0;
    nvml.nvmlDeviceGetIndex(device, &index);
    print_list<nvmlProcessInfo_v1_t>("compute", index, device,
                                     nvml.nvmlDeviceGetComputeRunningProcesses);
    print_list<nvmlProcessInfo_v2_t>("compute_v2", index, device,
                                     nvml.nvmlDeviceGetComputeRunningProcesses_v2);
    print_list<nvmlProcessInfo_t>("compute_v3", index, device,
                                  nvml.nvmlDeviceGetComputeRunningProcesses_v3);
    print_list<nvmlProcessInfo_t>("graphics", index, device,
                                  nvml.nvmlDeviceGetGraphicsRunningProcesses_v3);
    print_list<nvmlProcessInfo_t>("mps", index, device,
                                  nvml.nvmlDeviceGetMPSComputeRunningProcesses_v3);
    print_details(index, device);
    print_internal(index, device);
  }
}

// The device's serial and bus id go beside, because who is not shown a GPU can't ask for them.
void find(const char* uuid, const char* bus_id, const char* serial) {
  nvmlDevice_t device = nullptr;
  nvmlUUID_t ascii{nvmlUUID_v1, NVML_UUID_TYPE_ASCII, {}};
  nvmlUUID_t binary{nvmlUUID_v1, NVML_UUID_TYPE_BINARY, {}};
  std::strncpy(ascii.value.str, uuid, sizeof(ascii.value.str) - 1);
  const auto bytes = vgpu::GpuUuid::parse(uuid).value_or(vgpu::GpuUuid{}).bytes;
  std::memcpy(binary.value.bytes, bytes.data(), bytes.size());
  std::printf("find %d %d %d %d %d %d\n", nvml.nvmlDeviceGetHandleByUUID(uuid, &device),
              nvml.nvmlDeviceGetHandleByUUIDV(&ascii, &device),
              nvml.nvmlDeviceGetHandleByUUIDV(&binary, &device),
              nvml.nvmlDeviceGetHandleByPciBusId_v2(bus_id, &device),
              nvml.nvmlDeviceGetHandleByPciBusId(bus_id, &device),
              nvml.nvmlDeviceGetHandleBySerial(serial, &device));
}

void names() {
  for (const nvmlDevice_t device : all_devices()) {
    char serial[NVML_DEVICE_SERIAL_BUFFER_SIZE] = "";
    nvmlPciInfo_t pci{};
    nvml.nvmlDeviceGetSerial(device, serial, sizeof(serial));
    nvml.nvmlDeviceGetPciInfo_v3(device, &pci);
    std::printf("names %s %s %s\n", uuid_of(device).c_str(), pci.busId, serial);
  }
}

void utilization() {
  for (const nvmlDevice_t device : all_devices()) {
    nvmlUtilization_t rates{};
    unsigned int count = 0;
    unsigned int period = 0;
    nvmlValueType_t type{};
    nvmlProcessesUtilizationInfo_t info{nvmlProcessesUtilizationInfo_v1, 0, 0, nullptr};
    std::printf(
        "utilization %d %d %d %d %d\n", nvml.nvmlDeviceGetUtilizationRates(device, &rates),
        nvml.nvmlDeviceGetProcessUtilization(device, nullptr, &count, 0),
        nvml.nvmlDeviceGetProcessesUtilizationInfo(device, &info),
        nvml.nvmlDeviceGetSamples(device, NVML_GPU_UTILIZATION_SAMPLES, 0, &type, &count, nullptr),
        nvml.nvmlDeviceGetEncoderUtilization(device, &count, &period));
  }
}

void cuda() {
  unsigned long long free_bytes = 0;
  unsigned long long total_bytes = 0;
  if (nvml_client::cuda_memory(free_bytes, total_bytes))
    std::printf("cuda %llu %llu\n", total_bytes, free_bytes);
}

void wait_for_stdin() {
  std::printf("ready %d\n", getpid());
  std::fflush(stdout);
  char byte;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
}

}  // namespace

int main(int argc, char** argv) {
  nvml = nvml_client::load();
  for (int i = 1; i < argc; ++i) {
    const std::string command = argv[i];
    if (command == "init") {
      if (const nvmlReturn_t error = nvml.nvmlInit_v2(); error != NVML_SUCCESS) {
        std::printf("init %d\n", error);
        return 1;
      }
    } else if (command == "use" && i + 2 < argc) {
      const int ordinal = std::atoi(argv[i + 1]);
      if (!nvml_client::use_gpu(ordinal, std::strtoull(argv[i + 2], nullptr, 10))) {
        std::printf("use failed\n");
        return 1;
      }
      i += 2;
    } else if (command == "find" && i + 3 < argc) {
      find(argv[i + 1], argv[i + 2], argv[i + 3]);
      i += 3;
    } else if (command == "fork") {
      std::fflush(stdout);
      if (const pid_t child = fork(); child != 0) {
        int status = 0;
        waitpid(child, &status, 0);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
      }
    } else if (command == "devices") {
      devices();
    } else if (command == "memory") {
      memory();
    } else if (command == "processes") {
      processes();
    } else if (command == "names") {
      names();
    } else if (command == "utilization") {
      utilization();
    } else if (command == "cuda") {
      cuda();
    } else if (command == "wait") {
      wait_for_stdin();
    } else {
      std::fprintf(stderr, "unknown command %s\n", argv[i]);
      return 2;
    }
  }
  std::fflush(stdout);
}

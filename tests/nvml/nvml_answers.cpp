// SPDX-License-Identifier: Apache-2.0
// Asks NVML what it should refuse, and prints the code of each answer: the same lines on every
// machine whose driver thinks alike. Run on a real GPU it makes the file that the simulated NVML is
// held to (answers/). Needs one process with a context on GPU 0, which is itself.
#include <cstdio>
#include <cstring>
#include <string>

#include "nvml_client.h"

namespace {

nvml_client::Functions nvml;

#define ASK(...) std::printf("%-100s %d\n", #__VA_ARGS__, static_cast<int>(nvml.__VA_ARGS__))

nvmlDevice_t device = nullptr;
nvmlDevice_t none = nullptr;
unsigned int count = 0;
unsigned int value = 0;
char text[96];

void before_initialisation() {
  nvmlMemory_t memory;
  ASK(nvmlDeviceGetCount_v2(&count));
  ASK(nvmlDeviceGetCount_v2(nullptr));
  ASK(nvmlDeviceGetHandleByIndex_v2(0, &none));
  ASK(nvmlDeviceGetMemoryInfo(nullptr, &memory));
  ASK(nvmlDeviceGetComputeRunningProcesses_v3(nullptr, &count, nullptr));
  ASK(nvmlShutdown());
}

void handles() {
  ASK(nvmlDeviceGetCount(nullptr));
  ASK(nvmlDeviceGetCount_v2(nullptr));
  ASK(nvmlDeviceGetHandleByIndex_v2(0, nullptr));
  ASK(nvmlDeviceGetHandleByIndex_v2(99, &none));
  ASK(nvmlDeviceGetHandleByIndex_v2(99, nullptr));
  ASK(nvmlDeviceGetHandleByIndex(99, &none));
  ASK(nvmlDeviceGetHandleByUUID(nullptr, &none));
  ASK(nvmlDeviceGetHandleByUUID("GPU-x", nullptr));
  ASK(nvmlDeviceGetHandleByUUID("GPU-x", &none));
  ASK(nvmlDeviceGetHandleByUUID("", &none));
  ASK(nvmlDeviceGetHandleByUUID("GPU-00000000-0000-0000-0000-000000000000", &none));
  ASK(nvmlDeviceGetHandleByPciBusId_v2("0000:ff:00.0", &none));
  ASK(nvmlDeviceGetHandleByPciBusId_v2("bad", &none));
  ASK(nvmlDeviceGetHandleByPciBusId_v2(nullptr, &none));
  ASK(nvmlDeviceGetHandleByPciBusId("0000:ff:00.0", &none));
  ASK(nvmlDeviceGetHandleBySerial("123", &none));
  ASK(nvmlDeviceGetHandleBySerial(nullptr, &none));
  ASK(nvmlDeviceGetHandleBySerial("", &none));
  nvmlUUID_t uuid{nvmlUUID_v1, NVML_UUID_TYPE_ASCII, {"GPU-00000000-0000-0000-0000-000000000000"}};
  ASK(nvmlDeviceGetHandleByUUIDV(nullptr, &none));
  ASK(nvmlDeviceGetHandleByUUIDV(&uuid, &none));
  uuid.type = NVML_UUID_TYPE_BINARY;
  ASK(nvmlDeviceGetHandleByUUIDV(&uuid, &none));
  uuid.type = NVML_UUID_TYPE_NONE;
  ASK(nvmlDeviceGetHandleByUUIDV(&uuid, &none));
  uuid.version = 1;
  ASK(nvmlDeviceGetHandleByUUIDV(&uuid, &none));

  ASK(nvmlDeviceGetHandleByIndex_v2(0, &device));
  ASK(nvmlDeviceGetUUID(device, text, 10));
  ASK(nvmlDeviceGetUUID(device, nullptr, sizeof(text)));
  ASK(nvmlDeviceGetUUID(device, text, sizeof(text)));
  ASK(nvmlDeviceGetHandleByUUID(text, &none));
  ASK(nvmlDeviceGetHandleByUUID(text + 4, &none));
  std::memcpy(uuid.value.str, text, sizeof(uuid.value.str) - 1);
  uuid.version = nvmlUUID_v1;
  uuid.type = NVML_UUID_TYPE_ASCII;
  ASK(nvmlDeviceGetHandleByUUIDV(&uuid, &none));
  text[12] = '\0';
  ASK(nvmlDeviceGetHandleByUUID(text, &none));
  ASK(nvmlDeviceGetIndex(device, nullptr));
  ASK(nvmlDeviceGetIndex(device, &value));
}

void memory() {
  nvmlMemory_t old;
  nvmlMemory_v2_t current{};
  ASK(nvmlDeviceGetMemoryInfo(device, nullptr));
  ASK(nvmlDeviceGetMemoryInfo(nullptr, &old));
  ASK(nvmlDeviceGetMemoryInfo(device, &old));
  ASK(nvmlDeviceGetMemoryInfo_v2(device, nullptr));
  ASK(nvmlDeviceGetMemoryInfo_v2(device, &current));
  current.version = 2;
  ASK(nvmlDeviceGetMemoryInfo_v2(device, &current));
  current.version = (1U << 24) | sizeof(current);
  ASK(nvmlDeviceGetMemoryInfo_v2(device, &current));
  current.version = nvmlMemory_v2;
  ASK(nvmlDeviceGetMemoryInfo_v2(device, &current));
}

template <class Function, class Info>
void list(const char* name, Function function, Info* infos, unsigned int size) {
  const auto ask = [&](const char* how, unsigned int* room, Info* where) {
    const nvmlReturn_t result = function(device, room, where);
    std::printf("%-100s %d\n", (std::string(name) + ": " + how).c_str(), static_cast<int>(result));
  };
  ask("no count", nullptr, infos);
  count = 0;
  ask("no room, no list", &count, nullptr);
  ask("room, no list", &count, nullptr);
  count = 0;
  ask("no room, a list", &count, infos);
  count = size;
  ask("room and a list", &count, infos);
}

void processes() {
  nvmlProcessInfo_v1_t first[64];
  nvmlProcessInfo_t third[64];
  list("compute processes", nvml.nvmlDeviceGetComputeRunningProcesses, first, 64);
  list("compute processes v2", nvml.nvmlDeviceGetComputeRunningProcesses_v2, third, 64);
  list("compute processes v3", nvml.nvmlDeviceGetComputeRunningProcesses_v3, third, 64);
  list("graphics processes v3", nvml.nvmlDeviceGetGraphicsRunningProcesses_v3, third, 64);
  list("MPS processes v3", nvml.nvmlDeviceGetMPSComputeRunningProcesses_v3, third, 64);

  nvmlProcessDetail_v1_t details[64];
  nvmlProcessDetailList_t all{};
  ASK(nvmlDeviceGetRunningProcessDetailList(device, nullptr));
  ASK(nvmlDeviceGetRunningProcessDetailList(device, &all));
  all.version = nvmlProcessDetailList_v1;
  ASK(nvmlDeviceGetRunningProcessDetailList(device, &all));
  ASK(nvmlDeviceGetRunningProcessDetailList(device, &all));
  all.procArray = details;
  all.numProcArrayEntries = 64;
  ASK(nvmlDeviceGetRunningProcessDetailList(device, &all));
  all.mode = NVML_PROCESS_MODE_GRAPHICS;
  ASK(nvmlDeviceGetRunningProcessDetailList(device, &all));
  all.mode = NVML_PROCESS_MODE_MPS;
  ASK(nvmlDeviceGetRunningProcessDetailList(device, &all));
  all.mode = 7;
  ASK(nvmlDeviceGetRunningProcessDetailList(device, &all));
}

void utilization() {
  nvmlUtilization_t rates;
  ASK(nvmlDeviceGetUtilizationRates(device, nullptr));
  ASK(nvmlDeviceGetUtilizationRates(device, &rates));
  ASK(nvmlDeviceGetProcessUtilization(device, nullptr, nullptr, 0));
  ASK(nvmlDeviceGetProcessUtilization(device, nullptr, &count, 0));
  nvmlProcessesUtilizationInfo_t processes{};
  ASK(nvmlDeviceGetProcessesUtilizationInfo(device, &processes));
  processes.version = nvmlProcessesUtilizationInfo_v1;
  ASK(nvmlDeviceGetProcessesUtilizationInfo(device, &processes));
  nvmlValueType_t type;
  ASK(nvmlDeviceGetSamples(device, NVML_GPU_UTILIZATION_SAMPLES, 0, &type, &count, nullptr));
  ASK(nvmlDeviceGetEncoderUtilization(device, &count, &value));
}

void others() {
  ASK(nvmlSystemGetTopologyGpuSet(0, &count, nullptr));
  count = 0;
  ASK(nvmlSystemGetTopologyGpuSet(0, &count, &none));
  count = 1;
  ASK(nvmlSystemGetTopologyGpuSet(0, &count, &none));
  ASK(nvmlShutdown());
  ASK(nvmlShutdown());
  ASK(nvmlDeviceGetCount_v2(&count));
}

}  // namespace

int main() {
  nvml = nvml_client::load();
  if (!nvml_client::use_gpu(0, 0)) {
    std::fprintf(stderr, "no context on GPU 0\n");
    return 77;
  }
  before_initialisation();
  ASK(nvmlInit_v2());
  handles();
  memory();
  processes();
  utilization();
  others();
}

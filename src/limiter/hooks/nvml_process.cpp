// SPDX-License-Identifier: Apache-2.0
// Which processes NVML shows on a GPU: the tenant's live ones, each with what it is charged, in
// every form in which NVML tells it: three lists in three versions each, details, accounting,
// sessions, and the private table that nvidia-smi uses instead of all these. Any thread.
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "../enter.h"
#include "../hooks.h"
#include "../log.h"
#include "nvml_view.h"
#include "vgpu/api/nvml_internal.h"

namespace vgpu::hooks {

using namespace limiter;

namespace {

constexpr unsigned int kNoInstance = 0xffffffffU;  // of a partition: the GPU isn't partitioned

template <class Info>
Info describe(const ShownProcess& process) {
  Info info{};
  info.pid = process.pid;
  info.usedGpuMemory = process.used_bytes;
  if constexpr (requires { info.gpuInstanceId; }) {
    info.gpuInstanceId = kNoInstance;
    info.computeInstanceId = kNoInstance;
  }
  return info;
}

// Asks with no room: the driver says what it thinks of the arguments and writes nothing but a
// count.
template <class Function>
nvmlReturn_t probe(Function real_function, nvmlDevice_t device) {
  unsigned int none = 0;
  const nvmlReturn_t result = real_function(device, &none, nullptr);
  return is_list_answer(result) ? NVML_SUCCESS : result;
}

template <class Function, class Info>
nvmlReturn_t compute_processes(Function real_function, nvmlDevice_t device, unsigned int* count,
                               Info* infos) {
  if (count == nullptr) return real_function(device, count, infos);
  if (const nvmlReturn_t error = probe(real_function, device); error != NVML_SUCCESS) return error;
  const ShownProcesses shown(nvml_position(device));
  return answer_list(shown.size(), infos != nullptr, count,
                     [&](std::size_t i) { infos[i] = describe<Info>(shown[i]); });
}

// What draws isn't charged, so it isn't the tenant's; and a tenant's processes under MPS are in the
// list above.
template <class Function, class Info>
nvmlReturn_t no_processes(Function real_function, nvmlDevice_t device, unsigned int* count,
                          Info* infos) {
  if (count == nullptr) return real_function(device, count, infos);
  if (const nvmlReturn_t error = probe(real_function, device); error != NVML_SUCCESS) return error;
  *count = 0;
  return NVML_SUCCESS;
}

// Keeps the elements whose process is the tenant's.
template <class Element, class Pid>
void keep_own(nvmlDevice_t device, unsigned int* count, Element* elements, Pid pid_of) {
  const ShownProcesses shown(nvml_position(device));
  unsigned int kept = 0;
  for (unsigned int i = 0; i < *count; ++i) {
    if (shown.contains(pid_of(elements[i]))) elements[kept++] = elements[i];
  }
  for (unsigned int i = kept; i < *count; ++i) elements[i] = Element{};
  *count = kept;
}

}  // namespace

#define VGPU_PROCESS_LISTS(suffix, Info)                                                           \
  nvmlReturn_t nvmlDeviceGetComputeRunningProcesses##suffix(nvmlDevice_t device,                   \
                                                            unsigned int* count, Info* infos) {    \
    return compute_processes(real_nvml().nvmlDeviceGetComputeRunningProcesses##suffix, device,     \
                             count, infos);                                                        \
  }                                                                                                \
  nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses##suffix(nvmlDevice_t device,                  \
                                                             unsigned int* count, Info* infos) {   \
    return no_processes(real_nvml().nvmlDeviceGetGraphicsRunningProcesses##suffix, device, count,  \
                        infos);                                                                    \
  }                                                                                                \
  nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses##suffix(nvmlDevice_t device,                \
                                                               unsigned int* count, Info* infos) { \
    return no_processes(real_nvml().nvmlDeviceGetMPSComputeRunningProcesses##suffix, device,       \
                        count, infos);                                                             \
  }
VGPU_PROCESS_LISTS(, nvmlProcessInfo_v1_t)
VGPU_PROCESS_LISTS(_v2, nvmlProcessInfo_v2_t)
VGPU_PROCESS_LISTS(_v3, nvmlProcessInfo_t)
#undef VGPU_PROCESS_LISTS

nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device,
                                                   nvmlProcessDetailList_t* list) {
  if (list == nullptr) return real_nvml().nvmlDeviceGetRunningProcessDetailList(device, list);
  nvmlProcessDetailList_t none{list->version, list->mode, 0, nullptr};
  const nvmlReturn_t result = real_nvml().nvmlDeviceGetRunningProcessDetailList(device, &none);
  if (!is_list_answer(result)) return result;
  if (list->mode != NVML_PROCESS_MODE_COMPUTE) {
    list->numProcArrayEntries = 0;
    return NVML_SUCCESS;
  }
  const ShownProcesses shown(nvml_position(device));
  return answer_list(
      shown.size(), list->procArray != nullptr, &list->numProcArrayEntries,
      [&](std::size_t i) { list->procArray[i] = describe<nvmlProcessDetail_v1_t>(shown[i]); });
}

nvmlReturn_t nvmlDeviceGetAccountingPids(nvmlDevice_t device, unsigned int* count,
                                         unsigned int* pids) {
  const nvmlReturn_t result = real_nvml().nvmlDeviceGetAccountingPids(device, count, pids);
  if (result == NVML_SUCCESS && pids != nullptr)
    keep_own(device, count, pids, [](unsigned int pid) { return pid; });
  return result;
}

nvmlReturn_t nvmlDeviceGetAccountingStats(nvmlDevice_t device, unsigned int pid,
                                          nvmlAccountingStats_t* stats) {
  const bool own = device == nullptr || ShownProcesses(nvml_position(device)).contains(pid);
  return own || stats == nullptr ? real_nvml().nvmlDeviceGetAccountingStats(device, pid, stats)
                                 : NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetEncoderSessions(nvmlDevice_t device, unsigned int* count,
                                          nvmlEncoderSessionInfo_t* sessions) {
  const nvmlReturn_t result = real_nvml().nvmlDeviceGetEncoderSessions(device, count, sessions);
  if (result == NVML_SUCCESS && sessions != nullptr) {
    keep_own(device, count, sessions,
             [](const nvmlEncoderSessionInfo_t& session) { return session.pid; });
  }
  return result;
}

nvmlReturn_t nvmlDeviceGetFBCSessions(nvmlDevice_t device, unsigned int* count,
                                      nvmlFBCSessionInfo_t* sessions) {
  const nvmlReturn_t result = real_nvml().nvmlDeviceGetFBCSessions(device, count, sessions);
  if (result == NVML_SUCCESS && sessions != nullptr) {
    keep_own(device, count, sessions,
             [](const nvmlFBCSessionInfo_t& session) { return session.pid; });
  }
  return result;
}

namespace {

namespace internal = nvml_internal;

// The program calls these straight from the table, past the gate.
const void* const* g_driver_table = nullptr;  // written before g_table_state says ready
const void* g_shown_table[internal::kProcessTableSlots];
enum class TableState : unsigned { none, in_work, ready };
std::atomic<TableState> g_table_state{TableState::none};

internal::GetProcesses driver_function(std::size_t slot) {
  return reinterpret_cast<internal::GetProcesses>(const_cast<void*>(g_driver_table[slot]));
}

void read_command_line(std::uint32_t pid, char (&text)[sizeof(internal::Process::command_line)]) {
  FixedString<63> path("/proc/");
  path.append_number(pid).append("/cmdline");
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  const ssize_t size = read(fd, text, sizeof(text) - 1);
  text[size > 0 ? size : 0] = '\0';
  close(fd);
}

// The driver fills the list first: it knows what it thinks of the arguments, and nobody else does.
nvmlReturn_t list_processes(std::size_t slot, nvmlDevice_t device, unsigned int* count,
                            internal::Process* processes) {
  HookScope scope;
  const unsigned int room = count != nullptr ? *count : 0;
  const nvmlReturn_t result = driver_function(slot)(device, count, processes);
  if (!is_list_answer(result) || count == nullptr || Limiter::active() == nullptr) return result;
  const ShownProcesses shown(slot == internal::kComputeProcessesSlot ? nvml_position(device)
                                                                     : Limiter::kNoPosition);
  if (result == NVML_SUCCESS && processes != nullptr) {
    for (unsigned int i = 0; i < *count && i < room; ++i)
      std::memset(&processes[i], 0, sizeof(processes[i]));
  }
  *count = room;
  return answer_list(shown.size(), processes != nullptr, count, [&](std::size_t i) {
    processes[i].detail = describe<nvmlProcessDetail_v1_t>(shown[i]);
    read_command_line(shown[i].pid, processes[i].command_line);
  });
}

nvmlReturn_t list_compute(nvmlDevice_t device, unsigned int* count, internal::Process* processes) {
  return list_processes(internal::kComputeProcessesSlot, device, count, processes);
}
nvmlReturn_t list_graphics(nvmlDevice_t device, unsigned int* count, internal::Process* processes) {
  return list_processes(internal::kGraphicsProcessesSlot, device, count, processes);
}
nvmlReturn_t list_mps(nvmlDevice_t device, unsigned int* count, internal::Process* processes) {
  return list_processes(internal::kMpsProcessesSlot, device, count, processes);
}
nvmlReturn_t no_utilization() { return NVML_ERROR_NOT_SUPPORTED; }

void replace(std::size_t slot, const void* function) {
  if (g_shown_table[slot] != nullptr) g_shown_table[slot] = function;
}

void make_shown_table(const void* const* table) {
  std::memcpy(g_shown_table, table, sizeof(g_shown_table));
  g_driver_table = table;
  replace(internal::kComputeProcessesSlot, reinterpret_cast<const void*>(&list_compute));
  replace(internal::kGraphicsProcessesSlot, reinterpret_cast<const void*>(&list_graphics));
  replace(internal::kMpsProcessesSlot, reinterpret_cast<const void*>(&list_mps));
  replace(internal::kUtilizationSlot, reinterpret_cast<const void*>(&no_utilization));
}

}  // namespace

nvmlReturn_t nvmlInternalGetExportTable(const void** table, const void* id) {
  const nvmlReturn_t result = real_nvml().nvmlInternalGetExportTable(table, id);
  if (result != NVML_SUCCESS ||
      std::memcmp(id, internal::kProcessTableId, sizeof(internal::kProcessTableId)) != 0) {
    return result;
  }
  const auto* found = static_cast<const void* const*>(*table);
  if (reinterpret_cast<std::size_t>(found[0]) != internal::kProcessTableBytes) {
    // Where its functions are in another version nobody knows: a wrong guess would crash the
    // program.
    log(LogLevel::warning, "VG3010",
        "nvml.table_unknown nvidia-smi may show other tenants' processes");
    return result;
  }
  TableState state = TableState::none;
  if (g_table_state.compare_exchange_strong(state, TableState::in_work,
                                            std::memory_order_acquire)) {
    make_shown_table(found);
    g_table_state.store(TableState::ready, std::memory_order_release);  // pairs with the load below
  } else {
    while (g_table_state.load(std::memory_order_acquire) != TableState::ready) sched_yield();
  }
  *table = static_cast<const void*>(g_shown_table);
  return result;
}

}  // namespace vgpu::hooks

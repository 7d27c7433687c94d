// SPDX-License-Identifier: Apache-2.0
#include "faults.h"

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <mutex>
#include <set>
#include <sstream>

#include "library.h"

namespace vgpu::sim::nvml {
namespace {

struct Fault {
  int error = 0;
  unsigned slow_ms = 0;
  unsigned long long clocks = 0;
};

constexpr unsigned kMostGpus = 16;
using Faults = std::array<Fault, kMostGpus>;  // by index

// No constructor of the library makes them: one thread may be here while another still opens it.
constinit std::mutex mutex;
// A child that is forked while a thread is in here goes on with the mutex free.
[[maybe_unused]] const int at_fork =
    pthread_atfork([] { mutex.lock(); }, [] { mutex.unlock(); }, [] { mutex.unlock(); });
constinit Faults faults{};
constinit timespec read_at{};
constinit off_t read_size = -1;

Faults read_faults(const std::string& path) {
  Faults found{};
  std::ifstream file(path);
  unsigned gpu = 0;
  std::string what;
  while (file >> gpu >> what) {
    if (gpu >= kMostGpus) continue;
    if (what.starts_with("error=")) found[gpu].error = std::atoi(what.c_str() + 6);
    if (what.starts_with("slow="))
      found[gpu].slow_ms = static_cast<unsigned>(std::atoi(what.c_str() + 5));
    if (what.starts_with("clocks="))
      found[gpu].clocks = std::strtoull(what.c_str() + 7, nullptr, 0);
  }
  return found;
}

Fault look_up(unsigned index) {
  const std::string path = state().folder() + "/nvml.faults";
  struct stat info {};
  const std::scoped_lock lock(mutex);
  if (stat(path.c_str(), &info) != 0) {
    faults = {};
    read_size = -1;
    return {};
  }
  if (info.st_size != read_size || info.st_mtim.tv_sec != read_at.tv_sec ||
      info.st_mtim.tv_nsec != read_at.tv_nsec) {
    read_size = info.st_size;
    read_at = info.st_mtim;
    faults = read_faults(path);
  }
  return index < kMostGpus ? faults[index] : Fault{};
}

}  // namespace

nvmlReturn_t fault_of(unsigned index) {
  const Fault fault = look_up(index);
  if (fault.slow_ms != 0) usleep(fault.slow_ms * 1000);
  return static_cast<nvmlReturn_t>(fault.error);
}

unsigned long long clocks_held_by(unsigned index) { return look_up(index).clocks; }

}  // namespace vgpu::sim::nvml

using namespace vgpu::sim::nvml;

namespace {

constexpr unsigned long long kXidEvents = 0x8;
constexpr unsigned kStepMs = 10;

struct EventSet {
  std::set<nvmlDevice_t> devices;
  std::streamoff read = 0;
};

struct EventData {
  nvmlDevice_t device;
  unsigned long long type;
  unsigned long long data;
  unsigned gpu_instance;
  unsigned compute_instance;
};

std::string xid_file() { return state().folder() + "/nvml.xids"; }

// The next whole line about one of its GPUs.
bool take(EventSet& set, EventData& data) {
  std::ifstream file(xid_file());
  std::string line;
  file.seekg(set.read);
  while (std::getline(file, line) && !file.eof()) {
    set.read = file.tellg();
    std::istringstream words(line);
    unsigned gpu = 0;
    unsigned long long xid = 0;
    if (!(words >> gpu >> xid) || gpu >= device_count()) continue;
    if (set.devices.count(device_at(gpu)) == 0) continue;
    data = {device_at(gpu), kXidEvents, xid, 0xffffffff, 0xffffffff};
    return true;
  }
  return false;
}

}  // namespace

VGPU_SIM_NVML nvmlEventSetCreate(EventSet** set) {
  if (!ready()) return NVML_ERROR_UNINITIALIZED;
  if (set == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  *set = new EventSet;
  struct stat info {};
  if (stat(xid_file().c_str(), &info) == 0) (*set)->read = info.st_size;
  return NVML_SUCCESS;
}

VGPU_SIM_NVML nvmlEventSetFree(EventSet* set) {
  if (!ready()) return NVML_ERROR_UNINITIALIZED;
  if (set == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  delete set;
  return NVML_SUCCESS;
}

VGPU_SIM_NVML nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long* types) {
  const nvmlReturn_t checked = check(device, types);
  if (checked == NVML_SUCCESS) *types = kXidEvents;
  return checked;
}

VGPU_SIM_NVML nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types,
                                       EventSet* set) {
  const nvmlReturn_t checked = check(device, set);
  if (checked != NVML_SUCCESS) return checked;
  if ((types & ~kXidEvents) != 0) return NVML_ERROR_NOT_SUPPORTED;
  if (types != 0) set->devices.insert(device);
  return NVML_SUCCESS;
}

VGPU_SIM_NVML nvmlEventSetWait_v2(EventSet* set, EventData* data, unsigned timeout_ms) {
  if (!ready()) return NVML_ERROR_UNINITIALIZED;
  if (set == nullptr || data == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  for (unsigned waited_ms = 0;; waited_ms += kStepMs) {
    if (take(*set, *data)) return NVML_SUCCESS;
    if (waited_ms >= timeout_ms) return NVML_ERROR_TIMEOUT;
    usleep(kStepMs * 1000);
  }
}

VGPU_SIM_NVML nvmlEventSetWait(EventSet* set, EventData* data, unsigned timeout_ms) {
  return nvmlEventSetWait_v2(set, data, timeout_ms);
}

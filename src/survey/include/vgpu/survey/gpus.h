// SPDX-License-Identifier: Apache-2.0
// The machine's GPUs as NVML tells them, read once per command: identity, memory, processes. NVML
// is loaded at run time (nothing of NVIDIA's is needed to start the tool); the simulated one by its
// path. What NVML doesn't say is nullopt, never 0.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vgpu/base/gpu_uuid.h"

namespace vgpu::survey {

// Where the tool's own pieces are: beside the binary, in ../lib/vgpu, or where VGPU_LIBRARY points.
struct Installation {
  std::string limiter;           // libcuda_limiter.so, empty: not found
  std::string add_path;          // libadd_path.so
  std::string simulated_folder;  // with libcuda.so.1, libnvidia-ml.so.1, nvidia-smi
  std::string searched;          // for the message when the limiter isn't found
};
Installation find_installation();

inline constexpr unsigned kMostMigDevices = 16;  // of one GPU; more aren't looked for

// NVML's lists of processes on a GPU. A process may be in several; clients of MPS may be in the
// last alone. Older drivers lack some.
inline constexpr const char* kNvmlProcessLists[] = {"nvmlDeviceGetComputeRunningProcesses_v3",
                                                    "nvmlDeviceGetGraphicsRunningProcesses_v3",
                                                    "nvmlDeviceGetMPSComputeRunningProcesses_v3"};

struct GpuProcess {
  std::uint32_t pid = 0;                    // in this PID namespace; 0: belongs to another one
  std::optional<std::uint64_t> used_bytes;  // NVML may not say
};

struct Gpu {
  GpuUuid uuid;
  std::uint32_t nvml_index = 0;
  std::string name;
  std::string pci_bus_id;
  std::optional<std::uint64_t> total_bytes;
  std::optional<std::uint64_t> used_bytes;
  std::optional<unsigned> busy_percent;  // of the time, kernels of anybody ran lately
  std::vector<GpuProcess> processes;     // of all of NVML's lists, each pid once
  bool mig_enabled = false;              // it is partitioned
  std::size_t mig_devices = 0;           // into so many
  std::string uuid_text() const { return uuid.text().data(); }
};

// What of a quota holds for a program on a MIG device. The limiter knows whole GPUs: it books what
// a program does there to the GPU that the device is a part of (Limiter::position_of()).
struct Enforcement {
  bool memory = false;   // the tenant's memory limit
  bool compute = false;  // its share and limit, as percents of that device's time
  std::string_view why;
};
inline constexpr Enforcement kEnforcedOnMig{
    true, false,
    "quotas are of the whole GPU: a tenant's memory limit counts what it holds on all of its MIG "
    "devices, and tenants on different ones take turns as if they shared the multiprocessors"};
// "MIG mode, 2 MIG devices"; empty: it is a whole GPU.
std::string mig_text(const Gpu& gpu);

struct Driver {
  bool available = false;
  bool simulated = false;
  std::string version;       // "580.159.04"
  std::string cuda_version;  // "13.0"
  std::string library;       // the NVML that was loaded
  std::string why;           // not available: the reason in words
  std::vector<Gpu> gpus;     // by NVML index
};

// True when --simulated was given or VGPU_SIMULATED says so.
bool simulation_wanted(bool flag);

// What to load NVML by. Empty: the simulated one isn't installed.
std::string nvml_library(const Installation& installation, bool simulated);

Driver read_driver(const Installation& installation, bool simulated, bool with_processes);

// The same GPUs in the order in which CUDA numbers them, asked of the driver in a child process
// (cuInit in this one would hold a GPU for as long as the run lasts). Where CUDA doesn't answer,
// NVML's order.
std::vector<GpuUuid> cuda_order(const Installation& installation, const Driver& driver);

// "0,GPU-3f2a", "all": positions in driver.gpus, in NVML order, each once. Throws Problem with that
// exit status.
std::vector<std::size_t> select_gpus(const Driver& driver, const std::string& list, int exit_code);

// Keeps the driver's library at hand for as long as this lives, so that reading it again and again
// costs little. Does nothing where there is no driver.
class DriverKept {
 public:
  DriverKept(const Installation& installation, bool simulated);
  ~DriverKept();
  DriverKept(const DriverKept&) = delete;
  DriverKept& operator=(const DriverKept&) = delete;

 private:
  class Library;
  std::unique_ptr<Library> library_;
};

}  // namespace vgpu::survey

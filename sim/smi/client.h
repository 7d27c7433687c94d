// SPDX-License-Identifier: Apache-2.0
// NVML as any client sees it: dlopen of libnvidia-ml.so.1 and dlsym by name, nothing of the
// simulated GPU's own. So what the look-alike prints is what every NVML program is told, under a
// limiter too. One thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vgpu/api/nvml_abi.h"

namespace vgpu::sim::smi {

struct Functions {
#define VGPU_SMI_FUNCTION(symbol, params) nvmlReturn_t(*symbol) params = nullptr;
#include "functions.def"
#undef VGPU_SMI_FUNCTION
  const char* (*nvmlErrorString)(nvmlReturn_t) = nullptr;
};

// Opens and initialises NVML; prints why it can't and exits if it can't.
const Functions& nvml();

struct Process {
  unsigned pid = 0;
  std::optional<unsigned long long> used_bytes;
  char type = 'C';
};

// One GPU and everything that is asked of it; nullopt: NVML has no answer, shown as N/A.
class Gpu {
 public:
  explicit Gpu(nvmlDevice_t device) : device_(device) {}

  unsigned index() const;
  std::string name() const;
  std::string uuid() const;
  std::string serial() const;
  std::string bus_id() const;
  std::optional<nvmlMemory_v2_t> memory() const;
  std::optional<nvmlUtilization_t> utilization() const;
  std::optional<unsigned> fan_percent() const;
  std::optional<unsigned> temperature_celsius() const;
  std::optional<unsigned> power_milliwatts() const;
  std::optional<unsigned> power_limit_milliwatts() const;
  std::optional<unsigned> performance_state() const;
  std::optional<unsigned> clock_mhz(nvmlClockType_t type) const;
  std::optional<bool> persistence() const;
  std::optional<bool> display_active() const;
  std::string compute_mode() const;
  std::string mig_mode() const;
  std::string compute_capability() const;
  std::vector<Process> processes() const;
  // Percent of the multiprocessors' time; nullopt: NVML doesn't tell.
  std::optional<unsigned> process_percent(unsigned pid) const;

 private:
  nvmlDevice_t device_;
};

std::vector<Gpu> gpus();
std::string driver_version();
std::string cuda_version();
std::string process_name(unsigned pid);

constexpr unsigned long long mebibytes(unsigned long long bytes) { return bytes >> 20; }

}  // namespace vgpu::sim::smi

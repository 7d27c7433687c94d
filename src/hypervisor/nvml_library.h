// SPDX-License-Identifier: Apache-2.0
// NVML as the sampler asks it: loaded at run time, one answer at a time, with the reason where
// there is none. One thread; a call may take as long as the driver likes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "busy_looks.h"
#include "node_state.h"
#include "vgpu/api/nvml_abi.h"

namespace vgpu::hypervisor {

struct NvmlProcess {
  std::uint32_t pid = 0;  // as NVML shows it here; 0: of another PID namespace
  std::optional<std::uint64_t> used_bytes;
};

struct NvmlIdentity {
  GpuUuid uuid;
  std::uint32_t index = 0;
  std::string name;
  std::string pci_bus_id;
  std::optional<std::uint64_t> total_bytes;
};

struct XidSeen {
  GpuUuid gpu;
  std::uint64_t xid = 0;
  std::uint64_t time_ns = 0;
};

class Nvml {
 public:
  explicit Nvml(std::string library);
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  // Starts anew: what was lost may be back. Empty, or why not.
  std::string start();
  void stop();
  bool started() const { return started_; }

  DriverState driver() const;
  std::size_t count() const { return devices_.size(); }  // by NVML's index
  // NVML's own count by now; differs from count() when a GPU came or went.
  std::optional<unsigned> count_now() const;

  nvmlReturn_t identity(std::size_t device, NvmlIdentity& out) const;
  nvmlReturn_t processes(std::size_t device, std::vector<NvmlProcess>& out) const;
  // What is newer than that; nothing ran is no error.
  nvmlReturn_t busy_samples(std::size_t device, std::uint64_t newer_than_us,
                            std::vector<BusySample>& out) const;
  nvmlReturn_t memory(std::size_t device, std::uint64_t& total, std::uint64_t& used) const;
  // Everything of the sample but used_bytes and PCIe's rates, which take 20 ms each.
  void sample(std::size_t device, GpuSample& out) const;
  void pcie_rates(std::size_t device, GpuSample& out) const;
  bool mig(std::size_t device, std::vector<MigDevice>& out) const;  // is it enabled?

  // XID errors since the last call, without waiting; nothing where NVML has no events.
  std::vector<XidSeen> take_xids();

  std::string error_text(nvmlReturn_t result) const;

 private:
  template <class Function>
  Function* call(const char* name) const;
  template <class Value, class Function = nvmlReturn_t(nvmlDevice_t, Value*)>
  std::optional<Value> ask(const char* name, std::size_t device) const;
  void begin_events();

  std::string library_;
  void* handle_ = nullptr;
  bool started_ = false;
  std::vector<nvmlDevice_t> devices_;
  void* events_ = nullptr;
  mutable std::vector<nvmlProcessInfo_t> room_;  // as many as any GPU ever had
  mutable std::vector<nvmlProcessUtilizationSample_t> samples_room_;
};

}  // namespace vgpu::hypervisor

// SPDX-License-Identifier: Apache-2.0
// What the NVML hooks share: which position of the tenant a handle stands for, which GPUs are shown
// and in what order, which processes. Rule of all these hooks: the driver answers first, so that
// odd arguments, missing permissions and an NVML that isn't initialised fail as they would without
// us; only a good answer is replaced. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../limiter.h"
#include "vgpu/api/nvml_abi.h"
#include "vgpu/driver/dispatch.h"

namespace vgpu::limiter {

// The position of the GPU that a handle stands for, or that a MIG device's handle is a part of;
// kNoPosition: not the tenant's.
int nvml_position(nvmlDevice_t device);

// Whether the tenant may see that GPU at all.
bool is_shown(nvmlDevice_t device);

// The GPUs shown, by NVML index of the machine; the n-th of them has index n here.
struct ShownGpus {
  std::uint32_t count = 0;
  std::uint32_t positions[shm::kMaxGpus] = {};
};
ShownGpus shown_gpus();
// The driver's handle of a position.
nvmlReturn_t nvml_handle(int position, nvmlDevice_t* device);

// The number in this process's PID namespace of a process that has `pid` in its own; 0: none.
std::int32_t visible_pid(std::int32_t pid, std::uint64_t pid_namespace,
                         std::uint64_t start_time_ticks);

// A process of the tenant that holds something on a GPU, by its number in the caller's PID
// namespace.
struct ShownProcess {
  std::uint32_t pid = 0;
  std::uint64_t used_bytes = 0;
};

// The live processes of the tenant on a GPU, those only that the caller's PID namespace has a
// number for. Holds its list in memory of its own until it goes out of scope: a thousand processes
// don't fit on a small stack.
class ShownProcesses {
 public:
  explicit ShownProcesses(int position);
  ~ShownProcesses();
  ShownProcesses(const ShownProcesses&) = delete;
  ShownProcesses& operator=(const ShownProcesses&) = delete;

  std::size_t size() const { return size_; }
  const ShownProcess& operator[](std::size_t i) const { return processes_[i]; }
  bool contains(std::uint32_t pid) const;

 private:
  ShownProcess* processes_ = nullptr;
  std::size_t size_ = 0;
};

// NVML's protocol for lists: too little room is an error that says how much is needed; no list at
// all is one only where there is something to write. write(i) fills element i.
template <class Write>
nvmlReturn_t answer_list(std::size_t needed, bool has_list, unsigned int* count, Write write) {
  const unsigned int room = *count;
  *count = static_cast<unsigned int>(needed);
  if (needed == 0) return NVML_SUCCESS;
  if (room < needed) return NVML_ERROR_INSUFFICIENT_SIZE;
  if (!has_list) return NVML_ERROR_INVALID_ARGUMENT;
  for (std::size_t i = 0; i < needed; ++i) write(i);
  return NVML_SUCCESS;
}

// The answer of a driver that was asked about a list with no room for it, so that only its errors
// matter.
inline bool is_list_answer(nvmlReturn_t result) {
  return result == NVML_SUCCESS || result == NVML_ERROR_INSUFFICIENT_SIZE;
}

}  // namespace vgpu::limiter

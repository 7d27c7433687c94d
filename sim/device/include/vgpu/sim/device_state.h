// SPDX-License-Identifier: Apache-2.0
// What all processes share of the simulated GPUs: their identity, who uses them, how much each
// process holds, whose turn it is. One file in $VGPU_SIM_STATE, mapped by the simulated
// libcuda.so.1 (which writes) and the simulated NVML (which looks). Any thread, any process.
// Invariant: a device's used bytes are the sum over processes that are alive. A process is alive as
// long as somebody has the open file description through which it claimed its slot: its forked
// children keep its memory, as with the real driver, and a SIGKILL gives it back without anybody's
// help.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vgpu/base/gpu_uuid.h"
#include "vgpu/sim/model.h"

namespace vgpu::sim {

constexpr std::size_t kMaxDevices = 16;
constexpr std::size_t kMaxProcesses = 1024;
constexpr std::uint32_t kNobody = ~0u;

struct DeviceStateLayout;

// One simulated GPU as configured. `index` is the NVML index (PCI order) and names the device in
// every call below.
struct DeviceInfo {
  int index = 0;
  int cuda_ordinal = 0;  // by CUDA's default order, fastest first
  GpuUuid uuid;
  const GpuModel* model = nullptr;
  std::uint64_t nvml_total_bytes = 0;
  std::uint64_t cuda_total_bytes = 0;
  std::uint64_t reserved_bytes = 0;
  unsigned pci_domain = 0;
  unsigned pci_bus = 0;
  unsigned pci_device = 0;
  std::string pci_bus_id() const;  // "00000000:18:00.0", as NVML spells it
};

// What one process holds on one device.
struct ProcessUse {
  pid_t pid = 0;
  std::uint64_t start_time = 0;     // field 22 of /proc/PID/stat: tells a reused pid apart
  std::uint64_t visible_bytes = 0;  // what NVML shows for the process
  std::uint64_t hidden_bytes = 0;   // resident managed memory: on the device, shown by nobody
  std::uint64_t most_bytes = 0;     // both together at their highest, if only for an instant
  std::uint64_t busy_ns = 0;        // time in which at least one kernel of the process ran
  std::uint64_t seen_ns = 0;        // CLOCK_MONOTONIC of its last change
};

struct DeviceUse {
  std::uint64_t used_bytes = 0;       // by live processes, hidden bytes included, the reserve not
  std::uint64_t most_used_bytes = 0;  // the highest that was since forget_most()
  std::uint64_t busy_ns = 0;  // time in which a kernel of anybody ran, dead processes included
  std::vector<ProcessUse> processes;  // those with a context on the device
};

// A process's right to run on a device, in CLOCK_MONOTONIC nanoseconds.
struct Turn {
  bool mine = false;
  std::uint64_t start_ns = 0;  // work may run from here (a switch takes time)
  std::uint64_t end_ns = 0;    // and, if somebody else waits, up to here
  bool contended = false;
  std::uint64_t retry_ns =
      0;  // not mine: when to ask again at the latest; wake_word() changes if it is sooner
};

inline constexpr std::uint64_t kNeverEnds = ~std::uint64_t{0};  // device time

class DeviceState {
 public:
  // Attaches to the machine-wide state, which comes to life with the first process that does. A
  // failure explains itself in `why` (bad VGPU_SIM_* variable, folder that can't be written).
  static DeviceState* open(std::string& why);
  // The state of this process, opened once. Null if it can't be; the reason went to stderr once.
  static DeviceState* instance();

  std::span<const DeviceInfo> devices() const { return devices_; }
  // Ordinal -> NVML index, in CUDA's default order or by PCI (CUDA_DEVICE_ORDER=PCI_BUS_ID).
  std::vector<int> cuda_order(bool by_pci) const;

  DeviceUse look(int device);  // drops the dead first
  // High-water marks begin again at what is used now. They rise in the same step as the sums, so
  // nothing that was held for however short a time is missed, as a sampler would.
  void forget_most(int device);

  // The writing side (the simulated driver). claim() makes this process a user of the GPUs;
  // idempotent.
  bool claim();
  std::uint32_t slot() const { return slot_; }
  // A process shows up in NVML's list once it has a context on the device.
  void set_context(int device, bool present);
  // Takes bytes if the device has them free (dropping the dead if it hasn't). All or nothing.
  bool take(int device, std::uint64_t bytes);
  void give(int device, std::uint64_t bytes);
  // Resident managed memory: as much of `bytes` as fits, which is returned.
  std::uint64_t take_hidden(int device, std::uint64_t bytes);
  void give_hidden(int device, std::uint64_t bytes);
  std::uint64_t used_bytes(int device);  // look(device).used_bytes without the list
  void add_busy(int device, std::uint64_t ns);

  // Memory that several processes hold: charged to one of them, whoever made it or, after its death
  // or release, another holder. The maker has the bytes taken already. False: too many shares, or
  // (join) none with that number any more.
  bool share(int device, std::uint64_t number, std::uint64_t bytes);
  bool join(int device, std::uint64_t number);
  // This process lets go. True if it was charged and nobody else holds the share: the bytes are its
  // own to give.
  bool leave(int device, std::uint64_t number);

  // Time slices. want() registers this process's work, of so much device time at the most, and says
  // whether it may run. The device finishes that whether the process lives on or is stopped: of one
  // that doesn't ask any more nothing is left once its turns have been that long. done() ends a
  // turn early, at the time when the last work was done; ended_ns() tells a process that lost its
  // turn when that was.
  Turn want(int device, std::uint64_t now_ns, std::uint64_t work_ns = kNeverEnds);
  void done(int device, std::uint64_t at_ns);
  std::uint64_t turn_ended_ns(int device);
  bool is_wanted_by_others(int device);
  // A futex word in shared memory that changes when this process gets a turn (or wakes itself).
  std::uint32_t* wake_word();
  static void wake(std::uint32_t* word);

  static std::uint64_t now_ns();  // CLOCK_MONOTONIC
  const std::string& folder() const { return folder_; }

  DeviceState(const DeviceState&) = delete;
  DeviceState& operator=(const DeviceState&) = delete;

 private:
  DeviceState() = default;
  bool attach(std::string& why);
  void initialise(const std::vector<std::pair<const GpuModel*, std::uint64_t>>& config,
                  std::uint64_t config_hash);
  void read_devices();
  int open_file(const std::string& path) const;
  std::string slot_path(std::uint32_t slot) const;
  int slot_file(std::uint32_t slot) const;
  std::uint32_t lock_free_slot();
  bool alive(std::uint32_t slot) const;
  void drop_dead_locked(int device);
  void recompute_locked(int device);
  void note_most_locked(int device);
  void leave_shares_locked(int device, std::uint32_t slot);
  void take_off_work_locked(int device, std::uint32_t slot, std::uint64_t at_ns);
  void pass_turn_locked(int device, std::uint64_t at_ns, std::uint64_t switch_ns);
  class Lock;

  // The kernel walks all locks on a file to answer for one, so slots have theirs on several.
  static constexpr std::uint32_t kSlotsAFile = 32;
  static_assert(kMaxProcesses % kSlotsAFile == 0);

  int fd_ = -1;
  // Of the files with the slots' locks, to look at them: a file's plus one; 0: not opened yet.
  mutable std::atomic<int> slot_files_[kMaxProcesses / kSlotsAFile] = {};
  int claim_fd_ = -1;  // has the lock on slot_
  std::uint32_t slot_ = kNobody;
  DeviceStateLayout* shared_ = nullptr;
  std::vector<DeviceInfo> devices_;
  std::string folder_;
};

// The value of a VGPU_SIM_DEVICES text ("h200:2,a10"), in PCI order; nullopt and a reason if it
// can't be read.
std::optional<std::vector<const GpuModel*>> parse_devices(std::string_view text, std::string& why);

}  // namespace vgpu::sim

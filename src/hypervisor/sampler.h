// SPDX-License-Identifier: Apache-2.0
// The one thread of the node that asks NVML: processes and memory every 100 ms (pace.h), slow
// figures every second, MIG devices and the number of GPUs every ten, and what each process runs
// where somebody wants to know. It backs off from what
// answers with errors, with jitter, and starts NVML anew where a GPU is lost. NVML may hang:
// readers get what was read last, and when.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "node_state.h"
#include "nvml_library.h"

namespace vgpu::hypervisor {

struct GpuReading {
  NvmlIdentity identity;
  GpuHealth health = GpuHealth::ok;
  std::string health_text;
  GpuSample sample;
  std::optional<std::uint64_t> sampled_ns;  // CLOCK_REALTIME
  std::vector<NvmlProcess> processes;
  bool mig_enabled = false;
  std::vector<MigDevice> mig_devices;
  std::shared_ptr<const BusyWindows> busy_windows;  // null: nobody wants them
};

struct Readings {
  DriverState driver;
  std::vector<GpuReading> gpus;          // by index; those that were lost too
  std::optional<std::uint64_t> read_ns;  // CLOCK_REALTIME; when processes were read last
  std::uint64_t looked_ns = 0;           // CLOCK_MONOTONIC; the last turn of the thread, any
};

class Sampler {
 public:
  Sampler(std::string library, bool simulated);
  ~Sampler();
  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;

  // Never null, never waits for NVML.
  std::shared_ptr<const Readings> readings() const;
  std::vector<XidSeen> take_xids();
  // The GPUs of which somebody wants to know what each process runs: a dear question.
  void want_busy(std::set<GpuUuid> gpus);
  // False: it sits in NVML and is left behind, to end with the process.
  bool stop();

 private:
  struct Backoff {
    unsigned failures = 0;
    std::uint64_t again_ns = 0;  // CLOCK_MONOTONIC
  };
  struct Inside;
  static void run(const std::shared_ptr<Inside>& inside);

  std::shared_ptr<Inside> inside_;  // the thread's too: it may outlive us
  std::thread thread_;
};

// Doubles from `first_ms` to `most_ms`, a fifth up or down by `random`.
std::uint64_t backoff_ns(unsigned failures, std::uint64_t first_ms, std::uint64_t most_ms,
                         std::uint32_t random);

}  // namespace vgpu::hypervisor

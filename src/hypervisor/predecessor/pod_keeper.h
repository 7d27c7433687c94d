// SPDX-License-Identifier: Apache-2.0
// Keeps one pod's file as the predecessor's limiters need it: tokens every step, memory used every
// 100 ms, the heartbeat every 500 ms, limits in place as soon as they change. Who calls step()
// every 10 ms decides nothing else. One thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "pod_file.h"
#include "token_supply.h"

namespace vgpu::hypervisor {

class PodKeeper {
 public:
  static constexpr std::uint64_t kStepNs = 10'000'000;
  static constexpr std::uint64_t kUsageNs = 100'000'000;
  static constexpr std::uint64_t kBeatNs = 500'000'000;

  struct Now {
    std::uint64_t monotonic_ns = 0;
    double real_s = 0;  // since 1970
  };

  // Throws std::runtime_error with one line. `terms`: its target is taken from each GPU's limit.
  PodKeeper(const std::string& path, const PodFileAccess& access, const SupplyTerms& terms,
            const std::vector<PodGpu>& gpus, const Now& now);

  void set_gpus(const std::vector<PodGpu>& gpus, const Now& now);
  void set_terms(const SupplyTerms& terms);
  void set_pids(std::vector<std::int32_t> pids);
  void set_memory_used(std::uint32_t index, std::uint64_t bytes);
  void measured(std::uint32_t index, const BusyTime& busy, const Now& now);

  // What is worth a line in the log, each kind once; empty mostly.
  std::vector<std::string> step(const Now& now);

  const PodFile& file() const { return file_; }

 private:
  struct Device {
    PodGpu gpu;
    std::uint64_t memory_used_bytes = 0;
    std::optional<TokenSupply> supply;      // none: no limit
    std::uint64_t unmeasured_since_ns = 0;  // something was taken then; 0: all is measured
    bool is_blind = false;
  };

  SupplyTerms terms_of(const PodGpu& gpu) const;
  bool supply_tokens(Device& device, const Now& now);
  void say_once(const std::string& kind, const std::string& line);

  SupplyTerms terms_;
  PodFile file_;
  std::map<std::uint32_t, Device> devices_;
  std::vector<std::int32_t> pids_;
  bool pids_changed_ = true;
  std::uint64_t used_at_ns_ = 0;
  std::uint64_t beat_at_ns_ = 0;
  std::map<std::string, bool> said_;
  std::vector<std::string> lines_;
};

}  // namespace vgpu::hypervisor

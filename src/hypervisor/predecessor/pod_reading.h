// SPDX-License-Identifier: Apache-2.0
// What stands in a predecessor's shared-memory file, in plain values, for whoever only looks. The
// file is written by others and trusted in nothing: what can't be true is named in `faults` and
// left out, never shown as if it were so. Pure but for read_pod_file().
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace vgpu::hypervisor {

struct PodTokens {  // V2
  std::optional<double> refill_rate, capacity, tokens, last_update_s;
};
struct PodCores {  // V1
  std::int32_t available = 0;
};

struct PodDevice {
  std::uint32_t index = 0;  // NVML, of the host
  std::string uuid;         // printable, may be empty where it wasn't
  std::optional<std::uint32_t> up_limit_percent;
  std::uint64_t memory_limit_bytes = 0;
  std::uint64_t memory_used_bytes = 0;
  std::uint32_t total_cuda_cores = 0;
  bool is_active = false;
  std::variant<PodTokens, PodCores> compute;
};

enum class PodHealth : std::uint8_t {
  healthy,
  stale,          // the heartbeat is older than 2 s: limiters let everything through
  never,          // there was no heartbeat
  in_the_future,  // limiters take that for unhealthy as well
};

struct PodReading {
  int version = 2;
  std::vector<PodDevice> devices;  // those that are used, by index
  std::uint64_t last_heartbeat_s = 0;
  PodHealth health = PodHealth::never;
  std::vector<std::int32_t> pids;
  std::vector<std::string> faults;  // one line each
  std::uint32_t device_count = 0;   // as it stands in the file
};

// `bytes`: the whole file. nullopt with one line in `why`: it isn't such a file.
std::optional<PodReading> parse_pod_file(std::span<const std::byte> bytes, std::uint64_t now_s,
                                         std::string& why);

// Opens for reading only, follows no symbolic link, and survives a file that shrinks meanwhile.
// nullopt with one line in `why`; `missing` is set when there is none.
std::optional<PodReading> read_pod_file(const std::string& path, std::uint64_t now_s,
                                        std::string& why, bool& missing);

// <base>/<namespace>/<pod>/shm; throws std::invalid_argument for names that would lead elsewhere.
std::string pod_file_path(const std::string& base, const std::string& pod_namespace,
                          const std::string& pod);

}  // namespace vgpu::hypervisor

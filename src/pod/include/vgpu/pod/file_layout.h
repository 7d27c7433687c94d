// SPDX-License-Identifier: Apache-2.0
// The predecessor's shared-memory file: one for each pod, <base>/<namespace>/<pod>/shm, between its
// daemon and its limiters. Little-endian, 64-bit, no magic, no checksum: its size and a
// discriminant are all that tells what it is. Its limiters keep the first mapping that they get, so
// a file is never replaced, only changed in place. Every tenant can write all of it.
//
// Fields are plain words here; whoever touches a mapped file does so by std::atomic_ref
// (pod_file.cpp). Offsets below count from the start of the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace vgpu::pod_file {

inline constexpr std::uint32_t kMaxDevices = 16;  // by the host's NVML index
inline constexpr std::uint32_t kMaxPids = 2048;
inline constexpr std::size_t kUuidSize = 64;  // NUL-terminated
inline constexpr std::uint32_t kBitmapWords =
    kMaxPids / 64;  // the rest of the stored ones is unused

enum class Version : std::uint32_t { v1 = 0, v2 = 1 };  // the discriminant

struct V2Device {
  char uuid[kUuidSize];
  std::uint32_t up_limit;  // percent
  std::uint32_t padding0;
  std::uint64_t mem_limit;
  std::uint32_t total_cuda_cores;
  std::uint32_t padding1;
  std::uint64_t pod_memory_used;
  double refill_rate;  // tokens a second; limiters don't read it
  double capacity;
  double tokens;         // limiters take, by CAS; the daemon gives
  double last_update_s;  // seconds since 1970
  std::uint32_t is_active;
  std::uint32_t padding2;
};
static_assert(sizeof(V2Device) == 136 && std::is_standard_layout_v<V2Device>);
static_assert(offsetof(V2Device, up_limit) == 64 && offsetof(V2Device, mem_limit) == 72);
static_assert(offsetof(V2Device, total_cuda_cores) == 80);
static_assert(offsetof(V2Device, pod_memory_used) == 88 && offsetof(V2Device, refill_rate) == 96);
static_assert(offsetof(V2Device, capacity) == 104 && offsetof(V2Device, tokens) == 112);
static_assert(offsetof(V2Device, last_update_s) == 120 && offsetof(V2Device, is_active) == 128);

struct V1Device {
  char uuid[kUuidSize];
  std::int32_t available_cores;
  std::uint32_t up_limit;
  std::uint64_t mem_limit;
  std::uint32_t total_cuda_cores;
  std::uint32_t padding0;
  std::uint64_t pod_memory_used;
  std::uint32_t is_active;
  std::uint32_t padding1;
};
static_assert(sizeof(V1Device) == 104 && std::is_standard_layout_v<V1Device>);
static_assert(offsetof(V1Device, available_cores) == 64 && offsetof(V1Device, up_limit) == 68);
static_assert(offsetof(V1Device, mem_limit) == 72 && offsetof(V1Device, total_cuda_cores) == 80);
static_assert(offsetof(V1Device, pod_memory_used) == 88 && offsetof(V1Device, is_active) == 96);

struct PidSet {
  std::uint64_t lock;  // 0, or the creator's pid; see docs/predecessor-files.md
  std::uint64_t value[kMaxPids];
  std::uint64_t bitmap[kMaxPids];  // bit for value[i]: word i / 64, from its most significant bit
  std::uint64_t size;
  std::uint64_t creator_pid;
};
static_assert(sizeof(PidSet) == 32792 && std::is_standard_layout_v<PidSet>);
static_assert(offsetof(PidSet, value) == 8 && offsetof(PidSet, bitmap) == 16392);
static_assert(offsetof(PidSet, size) == 32776 && offsetof(PidSet, creator_pid) == 32784);

template <class Device, std::uint32_t kDiscriminant>
struct Layout {
  static constexpr Version kVersion{kDiscriminant};
  std::uint32_t discriminant;
  std::uint32_t padding0;
  Device devices[kMaxDevices];
  std::uint32_t device_count;
  std::uint32_t padding1;
  std::uint64_t last_heartbeat;  // seconds since 1970
  PidSet pids;
  std::uint8_t padding2[512];
};
using V1 = Layout<V1Device, 0>;
using V2 = Layout<V2Device, 1>;

inline constexpr std::size_t kFileSize = 35'504;  // of both versions: as large as the larger one
static_assert(sizeof(V2) == kFileSize && std::is_standard_layout_v<V2>);
static_assert(offsetof(V2, devices) == 8 && offsetof(V2, device_count) == 8 + 2176);
static_assert(offsetof(V2, last_heartbeat) == 8 + 2184 && offsetof(V2, pids) == 8 + 2192);
static_assert(offsetof(V2, padding2) == 8 + 34'984);
static_assert(sizeof(V1) == 8 + 34'984 && std::is_standard_layout_v<V1>);
static_assert(offsetof(V1, devices) == 8 && offsetof(V1, device_count) == 8 + 1664);
static_assert(offsetof(V1, last_heartbeat) == 8 + 1672 && offsetof(V1, pids) == 8 + 1680);
static_assert(offsetof(V1, padding2) == 8 + 34'472);

// The limiter takes a device for abandoned when the heartbeat is older, and then lets all through.
inline constexpr std::uint64_t kHealthySeconds = 2;

}  // namespace vgpu::pod_file

// SPDX-License-Identifier: Apache-2.0
// The words by which one process hosts the arbiter for all, and by which grants reach the seats.
// Hosting is a lease: an epoch and a deadline in one word. Whoever finds the deadline passed by a
// grace takes it over by CAS with the next epoch, so a host may be killed, stopped or debugged at
// any instruction; when it comes back its epoch is old and nobody believes its grants. Times are
// stored in units of 1,024 ns: 48 bits of them last nine years. Pure.
#pragma once

#include <cstdint>

#include "vgpu/core/arbiter.h"

namespace vgpu::core {

inline constexpr unsigned kTimeShift = 10;
inline constexpr std::uint64_t kTimeMask = (std::uint64_t{1} << 48) - 1;

// Rounded up: a lease is never shorter than it was meant, a deadline never earlier.
constexpr std::uint64_t pack_time(std::uint64_t ns) {
  const std::uint64_t units = (ns >> kTimeShift) + ((ns & ((1u << kTimeShift) - 1)) != 0 ? 1 : 0);
  return units & kTimeMask;
}
constexpr std::uint64_t unpack_time(std::uint64_t units) {
  return (units & kTimeMask) << kTimeShift;
}

// While somebody waits, the host steps at least this often.
inline constexpr std::uint64_t kHostBeatNs = 10'000'000;
// How late a host may be before it is replaced.
inline constexpr std::uint64_t kHostGraceNs = 20'000'000;

struct Hosting {
  std::uint16_t epoch = 0;
  std::uint64_t deadline_ns = 0;  // 0: nobody hosts

  static constexpr Hosting unpack(std::uint64_t word) {
    return {static_cast<std::uint16_t>(word >> 48), unpack_time(word)};
  }
  constexpr std::uint64_t pack() const {
    return std::uint64_t{epoch} << 48 | pack_time(deadline_ns);
  }
  // `waiting_since_ns`: since when the caller has had no answer. A host that nobody needed may
  // sleep past its deadline, so it is late only if it doesn't answer either.
  constexpr bool may_be_taken_over(std::uint64_t now_ns, std::uint64_t waiting_since_ns) const {
    if (deadline_ns == 0) return true;
    return now_ns > deadline_ns + kHostGraceNs && now_ns > waiting_since_ns + kHostGraceNs;
  }
  constexpr Hosting taken_over(std::uint64_t now_ns) const {
    return {static_cast<std::uint16_t>(epoch + 1), now_ns + kHostBeatNs};
  }
};

// A grant's end, and by which host. Three ends are meant by name: open to a seat that is alone on
// its GPU and has no compute limit (one load, nothing is counted), open to one that is alone and
// has a limit, and open until further notice.
struct GrantWord {
  static constexpr std::uint64_t kAlone = kTimeMask;
  static constexpr std::uint64_t kOpen = kTimeMask - 1;
  static constexpr std::uint64_t kAloneUnderLimit = kTimeMask - 2;

  static constexpr std::uint64_t pack(std::uint16_t epoch, const Grant& grant,
                                      bool has_limit = false) {
    const std::uint64_t alone = has_limit ? kAloneUnderLimit : kAlone;
    std::uint64_t end = grant.end_ns == kForever ? (grant.counted ? kOpen : alone) : 0;
    if (grant.end_ns != kForever && grant.end_ns != 0) end = pack_time(grant.end_ns);
    return std::uint64_t{epoch} << 48 | end;
  }
  static constexpr bool is_alone(std::uint64_t word) { return (word & kTimeMask) == kAlone; }
  // Others have the GPU too: what is launched has to be accounted for.
  static constexpr bool is_counted(std::uint64_t word) {
    const std::uint64_t end = word & kTimeMask;
    return end != kAlone && end != kAloneUnderLimit;
  }
  static constexpr std::uint64_t end_ns(std::uint64_t word) {
    const std::uint64_t end = word & kTimeMask;
    return end >= kAloneUnderLimit ? kForever : unpack_time(end);
  }
  static constexpr std::uint16_t epoch(std::uint64_t word) {
    return static_cast<std::uint16_t>(word >> 48);
  }
};

}  // namespace vgpu::core

// SPDX-License-Identifier: Apache-2.0
// How long a thread that looks at things regularly rests, so that it costs little however much
// there is to look at. Pure.
#pragma once

#include <algorithm>
#include <cstdint>

namespace vgpu::hypervisor {

// A look took so much, of which so much was processor time: rest until the next is due by the beat,
// but looks may not take more than a fiftieth of a core, unless half a second isn't enough for
// that.
inline std::uint64_t rest_ns(std::uint64_t beat_ns, std::uint64_t took_ns, std::uint64_t cpu_ns) {
  constexpr std::uint64_t kOneOf = 50;
  constexpr std::uint64_t kMostNs = 500'000'000;
  const std::uint64_t by_beat = took_ns < beat_ns ? beat_ns - took_ns : beat_ns / 10;
  return std::max(by_beat, std::min(cpu_ns * kOneOf, kMostNs));
}

// And so long it rests at the least, however much happens meanwhile that is worth a look: that is a
// fifth of a core, unless a beat isn't enough for that.
inline std::uint64_t least_rest_ns(std::uint64_t beat_ns, std::uint64_t cpu_ns) {
  return std::min(4 * cpu_ns, beat_ns);
}

}  // namespace vgpu::hypervisor

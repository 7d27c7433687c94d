// SPDX-License-Identifier: Apache-2.0
// The compute limit: GPU time of at most so many percent of the wall time. One word for a tenant on
// a GPU, the time at which what it asked for is paid: a launch that is asked for is due at that
// time, and moves it on by its cost divided by the limit. (The generic cell rate algorithm, ITU-T
// I.371, with debt: a cost that turns out higher is added later.) Unused time is forgotten beyond a
// burst, so idling saves up no more than that. Pure; times in nanoseconds of one clock.
#pragma once

#include <algorithm>
#include <cstdint>

namespace vgpu::core {

// Wall time whose allowance may be saved up: a tenant that waits for its turn loses none of it.
inline constexpr std::uint64_t kPaceBurstNs = 100'000'000;

// What is paced by a compute limit; 0: nothing. All of the time is more than anybody can have, and
// a learned cost that is a little too high would hold it back all the same.
constexpr std::uint32_t paced_percent(std::uint32_t limit_percent) {
  return limit_percent < 100 ? limit_percent : 0;
}

// GPU time, as the wall time that pays for it.
constexpr std::uint64_t paid_by_ns(std::uint64_t cost_ns, std::uint32_t limit_percent) {
  return limit_percent == 0 ? 0 : cost_ns * 100 / limit_percent;
}

// When a launch that is asked for now may go: each takes the next free place, so processes of one
// tenant, and threads, come round in the order in which they asked.
constexpr std::uint64_t pace_place_ns(std::uint64_t paid_until_ns, std::uint64_t now_ns) {
  const std::uint64_t oldest = now_ns > kPaceBurstNs ? now_ns - kPaceBurstNs : 0;
  return std::max(paid_until_ns, oldest);
}

// The word once a place for `cost_ns` is taken.
constexpr std::uint64_t pace_charge(std::uint64_t paid_until_ns, std::uint64_t now_ns,
                                    std::uint64_t cost_ns, std::uint32_t limit_percent) {
  return pace_place_ns(paid_until_ns, now_ns) + paid_by_ns(cost_ns, limit_percent);
}

// When it is due. `batch_ns`: GPU time that has to be saved up first, where starting costs others
// something (a turn); never more than half of a burst.
constexpr std::uint64_t pace_due_ns(std::uint64_t place_ns, std::uint64_t batch_ns,
                                    std::uint32_t limit_percent) {
  return place_ns + std::min(paid_by_ns(batch_ns, limit_percent), kPaceBurstNs / 2);
}

// The word when the limit changes: what is owed still is owed at the new one. 0 percent: no limit.
constexpr std::uint64_t pace_rescaled(std::uint64_t paid_until_ns, std::uint64_t now_ns,
                                      std::uint32_t before_percent, std::uint32_t after_percent) {
  if (paid_until_ns <= now_ns || before_percent == 0 || before_percent == after_percent)
    return paid_until_ns;
  if (after_percent == 0) return now_ns;
  return now_ns + (paid_until_ns - now_ns) * before_percent / after_percent;
}

}  // namespace vgpu::core

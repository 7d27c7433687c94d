// SPDX-License-Identifier: Apache-2.0
// Whether one launch may go to the driver now, or what it waits for. In this order: its tenant's
// compute limit (waiting for that doesn't ask for a turn), its turn, and what is in flight. The
// last only delays: work in flight may be waiting for this very launch, so who made no progress for
// a while is let through. Pure; times in nanoseconds of one clock.
#pragma once

#include <algorithm>
#include <cstdint>

namespace vgpu::core {

// From a launch to the start of its kernel on an idle GPU, as measured on an H200.
inline constexpr std::uint64_t kLaunchLatencyNs = 3'500;
// So long before the work in flight is predicted to be done the next launch may always follow: a
// sleep ends late by up to 60 us.
inline constexpr std::uint64_t kLeadNs = 60'000;
inline constexpr std::uint64_t kLeastLookNs = 100'000;
// So long a launch waits for room in flight; then it goes in beyond the bound.
inline constexpr std::uint64_t kMostInFlightWaitNs = 20'000'000;

// Into a stream that has nothing in flight a launch waits for room only so long: what is in flight
// may be waiting for just that stream.
inline constexpr std::uint64_t kMostIdleStreamWaitNs = 1'000'000;
// Of work whose cost isn't known yet so many launches may be in flight: they may be of any length.
inline constexpr std::uint32_t kMostUnmeasured = 2;
inline constexpr std::uint64_t kUnmeasuredLookNs = 50'000;  // between two looks whether one is done

// Beside somebody of high priority, work as long as a slice of the hardware goes in only when what
// was marked before it is known to be done. That one's slices make predictions come true late, and
// two long pieces in a row leave it no time to catch up between them.
inline constexpr std::uint64_t kLongBesidePriorityNs = 2'000'000;
inline constexpr std::uint64_t kDoneLookNs = 50'000;  // between two looks whether it is

enum class Admission : std::uint8_t { go, wait_limit, wait_turn, wait_in_flight };

struct GateView {
  std::uint64_t grant_end_ns = 0;   // arbiter.h: Grant
  std::uint64_t in_flight_ns = 0;   // the bound
  std::uint64_t busy_until_ns = 0;  // when what is in flight is predicted to be done
  std::uint64_t due_ns = 0;         // by the compute limit; 0: now
  std::uint64_t cost_ns = 0;        // of this launch, by a length that few pass
  std::uint64_t spread_ns = 0;      // by which the work in flight may be off its prediction
  // Launches in flight of this kind, while its cost isn't known; 0 once it is.
  std::uint32_t unmeasured = 0;
  bool beside_priority = false;
  bool marks_done = true;  // in_flight.h: all that was marked is done
};

struct Verdict {
  Admission admission = Admission::go;
  std::uint64_t until_ns = 0;  // look again then (or when the grant changes)
};

constexpr Verdict judge_launch(std::uint64_t now_ns, const GateView& view) {
  if (now_ns < view.due_ns) return {Admission::wait_limit, view.due_ns};
  if (now_ns >= view.grant_end_ns) return {Admission::wait_turn, UINT64_MAX};
  if (view.unmeasured >= kMostUnmeasured)
    return {Admission::wait_in_flight, now_ns + kUnmeasuredLookNs};
  if (view.beside_priority && !view.marks_done && view.cost_ns >= kLongBesidePriorityNs)
    return {Admission::wait_in_flight, std::max(view.busy_until_ns, now_ns + kDoneLookNs)};
  if (view.busy_until_ns <= now_ns) return {};
  // A launch may always go in shortly before what is in flight is done: later would leave the GPU
  // idle in between.
  const std::uint64_t room =
      std::max(view.in_flight_ns, view.cost_ns + view.spread_ns + kLeadNs) - view.cost_ns;
  const std::uint64_t in_flight = view.busy_until_ns - now_ns;
  if (in_flight <= room) return {};
  // Predictions err: look again meanwhile, the sooner the nearer it is.
  const std::uint64_t over = in_flight - room;
  return {Admission::wait_in_flight, now_ns + std::min(over, std::max(over / 4, kLeastLookNs))};
}

// The prediction after a launch at `now_ns`.
constexpr std::uint64_t busy_after(std::uint64_t busy_until_ns, std::uint64_t now_ns,
                                   std::uint64_t cost_ns) {
  return std::max(busy_until_ns, now_ns + kLaunchLatencyNs) + cost_ns;
}

}  // namespace vgpu::core

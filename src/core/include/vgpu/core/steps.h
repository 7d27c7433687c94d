// SPDX-License-Identifier: Apache-2.0
// The labelled steps of the ledger and of the arbitration: every point between two stores that
// another process can see. Tests kill or stop a process at each of them (tests/process); a product
// build passes them without a trace.
//
// One list, so that a step that no test reaches, or a test for a step that is gone, shows.
#pragma once

#include <cstdint>

//   group    step
#define VGPU_LEDGER_STEPS(STEP) \
  STEP(create, built)           \
  STEP(create, ready)           \
  STEP(create, linked)          \
  STEP(join, locked)            \
  STEP(join, claimed)           \
  STEP(join, named)             \
  STEP(join, cleared)           \
  STEP(join, live)              \
  STEP(reserve, asked)          \
  STEP(reserve, added_up)       \
  STEP(reserve, granted)        \
  STEP(reserve, withdrawn)      \
  STEP(commit, charged)         \
  STEP(commit, cleared)         \
  STEP(commit, done)            \
  STEP(release, begun)          \
  STEP(release, lowered)        \
  STEP(share, claimed)          \
  STEP(share, filled)           \
  STEP(share, moving)           \
  STEP(share, published)        \
  STEP(share, moved)            \
  STEP(hold, marked)            \
  STEP(hold, confirmed)         \
  STEP(unhold, unmarked)        \
  STEP(collect, dying)          \
  STEP(collect, freed)          \
  STEP(reap, judged)            \
  STEP(reap, freed)             \
  STEP(reap, collected)         \
  STEP(leave, freed)            \
  STEP(leave, unlocked)         \
  STEP(remove, announced)       \
  STEP(remove, unlinked)

#define VGPU_ARBITER_STEPS(STEP) \
  STEP(node, built)              \
  STEP(node, ready)              \
  STEP(seat, claimed)            \
  STEP(seat, named)              \
  STEP(seat, live)               \
  STEP(seat, reported)           \
  STEP(seat, wanted)             \
  STEP(seat, rung)               \
  STEP(host, taken_over)         \
  STEP(host, renewed)            \
  STEP(host, reaped)             \
  STEP(host, decided)            \
  STEP(host, described)          \
  STEP(host, granted)            \
  STEP(host, counted)            \
  STEP(host, woken)              \
  STEP(host, released)           \
  STEP(seat, freed)

namespace vgpu::core {

enum class Step : std::uint8_t {
#define VGPU_STEP_ENUMERATOR(group, step) group##_##step,
  VGPU_LEDGER_STEPS(VGPU_STEP_ENUMERATOR) VGPU_ARBITER_STEPS(VGPU_STEP_ENUMERATOR)
#undef VGPU_STEP_ENUMERATOR
};

}  // namespace vgpu::core

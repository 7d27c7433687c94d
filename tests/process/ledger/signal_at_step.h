// SPDX-License-Identifier: Apache-2.0
// A process that signals itself at one labelled step (core/steps.h), once.
#pragma once

#include <signal.h>
#include <unistd.h>

#include <string>

#include "vgpu/core/steps.h"
#include "vgpu/shm/step.h"

namespace vgpu::shm {

struct NamedStep {
  core::Step step;
  const char* name;  // "group.step"
};
// For a list of core/steps.h: {VGPU_LEDGER_STEPS(VGPU_NAMED_STEP)}
#define VGPU_NAMED_STEP(group, step) {core::Step::group##_##step, #group "." #step},

inline std::string test_name(const NamedStep& named) {
  std::string name = named.name;
  name.replace(name.find('.'), 1, "_");
  return name;
}

// Plain globals: set in the child, before it has other threads.
inline core::Step g_where{};
inline int g_signal = 0;

inline void signal_there(core::Step at) {
  if (at != g_where || g_signal == 0) return;
  const int number = g_signal;
  g_signal = 0;  // once
  ::kill(::getpid(), number);
}

inline void signal_at(core::Step where, int number) {
  g_where = where;
  g_signal = number;
  testing::on_step = &signal_there;
}

}  // namespace vgpu::shm

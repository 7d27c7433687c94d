// SPDX-License-Identifier: Apache-2.0
// Where the steps of core/steps.h are announced. A product build announces nothing: the call is
// empty.
#pragma once

#include "vgpu/core/steps.h"

namespace vgpu::shm {

#ifdef VGPU_LEDGER_STEPS_VISIBLE
namespace testing {
extern void (*on_step)(core::Step);  // set before other threads start
}
inline void step(core::Step at) {
  if (testing::on_step != nullptr) testing::on_step(at);
}
#else
inline void step(core::Step) {}
#endif

}  // namespace vgpu::shm

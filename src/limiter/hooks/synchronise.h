// SPDX-License-Identifier: Apache-2.0
// Around a driver call in which pools may give back what they have unused: see TrimGate.
#pragma once

#include "charge.h"

namespace vgpu::limiter {

class SynchronisationScope {
 public:
  SynchronisationScope() {
    TrimGate& gate = ledger().pools.trim_gate();
    gate.enter_synchronisation();
    if (!gate.has_request()) return;
    Patience patience;
    while (gate.has_request() && patience.wait()) {
    }
  }
  ~SynchronisationScope() { ledger().pools.trim_gate().leave_synchronisation(); }
  SynchronisationScope(const SynchronisationScope&) = delete;
  SynchronisationScope& operator=(const SynchronisationScope&) = delete;
};

}  // namespace vgpu::limiter

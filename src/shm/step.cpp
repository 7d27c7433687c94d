// SPDX-License-Identifier: Apache-2.0
// The observer that tests set; part of the stepped variant of the library only.
#include "vgpu/shm/step.h"

namespace vgpu::shm::testing {

void (*on_step)(core::Step) = nullptr;

}  // namespace vgpu::shm::testing

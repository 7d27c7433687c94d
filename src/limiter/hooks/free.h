// SPDX-License-Identifier: Apache-2.0
// A free of something that the allocation table knows: the record goes before the driver is called,
// the charge after it succeeded. What the table doesn't know passes through (pool pointers, host
// memory, memory from before).
#pragma once

#include "charge.h"

namespace vgpu::limiter {

template <class Call>
CUresult free_known(std::uint64_t handle, Call call) {
  Allocation taken;
  if (!ledger().allocations.begin_free(handle, taken)) {
    ledger().pools.note_free();  // if it was a pool's
    return call();
  }
  ChangeScope change;
  const CUresult result = call();
  if (result != CUDA_SUCCESS) {
    ledger().allocations.undo_free(handle, taken);
    return result;
  }
  release(ledger().allocations.end_free(handle, taken));
  return result;
}

// The same for what the driver frees only when its stream gets there.
template <class Call>
CUresult free_known_in_stream_order(std::uint64_t handle, Call call) {
  Allocation taken;
  ledger().pools.note_free();
  if (!ledger().allocations.begin_free(handle, taken)) return call();
  ChangeScope change;
  const CUresult result = call();
  if (result != CUDA_SUCCESS) {
    ledger().allocations.undo_free(handle, taken);
    return result;
  }
  release_when_gone(ledger().allocations.end_free(handle, taken));
  return result;
}

}  // namespace vgpu::limiter

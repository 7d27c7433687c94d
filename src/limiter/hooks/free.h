// SPDX-License-Identifier: Apache-2.0
// A free of something that the allocation table knows: the record goes before the driver is called,
// the charge after it succeeded. What lies in a pool frees no charge, but a place for others. What
// the table doesn't know passes through (graph memory, host memory, memory from before).
#pragma once

#include "charge.h"
#include "settle.h"

namespace vgpu::limiter {

// The stream as freed memory remembers it: see FreedRanges. kNoStream where this driver can't tell
// streams by a number that never comes again.
std::uint64_t stream_number(CUstream stream, bool per_thread);

// `stream()`: in whose order it is freed, asked for after the driver's call.
template <class Stream, class Call>
CUresult free_in_pool(std::uint64_t address, const Allocation& taken, Stream stream, Call call) {
  Pool& pool = *taken.pool;
  ledger().pools.note_change();
  ledger().pools.prepare_for_frees(pool);
  if (pool.account.wants_reading()) settle_pool(pool, driver_model::kPoolSlackBytes);
  const std::uint64_t ticket = pool.account.begin_free(address, taken.bytes);
  const CUresult result = call();
  if (result != CUDA_SUCCESS) {
    pool.account.undo_free(address, taken.bytes);
    ledger().allocations.undo_free(address, taken);
    return result;
  }
  const std::uint64_t number = stream();
  pool.account.end_free(address, taken.bytes, ticket, number, ledger().pools.epoch());
  if (number != FreedRanges::kAnyStream) ledger().pools.note_unordered();
  return result;
}

template <class Call>
CUresult free_known(std::uint64_t handle, Call call) {
  Allocation taken;
  if (!ledger().allocations.begin_free(handle, taken)) {
    ledger().pools.note_change();  // if it was a pool's
    return call();
  }
  // Whoever frees so has waited for all that used it.
  const auto any_stream = [] { return FreedRanges::kAnyStream; };
  if (taken.kind == AllocationKind::in_pool) return free_in_pool(handle, taken, any_stream, call);
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
CUresult free_known_in_stream_order(std::uint64_t handle, CUstream stream, bool per_thread,
                                    Call call) {
  Allocation taken;
  if (!ledger().allocations.begin_free(handle, taken)) {
    ledger().pools.note_change();
    return call();
  }
  const auto number = [&] { return stream_number(stream, per_thread); };
  if (taken.kind == AllocationKind::in_pool) return free_in_pool(handle, taken, number, call);
  ledger().pools.note_change();
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

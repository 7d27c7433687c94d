// SPDX-License-Identifier: Apache-2.0
// Linear memory: cuMemAlloc, cuMemAllocPitch, cuMemAllocManaged, in their 64-bit and their legacy
// 32-bit forms. More than 1 MiB is charged in whole pages; less shares blocks of one page, so a
// page is reserved and kept only if the address that comes back lies in a block that wasn't charged
// yet. At the limit that page comes out of the room which is left to such attempts.
#include "../hooks.h"
#include "charge.h"
#include "settle.h"
#include "vgpu/core/driver_model.h"

namespace vgpu::hooks {

using namespace limiter;

namespace {

// Nothing may be added any more, but a block that is charged already may have a place for a small
// allocation. Whether it has is the driver's to say: an address in a block of its own goes back at
// once. Until then the block is charged. `call` allocates and says how many bytes that took.
template <class Pointer, class Call>
CUresult allocate_in_charged_block(const Place& place, Pointer* ptr, std::uint64_t bytes,
                                   Call call) {
  const auto gpu = static_cast<std::uint32_t>(place.gpu);
  if (ptr == nullptr || !driver_model::shares_a_block(bytes) ||
      !ledger().allocations.may_have_place(gpu, bytes)) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  Reservation attempt(place.gpu, driver_model::kAttemptBytes, Charge::explicit_memory,
                      Room::attempt);
  if (attempt.refused()) return CUDA_ERROR_OUT_OF_MEMORY;
  Pointer placed = 0;
  const CUresult result = call(&placed, bytes);
  if (result != CUDA_SUCCESS) return result;
  const bool is_small = driver_model::shares_a_block(bytes);
  if (is_small && !ledger().allocations.add_in_block(placed, bytes, gpu, place.owner)) {
    *ptr = placed;
    return result;
  }
  Allocation taken;
  if (is_small) ledger().allocations.begin_free(placed, taken);
  real().cuMemFree_v2(placed);
  // Another thread's allocation may have come to lie in the block meanwhile: then it stays.
  if (is_small && ledger().allocations.end_free(placed, taken).nothing()) attempt.keep();
  return CUDA_ERROR_OUT_OF_MEMORY;
}

// `Pointer` is CUdeviceptr, or 32 bits wide in the legacy forms: what the program sees is written
// by the driver alone.
template <class Pointer, class Call>
CUresult allocate_linear(Pointer* ptr, std::uint64_t bytes, Call call) {
  const Place place = current_place();
  if (place.gpu != kNoGpu) measure_at_beat(place.gpu);
  Reservation reservation(place.gpu, driver_model::linear_bytes(bytes), Charge::explicit_memory);
  if (reservation.refused()) {
    return allocate_in_charged_block(place, ptr, bytes,
                                     [&](Pointer* out, std::uint64_t&) { return call(out); });
  }
  const CUresult result = call(ptr);
  if (result != CUDA_SUCCESS || place.gpu == kNoGpu) return result;
  const auto gpu = static_cast<std::uint32_t>(place.gpu);
  if (driver_model::shares_a_block(bytes)) {
    if (ledger().allocations.add_in_block(*ptr, bytes, gpu, place.owner)) reservation.keep();
    return result;
  }
  ledger().allocations.add(
      *ptr, {.bytes = driver_model::linear_bytes(bytes), .context = place.owner, .gpu = gpu});
  reservation.keep();
  return result;
}

// The real pitch is the driver's to choose: reserve by the model, correct by what it chose. `call`
// allocates and writes the pitch.
template <class Pointer, class Size, class Call>
CUresult allocate_pitch(Pointer* ptr, Size* pitch, std::uint64_t width, std::uint64_t height,
                        Call call) {
  const Place place = current_place();
  const std::uint64_t expected = driver_model::pitched_bytes(width, height);
  Reservation reservation(place.gpu, driver_model::linear_bytes(expected), Charge::explicit_memory);
  if (reservation.refused()) {
    Size chosen = 0;
    const CUresult result =
        allocate_in_charged_block(place, ptr, pitch == nullptr ? UINT64_MAX : expected,
                                  [&](Pointer* out, std::uint64_t& bytes) {
                                    const CUresult allocated = call(out, &chosen);
                                    bytes = driver_model::saturating_multiply(chosen, height);
                                    return allocated;
                                  });
    if (result == CUDA_SUCCESS) *pitch = chosen;
    return result;
  }
  const CUresult result = call(ptr, pitch);
  if (result != CUDA_SUCCESS || place.gpu == kNoGpu) return result;
  const auto gpu = static_cast<std::uint32_t>(place.gpu);
  const std::uint64_t bytes = driver_model::saturating_multiply(*pitch, height);
  if (driver_model::shares_a_block(bytes)) {
    if (ledger().allocations.add_in_block(*ptr, bytes, gpu, place.owner))
      reservation.keep(driver_model::kPageBytes);
    return result;
  }
  ledger().allocations.add(
      *ptr, {.bytes = driver_model::linear_bytes(bytes), .context = place.owner, .gpu = gpu});
  reservation.keep(driver_model::linear_bytes(bytes));
  return result;
}

}  // namespace

CUresult cuMemAlloc(CUdeviceptr_v1* ptr, unsigned int bytes) {
  return allocate_linear(ptr, bytes,
                         [&](CUdeviceptr_v1* out) { return real().cuMemAlloc(out, bytes); });
}

CUresult cuMemAlloc_v2(CUdeviceptr* ptr, size_t bytes) {
  return allocate_linear(ptr, bytes,
                         [&](CUdeviceptr* out) { return real().cuMemAlloc_v2(out, bytes); });
}

CUresult cuMemAllocPitch(CUdeviceptr_v1* ptr, unsigned int* pitch, unsigned int width_in_bytes,
                         unsigned int height, unsigned int element_size_bytes) {
  return allocate_pitch(
      ptr, pitch, width_in_bytes, height, [&](CUdeviceptr_v1* out, unsigned int* chosen) {
        return real().cuMemAllocPitch(out, chosen, width_in_bytes, height, element_size_bytes);
      });
}

CUresult cuMemAllocPitch_v2(CUdeviceptr* ptr, size_t* pitch, size_t width_in_bytes, size_t height,
                            unsigned int element_size_bytes) {
  return allocate_pitch(ptr, pitch, width_in_bytes, height, [&](CUdeviceptr* out, size_t* chosen) {
    return real().cuMemAllocPitch_v2(out, chosen, width_in_bytes, height, element_size_bytes);
  });
}

// Managed memory may lie on the host at times; it is charged in full, because it can come to the
// device at any touch. What the first of it takes besides stays charged until the process ends.
CUresult cuMemAllocManaged(CUdeviceptr* ptr, size_t bytes, unsigned int flags) {
  const Place place = current_place();
  if (place.gpu == kNoGpu) return real().cuMemAllocManaged(ptr, bytes, flags);
  const std::uint64_t charged = driver_model::linear_bytes(bytes);
  // Relaxed: of two first ones, one charge too many is given back below.
  std::atomic<bool>& has_managed = ledger().gpus[place.gpu].has_managed;
  const std::uint64_t first =
      has_managed.load(std::memory_order_relaxed) ? 0 : driver_model::kFirstManagedBytes;
  Reservation reservation(place.gpu, driver_model::saturating_add(charged, first), Charge::unseen);
  if (reservation.refused()) return CUDA_ERROR_OUT_OF_MEMORY;
  const CUresult result = real().cuMemAllocManaged(ptr, bytes, flags);
  if (result != CUDA_SUCCESS) return result;
  ledger().allocations.add(*ptr, {.bytes = charged,
                                  .context = place.owner,
                                  .gpu = static_cast<std::uint32_t>(place.gpu),
                                  .kind = AllocationKind::managed});
  const bool is_first = !has_managed.exchange(true, std::memory_order_relaxed);
  reservation.keep(is_first ? driver_model::saturating_add(charged, first) : charged);
  return result;
}

}  // namespace vgpu::hooks

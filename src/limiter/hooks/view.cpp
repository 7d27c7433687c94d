// SPDX-License-Identifier: Apache-2.0
// The virtual GPU's memory as CUDA shows it: total = the limit, free = what the tenant may still
// have, neither more than the device really has. The driver answers first, so odd arguments and
// missing contexts fail as they would.
#include "view.h"

#include <cstdint>

#include "../hooks.h"
#include "charge.h"
#include "settle.h"
#include "vgpu/base/quota.h"
#include "vgpu/core/driver_model.h"

namespace vgpu::limiter {
namespace {

std::uint64_t least(std::uint64_t a, std::uint64_t b) { return a < b ? a : b; }

}  // namespace

MemoryView unlimited_view(std::uint64_t free_bytes, std::uint64_t total_bytes) {
  return {.free_bytes = free_bytes,
          .total_bytes = total_bytes,
          .used_bytes = total_bytes - free_bytes,
          .reserved_bytes = 0,
          .limited = false};
}

MemoryView view_of(int gpu, std::uint64_t free_bytes, std::uint64_t total_bytes) {
  const auto position = static_cast<std::uint32_t>(gpu);
  shm::Tenant& tenant = Limiter::active()->tenant();
  const std::uint64_t limit = tenant.memory_limit_bytes(position);
  if (limit == kNoLimit) return unlimited_view(free_bytes, total_bytes);
  settle_changed_pools();
  measure_at_beat(gpu);
  const std::uint64_t used = least(tenant.charged_bytes(position), limit);
  // What is shown as free can be had, in one piece too.
  const std::uint64_t left = limit - used;
  const std::uint64_t usable =
      left < driver_model::kAttemptBytes
          ? 0
          : driver_model::round_down(left - driver_model::kAttemptBytes, driver_model::kPageBytes);
  return {.free_bytes = least(usable, free_bytes),
          .total_bytes = least(limit, total_bytes),
          .used_bytes = used,
          .reserved_bytes = left - usable,
          .limited = true};
}

}  // namespace vgpu::limiter

namespace vgpu::hooks {

using namespace limiter;

namespace {

// The legacy forms have 32 bits: the driver's own answer saturates there, so does this one.
unsigned int narrowed(std::uint64_t bytes) {
  return static_cast<unsigned int>(least(bytes, UINT32_MAX));
}

}  // namespace

CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  const CUresult result = real().cuMemGetInfo_v2(&free_bytes, &total_bytes);
  if (result != CUDA_SUCCESS) return result;
  const int gpu = current_place().gpu;
  const MemoryView view = gpu == kNoGpu ? unlimited_view(free_bytes, total_bytes)
                                        : view_of(gpu, free_bytes, total_bytes);
  if (free != nullptr) *free = view.free_bytes;
  if (total != nullptr) *total = view.total_bytes;
  return result;
}

CUresult cuMemGetInfo(unsigned int* free, unsigned int* total) {
  unsigned int narrow_free = 0;
  unsigned int narrow_total = 0;
  const CUresult result = real().cuMemGetInfo(&narrow_free, &narrow_total);
  const int gpu = current_place().gpu;
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  if (result != CUDA_SUCCESS || gpu == kNoGpu ||
      real().cuMemGetInfo_v2(&free_bytes, &total_bytes) != CUDA_SUCCESS) {
    return real().cuMemGetInfo(free, total);
  }
  const MemoryView view = view_of(gpu, free_bytes, total_bytes);
  if (free != nullptr)
    *free =
        least(view.free_bytes, free_bytes) == free_bytes ? narrow_free : narrowed(view.free_bytes);
  if (total != nullptr)
    *total = view.total_bytes == total_bytes ? narrow_total : narrowed(view.total_bytes);
  return result;
}

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  const CUresult result = real().cuDeviceTotalMem_v2(bytes, device);
  if (result != CUDA_SUCCESS || bytes == nullptr) return result;
  const int gpu = gpu_of(device);
  if (gpu != kNoGpu) {
    *bytes = least(*bytes,
                   Limiter::active()->tenant().memory_limit_bytes(static_cast<std::uint32_t>(gpu)));
  }
  return result;
}

CUresult cuDeviceTotalMem(unsigned int* bytes, CUdevice device) {
  const CUresult result = real().cuDeviceTotalMem(bytes, device);
  if (result != CUDA_SUCCESS || bytes == nullptr) return result;
  const int gpu = gpu_of(device);
  if (gpu != kNoGpu) {
    const std::uint64_t limit =
        Limiter::active()->tenant().memory_limit_bytes(static_cast<std::uint32_t>(gpu));
    *bytes = narrowed(least(*bytes, limit));
  }
  return result;
}

}  // namespace vgpu::hooks

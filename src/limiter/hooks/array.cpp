// SPDX-License-Identifier: Apache-2.0
// CUDA arrays and mipmapped arrays. Their layout is the driver's secret, but it says what one would
// take: a twin with deferred mapping holds no memory and can be asked (8 us). Where that fails the
// padded formula is charged. An array of up to 1 MiB shares a page with others: a page is reserved
// and kept only if the packing needs a new one. At the limit that page comes out of the room which
// is left to attempts.
#include "../enter.h"
#include "../hooks.h"
#include "array_shape.h"
#include "charge.h"

namespace vgpu::hooks {

using namespace limiter;

namespace {

constexpr unsigned int kTakesNoMemory = CUDA_ARRAY3D_DEFERRED_MAPPING | CUDA_ARRAY3D_SPARSE;

bool asked_of_twin(const CUDA_ARRAY3D_DESCRIPTOR& descriptor, CUdevice device,
                   std::uint64_t& bytes) {
  if (real().cuArrayGetMemoryRequirements == nullptr) return false;
  CUDA_ARRAY3D_DESCRIPTOR twin_descriptor = descriptor;
  twin_descriptor.Flags |= CUDA_ARRAY3D_DEFERRED_MAPPING;
  CUarray twin = nullptr;
  if (real().cuArray3DCreate_v2(&twin, &twin_descriptor) != CUDA_SUCCESS) return false;
  CUDA_ARRAY_MEMORY_REQUIREMENTS requirements{};
  const bool known =
      real().cuArrayGetMemoryRequirements(&requirements, twin, device) == CUDA_SUCCESS;
  real().cuArrayDestroy(twin);
  bytes = requirements.size;
  return known && bytes != 0;
}

bool asked_of_mipmapped_twin(const CUDA_ARRAY3D_DESCRIPTOR& descriptor, unsigned int levels,
                             CUdevice device, std::uint64_t& bytes) {
  if (real().cuMipmappedArrayGetMemoryRequirements == nullptr) return false;
  CUDA_ARRAY3D_DESCRIPTOR twin_descriptor = descriptor;
  twin_descriptor.Flags |= CUDA_ARRAY3D_DEFERRED_MAPPING;
  CUmipmappedArray twin = nullptr;
  if (real().cuMipmappedArrayCreate(&twin, &twin_descriptor, levels) != CUDA_SUCCESS) return false;
  CUDA_ARRAY_MEMORY_REQUIREMENTS requirements{};
  const bool known =
      real().cuMipmappedArrayGetMemoryRequirements(&requirements, twin, device) == CUDA_SUCCESS;
  real().cuMipmappedArrayDestroy(twin);
  bytes = requirements.size;
  return known && bytes != 0;
}

// levels 0: a plain array.
std::uint64_t array_bytes(const CUDA_ARRAY3D_DESCRIPTOR& descriptor, unsigned int levels) {
  CUdevice device = 0;
  std::uint64_t bytes = 0;
  RelaxedCapture relaxed;
  if (real().cuCtxGetDevice(&device) == CUDA_SUCCESS) {
    const bool known = levels == 0 ? asked_of_twin(descriptor, device, bytes)
                                   : asked_of_mipmapped_twin(descriptor, levels, device, bytes);
    if (known) return bytes;
  }
  return driver_model::array_bytes(shape_of(descriptor, levels));
}

void destroy(CUarray array) { real().cuArrayDestroy(array); }
void destroy(CUmipmappedArray array) { real().cuMipmappedArrayDestroy(array); }

// Nothing may be added any more, but a page that is charged already has a place for a small array,
// unless another thread is faster.
template <class Handle, class Call>
CUresult create_in_charged_page(const Place& place, Handle* handle, std::uint64_t bytes,
                                Call call) {
  const auto gpu = static_cast<std::uint32_t>(place.gpu);
  if (!driver_model::shares_a_block(bytes) ||
      !ledger().allocations.has_place_for_array(bytes, gpu, place.owner)) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  Reservation attempt(place.gpu, driver_model::kAttemptBytes, Charge::explicit_memory,
                      Room::attempt);
  if (attempt.refused()) return CUDA_ERROR_OUT_OF_MEMORY;
  const CUresult result = call();
  if (result != CUDA_SUCCESS) return result;
  const auto created = reinterpret_cast<std::uint64_t>(*handle);
  if (!ledger().allocations.add_small_array(created, bytes, gpu, place.owner)) return result;
  Allocation taken;
  ledger().allocations.begin_free(created, taken);
  destroy(*handle);
  *handle = nullptr;
  if (ledger().allocations.end_free(created, taken).nothing()) attempt.keep();
  return CUDA_ERROR_OUT_OF_MEMORY;
}

// `handle` is written by `call`. A descriptor that the driver won't take isn't charged for: it says
// so itself.
template <class Handle, class Call>
CUresult create_array(Handle* handle, const CUDA_ARRAY3D_DESCRIPTOR& descriptor,
                      unsigned int levels, Call call) {
  if ((descriptor.Flags & kTakesNoMemory) != 0) return call();
  const Place place = current_place();
  if (place.gpu == kNoGpu) return call();
  const std::uint64_t bytes = array_bytes(descriptor, levels);
  const std::uint64_t charged = driver_model::linear_bytes(bytes);
  Reservation reservation(place.gpu, charged, Charge::explicit_memory);
  if (reservation.refused()) return create_in_charged_page(place, handle, bytes, call);
  const CUresult result = call();
  if (result != CUDA_SUCCESS) return result;
  const auto created = reinterpret_cast<std::uint64_t>(*handle);
  const auto gpu = static_cast<std::uint32_t>(place.gpu);
  if (driver_model::shares_a_block(bytes)) {
    if (ledger().allocations.add_small_array(created, bytes, gpu, place.owner)) reservation.keep();
    return result;
  }
  ledger().allocations.add(
      created,
      {.bytes = charged, .context = place.owner, .gpu = gpu, .kind = AllocationKind::array});
  reservation.keep();
  return result;
}

CUDA_ARRAY3D_DESCRIPTOR widened(size_t width, size_t height, size_t depth, CUarray_format format,
                                unsigned int channels, unsigned int flags) {
  return {.Width = width,
          .Height = height,
          .Depth = depth,
          .Format = format,
          .NumChannels = channels,
          .Flags = flags};
}

}  // namespace

CUresult cuArrayCreate(CUarray* handle, const CUDA_ARRAY_DESCRIPTOR_v1* allocate_array) {
  const auto call = [&] { return real().cuArrayCreate(handle, allocate_array); };
  if (handle == nullptr || allocate_array == nullptr) return call();
  const auto& a = *allocate_array;
  return create_array(handle, widened(a.Width, a.Height, 0, a.Format, a.NumChannels, 0), 0, call);
}

CUresult cuArrayCreate_v2(CUarray* handle, const CUDA_ARRAY_DESCRIPTOR* allocate_array) {
  const auto call = [&] { return real().cuArrayCreate_v2(handle, allocate_array); };
  if (handle == nullptr || allocate_array == nullptr) return call();
  const auto& a = *allocate_array;
  return create_array(handle, widened(a.Width, a.Height, 0, a.Format, a.NumChannels, 0), 0, call);
}

CUresult cuArray3DCreate(CUarray* handle, const CUDA_ARRAY3D_DESCRIPTOR_v1* allocate_array) {
  const auto call = [&] { return real().cuArray3DCreate(handle, allocate_array); };
  if (handle == nullptr || allocate_array == nullptr) return call();
  const auto& a = *allocate_array;
  return create_array(handle, widened(a.Width, a.Height, a.Depth, a.Format, a.NumChannels, a.Flags),
                      0, call);
}

CUresult cuArray3DCreate_v2(CUarray* handle, const CUDA_ARRAY3D_DESCRIPTOR* allocate_array) {
  const auto call = [&] { return real().cuArray3DCreate_v2(handle, allocate_array); };
  if (handle == nullptr || allocate_array == nullptr) return call();
  return create_array(handle, *allocate_array, 0, call);
}

CUresult cuMipmappedArrayCreate(CUmipmappedArray* handle,
                                const CUDA_ARRAY3D_DESCRIPTOR* mipmapped_array_desc,
                                unsigned int num_mipmap_levels) {
  const auto call = [&] {
    return real().cuMipmappedArrayCreate(handle, mipmapped_array_desc, num_mipmap_levels);
  };
  if (handle == nullptr || mipmapped_array_desc == nullptr) return call();
  // The driver takes 0 levels for 1.
  const unsigned int levels = num_mipmap_levels == 0 ? 1 : num_mipmap_levels;
  return create_array(handle, *mipmapped_array_desc, levels, call);
}

}  // namespace vgpu::hooks

// SPDX-License-Identifier: Apache-2.0
// Arrays and mipmapped arrays. The device stores them in tiles, so they take more than their
// elements; the bytes lie row by row here all the same, since only copies see them.
#include "array.h"

#include <algorithm>

#include "capture.h"
#include "engine.h"

using namespace vgpu::sim;

namespace {

// Bytes of one channel; compressed formats count a block of 4x4 texels in one element.
unsigned channel_bytes(CUarray_format format) {
  switch (static_cast<unsigned>(format)) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
    case CU_AD_FORMAT_SIGNED_INT8:
    case CU_AD_FORMAT_UNORM_INT8X1:
    case CU_AD_FORMAT_SNORM_INT8X1:
    case CU_AD_FORMAT_NV12:
      return 1;
    case CU_AD_FORMAT_UNSIGNED_INT16:
    case CU_AD_FORMAT_SIGNED_INT16:
    case CU_AD_FORMAT_HALF:
    case CU_AD_FORMAT_UNORM_INT16X1:
    case CU_AD_FORMAT_SNORM_INT16X1:
    case CU_AD_FORMAT_UNORM_INT8X2:
    case CU_AD_FORMAT_SNORM_INT8X2:
    case CU_AD_FORMAT_P010:
    case CU_AD_FORMAT_P016:
      return 2;
    case CU_AD_FORMAT_UNSIGNED_INT32:
    case CU_AD_FORMAT_SIGNED_INT32:
    case CU_AD_FORMAT_FLOAT:
    case CU_AD_FORMAT_UNORM_INT8X4:
    case CU_AD_FORMAT_SNORM_INT8X4:
    case CU_AD_FORMAT_UNORM_INT16X2:
    case CU_AD_FORMAT_SNORM_INT16X2:
    case CU_AD_FORMAT_UNORM_INT_101010_2:
      return 4;
    case CU_AD_FORMAT_UNORM_INT16X4:
    case CU_AD_FORMAT_SNORM_INT16X4:
    case CU_AD_FORMAT_BC1_UNORM:
    case CU_AD_FORMAT_BC1_UNORM_SRGB:
    case CU_AD_FORMAT_BC4_UNORM:
    case CU_AD_FORMAT_BC4_SNORM:
      return 8;
    case CU_AD_FORMAT_BC2_UNORM:
    case CU_AD_FORMAT_BC2_UNORM_SRGB:
    case CU_AD_FORMAT_BC3_UNORM:
    case CU_AD_FORMAT_BC3_UNORM_SRGB:
    case CU_AD_FORMAT_BC5_UNORM:
    case CU_AD_FORMAT_BC5_SNORM:
    case CU_AD_FORMAT_BC6H_UF16:
    case CU_AD_FORMAT_BC6H_SF16:
    case CU_AD_FORMAT_BC7_UNORM:
    case CU_AD_FORMAT_BC7_UNORM_SRGB:
      return 16;
    default:
      return 0;
  }
}

bool one_element_per_texel(CUarray_format format) {
  return format <= CU_AD_FORMAT_FLOAT || format == CU_AD_FORMAT_NV12;
}

bool is_compressed(CUarray_format format) {
  return format >= CU_AD_FORMAT_BC1_UNORM && format <= CU_AD_FORMAT_BC7_UNORM_SRGB;
}

std::uint64_t element_bytes_of(const CUDA_ARRAY3D_DESCRIPTOR& desc) {
  const std::uint64_t channel = channel_bytes(desc.Format);
  return one_element_per_texel(desc.Format) ? channel * desc.NumChannels : channel;
}

bool good_shape(const CUDA_ARRAY3D_DESCRIPTOR& desc) {
  if (desc.Width == 0 || channel_bytes(desc.Format) == 0) return false;
  if (desc.NumChannels != 1 && desc.NumChannels != 2 && desc.NumChannels != 4 &&
      !(desc.Format == CU_AD_FORMAT_NV12 && desc.NumChannels == 3))
    return false;
  const bool layered = (desc.Flags & CUDA_ARRAY3D_LAYERED) != 0;
  const bool cube = (desc.Flags & CUDA_ARRAY3D_CUBEMAP) != 0;
  if (desc.Height == 0 && desc.Depth != 0 && !layered) return false;
  if (cube && (desc.Width != desc.Height || desc.Depth % 6 != 0 || desc.Depth == 0)) return false;
  const std::size_t most_width = desc.Depth != 0 && !layered ? 16384 : (layered ? 32768 : 131072);
  const std::size_t most_height = desc.Depth != 0 && !layered ? 16384 : (layered ? 32768 : 65536);
  return desc.Width <= most_width && desc.Height <= most_height &&
         desc.Depth <= (layered ? 2048u : 16384u);
}

// Rows of tiles, in blocks: of the smallest power of two that holds them, 16 at most.
std::uint64_t blocked(std::uint64_t count, std::uint64_t unit) {
  std::uint64_t block = unit;
  while (block < count && block < unit * kArrayMostTiles) block *= 2;
  return round_up(count, block);
}

// What the device takes for one level: whole tiles, and blocks of them, in each direction.
std::uint64_t level_bytes(const CUDA_ARRAY3D_DESCRIPTOR& desc) {
  const bool layered = (desc.Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)) != 0;
  const std::uint64_t across = is_compressed(desc.Format) ? (desc.Width + 3) / 4 : desc.Width;
  const std::uint64_t down =
      std::max<std::uint64_t>(1, is_compressed(desc.Format) ? (desc.Height + 3) / 4 : desc.Height);
  const std::uint64_t deep = std::max<std::uint64_t>(1, desc.Depth);
  const std::uint64_t row = round_up(across * element_bytes_of(desc), kArrayTileWidthBytes);
  const bool solid = desc.Depth > 1 && !layered;
  const std::uint64_t rows =
      solid ? round_up(down, kArrayTileHeight) : blocked(down, kArrayTileHeight);
  std::uint64_t bytes = row * rows * (solid ? blocked(deep, 1) : deep);
  if (desc.Format == CU_AD_FORMAT_NV12)
    bytes = bytes / 2;  // three channels: full luma, a quarter of each chroma
  return bytes;
}

CUDA_ARRAY3D_DESCRIPTOR level_of(const CUDA_ARRAY3D_DESCRIPTOR& desc, unsigned level) {
  const bool layered = (desc.Flags & CUDA_ARRAY3D_LAYERED) != 0;
  CUDA_ARRAY3D_DESCRIPTOR out = desc;
  out.Width = std::max<std::size_t>(1, desc.Width >> level);
  if (desc.Height != 0) out.Height = std::max<std::size_t>(1, desc.Height >> level);
  if (desc.Depth != 0 && !layered) out.Depth = std::max<std::size_t>(1, desc.Depth >> level);
  return out;
}

bool has_memory(unsigned flags) {
  return (flags & (CUDA_ARRAY3D_DEFERRED_MAPPING | CUDA_ARRAY3D_SPARSE)) == 0;
}

CUresult create_array(CUarray* handle, const CUDA_ARRAY3D_DESCRIPTOR& desc, bool legacy = false) {
  Call call;
  if (!call) return call.result;
  if (legacy && !takes_legacy(call)) return CUDA_ERROR_INVALID_CONTEXT;
  if (handle == nullptr || !good_shape(desc)) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult refused = refuse_unsafe_in_capture(call); refused != CUDA_SUCCESS)
    return refused;
  const std::uint64_t bytes = round_up(level_bytes(desc), kArrayAlignBytes);
  std::uint64_t address = 0;
  if (has_memory(desc.Flags)) {
    Allocation* made = nullptr;
    const CUresult result = allocate(call.context, bytes, Kind::array, false, made);
    if (result != CUDA_SUCCESS) return result;
    address = made->base;
  }
  auto* array = new CUarray_st;
  array->context = call.context;
  array->desc = desc;
  array->required_bytes = bytes;
  array->address = address;
  *handle = array;
  return CUDA_SUCCESS;
}

void free_array_memory(std::uint64_t address) {
  Driver& driver = Driver::get();
  const auto at = driver.allocations.find(address);
  if (address != 0 && at != driver.allocations.end() && at->second.kind == Kind::array)
    release(at->second);
}

void delete_array(CUarray array) {
  for (const CUarray plane : array->planes) delete plane;
  delete array;
}

template <class Descriptor>
CUresult describe(Descriptor* out, CUarray array) {
  const Call call;
  if (!call) return call.result;
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(array)) return CUDA_ERROR_INVALID_HANDLE;
  using Size = decltype(out->Width);
  out->Width = static_cast<Size>(array->desc.Width);
  out->Height = static_cast<Size>(array->desc.Height);
  out->Format = array->desc.Format;
  out->NumChannels = array->desc.NumChannels;
  if constexpr (requires { out->Depth; }) {
    out->Depth = static_cast<Size>(array->desc.Depth);
    out->Flags = array->desc.Flags;
  }
  return CUDA_SUCCESS;
}

CUresult requirements(CUDA_ARRAY_MEMORY_REQUIREMENTS* out, unsigned flags, std::uint64_t bytes) {
  if (out == nullptr || (flags & CUDA_ARRAY3D_DEFERRED_MAPPING) == 0)
    return CUDA_ERROR_INVALID_VALUE;
  *out = {};
  out->size = round_up(bytes, kArrayAlignBytes);
  out->alignment = kArrayAlignBytes;
  return CUDA_SUCCESS;
}

CUresult sparse_properties(CUDA_ARRAY_SPARSE_PROPERTIES* out, const CUDA_ARRAY3D_DESCRIPTOR& desc) {
  if (out == nullptr || (desc.Flags & CUDA_ARRAY3D_SPARSE) == 0) return CUDA_ERROR_INVALID_VALUE;
  *out = {};
  const auto element = static_cast<unsigned>(element_bytes_of(desc));
  // Tiles of 64 KiB, as square as the element allows.
  out->tileExtent.width = 256u / std::max(1u, element / 2);
  out->tileExtent.height = 65536u / element / out->tileExtent.width;
  out->tileExtent.depth = 1;
  return CUDA_SUCCESS;
}

}  // namespace

std::uint64_t CUarray_st::element_bytes() const { return element_bytes_of(desc); }

namespace vgpu::sim {

CUresult make_mipmap(CUcontext context, const CUDA_ARRAY3D_DESCRIPTOR& desc, unsigned levels,
                     std::uint64_t address, CUmipmappedArray& out) {
  auto* mipmap = new CUmipmappedArray_st;
  mipmap->context = context;
  mipmap->desc = desc;
  mipmap->address = address;
  std::uint64_t offset = 0;
  for (unsigned level = 0; level < levels; ++level) {
    auto* array = new CUarray_st;
    array->context = context;
    array->mipmap = mipmap;
    array->desc = level_of(desc, level);
    array->required_bytes = round_up(level_bytes(array->desc), kTextureAlignBytes);
    if (address != 0) array->address = address + offset;
    offset += array->required_bytes;
    mipmap->levels.push_back(array);
  }
  mipmap->required_bytes = round_up(offset, kArrayAlignBytes);
  out = mipmap;
  return CUDA_SUCCESS;
}

}  // namespace vgpu::sim

CUresult sim_cuArrayCreate(CUarray* handle, const CUDA_ARRAY_DESCRIPTOR_v1* d) {
  if (d == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return create_array(handle, {d->Width, d->Height, 0, d->Format, d->NumChannels, 0}, true);
}
CUresult sim_cuArrayCreate_v2(CUarray* handle, const CUDA_ARRAY_DESCRIPTOR* d) {
  if (d == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return create_array(handle, {d->Width, d->Height, 0, d->Format, d->NumChannels, 0});
}
CUresult sim_cuArray3DCreate(CUarray* handle, const CUDA_ARRAY3D_DESCRIPTOR_v1* d) {
  if (d == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return create_array(handle, {d->Width, d->Height, d->Depth, d->Format, d->NumChannels, d->Flags},
                      true);
}
CUresult sim_cuArray3DCreate_v2(CUarray* handle, const CUDA_ARRAY3D_DESCRIPTOR* d) {
  if (d == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return create_array(handle, *d);
}
CUresult sim_cuArrayGetDescriptor(CUDA_ARRAY_DESCRIPTOR_v1* out, CUarray array) {
  return describe(out, array);
}
CUresult sim_cuArrayGetDescriptor_v2(CUDA_ARRAY_DESCRIPTOR* out, CUarray array) {
  return describe(out, array);
}
CUresult sim_cuArray3DGetDescriptor(CUDA_ARRAY3D_DESCRIPTOR_v1* out, CUarray array) {
  return describe(out, array);
}
CUresult sim_cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR* out, CUarray array) {
  return describe(out, array);
}
CUresult sim_cuArrayDestroy(CUarray array) {
  Call call;
  if (!call) return call.result;
  if (!valid(array)) return CUDA_ERROR_INVALID_HANDLE;
  if (array->mipmap != nullptr || array->whole != nullptr) return CUDA_ERROR_INVALID_HANDLE;
  Engine::get().drain(call.lock, array->context);
  if (!valid(array)) return CUDA_ERROR_INVALID_HANDLE;
  free_array_memory(array->address);
  delete_array(array);
  return CUDA_SUCCESS;
}
CUresult sim_cuArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS* out, CUarray array,
                                          CUdevice device) {
  const Call call;
  if (!call) return call.result;
  if (!valid(array)) return CUDA_ERROR_INVALID_HANDLE;
  if (call.driver.device(device) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  return requirements(out, array->desc.Flags, array->required_bytes);
}
CUresult sim_cuArrayGetSparseProperties(CUDA_ARRAY_SPARSE_PROPERTIES* out, CUarray array) {
  const Call call;
  if (!call) return call.result;
  if (!valid(array)) return CUDA_ERROR_INVALID_HANDLE;
  return sparse_properties(out, array->desc);
}
CUresult sim_cuArrayGetPlane(CUarray* plane_array, CUarray array, unsigned int plane_idx) {
  const Call call;
  if (!call) return call.result;
  if (plane_array == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(array)) return CUDA_ERROR_INVALID_HANDLE;
  if (array->desc.Format != CU_AD_FORMAT_NV12 || plane_idx > 1) return CUDA_ERROR_INVALID_VALUE;
  auto* plane = new CUarray_st;
  plane->context = array->context;
  plane->whole = array;
  plane->desc = array->desc;
  plane->desc.Format = CU_AD_FORMAT_UNSIGNED_INT8;
  plane->desc.NumChannels = plane_idx == 0 ? 1 : 2;
  if (plane_idx == 1) {
    plane->desc.Width /= 2;
    plane->desc.Height /= 2;
  }
  plane->address =
      array->address == 0
          ? 0
          : array->address + (plane_idx == 0 ? 0 : array->desc.Width * array->desc.Height);
  array->planes.push_back(plane);
  *plane_array = plane;
  return CUDA_SUCCESS;
}

CUresult sim_cuMipmappedArrayCreate(CUmipmappedArray* handle, const CUDA_ARRAY3D_DESCRIPTOR* d,
                                    unsigned int num_mipmap_levels) {
  Call call;
  if (!call) return call.result;
  if (handle == nullptr || d == nullptr || !good_shape(*d)) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult refused = refuse_unsafe_in_capture(call); refused != CUDA_SUCCESS)
    return refused;
  const std::size_t largest = std::max(
      {d->Width, d->Height, (d->Flags & CUDA_ARRAY3D_LAYERED) != 0 ? std::size_t{1} : d->Depth});
  unsigned most = 0;
  while (largest >> most != 0) ++most;
  const unsigned levels = std::clamp(num_mipmap_levels, 1u, most);
  CUmipmappedArray mipmap = nullptr;
  make_mipmap(call.context, *d, levels, 0, mipmap);
  if (has_memory(d->Flags)) {
    Allocation* made = nullptr;
    const CUresult result =
        allocate(call.context, mipmap->required_bytes, Kind::array, false, made);
    if (result != CUDA_SUCCESS) {
      for (const CUarray level : mipmap->levels) delete level;
      delete mipmap;
      return result;
    }
    mipmap->address = made->base;
    std::uint64_t offset = 0;
    for (const CUarray level : mipmap->levels) {
      level->address = made->base + offset;
      offset += level->required_bytes;
    }
  }
  *handle = mipmap;
  return CUDA_SUCCESS;
}
CUresult sim_cuMipmappedArrayDestroy(CUmipmappedArray mipmap) {
  Call call;
  if (!call) return call.result;
  if (!valid(mipmap)) return CUDA_ERROR_INVALID_HANDLE;
  Engine::get().drain(call.lock, mipmap->context);
  if (!valid(mipmap)) return CUDA_ERROR_INVALID_HANDLE;
  free_array_memory(mipmap->address);
  for (const CUarray level : mipmap->levels) delete_array(level);
  delete mipmap;
  return CUDA_SUCCESS;
}
CUresult sim_cuMipmappedArrayGetLevel(CUarray* level_array, CUmipmappedArray mipmap,
                                      unsigned int level) {
  const Call call;
  if (!call) return call.result;
  if (level_array == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(mipmap)) return CUDA_ERROR_INVALID_HANDLE;
  if (level >= mipmap->levels.size()) return CUDA_ERROR_INVALID_VALUE;
  *level_array = mipmap->levels[level];
  return CUDA_SUCCESS;
}
CUresult sim_cuMipmappedArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS* out,
                                                   CUmipmappedArray mipmap, CUdevice device) {
  const Call call;
  if (!call) return call.result;
  if (!valid(mipmap)) return CUDA_ERROR_INVALID_HANDLE;
  if (call.driver.device(device) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  return requirements(out, mipmap->desc.Flags, mipmap->required_bytes);
}
CUresult sim_cuMipmappedArrayGetSparseProperties(CUDA_ARRAY_SPARSE_PROPERTIES* out,
                                                 CUmipmappedArray mipmap) {
  const Call call;
  if (!call) return call.result;
  if (!valid(mipmap)) return CUDA_ERROR_INVALID_HANDLE;
  return sparse_properties(out, mipmap->desc);
}

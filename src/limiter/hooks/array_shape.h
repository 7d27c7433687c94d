// SPDX-License-Identifier: Apache-2.0
// From CUDA's array descriptors to the shape that driver_model.h computes with: formats are widths
// in BITS of one channel, or of a whole compressed block. Unknown formats count as the widest, so
// that nothing is charged too little.
#pragma once

#include "vgpu/api/cuda_abi.h"
#include "vgpu/core/driver_model.h"

namespace vgpu::limiter {

struct ElementFormat {
  std::uint32_t bits = 0;         // of one channel; of one element where `whole`
  std::uint32_t block_width = 1;  // elements in each of x and y that `bits` are for
  bool whole = false;             // the format fixes its channels
};

constexpr ElementFormat format_of(CUarray_format format) {
  switch (static_cast<unsigned int>(format)) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
    case CU_AD_FORMAT_SIGNED_INT8:
      return {.bits = 8};
    case CU_AD_FORMAT_UNSIGNED_INT16:
    case CU_AD_FORMAT_SIGNED_INT16:
    case CU_AD_FORMAT_HALF:
      return {.bits = 16};
    case CU_AD_FORMAT_UNSIGNED_INT32:
    case CU_AD_FORMAT_SIGNED_INT32:
    case CU_AD_FORMAT_FLOAT:
      return {.bits = 32};
    case CU_AD_FORMAT_UNORM_INT8X1:
    case CU_AD_FORMAT_SNORM_INT8X1:
      return {.bits = 8, .whole = true};
    case CU_AD_FORMAT_UNORM_INT8X2:
    case CU_AD_FORMAT_SNORM_INT8X2:
    case CU_AD_FORMAT_UNORM_INT16X1:
    case CU_AD_FORMAT_SNORM_INT16X1:
      return {.bits = 16, .whole = true};
    case CU_AD_FORMAT_UNORM_INT8X4:
    case CU_AD_FORMAT_SNORM_INT8X4:
    case CU_AD_FORMAT_UNORM_INT16X2:
    case CU_AD_FORMAT_SNORM_INT16X2:
    case CU_AD_FORMAT_UNORM_INT_101010_2:
      return {.bits = 32, .whole = true};
    case CU_AD_FORMAT_UNORM_INT16X4:
    case CU_AD_FORMAT_SNORM_INT16X4:
      return {.bits = 64, .whole = true};
    case CU_AD_FORMAT_BC1_UNORM:
    case CU_AD_FORMAT_BC1_UNORM_SRGB:
    case CU_AD_FORMAT_BC4_UNORM:
    case CU_AD_FORMAT_BC4_SNORM:
      return {.bits = 64, .block_width = 4, .whole = true};
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
      return {.bits = 128, .block_width = 4, .whole = true};
    case CU_AD_FORMAT_NV12:
      return {.bits = 16, .whole = true};
    case CU_AD_FORMAT_P010:
    case CU_AD_FORMAT_P016:
    case CU_AD_FORMAT_NV16:
    case CU_AD_FORMAT_YUY2:
    case CU_AD_FORMAT_YUV444_8bit_SemiPlanar:
    case CU_AD_FORMAT_Y444_PLANAR8:
    case CU_AD_FORMAT_AYUV:
    case CU_AD_FORMAT_Y410:
      return {.bits = 32, .whole = true};
    case CU_AD_FORMAT_P210:
    case CU_AD_FORMAT_P216:
    case CU_AD_FORMAT_Y210:
    case CU_AD_FORMAT_Y216:
    case CU_AD_FORMAT_Y416:
    case CU_AD_FORMAT_Y444_PLANAR10:
    case CU_AD_FORMAT_YUV444_16bit_SemiPlanar:
      return {.bits = 64, .whole = true};
    default:
      return {.bits = 128, .whole = true};
  }
}

// levels 0: not mipmapped.
constexpr driver_model::ArrayShape shape_of(const CUDA_ARRAY3D_DESCRIPTOR& descriptor,
                                            unsigned int levels) {
  const ElementFormat format = format_of(descriptor.Format);
  const std::uint32_t channels =
      descriptor.NumChannels == 0 || descriptor.NumChannels > 4 ? 4 : descriptor.NumChannels;
  driver_model::ArrayShape shape;
  shape.width = descriptor.Width;
  shape.height = descriptor.Height;
  shape.depth = descriptor.Depth;
  shape.element_bits = format.whole ? format.bits : format.bits * channels;
  shape.block_width = format.block_width;
  shape.levels = levels == 0 ? 1 : levels;
  shape.layered = (descriptor.Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)) != 0;
  return shape;
}

}  // namespace vgpu::limiter

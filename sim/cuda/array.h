// SPDX-License-Identifier: Apache-2.0
// Arrays and mipmapped arrays: what they take of the device, and where their bytes lie for copies.
#pragma once

#include <vector>

#include "driver.h"

struct CUarray_st : vgpu::sim::Handle<CUarray_st> {
  static constexpr std::uint32_t kMagic = 0x41525231;
  CUcontext context = nullptr;
  CUmipmappedArray mipmap = nullptr;  // a level belongs to it
  CUarray whole = nullptr;            // a plane belongs to it
  CUDA_ARRAY3D_DESCRIPTOR desc{};
  std::uint64_t required_bytes = 0;
  std::uint64_t address = 0;  // 0: no memory (deferred or sparse)
  std::vector<CUarray> planes;
  std::uint64_t element_bytes() const;
  std::uint64_t row_bytes() const { return element_bytes() * desc.Width; }
  std::uint64_t rows() const { return desc.Height == 0 ? 1 : desc.Height; }
  std::uint64_t slices() const { return desc.Depth == 0 ? 1 : desc.Depth; }
};

struct CUmipmappedArray_st : vgpu::sim::Handle<CUmipmappedArray_st> {
  static constexpr std::uint32_t kMagic = 0x4d495031;
  CUcontext context = nullptr;
  CUDA_ARRAY3D_DESCRIPTOR desc{};
  std::uint64_t required_bytes = 0;
  std::uint64_t address = 0;
  std::vector<CUarray> levels;
};

namespace vgpu::sim {
CUresult make_mipmap(CUcontext context, const CUDA_ARRAY3D_DESCRIPTOR& desc, unsigned levels,
                     std::uint64_t address, CUmipmappedArray& out);
}  // namespace vgpu::sim

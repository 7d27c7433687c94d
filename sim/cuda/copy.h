// SPDX-License-Identifier: Apache-2.0
// Copies and fills in one shape: boxes of bytes with pitches. Every entry translates into it;
// streams and graphs run it.
#pragma once

#include "driver.h"
#include "engine.h"

namespace vgpu::sim {

struct Side {
  std::uint64_t address = 0;  // of the box's first byte
  std::uint64_t pitch = 0;
  std::uint64_t slice = 0;
  bool device = false;  // else host memory
  bool pinned = false;  // host memory that the driver knows
};

struct Box {
  Side from;
  Side to;
  std::uint64_t width = 0;  // bytes
  std::uint64_t height = 1;
  std::uint64_t depth = 1;
  std::uint64_t bytes() const { return width * height * depth; }
};

struct Fill {
  std::uint64_t address = 0;
  std::uint64_t pitch = 0;
  std::uint32_t value = 0;
  unsigned element = 1;     // bytes
  std::uint64_t width = 0;  // elements
  std::uint64_t height = 1;
  std::uint64_t bytes() const { return width * element * height; }
};

// Checked against what is allocated; INVALID_VALUE otherwise.
CUresult make_box(const CUDA_MEMCPY3D& copy, Box& out);
CUresult make_linear(CUdeviceptr to, CUdeviceptr from, std::uint64_t bytes, Box& out);
CUresult check_fill(const Fill& fill);
Op copy_op(const Box& box);
Op fill_op(const Fill& fill);
// As a graph keeps a linear copy.
CUDA_MEMCPY3D describe_linear(CUdeviceptr to, CUdeviceptr from, std::uint64_t bytes);

}  // namespace vgpu::sim

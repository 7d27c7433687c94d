// SPDX-License-Identifier: Apache-2.0
// The formulas that memory is charged by, against figures that an H200 with driver 580 gave.
#include "vgpu/core/driver_model.h"

#include <gtest/gtest.h>

#include "hooks/array_shape.h"

namespace vgpu {
namespace {

using namespace driver_model;

constexpr std::uint64_t kH200Threads = 132 * 2048;

std::uint64_t array_pages(CUDA_ARRAY3D_DESCRIPTOR descriptor, unsigned levels = 0) {
  return linear_bytes(array_bytes(limiter::shape_of(descriptor, levels)));
}

CUDA_ARRAY3D_DESCRIPTOR described(std::size_t width, std::size_t height, std::size_t depth,
                                  CUarray_format format, unsigned channels, unsigned flags = 0) {
  CUDA_ARRAY3D_DESCRIPTOR descriptor{};
  descriptor.Width = width;
  descriptor.Height = height;
  descriptor.Depth = depth;
  descriptor.Format = format;
  descriptor.NumChannels = channels;
  descriptor.Flags = flags;
  return descriptor;
}

TEST(DriverModel, LinearMemoryAboveAMebibyteTakesWholePages) {
  EXPECT_TRUE(shares_a_block(kMiB));
  EXPECT_FALSE(shares_a_block(kMiB + 1));
  EXPECT_EQ(linear_bytes(kMiB + 1), 2 * kMiB);
  EXPECT_EQ(linear_bytes(2 * kMiB + 1), 4 * kMiB);
  EXPECT_EQ(linear_bytes(33 * kMiB + 5), 34 * kMiB);
}

TEST(DriverModel, AbsurdSizesSaturateInsteadOfWrapping) {
  EXPECT_EQ(linear_bytes(UINT64_MAX), UINT64_MAX);
  EXPECT_EQ(pitched_bytes(UINT64_MAX - 1, 2), UINT64_MAX);
  EXPECT_EQ(pool_growth_bytes(UINT64_MAX - 5), UINT64_MAX);
  EXPECT_EQ(array_bytes({.width = UINT64_MAX / 2, .height = UINT64_MAX / 2, .element_bits = 128}),
            UINT64_MAX);
}

TEST(DriverModel, PitchRoundsRowsUpTo512Bytes) {
  EXPECT_EQ(linear_bytes(pitched_bytes(5000, 5000)), 26 * kMiB);
  EXPECT_EQ(linear_bytes(pitched_bytes(1 << 20, 64)), 64 * kMiB);
  EXPECT_EQ(pitched_bytes(513, 1000), 1024U * 1000);
}

TEST(DriverModel, PoolsGrowBySteps) {
  EXPECT_EQ(pool_growth_bytes(1), 32 * kMiB);
  EXPECT_EQ(pool_growth_bytes(100 * kMiB), 128 * kMiB);
  EXPECT_EQ(pool_growth_bytes(200 * kMiB), 224 * kMiB);
  EXPECT_EQ(4 * graph_node_bytes(30 * kMiB), 128 * kMiB);
}

TEST(DriverModel, StackOf64KiBTakesWhatAnH200Took) {
  const std::uint64_t beyond_default = local_memory_bytes(65536, kH200Threads) -
                                       local_memory_bytes(kDefaultStackBytes, kH200Threads);
  EXPECT_EQ(beyond_default, 17031168ULL * kKiB);
}

TEST(DriverModel, LocalMemoryOfAFirstLaunchTakesWhatAnH200Took) {
  const auto local = [](std::uint64_t bytes) { return local_memory_bytes(bytes, kH200Threads); };
  EXPECT_EQ(local(4096) - local(1024), 811008ULL * kKiB);
  EXPECT_EQ(local(32768) - local(4096), 7569408ULL * kKiB);
  EXPECT_EQ(local(131072) - local(32768), 25952256ULL * kKiB);
}

TEST(DriverModel, ArraysTakeAtLeastWhatAnH200TookAndLittleMore) {
  struct Case {
    CUDA_ARRAY3D_DESCRIPTOR descriptor;
    unsigned levels;
    std::uint64_t took_kib;
  };
  const Case cases[] = {
      {described(1024, 1024, 0, CU_AD_FORMAT_UNSIGNED_INT8, 4), 0, 4096},
      {described(1000, 1000, 0, CU_AD_FORMAT_UNSIGNED_INT8, 4), 0, 4096},
      {described(8192, 8192, 0, CU_AD_FORMAT_FLOAT, 1), 0, 262144},
      {described(256, 256, 256, CU_AD_FORMAT_FLOAT, 1), 0, 65536},
      {described(512, 512, 12, CU_AD_FORMAT_FLOAT, 1, CUDA_ARRAY3D_LAYERED), 0, 12288},
      {described(4096, 4096, 0, CU_AD_FORMAT_FLOAT, 1), 1, 65536},
      {described(4096, 4096, 0, CU_AD_FORMAT_FLOAT, 1), 13, 88064},
      {described(1000, 1000, 0, CU_AD_FORMAT_UNSIGNED_INT8, 4), 5, 6144},
  };
  for (const Case& each : cases) {
    const std::uint64_t charged = array_pages(each.descriptor, each.levels) / kKiB;
    EXPECT_LE(charged, each.took_kib * 5 / 4 + 2048)
        << each.descriptor.Width << " x " << each.descriptor.Height;
    EXPECT_GE(charged * 20, each.took_kib * 19)
        << each.descriptor.Width << " x " << each.descriptor.Height;
  }
}

TEST(DriverModel, ZeroHeightAndDepthMeanOne) {
  EXPECT_EQ(array_bytes({.width = 1 << 20, .element_bits = 32}),
            array_bytes({.width = 1 << 20, .height = 1, .depth = 1, .element_bits = 32}));
  EXPECT_GE(array_bytes({.width = 1 << 20, .element_bits = 32}), 4 * kMiB);
}

TEST(DriverModel, FormatsAreWidthsInBits) {
  EXPECT_EQ(limiter::shape_of(described(1, 1, 1, CU_AD_FORMAT_HALF, 4), 0).element_bits, 64U);
  EXPECT_EQ(limiter::shape_of(described(1, 1, 1, CU_AD_FORMAT_FLOAT, 2), 0).element_bits, 64U);
  EXPECT_EQ(limiter::shape_of(described(1, 1, 1, CU_AD_FORMAT_BC1_UNORM, 4), 0).element_bits, 64U);
  EXPECT_EQ(limiter::shape_of(described(1, 1, 1, CU_AD_FORMAT_BC1_UNORM, 4), 0).block_width, 4U);
  EXPECT_EQ(limiter::format_of(static_cast<CUarray_format>(0x7777)).bits, 128U)
      << "unknown counts as the widest";
}

}  // namespace
}  // namespace vgpu

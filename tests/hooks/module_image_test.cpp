// SPDX-License-Identifier: Apache-2.0
#include "vgpu/core/module_image.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace vgpu::module_image {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

TEST(ModuleImage, PtxGlobalsCountByTypeAndExtent) {
  EXPECT_EQ(estimate_ptx(".visible .global .align 4 .b8 table[67108864];").global_bytes, 64 * kMiB);
  EXPECT_EQ(estimate_ptx(".global .f64 a[1000];\n.global .u32 b;").global_bytes, 8000U + 4);
  EXPECT_EQ(estimate_ptx("\t.global .align 16 .b32 grid[16][32] = {1, 2};").global_bytes, 2048U);
}

TEST(ModuleImage, PtxInstructionsAreNoDeclarations) {
  EXPECT_EQ(
      estimate_ptx("ld.global.u32 %r1, [%rd1];\nst.global.v4.f32 [%rd2+4096], %f1;").global_bytes,
      0U);
}

TEST(ModuleImage, ExtentsSaturate) {
  EXPECT_EQ(estimate_ptx(".global .b64 x[99999999999999999999][9999999999];").global_bytes,
            UINT64_MAX);
}

template <class T>
void put(std::vector<unsigned char>& image, std::size_t at, T value) {
  std::memcpy(image.data() + at, &value, sizeof value);
}

// A cubin with one code section and one section of zeroed globals, as the driver would be given.
std::vector<unsigned char> cubin(std::uint64_t code_bytes, std::uint64_t zeroed_bytes) {
  const std::string names = std::string("\0.text.k\0.nv.global\0.shstrtab\0", 30);
  std::vector<unsigned char> image(64 + 4 * 64 + names.size());
  put<std::uint32_t>(image, 0, 0x464c457f);
  image[4] = 2;
  put<std::uint64_t>(image, 40, 64);
  put<std::uint16_t>(image, 58, 64);
  put<std::uint16_t>(image, 60, 4);
  put<std::uint16_t>(image, 62, 3);
  const auto section = [&](std::size_t index, std::uint32_t name, std::uint32_t type,
                           std::uint64_t flags, std::uint64_t offset, std::uint64_t size) {
    const std::size_t at = 64 + 64 * index;
    put(image, at, name), put(image, at + 4, type), put(image, at + 8, flags);
    put(image, at + 24, offset), put(image, at + 32, size);
  };
  section(1, 1, 1, 2 | 4, 64, code_bytes);
  section(2, 9, 8, 2 | 1, 64, zeroed_bytes);
  section(3, 20, 3, 0, 64 + 4 * 64, names.size());
  std::memcpy(image.data() + 64 + 4 * 64, names.data(), names.size());
  return image;
}

TEST(ModuleImage, ZeroedGlobalsOfACubinCountThoughNoFileSizeShowsThem) {
  const auto image = cubin(4096, 512 * kMiB);
  const Estimate found = estimate(image.data(), image.size());
  EXPECT_EQ(found.code_bytes, 4096U);
  EXPECT_EQ(found.global_bytes, 512 * kMiB);
  EXPECT_EQ(found.device_bytes(), 512 * kMiB) << "small code fits into the context";
}

TEST(ModuleImage, FatBinaryCountsItsLargestEntry) {
  const auto small = cubin(4096, 8 * kMiB);
  const auto large = cubin(4096, 96 * kMiB);
  std::vector<unsigned char> fat(16);
  for (const auto& each : {small, large}) {
    const std::size_t at = fat.size();
    fat.resize(at + 64 + each.size());
    put<std::uint16_t>(fat, at, 2);
    put<std::uint32_t>(fat, at + 4, 64);
    put<std::uint64_t>(fat, at + 8, each.size());
    std::memcpy(fat.data() + at + 64, each.data(), each.size());
  }
  put<std::uint32_t>(fat, 0, 0xba55ed50);
  put<std::uint16_t>(fat, 6, 16);
  put<std::uint64_t>(fat, 8, fat.size() - 16);
  EXPECT_EQ(estimate(fat.data(), fat.size()).global_bytes, 96 * kMiB);
}

TEST(ModuleImage, DamagedImagesAreReadWithinTheirSize) {
  std::mt19937 random{7};
  const auto intact = cubin(4096, 8 * kMiB);
  for (int round = 0; round < 5000; ++round) {
    // A heap copy of exactly this size, so that the address sanitizer sees any byte beyond it.
    std::vector<unsigned char> image(
        intact.begin(),
        intact.begin() + static_cast<std::ptrdiff_t>(random() % (intact.size() + 1)));
    for (int flips = 0; flips < 4 && image.size() > 5; ++flips) {
      image[4 + random() % (image.size() - 4)] = static_cast<unsigned char>(random());
    }
    (void)estimate(image.data(), image.size());
  }
  EXPECT_EQ(estimate(nullptr, 100).device_bytes(), 0U);
}

}  // namespace
}  // namespace vgpu::module_image

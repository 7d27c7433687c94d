// SPDX-License-Identifier: Apache-2.0
// CUDA_VISIBLE_DEVICES in every form. The expectations are the driver's; the conformance program
// holds them to a GPU.
#include <gtest/gtest.h>

#include "environment.h"

namespace vgpu::settings {
namespace {

using Positions = std::vector<std::uint32_t>;

Positions visible(const char* value) {
  const std::vector<GpuUuid> gpus = {*GpuUuid::parse(kUuid0), *GpuUuid::parse(kUuid1),
                                     *GpuUuid::parse(kUuid2)};
  FixedVector<std::uint32_t, kMaxGpus> positions;
  visible_devices(value, gpus, positions);
  return {positions.begin(), positions.end()};
}

TEST(VisibleDevices, AreAllWhenUnset) { EXPECT_EQ(visible(nullptr), (Positions{0, 1, 2})); }

TEST(VisibleDevices, AreNoneWhenEmpty) {
  EXPECT_EQ(visible(""), Positions{});
  EXPECT_EQ(visible(" "), Positions{});
}

TEST(VisibleDevices, FollowTheOrderOfTheList) {
  EXPECT_EQ(visible("0"), Positions{0});
  EXPECT_EQ(visible("2,0"), (Positions{2, 0}));
  EXPECT_EQ(visible(" 1 , 2 "), (Positions{1, 2}));
  EXPECT_EQ(visible("+1"), Positions{1});
}

TEST(VisibleDevices, EndAtTheFirstEntryThatIsNotThere) {
  EXPECT_EQ(visible("-1"), Positions{});
  EXPECT_EQ(visible("0,-1,1"), Positions{0});
  EXPECT_EQ(visible("1,7,0"), Positions{1});
  EXPECT_EQ(visible("7"), Positions{});
  EXPECT_EQ(visible("0,,1"), Positions{0});
  EXPECT_EQ(visible("0,1,"), (Positions{0, 1}));
  EXPECT_EQ(visible(",0"), Positions{});
  EXPECT_EQ(visible("0,one,1"), Positions{0});
  EXPECT_EQ(visible("99999999999999999999,0"), Positions{});
  EXPECT_EQ(visible("NoDevFiles"), Positions{});
}

TEST(VisibleDevices, OrdinalsAreReadAsFarAsDigitsGo) {
  EXPECT_EQ(visible("1gpu,2x"), (Positions{1, 2}));
}

TEST(VisibleDevices, TakeUuidsAndUniquePrefixes) {
  EXPECT_EQ(visible("GPU-ab12cd34-0000-1111-2222-333344445555"), Positions{2});
  EXPECT_EQ(visible("GPU-ab,GPU-3430a"), (Positions{2, 1}));
  EXPECT_EQ(visible("GPU-ab , GPU-3430f"), (Positions{2, 0}));
  EXPECT_EQ(visible("GPU-AB12CD34-0000-1111-2222-333344445555"), Positions{2});
  EXPECT_EQ(visible(" GPU-ab"), Positions{});
  EXPECT_EQ(visible("gpu-ab"), Positions{});
  EXPECT_EQ(visible("ab12cd34-0000-1111-2222-333344445555"), Positions{});
  EXPECT_EQ(visible("GPU-ab,GPU-3430"), Positions{2});  // two begin like that
  EXPECT_EQ(visible("GPU-ffff,GPU-ab"), Positions{});
  EXPECT_EQ(visible("GPU-ab12cd34-0000-1111-2222-3333444455556"), Positions{2});
  EXPECT_EQ(visible("GPU-"), Positions{});
  EXPECT_EQ(visible("GPU"), Positions{});
}

TEST(VisibleDevices, DoNotMixKinds) {
  EXPECT_EQ(visible("GPU-ab,0"), Positions{2});
  EXPECT_EQ(visible("0,GPU-ab"), Positions{0});
}

TEST(VisibleDevices, LoneGpuStillNeedsADigitOfItsUuid) {
  const std::vector<GpuUuid> one = {*GpuUuid::parse(kUuid0)};
  FixedVector<std::uint32_t, kMaxGpus> positions;
  visible_devices("GPU-", one, positions);
  EXPECT_TRUE(positions.empty());
  visible_devices("GPU-3", one, positions);
  EXPECT_EQ(positions.size(), 1u);
}

TEST(VisibleDevices, MigNamesMatchNoWholeGpu) {
  EXPECT_EQ(visible("MIG-ab12cd34-0000-1111-2222-333344445555"), Positions{});
  EXPECT_EQ(visible("MIG-GPU-ab12cd34-0000-1111-2222-333344445555/1/0"), Positions{});
  EXPECT_EQ(visible("0,MIG-ab"), Positions{0});
}

TEST(VisibleDevices, NamedTwiceLeaveNone) {
  EXPECT_EQ(visible("0,0"), Positions{});
  EXPECT_EQ(visible("0,1,0"), Positions{});
  EXPECT_EQ(visible("GPU-ab,GPU-ab12"), Positions{});
}

}  // namespace
}  // namespace vgpu::settings

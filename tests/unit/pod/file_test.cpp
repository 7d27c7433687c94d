// SPDX-License-Identifier: Apache-2.0
// What a pod's shared-memory file makes of a tenant, and what isn't believed.
#include "vgpu/pod/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "vgpu/pod/file_layout.h"

namespace vgpu::pod {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t kFileGiB = std::uint64_t{1} << 30;
constexpr char kFirst[] = "GPU-3430f778-7a25-704c-9090-8b0bb2478114";
constexpr char kSecond[] = "gpu-AB12CD34-0000-1111-2222-333344445555";

template <class Device>
void set_device(Device& device, const char* uuid, std::uint32_t up, std::uint64_t bytes) {
  std::strcpy(device.uuid, uuid);
  device.up_limit = up;
  device.mem_limit = bytes;
  device.is_active = 1;
}

pod_file::V2 v2() {
  pod_file::V2 file{};
  file.discriminant = 1;
  set_device(file.devices[0], kFirst, 30, 4 * kFileGiB);
  set_device(file.devices[5], kSecond, 100, 8 * kFileGiB);
  file.device_count = 2;
  return file;
}

template <class Layout>
std::span<const std::byte> start_of(const Layout& file) {
  return std::as_bytes(std::span(&file, 1)).first(kReadBytes);
}

struct ParsedFile {
  bool good = false;
  Limits limits;
  Why why;
};

template <class Layout>
ParsedFile parsed_file(const Layout& file, std::size_t size = sizeof(Layout)) {
  ParsedFile result;
  result.good = parse_file(start_of(file), size, result.limits, result.why);
  return result;
}

TEST(PodFile, ActiveGpusOfV2AreTheTenants) {
  pod_file::V2 file = v2();
  set_device(file.devices[2], kSecond, 10, kFileGiB);
  file.devices[2].is_active = 0;
  const ParsedFile result = parsed_file(file);
  ASSERT_TRUE(result.good) << result.why.view();
  ASSERT_EQ(result.limits.gpus.size(), 2u);
  EXPECT_TRUE(result.limits.has_compute);
  const Quota& first = result.limits.gpus[0].quota;
  EXPECT_STREQ(result.limits.gpus[0].uuid.text().data(),
               "GPU-3430f778-7a25-704c-9090-8b0bb2478114");
  EXPECT_EQ(first.memory_limit_bytes, 4 * kFileGiB);
  EXPECT_EQ(first.compute_share_percent, 30);
  EXPECT_EQ(first.compute_limit_percent, 30);
  EXPECT_EQ(first.policy, Policy::fixed);
  EXPECT_EQ(first.memory_source, Source::tensor_fusion);
  EXPECT_EQ(first.compute_source, Source::tensor_fusion);
  const Quota& second = result.limits.gpus[1].quota;
  EXPECT_EQ(second.memory_limit_bytes, 8 * kFileGiB);
  EXPECT_FALSE(second.limits_compute());
}

TEST(PodFile, V1IsReadInBothItsSizes) {
  pod_file::V1 file{};
  set_device(file.devices[15], kFirst, 7, kFileGiB);
  file.device_count = 1;
  for (const std::size_t size : {sizeof file, pod_file::kFileSize}) {
    const ParsedFile result = parsed_file(file, size);
    ASSERT_TRUE(result.good) << result.why.view();
    ASSERT_EQ(result.limits.gpus.size(), 1u);
    EXPECT_EQ(result.limits.gpus[0].quota.compute_limit_percent, 7);
    EXPECT_EQ(result.limits.gpus[0].quota.memory_limit_bytes, kFileGiB);
  }
}

TEST(PodFile, HeartbeatAndTokensChangeNothing) {
  pod_file::V2 file = v2();
  file.last_heartbeat = 1;
  file.devices[0].tokens = std::nan("");
  file.devices[0].refill_rate = -std::numeric_limits<double>::infinity();
  EXPECT_TRUE(parsed_file(file).good);
}

TEST(PodFile, RefusesWhatCantBeSuchAFile) {
  const auto why = [](const auto& change, std::size_t size = sizeof(pod_file::V2)) {
    pod_file::V2 file = v2();
    change(file);
    const ParsedFile result = parsed_file(file, size);
    EXPECT_FALSE(result.good);
    return std::string(result.why.view());
  };
  const auto as_it_is = [](pod_file::V2&) {};
  EXPECT_THAT(why(as_it_is, 0), HasSubstr("0 bytes"));
  EXPECT_THAT(why(as_it_is, pod_file::kFileSize - 1), HasSubstr("35503 bytes"));
  EXPECT_THAT(why(as_it_is, sizeof(pod_file::V1)), HasSubstr("bytes")) << "a V2 is never so short";
  EXPECT_THAT(why([](auto& file) { file.discriminant = 2; }), HasSubstr("version word is 2"));
  EXPECT_THAT(why([](auto& file) { file.device_count = 17; }), HasSubstr("17 devices"));
  EXPECT_THAT(why([](auto& file) { file.devices[0].up_limit = 0; }), HasSubstr("up_limit"));
  EXPECT_THAT(why([](auto& file) { file.devices[5].up_limit = 101; }),
              HasSubstr("device 5: its up_limit"));
  EXPECT_THAT(why([](auto& file) { file.devices[0].mem_limit = 0; }), HasSubstr("mem_limit"));
  EXPECT_THAT(why([](auto& file) { file.devices[0].mem_limit = UINT64_MAX; }),
              HasSubstr("mem_limit"));
  EXPECT_THAT(why([](auto& file) { file.devices[0].is_active = file.devices[5].is_active = 0; }),
              HasSubstr("no GPU in it is active"));
}

TEST(PodFile, AUuidThatIsNoneIsNobodysGpu) {
  pod_file::V2 file = v2();
  std::memset(file.devices[0].uuid, 'x', sizeof file.devices[0].uuid);  // without an end, too
  const ParsedFile result = parsed_file(file);
  ASSERT_TRUE(result.good);
  ASSERT_EQ(result.limits.gpus.size(), 1u);
  std::strcpy(file.devices[0].uuid, kSecond);
  EXPECT_EQ(parsed_file(file).limits.gpus.size(), 1u) << "one GPU twice is one";
}

TEST(PodFile, WhateverStandsInItGivesLimitsThatCanBeKept) {
  const pod_file::V2 sound = v2();
  for (unsigned seed = 0; seed < 3000; ++seed) {
    std::mt19937 random(seed);
    std::vector<std::byte> bytes(kReadBytes);
    std::memcpy(bytes.data(), &sound, bytes.size());
    for (int i = 0; i < 8; ++i) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    Limits limits;
    Why why;
    if (!parse_file(bytes, pod_file::kFileSize, limits, why)) {
      EXPECT_FALSE(why.empty()) << seed;
      continue;
    }
    ASSERT_FALSE(limits.gpus.empty()) << seed;
    for (const GpuLimits& gpu : limits.gpus) {
      EXPECT_GT(gpu.quota.memory_limit_bytes, 0u) << seed;
      EXPECT_LT(gpu.quota.compute_limit_percent, 100) << seed;
      EXPECT_EQ(gpu.quota.compute_limit_percent, gpu.quota.compute_share_percent) << seed;
    }
  }
}

TEST(PodFile, IsReadFromADiskWhateverLiesThere) {
  const std::string folder = std::filesystem::temp_directory_path() / "vgpu-pod-file-XXXXXX";
  std::string made = folder;
  ASSERT_NE(mkdtemp(made.data()), nullptr);
  const std::string path = made + "/shm";
  Limits limits;
  Why why;
  EXPECT_FALSE(read_file(path.c_str(), limits, why));
  EXPECT_EQ(why.view(), "there is no such file");
  EXPECT_FALSE(read_file(made.c_str(), limits, why));
  EXPECT_EQ(why.view(), "it isn't a plain file");
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_FALSE(read_file(path.c_str(), limits, why)) << "and doesn't wait for its writer";
  unlink(path.c_str());
  const pod_file::V2 file = v2();
  std::ofstream(path).write(reinterpret_cast<const char*>(&file), sizeof file);
  EXPECT_TRUE(read_file(path.c_str(), limits, why)) << why.view();
  ASSERT_EQ(truncate(path.c_str(), 100), 0);
  EXPECT_FALSE(read_file(path.c_str(), limits, why));
  std::filesystem::remove_all(made);
}

}  // namespace
}  // namespace vgpu::pod

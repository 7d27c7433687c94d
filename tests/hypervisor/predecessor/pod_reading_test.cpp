// SPDX-License-Identifier: Apache-2.0
// Reading the predecessor's files without trust.
#include "pod_reading.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <random>
#include <thread>

#include "scratch.h"
#include "vgpu/pod/file_layout.h"

namespace vgpu::hypervisor::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::uint64_t kNow = 1'700'000'000;
constexpr const char* kUuid = "GPU-11111111-2222-3333-4444-555555555555";

std::unique_ptr<pod_file::V2> sound_file() {
  auto file = std::make_unique<pod_file::V2>();
  file->discriminant = 1;
  file->device_count = 1;
  file->last_heartbeat = kNow - 1;
  auto& device = file->devices[2];
  std::strcpy(device.uuid, kUuid);
  device.up_limit = 30;
  device.mem_limit = 4ULL << 30;
  device.pod_memory_used = 1ULL << 30;
  device.refill_rate = 12.5;
  device.capacity = 100;
  device.tokens = 42;
  device.last_update_s = static_cast<double>(kNow);
  device.is_active = 1;
  file->pids.value[0] = 4711;
  file->pids.value[65] = 12;
  file->pids.bitmap[0] = std::uint64_t{1} << 63;
  file->pids.bitmap[1] = std::uint64_t{1} << 62;
  file->pids.size = 2;
  return file;
}

template <class T>
std::span<const std::byte> bytes_of(const T& file) {
  return std::as_bytes(std::span(&file, 1));
}

TEST(PodReading, ReadsAV2File) {
  std::string why;
  const auto reading = parse_pod_file(bytes_of(*sound_file()), kNow, why);
  ASSERT_TRUE(reading) << why;
  EXPECT_THAT(reading->faults, IsEmpty());
  EXPECT_EQ(reading->version, 2);
  EXPECT_EQ(reading->health, PodHealth::healthy);
  EXPECT_THAT(reading->pids, ElementsAre(12, 4711));
  ASSERT_EQ(reading->devices.size(), 1U);
  const PodDevice& device = reading->devices[0];
  EXPECT_EQ(device.index, 2U);
  EXPECT_EQ(device.uuid, kUuid);
  EXPECT_EQ(device.up_limit_percent, 30U);
  EXPECT_EQ(device.memory_limit_bytes, 4ULL << 30);
  EXPECT_EQ(device.memory_used_bytes, 1ULL << 30);
  EXPECT_EQ(std::get<PodTokens>(device.compute).tokens, 42.0);
}

TEST(PodReading, ReadsAV1FileOfEitherSize) {
  auto file = std::make_unique<pod_file::V1>();
  file->device_count = 1;
  file->last_heartbeat = kNow - 30;
  std::strcpy(file->devices[0].uuid, kUuid);
  file->devices[0].available_cores = -7;
  file->devices[0].is_active = 1;
  std::vector<std::byte> padded(pod_file::kFileSize);
  std::memcpy(padded.data(), file.get(), sizeof *file);
  std::string why;
  for (const auto bytes : {bytes_of(*file), std::span<const std::byte>(padded)}) {
    const auto reading = parse_pod_file(bytes, kNow, why);
    ASSERT_TRUE(reading) << why;
    EXPECT_EQ(reading->version, 1);
    EXPECT_EQ(reading->health, PodHealth::stale);
    EXPECT_EQ(std::get<PodCores>(reading->devices.at(0).compute).available, -7);
  }
}

TEST(PodReading, RefusesWhatIsNoSuchFile) {
  std::string why;
  auto file = sound_file();
  EXPECT_FALSE(parse_pod_file(bytes_of(*file).first(pod_file::kFileSize - 1), kNow, why));
  EXPECT_THAT(why, HasSubstr("35503 bytes"));
  EXPECT_FALSE(parse_pod_file({}, kNow, why));
  file->discriminant = 2;
  EXPECT_FALSE(parse_pod_file(bytes_of(*file), kNow, why));
  EXPECT_THAT(why, HasSubstr("version word is 2"));
}

TEST(PodReading, NamesWhatCannotBeTrue) {
  auto file = sound_file();
  std::memset(file->devices[2].uuid, 'x', sizeof file->devices[2].uuid);
  file->devices[2].up_limit = 101;
  file->devices[2].tokens = std::numeric_limits<double>::quiet_NaN();
  file->devices[2].last_update_s = static_cast<double>(kNow) + 3600;
  file->device_count = 17;
  file->pids.value[65] = std::uint64_t{1} << 40;
  file->pids.size = 99;
  std::string why;
  const auto reading = parse_pod_file(bytes_of(*file), kNow, why);
  ASSERT_TRUE(reading);
  for (const char* part :
       {"UUID has no end", "limit of 101", "number of tokens is no number", "in the future",
        "says 17 devices, 1 are active", "no PIDs", "says 99 and holds 2"}) {
    EXPECT_THAT(reading->faults, Contains(HasSubstr(part)));
  }
  const PodDevice& device = reading->devices.at(0);
  EXPECT_EQ(device.uuid, "");
  EXPECT_FALSE(device.up_limit_percent);
  EXPECT_FALSE(std::get<PodTokens>(device.compute).tokens);
  EXPECT_FALSE(std::get<PodTokens>(device.compute).last_update_s);
  EXPECT_THAT(reading->pids, ElementsAre(4711));
}

TEST(PodReading, HealthIsWhatALimiterMakesOfTheHeartbeat) {
  auto file = sound_file();
  std::string why;
  const auto health_at = [&](std::uint64_t heartbeat) {
    file->last_heartbeat = heartbeat;
    return parse_pod_file(bytes_of(*file), kNow, why)->health;
  };
  EXPECT_EQ(health_at(kNow), PodHealth::healthy);
  EXPECT_EQ(health_at(kNow - 2), PodHealth::healthy);
  EXPECT_EQ(health_at(kNow - 3), PodHealth::stale);
  EXPECT_EQ(health_at(0), PodHealth::never);
  EXPECT_EQ(health_at(kNow + 1), PodHealth::in_the_future);
  EXPECT_EQ(health_at(UINT64_MAX), PodHealth::in_the_future);
}

TEST(PodReading, SurvivesEveryFile) {
  for (unsigned seed = 0; seed < 3000; ++seed) {
    std::mt19937_64 random(seed);
    std::vector<std::byte> bytes(pod_file::kFileSize);
    const auto sound = sound_file();
    std::memcpy(bytes.data(), sound.get(), bytes.size());
    const unsigned patches = 1 + random() % 64;
    for (unsigned i = 0; i < patches; ++i) {
      // Where something is, mostly.
      const std::size_t most = random() % 2 == 0 ? 2300 : bytes.size() - 8;
      const std::uint64_t word = random() % 3 == 0 ? UINT64_MAX : random();
      std::memcpy(bytes.data() + random() % most, &word, 1 + random() % 8);
    }
    if (random() % 8 == 0) bytes.resize(random() % bytes.size());
    std::string why;
    const auto reading = parse_pod_file(bytes, kNow, why);
    if (!reading) {
      EXPECT_FALSE(why.empty()) << seed;
      continue;
    }
    EXPECT_LE(reading->devices.size(), pod_file::kMaxDevices);
    EXPECT_LE(reading->pids.size(), pod_file::kMaxPids);
    for (const auto& device : reading->devices) {
      EXPECT_LE(device.up_limit_percent.value_or(0), 100U) << seed;
      EXPECT_LT(device.uuid.size(), pod_file::kUuidSize) << seed;
    }
  }
}

TEST(PodReading, OpensNothingButAPlainFile) {
  const Scratch scratch;
  std::string why;
  bool missing = false;
  EXPECT_FALSE(read_pod_file(scratch.path("none"), kNow, why, missing));
  EXPECT_TRUE(missing);
  std::ofstream(scratch.path("file"))
      .write(reinterpret_cast<const char*>(sound_file().get()), pod_file::kFileSize);
  EXPECT_TRUE(read_pod_file(scratch.path("file"), kNow, why, missing)) << why;
  std::filesystem::create_symlink(scratch.path("file"), scratch.path("link"));
  EXPECT_FALSE(read_pod_file(scratch.path("link"), kNow, why, missing));
  EXPECT_THAT(why, HasSubstr("symbolic link"));
  ASSERT_EQ(::mkfifo(scratch.path("pipe").c_str(), 0600), 0);
  EXPECT_FALSE(read_pod_file(scratch.path("pipe"), kNow, why, missing));
  EXPECT_FALSE(read_pod_file(scratch.path(""), kNow, why, missing));
  std::ofstream(scratch.path("short")) << "x";
  EXPECT_FALSE(read_pod_file(scratch.path("short"), kNow, why, missing));
  EXPECT_THAT(why, HasSubstr("1 bytes"));
}

TEST(PodReading, SurvivesAFileThatShrinksWhileItIsRead) {
  const Scratch scratch;
  const std::string path = scratch.path("file");
  std::ofstream(path).write(reinterpret_cast<const char*>(sound_file().get()), pod_file::kFileSize);
  std::atomic<bool> stop = false;
  std::thread tenant([&] {
    while (!stop) {
      EXPECT_EQ(::truncate(path.c_str(), 4096), 0);
      EXPECT_EQ(::truncate(path.c_str(), pod_file::kFileSize), 0);
    }
  });
  std::string why;
  bool missing = false;
  int cut = 0;
  for (int i = 0; i < 200'000 && cut < 3; ++i) {
    if (!read_pod_file(path, kNow, why, missing)) cut += why.find("shorter") != std::string::npos;
  }
  stop = true;
  tenant.join();
  EXPECT_GT(cut, 0) << "the race never happened";
}

TEST(PodReading, NamesLeadNowhereElse) {
  EXPECT_EQ(pod_file_path("/base", "ns-1", "pod_2.x"), "/base/ns-1/pod_2.x/shm");
  for (const char* name : {"", ".", "..", "a/b", ".hidden", "a b", "x\n", "\xff"}) {
    EXPECT_THROW(pod_file_path("/base", name, "pod"), std::invalid_argument) << name;
    EXPECT_THROW(pod_file_path("/base", "ns", name), std::invalid_argument) << name;
  }
}

}  // namespace
}  // namespace vgpu::hypervisor::testing

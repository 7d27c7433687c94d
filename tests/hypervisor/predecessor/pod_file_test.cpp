// SPDX-License-Identifier: Apache-2.0
// Files kept for the predecessor's limiters, with a process that does what those do.
#include "pod_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <fstream>

#include "pod_keeper.h"
#include "pod_reading.h"
#include "scratch.h"

namespace vgpu::hypervisor::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr double kEpoch = 1'700'000'000;

PodGpu gpu_of(std::uint32_t percent) {
  PodGpu gpu;
  gpu.index = 3;
  gpu.uuid = "GPU-11111111-2222-3333-4444-555555555555";
  gpu.limit_percent = percent;
  gpu.memory_limit_bytes = 4ULL << 30;
  gpu.total_cuda_cores = 1000;
  return gpu;
}

PodKeeper::Now at(std::uint64_t ns) { return {ns, kEpoch + static_cast<double>(ns) * 1e-9}; }

PodReading reading_of(const std::string& path, double now_s = kEpoch) {
  std::string why;
  bool missing = false;
  auto reading = read_pod_file(path, static_cast<std::uint64_t>(now_s), why, missing);
  EXPECT_TRUE(reading) << why;
  return reading.value_or(PodReading{});
}

ino_t inode_of(const std::string& path) {
  struct stat facts {};
  return ::stat(path.c_str(), &facts) == 0 ? facts.st_ino : 0;
}

TEST(PodFile, IsWholeWhenItAppearsAndWritableByItsOwnerAlone) {
  const Scratch scratch;
  const std::string path = pod_file_path(scratch.folder(), "ns", "pod");
  const mode_t before = ::umask(0);
  const PodFile file(path, {}, std::vector{gpu_of(30)}, static_cast<std::uint64_t>(kEpoch));
  EXPECT_EQ(::umask(before), 0U) << "the mask of the process was changed";
  EXPECT_FALSE(file.was_there());
  const PodReading reading = reading_of(path);
  EXPECT_THAT(reading.faults, IsEmpty());
  EXPECT_EQ(reading.health, PodHealth::healthy);
  ASSERT_EQ(reading.devices.size(), 1U);
  EXPECT_EQ(reading.devices[0].up_limit_percent, 30U);
  EXPECT_EQ(reading.devices[0].uuid, gpu_of(30).uuid);
  EXPECT_EQ(std::get<PodTokens>(reading.devices[0].compute).tokens, 0.0) << "no first burst";
  struct stat facts {};
  ASSERT_EQ(::stat(path.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600U);
  ASSERT_EQ(::stat((scratch.folder() + "/ns/pod").c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0755U);
}

TEST(PodFile, CanBeReachedWhateverTheUmaskIs) {
  const Scratch scratch;
  const std::string path = pod_file_path(scratch.folder(), "ns", "pod");
  const mode_t before = ::umask(0077);
  const PodFile file(path, {}, std::vector{gpu_of(30)}, static_cast<std::uint64_t>(kEpoch));
  ::umask(before);
  struct stat facts {};
  for (const char* folder : {"/ns", "/ns/pod"}) {
    ASSERT_EQ(::stat((scratch.folder() + folder).c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777, 0755U) << folder;
  }
}

TEST(PodFile, IsTakenOverNotReplaced) {
  const Scratch scratch;
  const std::string path = scratch.path("shm");
  PodKeeper(path, {}, {}, {gpu_of(30)}, at(0));
  const ino_t inode = inode_of(path);
  PodKeeper second(path, {}, {}, {gpu_of(50)}, at(kSecond));
  EXPECT_TRUE(second.file().was_there());
  EXPECT_EQ(inode_of(path), inode);
  EXPECT_EQ(reading_of(path).devices.at(0).up_limit_percent, 50U);
}

TEST(PodFile, ReplacesNothingThatItDoesNotKnow) {
  const Scratch scratch;
  std::ofstream(scratch.path("shm")) << "somebody's";
  EXPECT_THROW(PodKeeper(scratch.path("shm"), {}, {}, {gpu_of(30)}, at(0)), std::runtime_error);
  ASSERT_EQ(::symlink("/etc/passwd", scratch.path("link").c_str()), 0);
  EXPECT_THROW(PodKeeper(scratch.path("link"), {}, {}, {gpu_of(30)}, at(0)), std::runtime_error);
  PodGpu far = gpu_of(30);
  far.index = 16;
  EXPECT_THROW(PodKeeper(scratch.path("other"), {}, {}, {far}, at(0)), std::runtime_error);
}

TEST(PodKeeper, ChangesLimitsInPlace) {
  const Scratch scratch;
  const std::string path = scratch.path("shm");
  PodKeeper keeper(path, {}, {}, {gpu_of(20)}, at(0));
  const ino_t inode = inode_of(path);
  const auto shown = [&] { return reading_of(path).devices.at(0).up_limit_percent; };
  keeper.set_gpus({gpu_of(60)}, at(kSecond));
  EXPECT_EQ(shown(), 60U);
  // 100 would be remembered by limiters for a minute.
  keeper.set_gpus({gpu_of(100)}, at(2 * kSecond));
  keeper.step(at(2 * kSecond));
  EXPECT_EQ(shown(), 99U);
  EXPECT_GE(std::get<PodTokens>(reading_of(path).devices.at(0).compute).tokens, 1e6);
  keeper.set_gpus({gpu_of(20)}, at(3 * kSecond));
  keeper.step(at(3 * kSecond));
  EXPECT_EQ(shown(), 20U);
  EXPECT_LE(std::get<PodTokens>(reading_of(path).devices.at(0).compute).tokens, 11.0);
  EXPECT_EQ(inode_of(path), inode);
}

TEST(PodKeeper, WritesUsageEvery100MsAndTheHeartbeatEvery500) {
  const Scratch scratch;
  const std::string path = scratch.path("shm");
  PodKeeper keeper(path, {}, {}, {gpu_of(20)}, at(kSecond));
  keeper.set_pids({7, 5});
  std::uint64_t heartbeats = 0, usages = 0, last_beat = 0, last_used = 0;
  for (std::uint64_t ms = 1000; ms < 11'000; ms += 10) {
    keeper.set_memory_used(3, ms);
    EXPECT_THAT(keeper.step({ms * 1'000'000, kEpoch + static_cast<double>(ms) * 100}), IsEmpty());
    const PodReading reading = reading_of(path);
    heartbeats += reading.last_heartbeat_s != last_beat;
    usages += reading.devices.at(0).memory_used_bytes != last_used;
    last_beat = reading.last_heartbeat_s;
    last_used = reading.devices.at(0).memory_used_bytes;
    EXPECT_THAT(reading.pids, ElementsAre(5, 7));
  }
  EXPECT_EQ(usages, 100U);
  EXPECT_EQ(heartbeats, 20U);
}

TEST(PodKeeper, PutsBackWhatATenantChanges) {
  const Scratch scratch;
  const std::string path = scratch.path("shm");
  PodKeeper keeper(path, {}, {}, {gpu_of(20)}, at(0));
  std::uint64_t now = kSecond;
  keeper.step(at(now));
  const MappedFile tenant(::open(path.c_str(), O_RDWR), pod_file::kFileSize,
                          MappedFile::Access::write);
  auto& layout = *reinterpret_cast<pod_file::V2*>(tenant.base());
  std::vector<std::string> lines;
  for (int i = 0; i < 50; ++i) {
    layout.devices[3].up_limit = 90;
    layout.devices[3].tokens = i % 2 == 0 ? 1e9 : std::nan("");
    layout.pids.lock = 1;  // held for ever: nobody waits for it
    now += PodKeeper::kUsageNs;
    for (auto& line : keeper.step(at(now))) lines.push_back(line);
    EXPECT_EQ(layout.devices[3].up_limit, 20U);
    EXPECT_LE(layout.devices[3].tokens, 11.0);
  }
  EXPECT_EQ(lines.size(), 2U) << "each is said once";
}

TEST(PodKeeper, RestoresAFileFullOfGarbage) {
  const Scratch scratch;
  const std::string path = scratch.path("shm");
  PodKeeper keeper(path, {}, {}, {gpu_of(20)}, at(0));
  keeper.set_pids({5});
  std::uint64_t now = kSecond;
  keeper.step(at(now));
  std::vector<std::string> lines;
  for (const char byte : {'\xff', '\x7f', '\x01', '\0'}) {
    {
      std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
      file << std::string(pod_file::kFileSize, byte);
    }
    for (int i = 0; i < 20; ++i) {
      now += PodKeeper::kUsageNs;
      for (auto& line : keeper.step(at(now))) lines.push_back(line);
    }
    const PodReading reading = reading_of(path, at(now).real_s);
    EXPECT_THAT(reading.faults, IsEmpty()) << static_cast<int>(byte);
    EXPECT_EQ(reading.health, PodHealth::healthy) << static_cast<int>(byte);
    EXPECT_THAT(reading.pids, ElementsAre(5)) << static_cast<int>(byte);
    ASSERT_EQ(reading.devices.size(), 1U) << static_cast<int>(byte);
    EXPECT_EQ(reading.devices[0].up_limit_percent, 20U);
    EXPECT_EQ(reading.devices[0].uuid, gpu_of(20).uuid);
    EXPECT_LE(std::get<PodTokens>(reading.devices[0].compute).tokens, 11.0);
  }
  EXPECT_LE(lines.size(), 2U) << "each is said once";
}

TEST(PodKeeper, SaysThatItIsBlindOnlyWhileSomebodyTakes) {
  const Scratch scratch;
  const std::string path = scratch.path("shm");
  PodKeeper keeper(path, {}, {}, {gpu_of(20)}, at(0));
  const MappedFile tenant(::open(path.c_str(), O_RDWR), pod_file::kFileSize,
                          MappedFile::Access::write);
  auto& tokens = reinterpret_cast<pod_file::V2*>(tenant.base())->devices[3].tokens;
  std::uint64_t now = kSecond;
  const auto said_in = [&](std::uint64_t for_ns, bool takes) {
    std::size_t said = 0;
    for (const std::uint64_t end = now + for_ns; now < end; now += PodKeeper::kStepNs) {
      if (takes) tokens = 0;
      for (const auto& line : keeper.step(at(now)))
        said += line.find("no figures") != std::string::npos ? 1 : 0;
    }
    return said;
  };
  EXPECT_EQ(said_in(60 * kSecond, false), 0U) << "nobody is there";
  EXPECT_EQ(said_in(9 * kSecond, true), 0U);
  EXPECT_EQ(said_in(20 * kSecond, true), 1U);
}

TEST(PodKeeper, SurvivesAFileThatIsCutShort) {
  const Scratch scratch;
  const std::string path = scratch.path("shm");
  PodKeeper keeper(path, {}, {}, {gpu_of(20)}, at(0));
  keeper.set_pids({5});
  std::uint64_t now = kSecond;
  keeper.step(at(now));
  for (const off_t size : {0, 4096, 35'503}) {
    ASSERT_EQ(::truncate(path.c_str(), size), 0);
    for (int i = 0; i < 20; ++i) keeper.step(at(now += PodKeeper::kUsageNs));
    // 35,503 bytes are as many pages as 35,504: nothing is missed, and the length stays.
    ASSERT_EQ(::truncate(path.c_str(), pod_file::kFileSize), 0);
    const PodReading reading = reading_of(path);
    EXPECT_EQ(reading.devices.at(0).up_limit_percent, 20U) << size;
    EXPECT_THAT(reading.pids, ElementsAre(5)) << size;
  }
}

// The client as a process; its GPU is reckoned, so what it measures is exact.
class Client {
 public:
  Client(const std::string& path, const std::string& kernel_us, const std::string& threads) {
    int to[2], from[2];
    EXPECT_EQ(::pipe2(to, O_CLOEXEC) + ::pipe2(from, O_CLOEXEC), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(to[0], 0);
      ::dup2(from[1], 1);
      ::execl(CLIENT, CLIENT, path.c_str(), "3", kernel_us.c_str(), threads.c_str(), nullptr);
      ::_exit(127);
    }
    ::close(to[0]);
    ::close(from[1]);
    ask_ = to[1];
    answer_ = ::fdopen(from[0], "r");
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client() {
    ::close(ask_);
    ::fclose(answer_);
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }
  double busy_ns() {
    long long busy = 0;
    EXPECT_EQ(::write(ask_, "?", 1), 1);
    EXPECT_EQ(std::fscanf(answer_, "%lld", &busy), 1);
    return static_cast<double>(busy);
  }

 private:
  pid_t pid_ = 0;
  int ask_ = -1;
  FILE* answer_ = nullptr;
};

std::uint64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * kSecond + static_cast<std::uint64_t>(now.tv_nsec);
}

// Keeps the file for so long; percent of it in which the client's GPU was busy.
double kept_for(PodKeeper& keeper, Client& client, std::uint64_t for_ns) {
  const std::uint64_t began = monotonic_ns();
  const double busy_before = client.busy_ns();
  double measured_busy = busy_before;
  std::uint64_t measured = began, now = began;
  while (now < began + for_ns) {
    ::usleep(10'000);
    now = monotonic_ns();
    const PodKeeper::Now moment{now, static_cast<double>(::time(nullptr))};
    if (now > measured + 100'000'000) {
      const double busy = client.busy_ns();
      now = monotonic_ns();
      keeper.measured(3,
                      {measured, now, (busy - measured_busy) / static_cast<double>(now - measured)},
                      {now, moment.real_s});
      measured = now;
      measured_busy = busy;
    }
    keeper.step({now, moment.real_s});
  }
  return 100 * (client.busy_ns() - busy_before) / static_cast<double>(monotonic_ns() - began);
}

TEST(PodKeeper, HoldsARealProcessThatDoesTheLimitersArithmetic) {
  const Scratch scratch;
  const std::string path = scratch.path("shm");
  const PodKeeper::Now now{monotonic_ns(), static_cast<double>(::time(nullptr))};
  PodKeeper keeper(path, {}, {}, {gpu_of(40)}, now);
  Client client(path, "2000", "65536");
  keeper.set_pids({client.pid()});
  kept_for(keeper, client, 3 * kSecond);
  EXPECT_NEAR(kept_for(keeper, client, 4 * kSecond), 40, 5);
  EXPECT_THAT(reading_of(path, static_cast<double>(::time(nullptr))).pids,
              ElementsAre(client.pid()));
  keeper.set_gpus({gpu_of(10)}, {monotonic_ns(), static_cast<double>(::time(nullptr))});
  kept_for(keeper, client, kSecond);
  EXPECT_NEAR(kept_for(keeper, client, 4 * kSecond), 10, 5);
}

}  // namespace
}  // namespace vgpu::hypervisor::testing

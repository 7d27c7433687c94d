// SPDX-License-Identifier: Apache-2.0
// Which files are kept, for whom, and with what in them; by moments made by hand and files that are
// real. What the files do to a program that works is pod_files_test.py's.
#include "pod_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "pod_reading.h"
#include "quiet_control.h"
#include "scratch.h"
#include "vgpu/platform/clock.h"
#include "vgpu/platform/process.h"

namespace vgpu::hypervisor::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const GpuUuid kPodGpu = *GpuUuid::parse("GPU-11111111-2222-3333-4444-555555555555");

TenantState tenant_with(std::uint8_t limit_percent) {
  TenantState tenant;
  tenant.id = tenant.name = "train";
  tenant.owner = geteuid();
  TenantGpuState gpu;
  gpu.gpu = kPodGpu;
  gpu.index = 3;
  gpu.total_bytes = 1000;
  gpu.quota.compute_limit_percent = limit_percent;
  gpu.quota.memory_limit_bytes = 400;
  tenant.gpus.push_back(gpu);
  return tenant;
}

TEST(PodGpus, HaveTheTenantsLimits) {
  TenantState tenant = tenant_with(30);
  std::vector<PodGpu> gpus = pod_gpus_of(tenant);
  ASSERT_EQ(gpus.size(), 1u);
  EXPECT_EQ(gpus[0].index, 3u);
  EXPECT_EQ(gpus[0].uuid, kPodGpu.text().data());
  EXPECT_EQ(gpus[0].limit_percent, 30u);
  EXPECT_EQ(gpus[0].memory_limit_bytes, 400u);
  tenant.gpus[0].quota = {};
  tenant.gpus[0].quota.compute_share_percent = 30;
  gpus = pod_gpus_of(tenant);
  EXPECT_EQ(gpus[0].limit_percent, 100u) << "a share limits nobody";
  EXPECT_EQ(gpus[0].memory_limit_bytes, 1000u) << "all that there is";
  tenant.gpus[0].index = 16;
  EXPECT_THAT(pod_gpus_of(tenant), IsEmpty()) << "it has no place";
}

class PodFilesTest : public ::testing::Test {
 protected:
  PodFilesTest() { options_.base_path = scratch_.path("shm"); }
  ~PodFilesTest() override {
    if (service_) service_->stop();
    if (child_ > 0) {
      ::kill(child_, SIGKILL);
      ::waitpid(child_, nullptr, 0);
    }
  }
  void begin() {
    options_.pods = {{"ml", "train-0", "train", user_}};
    service_ = start_pod_files(control_, options_, [this](const std::string& line) {
      const std::lock_guard lock(mutex_);
      lines_.push_back(line);
    });
  }
  void end() {
    service_->stop();
    service_.reset();
  }
  std::vector<std::string> lines() {
    const std::lock_guard lock(mutex_);
    return lines_;
  }
  // Makes it the daemon's present moment.
  void show(std::vector<TenantState> tenants, std::vector<ProcessState> processes = {},
            std::shared_ptr<const BusyWindows> windows = nullptr) {
    NodeState state;
    state.sequence = ++sequence_;
    state.monotonic_ns = platform::monotonic_ns();
    state.segments_read_ns = 1;
    state.tenants = std::move(tenants);
    state.processes = std::move(processes);
    GpuState gpu;
    gpu.uuid = kPodGpu;
    gpu.index = 3;
    gpu.busy_windows = std::move(windows);
    state.gpus.push_back(gpu);
    control_.set(std::move(state));
  }
  // A process that lives until the test ends.
  pid_t child() {
    if (child_ == 0) {
      child_ = ::fork();
      if (child_ == 0) {
        ::pause();
        ::_exit(0);
      }
    }
    return child_;
  }
  ProcessState in_tenant(LimiterPresence limiter, std::uint64_t charged, std::uint64_t driver) {
    ProcessState process;
    process.tenant = "train";
    process.limiter = limiter;
    process.host_pid = child();
    process.start_time_ticks = platform::start_time_ticks(child());
    process.owner = geteuid();
    process.gpus = {{kPodGpu, charged, driver, std::nullopt}};
    return process;
  }
  std::string file() const { return options_.base_path + "/ml/train-0/shm"; }
  std::optional<PodReading> reading() const {
    std::string why;
    bool missing = false;
    return read_pod_file(file(), static_cast<std::uint64_t>(::time(nullptr)), why, missing);
  }
  template <class Condition>
  static bool becomes(Condition&& condition) {
    for (int tries = 0; tries < 6000; ++tries) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }
  bool shows(std::uint32_t percent) const {
    const auto now = reading();
    return now && now->devices.size() == 1 && now->devices[0].up_limit_percent == percent;
  }

  Scratch scratch_;
  PodFilesOptions options_;
  std::optional<uid_t> user_;
  QuietControl control_{NodeState()};
  std::unique_ptr<Service> service_;
  std::uint64_t sequence_ = 0;
  pid_t child_ = 0;
  std::mutex mutex_;
  std::vector<std::string> lines_;
};

TEST_F(PodFilesTest, AreKeptWhileTheirTenantIsThere) {
  begin();
  show({});
  show({tenant_with(30)});
  ASSERT_TRUE(becomes([&] { return shows(30); }));
  EXPECT_EQ(reading()->health, PodHealth::healthy);
  EXPECT_THAT(reading()->faults, IsEmpty());
  struct stat facts {};
  ASSERT_EQ(::stat(file().c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777, 0600u);
  const ino_t inode = facts.st_ino;
  show({tenant_with(55)});
  ASSERT_TRUE(becomes([&] { return shows(55); }));
  ASSERT_EQ(::stat(file().c_str(), &facts), 0);
  EXPECT_EQ(facts.st_ino, inode) << "in place";
  show({});
  EXPECT_TRUE(becomes([&] { return ::access(file().c_str(), F_OK) != 0; }));
  EXPECT_EQ(::access((options_.base_path + "/ml/train-0").c_str(), F_OK), 0)
      << "a container may have the folder mounted";
  show({tenant_with(20)});
  EXPECT_TRUE(becomes([&] { return shows(20); })) << "made again";
  EXPECT_THAT(lines(), IsEmpty());
}

TEST_F(PodFilesTest, HoldOnToWhoLivesLongerThanTheTenant) {
  begin();
  show({tenant_with(30)}, {in_tenant(LimiterPresence::predecessor, 0, 0)});
  ASSERT_TRUE(becomes([&] { return shows(30) && !reading()->pids.empty(); }));
  show({});
  const std::uint64_t beat = reading()->last_heartbeat_s;
  ASSERT_TRUE(becomes([&] { return reading() && reading()->last_heartbeat_s > beat + 1; }))
      << "its limits hold";
  ::kill(child_, SIGKILL);
  ::waitpid(child_, nullptr, 0);
  child_ = 0;
  show({});
  EXPECT_TRUE(becomes([&] { return ::access(file().c_str(), F_OK) != 0; }));
}

TEST_F(PodFilesTest, SayWhatTheirProcessesHold) {
  begin();
  show({tenant_with(30)}, {in_tenant(LimiterPresence::predecessor, 0, 123)});
  EXPECT_TRUE(becomes([&] { return reading() && reading()->devices[0].memory_used_bytes == 123; }))
      << "by the driver";
  EXPECT_TRUE(becomes([&] { return reading()->pids == std::vector<std::int32_t>{child()}; }));
  show({tenant_with(30)}, {in_tenant(LimiterPresence::present, 77, 123)});
  EXPECT_TRUE(becomes([&] { return reading()->devices[0].memory_used_bytes == 77; }))
      << "by the ledger, where it has our limiter";
  show({tenant_with(30)});
  EXPECT_TRUE(becomes([&] { return reading()->pids.empty(); })) << "who has ended leaves";
}

// Whoever takes tokens and is measured to run nothing finds them cheap; who runs all the time,
// dear.
TEST_F(PodFilesTest, ChargeWhatTheDriverCounts) {
  begin();
  const auto rate_after = [&](double fraction) {
    show({tenant_with(30)}, {in_tenant(LimiterPresence::predecessor, 0, 0)});
    EXPECT_TRUE(becomes([&] { return shows(30); }));
    const int descriptor = ::open(file().c_str(), O_RDWR | O_CLOEXEC);
    const MappedFile mapped(descriptor, pod_file::kFileSize, MappedFile::Access::write);
    auto& layout = *reinterpret_cast<pod_file::V2*>(mapped.base());
    auto windows = std::make_shared<BusyWindows>();
    for (int i = 0; i < 60; ++i) {
      const std::uint64_t from = platform::monotonic_ns();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      layout.devices[3].tokens = 0;
      auto next = std::make_shared<BusyWindows>(*windows);
      next->push_back({from, platform::monotonic_ns(), {{child(), fraction}, {1, 0.1}}});
      windows = next;
      show({tenant_with(30)}, {in_tenant(LimiterPresence::predecessor, 0, 0)}, windows);
    }
    const double rate = layout.devices[3].refill_rate;
    show({});
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    child_ = 0;
    show({});
    EXPECT_TRUE(becomes([&] { return ::access(file().c_str(), F_OK) != 0; }));
    return rate;
  };
  const double idle = rate_after(0), busy = rate_after(0.5);
  EXPECT_GT(idle, busy * 3) << busy;
}

TEST_F(PodFilesTest, AreTheirUsersAlone) {
  if (geteuid() != 0) GTEST_SKIP() << "only root gives files away";
  user_ = 4711;
  begin();
  std::filesystem::create_directories(options_.base_path + "/ml/train-0");
  show({tenant_with(30)});
  ASSERT_TRUE(becomes([&] { return shows(30); }));
  struct stat facts {};
  ASSERT_EQ(::stat(file().c_str(), &facts), 0);
  EXPECT_EQ(facts.st_uid, 4711u);
  EXPECT_EQ(facts.st_mode & 07777, 0600u);
  ProcessState strange = in_tenant(LimiterPresence::predecessor, 0, 0);
  strange.owner = 4712;
  for (int i = 0; i < 5; ++i) show({tenant_with(30)}, {strange});
  ASSERT_TRUE(becomes([&] { return !lines().empty(); }));
  end();
  EXPECT_THAT(lines(), ElementsAre(HasSubstr("runs as user 4712 and can't write it")));
  // One for everybody, of the predecessor's daemon, is taken over and closed to the others.
  ASSERT_EQ(::chmod(file().c_str(), 0666) + ::chown(file().c_str(), 0, 0), 0);
  begin();
  show({tenant_with(30)});
  ASSERT_TRUE(becomes([&] {
    return ::stat(file().c_str(), &facts) == 0 && facts.st_uid == 4711 &&
           (facts.st_mode & 07777) == 0600;
  }));
}

TEST_F(PodFilesTest, WhatFailsIsSaidOnceAndDoneWhenItCanBe) {
  std::filesystem::create_directories(options_.base_path + "/ml/train-0");
  std::ofstream(file()) << "somebody's";
  begin();
  for (int i = 0; i < 20; ++i) show({tenant_with(30)});
  ASSERT_TRUE(becomes([&] { return !lines().empty(); }));
  EXPECT_THAT(lines(), ElementsAre(HasSubstr("is no V2 file")));
  std::filesystem::remove(file());
  ASSERT_TRUE(becomes([&] {
    show({tenant_with(30)});
    return shows(30);
  }));
  EXPECT_THAT(lines(), SizeIs(1));
  // One that leads elsewhere now is made again: who comes later must find it.
  std::filesystem::remove(file());
  ASSERT_TRUE(becomes([&] {
    show({tenant_with(30)});
    return shows(30);
  }));
  EXPECT_THAT(lines(), Contains(HasSubstr("removed or replaced")));
}

}  // namespace
}  // namespace vgpu::hypervisor::testing

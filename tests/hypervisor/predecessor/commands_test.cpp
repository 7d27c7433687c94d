// SPDX-License-Identifier: Apache-2.0
// hypervisor show-shm and mount-shm, from outside; and what of them is pure.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "mount_shm.h"
#include "pod_keeper.h"
#include "pod_reading.h"
#include "scratch.h"
#include "settings/settings.h"
#include "vgpu/core/hosting.h"
#include "vgpu/platform/clock.h"
#include "vgpu/shm/node.h"
#include "vgpu/shm/tenant.h"

namespace vgpu::hypervisor::testing {
namespace {

using ::testing::HasSubstr;

struct Ran {
  int status = -1;
  std::string text;  // both streams
};
Ran hypervisor(const std::string& arguments, const std::string& environment = "") {
  const std::string command =
      "env " + environment + " " HYPERVISOR " " + arguments + " 2>&1 </dev/null";
  Ran ran;
  FILE* const pipe = ::popen(command.c_str(), "r");
  std::array<char, 4096> part{};
  for (std::size_t n; (n = std::fread(part.data(), 1, part.size(), pipe)) > 0;) {
    ran.text.append(part.data(), n);
  }
  ran.status = WEXITSTATUS(::pclose(pipe));
  return ran;
}

PodKeeper::Now now() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return {static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000,
          static_cast<double>(::time(nullptr))};
}

std::vector<PodGpu> one_gpu() {
  PodGpu gpu;
  gpu.index = 1;
  gpu.uuid = "GPU-11111111-2222-3333-4444-555555555555";
  gpu.limit_percent = 25;
  gpu.memory_limit_bytes = 4ULL << 30;
  return {gpu};
}

TEST(ShowShm, ShowsAHealthyFileAndChangesNothing) {
  const Scratch scratch;
  const std::string path = pod_file_path(scratch.folder(), "ns", "pod");
  PodKeeper keeper(path, {}, {}, one_gpu(), now());
  keeper.step(now());
  ASSERT_EQ(::chmod(path.c_str(), 0400), 0);
  const auto contents = [&] {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  const std::string before = contents();
  const Ran table =
      hypervisor("show-shm --namespace ns --pod-name pod --shm-base-path " + scratch.folder());
  EXPECT_EQ(table.status, 0) << table.text;
  EXPECT_THAT(table.text, HasSubstr("ns/pod: V2, healthy"));
  EXPECT_THAT(table.text, HasSubstr("25%"));
  const Ran json = hypervisor("show-shm --namespace ns --pod-name pod --json",
                              "SHM_BASE_PATH=" + scratch.folder());
  EXPECT_EQ(json.status, 0);
  const auto read = nlohmann::json::parse(json.text);
  EXPECT_EQ(read["health"], "healthy");
  EXPECT_EQ(read["devices"][0]["limit_percent"], 25);
  EXPECT_EQ(read["devices"][0]["memory_limit_bytes"], 4ULL << 30);
  EXPECT_EQ(contents(), before);
}

TEST(ShowShm, ItsExitStatusIsTheHealth) {
  const Scratch scratch;
  const auto status_of = [&](const std::string& pod) {
    return hypervisor("show-shm --namespace ns --pod-name " + pod + " --shm-base-path " +
                      scratch.folder())
        .status;
  };
  EXPECT_EQ(status_of("none"), 4);
  PodKeeper keeper(pod_file_path(scratch.folder(), "ns", "old"), {}, {}, one_gpu(), {0, 1000});
  keeper.step({0, 1000});
  EXPECT_EQ(status_of("old"), 3);
  PodKeeper(pod_file_path(scratch.folder(), "ns", "bad"), {}, {}, one_gpu(), now());
  std::ofstream(pod_file_path(scratch.folder(), "ns", "bad")) << "short";
  EXPECT_EQ(status_of("bad"), 5);
  EXPECT_EQ(status_of("../bad"), 2);
  EXPECT_EQ(hypervisor("show-shm").status, 2);
  EXPECT_EQ(hypervisor("show-shm --pod-name x").status, 2);
  EXPECT_EQ(hypervisor("show-shm x --pod-name x --namespace y").status, 2);
  EXPECT_EQ(hypervisor("show-shm nobody", "VGPU_STATE_DIR=" + scratch.folder()).status, 4);
}

class ShowTenant : public ::testing::Test {
 protected:
  static shm::StateDir directory(const std::string& path, std::int64_t owner = -1) {
    shm::StateDir dir;
    dir.path = FixedString<255>(path);
    dir.owner = owner;
    return dir;
  }
  static shm::TenantSpec spec(const std::string& id, const std::string& name) {
    shm::TenantSpec spec;
    spec.id = FixedString<shm::kMaxName>(id);
    spec.name = FixedString<shm::kMaxName>(name);
    shm::TenantGpu gpu;
    gpu.uuid = *GpuUuid::parse(one_gpu()[0].uuid);
    gpu.nvml_index = 1;
    gpu.total_bytes = 8ULL << 30;
    gpu.quota.memory_limit_bytes = 4ULL << 30;
    gpu.quota.compute_share_percent = 25;
    spec.gpus.push_back(gpu);
    return spec;
  }
  shm::Tenant made(const std::string& id, const std::string& name) const {
    shm::Tenant tenant;
    EXPECT_EQ(shm::Tenant::create(directory(scratch_.folder()), spec(id, name), tenant),
              shm::Status::ok);
    return tenant;
  }
  Ran show(const std::string& arguments) const {
    return hypervisor("show-shm " + arguments, "VGPU_STATE_DIR=" + scratch_.folder());
  }
  std::string file(const std::string& id) const { return scratch_.path(id + ".tenant"); }
  static std::string contents(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }
  static void write_at(const std::string& path, std::streamoff at, const std::string& bytes) {
    std::fstream out(path, std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(at);
    out << bytes;
  }

  const Scratch scratch_;
};

TEST_F(ShowTenant, ChangesNothing) {
  const shm::Tenant tenant = made("a-1", "a");
  // One that ends without giving its slot back.
  const pid_t child = fork();
  if (child == 0) {
    shm::Tenant own;
    const bool is_in =
        shm::Tenant::open(directory(scratch_.folder()), "a-1", own) == shm::Status::ok &&
        own.reserve(0, 1 << 20) == shm::Status::ok;
    _exit(is_in ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  ASSERT_EQ(::chmod(file("a-1").c_str(), 0400), 0);
  const std::string before = contents(file("a-1"));
  for (int i = 0; i < 2; ++i) {
    const Ran ran = show("a --json");
    ASSERT_EQ(ran.status, 0) << ran.text;
    const auto read = nlohmann::json::parse(ran.text);
    EXPECT_EQ(read["health"], "healthy");
    EXPECT_EQ(read["gone_processes"], 1);
    EXPECT_TRUE(read["pids"].empty());
    EXPECT_EQ(read["gpus"][0]["memory_limit_bytes"], 4ULL << 30);
    EXPECT_EQ(read["gpus"][0]["memory_used_bytes"], 1 << 20) << "until somebody reaps it";
    EXPECT_EQ(read["gpus"][0]["share_percent"], 25);
    EXPECT_TRUE(contents(file("a-1")) == before);
  }
  EXPECT_THAT(show("a-").text, HasSubstr("tenant a (a-1): healthy, 0 processes"));
  const std::string none = scratch_.path("none");
  EXPECT_EQ(hypervisor("show-shm a", "VGPU_STATE_DIR=" + none).status, 4);
  EXPECT_NE(::access(none.c_str(), F_OK), 0) << "nothing is made";
}

TEST_F(ShowTenant, WhatIsDamagedHasItsStatus) {
  constexpr std::streamoff kHeader = 4096, kTerms = kHeader + 40;
  for (const char* id : {"magic", "short", "terms", "node"}) made(id, id);
  EXPECT_EQ(show("terms").status, 0);
  write_at(file("magic"), 0, "garbage!");
  ASSERT_EQ(::truncate(file("short").c_str(), 100), 0);
  write_at(file("terms"), kTerms, "\xff");
  for (const char* id : {"magic", "short", "terms"}) EXPECT_EQ(show(id).status, 5) << id;
  EXPECT_THAT(show("magic").text, HasSubstr("tenant magic: damaged"));
  EXPECT_THAT(show("terms").text, HasSubstr("damaged: GPU 1: its quota can't be true"));
  EXPECT_EQ(show("none").status, 4);
  std::ofstream(scratch_.path("node.seats")) << "short";
  const Ran ran = show("node --json");
  EXPECT_EQ(ran.status, 5);
  EXPECT_EQ(nlohmann::json::parse(ran.text)["health"], "damaged");
}

TEST_F(ShowTenant, WhoWaitsForAHostThatIsGoneIsUnhealthy) {
  made("a-1", "a");
  shm::Node node;
  ASSERT_EQ(shm::Node::open(directory(scratch_.folder()), node), shm::Status::ok);
  const std::uint64_t begin = platform::monotonic_ns();
  std::uint32_t seat = 0;
  ASSERT_EQ(node.take_seat(spec("a", "a").gpus[0].uuid, "a-1", begin, seat), shm::Status::ok);
  EXPECT_EQ(show("a").status, 0) << "nothing waits";
  shm::SeatReport report;
  report.want_since_ns = 1;  // since the machine started
  shm::Seat(node.seat(seat)).report(report);
  const Ran nobody = show("a");
  EXPECT_EQ(nobody.status, 3);
  EXPECT_THAT(nobody.text, HasSubstr("unhealthy: a launch waits"));
  EXPECT_THAT(nobody.text, HasSubstr("nobody hosts the arbiter"));
  node.host().store(core::Hosting{1, 2'000'000}.pack());
  EXPECT_THAT(show("a").text, HasSubstr("the arbiter's host is"));
  node.host().store(core::Hosting{1, begin + 3600 * 1'000'000'000ULL}.pack());
  EXPECT_EQ(show("a").status, 0) << "it waits for its turn";
  EXPECT_EQ(nlohmann::json::parse(show("a --json").text)["host_late_ms"], 0);
}

TEST_F(ShowTenant, IsFoundInTheDirectoryThatIsNamed) {
  const shm::Tenant tenant = made("a-1", "a");
  const std::string elsewhere = "VGPU_STATE_DIR=" + scratch_.path("none");
  EXPECT_EQ(hypervisor("show-shm a --state-dir " + scratch_.folder(), elsewhere).status, 0);
  EXPECT_EQ(hypervisor("show-shm a --state-dir " + scratch_.path("none"), elsewhere).status, 1);
  EXPECT_EQ(hypervisor("show-shm --state-dir " + scratch_.folder(), elsewhere).status, 2);
}

TEST_F(ShowTenant, RootSeesThoseOfOtherUsers) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can";
  constexpr uid_t kAnna = 4001, kBert = 4002;
  for (const uid_t user : {kAnna, kBert}) {
    const std::string path = scratch_.path("vgpu-" + std::to_string(user));
    ASSERT_EQ(::mkdir(path.c_str(), 0700), 0);
    ASSERT_EQ(::chown(path.c_str(), user, user), 0);
    shm::Tenant tenant;
    ASSERT_EQ(shm::Tenant::create(directory(path, user), spec("t-1", "t"), tenant),
              shm::Status::ok);
  }
  const std::string environment = "VGPU_STATE_DIR=" + scratch_.path("own") +
                                  " VGPU_HYPERVISOR_TENANTS_DIRECTORIES='" + scratch_.folder() +
                                  "/vgpu-*'";
  const Ran anna = hypervisor("show-shm t@4001 --json", environment);
  ASSERT_EQ(anna.status, 0) << anna.text;
  EXPECT_EQ(nlohmann::json::parse(anna.text)["user"], kAnna);
  EXPECT_EQ(hypervisor("show-shm t-1@4002", environment).status, 0);
  const Ran both = hypervisor("show-shm t", environment);
  EXPECT_EQ(both.status, 2);
  EXPECT_THAT(both.text, HasSubstr("2 tenants are called \"t\""));
}

TEST(ShmCommands, HaveEveryFlagOfThePredecessors) {
  const std::string show = hypervisor("show-shm --help").text;
  const std::string mount = hypervisor("mount-shm --help").text;
  int rows = 0;
  for (const settings::Foreign& row : settings::foreign()) {
    const bool is_shows = row.what == settings::ForeignWhat::show_shm_flag;
    if (!is_shows && row.what != settings::ForeignWhat::mount_shm_flag) continue;
    ++rows;
    EXPECT_THAT(is_shows ? show : mount, HasSubstr("  " + std::string(row.name) + " "));
  }
  EXPECT_EQ(rows, 6);
}

TEST(MountShm, KnowsWhatIsMounted) {
  constexpr const char* kMounts =
      "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
      "30 22 0:26 / /run/a\\040b rw,nosuid shared:5 - tmpfs tmpfs rw,size=1024k\n"
      "31 22 0:27 / /run/x rw master:1 - xfs /dev/b rw\n"
      "32 22 0:28 / /run/x rw - tmpfs tmpfs rw\n";
  EXPECT_EQ(mounted_there(kMounts, "/run/a b"), "tmpfs");
  EXPECT_EQ(mounted_there(kMounts, "/run/x"), "tmpfs") << "the last one covers the others";
  EXPECT_EQ(mounted_there(kMounts, "/run"), std::nullopt);
  EXPECT_TRUE(mounting_for(kMounts, "/run/other").must_mount);
  EXPECT_FALSE(mounting_for(kMounts, "/run/x").must_mount);
  EXPECT_THAT(mounting_for(kMounts, "/").refusal, HasSubstr("ext4"));
  for (const char* odd : {"", "\n\n", "1 2", "1 2 3 4 /p", "1 2 3 4 /p -", "1 2 3 4 /p \\04"}) {
    EXPECT_EQ(mounted_there(odd, "/p"), std::nullopt) << odd;
  }
}

TEST(MountShm, MountsOnceOrSaysWhatItNeeds) {
  const Scratch scratch;
  const std::string place = scratch.path("shm");
  const Ran first = hypervisor("mount-shm --size 1 --mount-point " + place);
  if (first.status != 0) {
    EXPECT_EQ(first.status, 1);
    EXPECT_THAT(first.text, HasSubstr("CAP_SYS_ADMIN"));
    return;
  }
  EXPECT_THAT(first.text, HasSubstr("mounted a tmpfs of 1 MiB"));
  EXPECT_EQ(::chmod(place.c_str(), 0777), 0);
  const Ran second = hypervisor("mount-shm --size-mb 1 --mount-point " + place + "/");
  EXPECT_EQ(second.status, 0);
  EXPECT_THAT(second.text, HasSubstr("there already"));
  EXPECT_THAT(second.text, HasSubstr("mode 0777 changed to 0755"));
  struct stat facts {};
  EXPECT_EQ(::stat(place.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777, 0755U);
  EXPECT_EQ(::umount(place.c_str()), 0);
}

TEST(MountShm, RefusesWhatItCannotMean) {
  EXPECT_EQ(hypervisor("mount-shm --mount-point relative").status, 2);
  EXPECT_EQ(hypervisor("mount-shm --size 0").status, 2);
  for (const std::string flag : {"--size", "--size-mb"}) {
    const Ran many = hypervisor("mount-shm " + flag + " many");
    EXPECT_EQ(many.status, 2);
    EXPECT_THAT(many.text, HasSubstr(flag + ":"));
  }
  EXPECT_EQ(hypervisor("mount-shm --size 1 --size-mb 2").status, 2);
}

}  // namespace
}  // namespace vgpu::hypervisor::testing

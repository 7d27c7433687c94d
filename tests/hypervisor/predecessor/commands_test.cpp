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
#include "settings.h"

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

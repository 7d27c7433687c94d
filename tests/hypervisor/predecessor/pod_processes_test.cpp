// SPDX-License-Identifier: Apache-2.0
// Which process of the node it is that a pod's token speaks of. The kernel's word is a folder made
// by hand; the processes are real.
#include "pod_processes.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "scratch.h"

namespace vgpu::hypervisor::testing {
namespace {

using ::testing::HasSubstr;

constexpr const char* kUid = "0a1b2c3d-1111-2222-3333-444455556666";
constexpr const char* kOther = "ffffffff-1111-2222-3333-444455556666";

std::string cgroup_of(const std::string& uid, const std::string& container = "c1") {
  return fmt::format("0::/kubepods/burstable/pod{}/{}\n", uid, container);
}

TEST(PodControlGroups, NameTheirPodAsEitherDriverWritesIt) {
  EXPECT_TRUE(is_in_pod(cgroup_of(kUid), kUid));
  EXPECT_TRUE(
      is_in_pod("12:cpu:/\n3:memory:/kubepods/pod0a1b2c3d-1111-2222-3333-444455556666\n", kUid));
  EXPECT_TRUE(
      is_in_pod("0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-"
                "pod0a1b2c3d_1111_2222_3333_444455556666.slice/cri-containerd-1.scope\n",
                kUid));
  EXPECT_TRUE(is_in_pod("0::/../../pod0a1b2c3d-1111-2222-3333-444455556666/c\n", kUid));
}

TEST(PodControlGroups, OfOthersAreNot) {
  EXPECT_FALSE(is_in_pod(cgroup_of(kOther), kUid));
  EXPECT_FALSE(is_in_pod("", kUid));
  EXPECT_FALSE(is_in_pod(cgroup_of(kUid), "")) << "no uid is nobody's";
  EXPECT_FALSE(is_in_pod("0::/pod1/x\n", "1")) << "too short to tell";
  EXPECT_FALSE(is_in_pod(fmt::format("0::/user.slice/{}\n", kUid), kUid)) << "not a pod's";
  EXPECT_FALSE(is_in_pod(fmt::format("0::/tripod{}/c\n", kUid), kUid));
  EXPECT_FALSE(is_in_pod(fmt::format("0::/pod{}0/c\n", kUid), kUid)) << "longer";
  EXPECT_FALSE(is_in_pod(fmt::format("name=pod{}", kUid), kUid)) << "no path";
}

class PodProcessesTest : public ::testing::Test {
 protected:
  ~PodProcessesTest() override {
    while (!started_.empty()) end(started_.back());
  }
  // A process that waits to be ended, and that is in the pod by the kernel's word.
  pid_t start(const std::string& cgroup, int own_pid) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::pause();
      ::_exit(0);
    }
    started_.push_back(pid);
    const std::string folder = scratch_.path(fmt::format("proc/{}", pid));
    std::filesystem::create_directories(folder);
    std::ofstream(folder + "/status")
        << "Name:\tx\nNSpid:\t" << pid << "\t" << own_pid << "\nA:\t1\n";
    std::ofstream(folder + "/cgroup") << cgroup;
    return pid;
  }
  void end(pid_t pid) {
    if (::kill(pid, SIGKILL) == 0) ::waitpid(pid, nullptr, 0);
    std::erase(started_, pid);
  }
  static PodProcessRequest ask(int own_pid, const char* uid = kUid) {
    return {"ml", "train-0", uid, own_pid};
  }
  static pid_t pid_of(const std::variant<PodProcess, std::string>& result) {
    const auto* process = std::get_if<PodProcess>(&result);
    return process == nullptr ? 0 : process->pid;
  }
  static std::string why(const std::variant<PodProcess, std::string>& result) {
    const auto* text = std::get_if<std::string>(&result);
    return text == nullptr ? "" : *text;
  }

  Scratch scratch_;
  std::vector<pid_t> started_;
};

TEST_F(PodProcessesTest, IsTheOneOfThatPidInThatPod) {
  start(cgroup_of(kOther), 7);
  start(cgroup_of(kUid), 8);
  const pid_t meant = start(cgroup_of(kUid), 7);
  PodProcesses processes(scratch_.path("list"), scratch_.path("proc"));
  EXPECT_EQ(pid_of(processes.enlist(ask(7))), meant);
  EXPECT_EQ(pid_of(processes.enlist(ask(7))), meant) << "as often as it asks";
  EXPECT_EQ(processes.living().size(), 1u);
  EXPECT_THAT(why(processes.enlist(ask(9))), HasSubstr("no process of the pod has the pid 9"));
  end(meant);
  EXPECT_TRUE(processes.living().empty());
  EXPECT_THAT(why(processes.enlist(ask(7))), HasSubstr("no process")) << "it has ended";
}

TEST_F(PodProcessesTest, OfTwoContainersIsTheOneThatHasNotAskedYet) {
  PodProcesses processes(scratch_.path("list"), scratch_.path("proc"));
  const pid_t first = start(cgroup_of(kUid, "c1"), 1);
  EXPECT_EQ(pid_of(processes.enlist(ask(1))), first);
  const pid_t second = start(cgroup_of(kUid, "c2"), 1);
  EXPECT_EQ(pid_of(processes.enlist(ask(1))), second);
  start(cgroup_of(kUid, "c3"), 1);
  start(cgroup_of(kUid, "c4"), 1);
  EXPECT_THAT(why(processes.enlist(ask(1))), HasSubstr("several processes")) << "never a guess";
}

TEST_F(PodProcessesTest, AreKnownToTheNextDaemonWhileTheyAreTheSame) {
  const pid_t stays = start(cgroup_of(kUid), 7), moves = start(cgroup_of(kUid), 8),
              ends = start(cgroup_of(kUid), 9);
  {
    PodProcesses processes(scratch_.path("list"), scratch_.path("proc"));
    for (const int own_pid : {7, 8, 9}) EXPECT_NE(pid_of(processes.enlist(ask(own_pid))), 0);
  }
  end(ends);
  std::ofstream(scratch_.path(fmt::format("proc/{}/cgroup", moves))) << cgroup_of(kOther);
  std::ofstream(scratch_.path("list"), std::ios::app)
      << "1 1 1 " << kUid << " ml train-0\nnonsense\n";
  PodProcesses processes(scratch_.path("list"), scratch_.path("proc"));
  const auto living = processes.living();
  ASSERT_EQ(living.size(), 1u);
  EXPECT_EQ(living[0].pid, stays);
  EXPECT_EQ(living[0].pod, "train-0");
}

}  // namespace
}  // namespace vgpu::hypervisor::testing

// SPDX-License-Identifier: Apache-2.0
// vgpu set: what is changed and said, and each refusal, after which all is as it was.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "tool.h"
#include "vgpu/shm/node.h"

namespace vgpu::cli_test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

class SetTest : public ToolTest {
 protected:
  // On the H200, which is GPU 1 for NVML and first for CUDA.
  Running tenant(const std::string& name, std::vector<std::string> options,
                 const std::vector<std::string>& words = {"alloc=1024", "hold"}) {
    options.insert(options.begin(), {"run", "-q", "--name", name});
    options.insert(options.end(), {"--", CLIENT});
    options.insert(options.end(), words.begin(), words.end());
    Running running = start(options);
    EXPECT_TRUE(running.wait_for("holding"));
    return running;
  }
  json gpu_of(const std::string& name, std::size_t gpu) {
    const json all = json::parse(vgpu({"ls", "--json"}).out, nullptr, false);
    for (const auto& tenant : all["tenants"]) {
      if (tenant["name"] == name) return tenant["gpus"][gpu];
    }
    return {};
  }
  Result refused(const std::vector<std::string>& more, const std::string& code) {
    std::vector<std::string> words{"set", "train"};
    words.insert(words.end(), more.begin(), more.end());
    const json before = gpu_of("train", 1);
    const Result result = vgpu(words);
    EXPECT_NE(result.exit_code, 0) << code;
    EXPECT_THAT(result.err, HasSubstr(code));
    EXPECT_EQ(gpu_of("train", 1), before) << "a refusal changes nothing";
    return result;
  }
};

TEST_F(SetTest, ChangesWhatIsNamedAndNothingElse) {
  auto running = tenant("train", {"--memory", "4GiB", "--compute", "30", "--compute-limit", "60"});
  const Result result = vgpu({"set", "tra", "--compute", "1=50", "--priority", "high"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out,
            "train GPU 0: share 30 %, limit 60 %, elastic, priority normal -> "
            "share 30 %, limit 60 %, elastic, priority high\n"
            "train GPU 1: share 30 %, limit 60 %, elastic, priority normal -> "
            "share 50 %, limit 60 %, elastic, priority high\n");
  const json one = gpu_of("train", 1);
  EXPECT_EQ(one["compute"]["share_percent"], 50);
  EXPECT_EQ(one["compute"]["limit_percent"], 60);
  EXPECT_EQ(one["compute"]["priority"], "high");
  EXPECT_EQ(one["memory"]["limit_bytes"], 4 * kGiB);
  EXPECT_EQ(gpu_of("train", 0)["compute"]["share_percent"], 30);
}

TEST_F(SetTest, HoldsAMemoryLimitToWhatTheGpuHas) {
  auto running = tenant("train", {"--gpu", "1", "--memory", "4GiB"});
  const Result result = vgpu({"set", "train", "--memory", "900GiB"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(gpu_of("train", 0)["memory"]["limit_bytes"], std::uint64_t{143'771} << 20);
}

TEST_F(SetTest, MakesTheLimitFollowAFixedShare) {
  auto running = tenant("train", {"--compute", "30", "--compute-limit", "60"});
  EXPECT_EQ(vgpu({"set", "train", "--policy", "fixed"}).exit_code, 0);
  EXPECT_EQ(gpu_of("train", 0)["compute"]["limit_percent"], 30);
  EXPECT_EQ(vgpu({"set", "train", "--compute", "45"}).exit_code, 0);
  EXPECT_EQ(gpu_of("train", 0)["compute"]["limit_percent"], 45);
  EXPECT_EQ(vgpu({"set", "train", "--policy", "elastic"}).exit_code, 0);
  EXPECT_EQ(gpu_of("train", 0)["compute"]["limit_percent"], nullptr);
  EXPECT_EQ(vgpu({"set", "train", "--compute", "none"}).exit_code, 0);
  EXPECT_EQ(gpu_of("train", 0)["compute"]["share_percent"], nullptr);
}

TEST_F(SetTest, SaysBeforeAndAfterToScripts) {
  auto running = tenant("train", {"--memory", "4GiB", "--gpu", "1"});
  const Result result = vgpu({"set", "train", "--memory", "8GiB", "--json"});
  const json said = json::parse(result.out, nullptr, false);
  EXPECT_EQ(said["tenant"]["name"], "train");
  ASSERT_EQ(said["gpus"].size(), 1U);
  EXPECT_EQ(said["gpus"][0]["index"], 1);
  EXPECT_EQ(said["gpus"][0]["before"]["memory_limit_bytes"], 4 * kGiB);
  EXPECT_EQ(said["gpus"][0]["after"]["memory_limit_bytes"], 8 * kGiB);
  EXPECT_EQ(said["gpus"][0]["after"]["share_percent"], nullptr);
}

TEST_F(SetTest, HoldsTheProgramToTheNewMemoryLimit) {
  auto running = tenant("train", {"--gpu", "1"});
  const std::uint64_t held = gpu_of("train", 0)["memory"]["used_bytes"];
  EXPECT_GE(held, kGiB) << "memory is counted where there was no limit at first";
  EXPECT_EQ(vgpu({"set", "train", "--memory", "2GiB"}).exit_code, 0);
  EXPECT_THAT(vgpu({"exec", "-q", "train", "--", CLIENT, "alloc=1024"}).out,
              Not(HasSubstr("1024 MiB: ok")));
  EXPECT_EQ(vgpu({"set", "train", "--memory", "none"}).exit_code, 0);
  EXPECT_THAT(vgpu({"exec", "-q", "train", "--", CLIENT, "alloc=1024"}).out,
              HasSubstr("1024 MiB: ok"));
}

TEST_F(SetTest, RefusesMemoryBelowWhatIsInUseWithTheFigure) {
  auto running = tenant("train", {"--memory", "4GiB", "--compute", "30"});
  const Result result = refused({"--memory", "1GiB", "--compute", "40"}, "VG1017");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, AllOf(HasSubstr("GPU 1: train holds 1."), HasSubstr("more than 1 GiB"),
                                HasSubstr("--when-free")));
}

TEST_F(SetTest, WaitsForMemoryAndLetsUseOnlyFall) {
  auto big = tenant("train", {"--memory", "8GiB", "--gpu", "1"}, {"alloc=2048", "hold"});
  auto small = start({"exec", "-q", "train", "--", CLIENT, "alloc=1024", "hold"});
  ASSERT_TRUE(small.wait_for("holding"));
  auto waiting = start({"set", "train", "--memory", "3GiB", "--when-free", "--json"});
  // The limit comes down to what is held, so nothing more is had.
  std::uint64_t limit = 8 * kGiB;
  while (limit == 8 * kGiB) limit = gpu_of("train", 0)["memory"]["limit_bytes"];
  EXPECT_GT(limit, 3 * kGiB);
  EXPECT_THAT(vgpu({"exec", "-q", "train", "--", CLIENT, "alloc=512"}).out,
              Not(HasSubstr("512 MiB: ok")));
  EXPECT_EQ(small.finish().exit_code, 0);
  const Result done = waiting.finish();
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_THAT(done.err, AllOf(HasSubstr("train holds"), HasSubstr("waiting for 3 GiB or less")));
  EXPECT_EQ(gpu_of("train", 0)["memory"]["limit_bytes"], 3 * kGiB);
}

TEST_F(SetTest, PutsAllBackWhenAWaitIsInterrupted) {
  auto running = tenant("train", {"--memory", "8GiB", "--gpu", "1", "--compute", "30"});
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    auto waiting = start({"set", "train", "--memory", "1GiB", "--compute", "50", "--when-free"});
    while (gpu_of("train", 0)["memory"]["limit_bytes"] == 8 * kGiB) {
    }
    waiting.send(signal);
    EXPECT_EQ(waiting.finish().exit_code, 128 + signal);
    EXPECT_EQ(gpu_of("train", 0)["memory"]["limit_bytes"], 8 * kGiB);
    EXPECT_EQ(gpu_of("train", 0)["compute"]["share_percent"], 30);
  }
}

TEST_F(SetTest, EndsItsWaitWithTheTenant) {
  auto running = tenant("train", {"--memory", "8GiB", "--gpu", "1"});
  auto waiting = start({"set", "train", "--memory", "1GiB", "--when-free"});
  while (gpu_of("train", 0)["memory"]["limit_bytes"] == 8 * kGiB) {
  }
  EXPECT_EQ(running.finish().exit_code, 0);
  const Result ended = waiting.finish();
  // Its memory goes before it does: either is seen first.
  EXPECT_TRUE(ended.exit_code == 0 || ended.err.find("VG1022") != std::string::npos) << ended.err;
}

TEST_F(SetTest, RefusesASharesSumAboveTheGpuUnlessAskedFor) {
  auto running = tenant("train", {"--compute", "30"});
  auto other = tenant("other", {"--compute", "60"});
  EXPECT_THAT(refused({"--compute", "41"}, "VG1014").err,
              AllOf(HasSubstr("other 60 %"), HasSubstr("40 % are left")));
  EXPECT_EQ(vgpu({"set", "train", "--compute", "40"}).exit_code, 0) << "its own doesn't count";
  EXPECT_EQ(vgpu({"set", "train", "--compute", "90", "--oversubscribe"}).exit_code, 0);
  EXPECT_EQ(vgpu({"set", "train", "--compute", "80"}).exit_code, 0) << "less is never refused";
}

TEST_F(SetTest, AndRunPromiseNoShareWhileAnotherOneDoes) {
  auto running = tenant("train", {"--compute", "30"});
  const int held = open((folder() + "/state").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ASSERT_EQ(flock(held, LOCK_EX | LOCK_NB), 0);
  auto change = start({"set", "train", "--compute", "40"});
  auto fresh = start({"run", "-q", "--compute", "40", "--", "true"});
  const Result changed = change.finish(), started = fresh.finish();
  EXPECT_EQ(changed.exit_code, 1);
  EXPECT_THAT(changed.err, HasSubstr("VG1025"));
  EXPECT_EQ(started.exit_code, 125);
  EXPECT_THAT(started.err, HasSubstr("VG1025"));
  close(held);
  EXPECT_EQ(vgpu({"set", "train", "--compute", "40"}).exit_code, 0);
}

TEST_F(SetTest, RefusesWhatItDoesNotUnderstand) {
  auto running = tenant("train", {"--compute", "30", "--gpu", "1"});
  EXPECT_EQ(vgpu({"set"}).exit_code, 2);
  EXPECT_EQ(vgpu({"set", "train"}).exit_code, 2);
  EXPECT_EQ(vgpu({"set", "train", "--compute", "20", "--when-free"}).exit_code, 2);
  const Result unknown = vgpu({"set", "trian", "--compute", "20"});
  EXPECT_EQ(unknown.exit_code, 1);
  EXPECT_THAT(unknown.err, AllOf(HasSubstr("VG1022"), HasSubstr("vgpu set train")));
  const json before = gpu_of("train", 0);
  const std::vector<std::vector<std::string>> faulty = {
      {"--compute", "0"},        {"--compute", "101"},
      {"--compute-limit", "20"}, {"--policy", "loose"},
      {"--priority", "urgent"},  {"--memory", "1MiB"},
      {"--memory", "4XB"},       {"--memory", "0=4GiB"},
      {"--compute", "7=20"},     {"--compute", "40", "--compute-limit", "20"}};
  for (const auto& words : faulty) {
    std::vector<std::string> all{"set", "train"};
    all.insert(all.end(), words.begin(), words.end());
    const Result result = vgpu(all);
    EXPECT_EQ(result.exit_code, 1) << words[1];
    EXPECT_THAT(result.err, AllOf(HasSubstr("VG1004"), HasSubstr(words[0]))) << words[1];
  }
  EXPECT_THAT(vgpu({"set", "train", "--gpu", "0", "--compute", "20"}).err,
              AllOf(HasSubstr("VG1012"), HasSubstr("none of train's")));
  EXPECT_THAT(vgpu({"set", "train", "--gpu", "9", "--compute", "20"}).err, HasSubstr("VG1012"));
  EXPECT_EQ(gpu_of("train", 0), before);
}

TEST_F(SetTest, RingsForTheArbitersHost) {
  auto running = tenant("train", {"--compute", "30"});
  shm::StateDir dir;
  dir.path.append(folder() + "/state");
  shm::Node node;
  ASSERT_EQ(shm::Node::open(dir, node), shm::Status::ok);
  const std::uint32_t before = node.doorbell().load();
  EXPECT_EQ(vgpu({"set", "train", "--compute", "20"}).exit_code, 0);
  EXPECT_NE(node.doorbell().load(), before);
}

TEST_F(SetTest, IsNotForTheTenantItself) {
  auto running = tenant("train", {"--compute", "30"});
  const Result inside =
      vgpu({"exec", "-q", "train", "--", TOOL, "set", "train", "--compute", "90"});
  EXPECT_EQ(inside.exit_code, 1);
  EXPECT_THAT(inside.err, HasSubstr("VG1007"));
}

}  // namespace
}  // namespace vgpu::cli_test

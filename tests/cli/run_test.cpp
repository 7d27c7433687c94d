// SPDX-License-Identifier: Apache-2.0
// vgpu run and exec as their callers see them: status, signals, environment, refusals, life and end
// of the tenant.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>

#include "tool.h"

namespace vgpu::cli_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

class RunTest : public ToolTest {
 protected:
  Result run(std::vector<std::string> options, const std::vector<std::string>& command) {
    options.insert(options.begin(), "run");
    options.emplace_back("--");
    options.insert(options.end(), command.begin(), command.end());
    return vgpu(options);
  }
  Result shell(const std::string& script) {
    return run({"-q", "--memory", "4GiB"}, {"sh", "-c", script});
  }
  std::size_t tenants() {
    std::size_t count = 0;
    std::error_code none;
    for (const auto& entry : std::filesystem::directory_iterator(folder() + "/state", none)) {
      count += entry.path().extension() == ".tenant" ? 1 : 0;
    }
    return count;
  }
};

TEST_F(RunTest, PassesTheProgramsOutputAndStatusOn) {
  const Result result = shell("echo out; echo err >&2; exit 7");
  EXPECT_EQ(result.exit_code, 7);
  EXPECT_EQ(result.out, "out\n");
  EXPECT_EQ(result.err, "err\n");
}

TEST_F(RunTest, AnswersASignalThatEndedTheProgramWith128AndItsNumber) {
  EXPECT_EQ(shell("kill -TERM $$").exit_code, 128 + SIGTERM);
  EXPECT_EQ(shell("kill -SEGV $$").exit_code, 128 + SIGSEGV);
}

TEST_F(RunTest, HandsSignalsOn) {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) {
    auto running = start(
        {"run", "-q", "--", "sh", "-c",
         "trap 'echo got; exit 5' TERM INT HUP USR1; echo ready; while :; do sleep 0.05; done"});
    ASSERT_TRUE(running.wait_for("ready"));
    running.send(signal);
    const Result result = running.finish();
    EXPECT_EQ(result.exit_code, 5) << signal;
    EXPECT_THAT(result.out, HasSubstr("got"));
  }
}

TEST_F(RunTest, DeliversASignalToTheWholeGroupOnce) {
  auto running = start({"run", "-q", "--", OPENER, "--count-signals"});
  ASSERT_TRUE(running.wait_for("ready"));
  kill(-running.pid(), SIGRTMIN);
  ASSERT_TRUE(running.wait_for("got"));
  running.send(SIGRTMIN + 1);
  EXPECT_THAT(running.finish().out, HasSubstr("count 1\n"));
}

TEST_F(RunTest, KilledItselfTakesTheProgramAlong) {
  auto running = start({"run", "-q", "--", "sh", "-c", "echo $$; exec sleep 1000"});
  ASSERT_TRUE(running.wait_for("\n"));
  running.send(SIGKILL);
  const Result result = running.finish();  // ends only when nobody has the pipe any more
  EXPECT_EQ(result.exit_code, -SIGKILL);
}

TEST_F(RunTest, StopsAndContinuesWithTheProgram) {
  auto running = start({"run", "-q", "--", "sh", "-c", "echo ready; read a; echo done"});
  ASSERT_TRUE(running.wait_for("ready"));
  kill(-running.pid(), SIGTSTP);
  int status = 0;
  ASSERT_EQ(waitpid(running.pid(), &status, WUNTRACED), running.pid());
  EXPECT_TRUE(WIFSTOPPED(status));
  kill(-running.pid(), SIGCONT);
  running.close_input();
  EXPECT_THAT(running.finish().out, HasSubstr("done"));
}

TEST_F(RunTest, SaysTheQuotaInOneLineUnlessQuiet) {
  const Result loud = run({"--memory", "4GiB", "--compute", "30", "--name", "train"}, {"true"});
  EXPECT_EQ(loud.exit_code, 0);
  EXPECT_EQ(std::count(loud.err.begin(), loud.err.end(), '\n'), 1) << loud.err;
  EXPECT_THAT(loud.err,
              AllOf(StartsWith("vgpu: tenant train: GPU 0 (vgpu simulated A10): 4 GiB of "),
                    HasSubstr("share 30 %, limit none, elastic, priority normal")));
  EXPECT_THAT(loud.out, IsEmpty());
  const Result quiet = run({"--memory", "4GiB", "--compute", "30", "-q"}, {"true"});
  EXPECT_THAT(quiet.err, IsEmpty());
}

TEST_F(RunTest, HoldsALimitToWhatTheGpuHasAndSaysSo) {
  const Result result = run({"--gpu", "0", "--memory", "900GiB"}, {"true"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(
      result.err,
      HasSubstr(
          "note: a memory limit of 900 GiB is more than GPU 0 has; its 22.49 GiB are the limit"));
  EXPECT_THAT(result.err, HasSubstr("): 22.49 GiB of 22.49 GiB"));
  // What a GPU outside the set has doesn't matter.
  EXPECT_THAT(run({"--gpu", "1", "--memory", "40GiB"}, {"true"}).err, Not(HasSubstr("note:")));
}

TEST_F(RunTest, SaysLimitPolicyAndPriorityToo) {
  EXPECT_THAT(run({"--compute", "30", "--compute-limit", "60", "--priority", "high"}, {"true"}).err,
              HasSubstr("share 30 %, limit 60 %, elastic, priority high"));
  EXPECT_THAT(run({"--compute", "30", "--policy", "fixed"}, {"true"}).err,
              HasSubstr("share 30 %, limit 30 %, fixed, priority normal"));
  EXPECT_THAT(run({"--compute-limit", "60"}, {"true"}).err,
              HasSubstr("share none, limit 60 %, elastic"));
  EXPECT_THAT(run({}, {"true"}).err, Not(HasSubstr("share")));
}

TEST_F(RunTest, RefusesSharesThatAddUpToMoreThanTheGpu) {
  auto running = start(
      {"run", "-q", "--name", "train", "--gpu", "0", "--compute", "70", "--", CLIENT, "hold"});
  ASSERT_TRUE(running.wait_for("holding"));
  const Result refused = run({"--compute", "31"}, {"true"});
  EXPECT_EQ(refused.exit_code, 125);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("VG1014"), HasSubstr("GPU 0"), HasSubstr("train 70 %"),
                                 HasSubstr("30 % are left"), HasSubstr("--oversubscribe")));
  EXPECT_EQ(tenants(), 1U) << "a refused tenant isn't made";
  set("VGPU_COMPUTE", "31");
  EXPECT_THAT(run({}, {"true"}).err, HasSubstr("VG1014"));
  unset("VGPU_COMPUTE");
  EXPECT_EQ(run({"--compute", "30"}, {"true"}).exit_code, 0);
  EXPECT_EQ(run({"--compute", "31", "--gpu", "1"}, {"true"}).exit_code, 0) << "another GPU";
  EXPECT_EQ(run({"--compute", "31", "--oversubscribe"}, {"true"}).exit_code, 0);
}

TEST_F(RunTest, StartsOnlyWithASureShareWhereThatIsRequired) {
  EXPECT_EQ(run({"--compute", "30", "--require-share"}, {"true"}).exit_code, 0);
  const Result without = run({"--memory", "4GiB", "--require-share"}, {"true"});
  EXPECT_EQ(without.exit_code, 125);
  EXPECT_THAT(without.err, HasSubstr("VG1016"));
  EXPECT_THAT(run({"--compute", "30", "--require-share", "--oversubscribe"}, {"true"}).err,
              HasSubstr("VG1016"));
  auto running = start({"run", "-q", "--compute", "80", "--", CLIENT, "hold"});
  ASSERT_TRUE(running.wait_for("holding"));
  const Result too_much = run({"--compute", "30", "--require-share"}, {"true"});
  EXPECT_EQ(too_much.exit_code, 125);
  EXPECT_THAT(too_much.err, AllOf(HasSubstr("VG1014"), Not(HasSubstr("--oversubscribe"))));
}

TEST_F(RunTest, OfManyAtOnceLetsInNoMoreThanThereIs) {
  std::vector<Running> starting;
  starting.reserve(6);
  for (int i = 0; i < 6; ++i)
    starting.push_back(start({"run", "-q", "--compute", "40", "--", CLIENT, "hold"}));
  int started = 0;
  for (auto& one : starting) started += one.wait_for("holding") ? 1 : 0;
  EXPECT_EQ(started, 2);
}

TEST_F(RunTest, KeepsTheUsersPreload) {
  set("LD_PRELOAD", "/nonexistent/mine.so");
  const Result result = shell("echo $LD_PRELOAD");
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("libcuda_limiter.so"), HasSubstr(":/nonexistent/mine.so\n")));
}

TEST_F(RunTest, MakesTheProgramATenantsProcess) {
  const Result result = shell("echo $VGPU_TENANT $VGPU_ACK ${CUDA_VISIBLE_DEVICES-unset}");
  EXPECT_THAT(result.out, AllOf(StartsWith("sh-"), HasSubstr(" 1 unset\n")));
}

TEST_F(RunTest, SetsTheChosenGpusAsFullUuidsInCudaOrder) {
  const Result both = run({"-q", "--gpu", "0,1"}, {"sh", "-c", "echo $CUDA_VISIBLE_DEVICES"});
  const Result first = run({"-q", "--gpu", "0"}, {"sh", "-c", "echo $CUDA_VISIBLE_DEVICES"});
  const Result second = run({"-q", "--gpu", "1"}, {"sh", "-c", "echo $CUDA_VISIBLE_DEVICES"});
  ASSERT_THAT(first.out, testing::MatchesRegex("GPU-[0-9a-f-]{36}\n"));
  // The A10 is first for NVML, the H200 for CUDA.
  EXPECT_EQ(both.out, second.out.substr(0, 40) + "," + first.out);
  const Result by_prefix =
      run({"-q", "--gpu", first.out.substr(0, 9)}, {"sh", "-c", "echo $CUDA_VISIBLE_DEVICES"});
  EXPECT_EQ(by_prefix.out, first.out);
}

TEST_F(RunTest, LimitsTheProgram) {
  const Result result =
      run({"-q", "--memory", "4GiB"}, {CLIENT, "info", "fill=512", "free", "alloc=1024"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, AllOf(HasSubstr("free of 4096 MiB"),
                                HasSubstr("ok 6 times, then CUDA_ERROR_OUT_OF_MEMORY"),
                                HasSubstr("cuMemAlloc 1024 MiB: ok")))
      << result.out;
}

TEST_F(RunTest, RefusesBadQuotasWithTheFlagThatHoldsThem) {
  for (const auto& [flag, value] :
       std::vector<std::pair<std::string, std::string>>{{"--memory", "4XB"},
                                                        {"--memory", "0"},
                                                        {"--memory", "1MiB"},
                                                        {"--memory", "7=4GiB"},
                                                        {"--memory", "-1"},
                                                        {"--compute", "101"},
                                                        {"--compute", "0"},
                                                        {"--compute-limit", "x"},
                                                        {"--policy", "loose"},
                                                        {"--priority", "urgent"}}) {
    const Result result = run({flag, value}, {"true"});
    EXPECT_EQ(result.exit_code, 125) << flag << " " << value;
    EXPECT_THAT(result.err, AllOf(StartsWith("vgpu: "), HasSubstr(flag), HasSubstr("VG1004")))
        << value;
    EXPECT_EQ(tenants(), 0U);
  }
  EXPECT_THAT(run({"--gpu", "9"}, {"true"}).err, HasSubstr("VG1012"));
  EXPECT_THAT(run({"--gpu", "0,,1"}, {"true"}).err, HasSubstr("VG1011"));
  EXPECT_THAT(run({"--gpu", "GPU-"}, {"true"}).err, HasSubstr("VG1013"));
  EXPECT_THAT(run({"--name", "../x"}, {"true"}).err, HasSubstr("VG1005"));
}

TEST_F(RunTest, RefusesBadVariablesUnderTheirOwnName) {
  set("TENSOR_FUSION_CUDA_MEM_LIMIT", "{");
  const Result result = run({"--memory", "4GiB"}, {"true"});
  EXPECT_EQ(result.exit_code, 125);
  EXPECT_THAT(result.err, AllOf(HasSubstr("TENSOR_FUSION_CUDA_MEM_LIMIT"), HasSubstr("VG1010")));
}

TEST_F(RunTest, PutsFlagsAboveVariables) {
  set("VGPU_MEMORY_LIMIT", "8GiB");
  EXPECT_THAT(run({}, {"true"}).err, HasSubstr("GPU 0 (vgpu simulated A10): 8 GiB"));
  EXPECT_THAT(run({"--memory", "2GiB"}, {"true"}).err, Not(HasSubstr("8 GiB")));
  const Result mixed = run({"--memory", "0=2GiB"}, {"true"});
  EXPECT_THAT(mixed.err, AllOf(HasSubstr("A10): 2 GiB"), HasSubstr("H200): 8 GiB")));
  EXPECT_THAT(run({"--memory", "none"}, {"true"}).err, HasSubstr("no memory limit"));
}

TEST_F(RunTest, TakesVariablesThatSpeakOfGpusOutsideItsSet) {
  set("VGPU_MEMORY_LIMIT", "0=4GiB,1=8GiB");
  const Result result = vgpu({"run", "--gpu", "1", "--", "/bin/true"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("8 GiB of"));
  EXPECT_THAT(result.err, Not(HasSubstr("4 GiB of")));
}

TEST_F(RunTest, RefusesToSwitchHooksOff) {
  for (const auto* name : {"ENABLE_CUDA_HOOKS", "ENABLE_NVML_HOOKS"}) {
    set(name, "false");
    const Result result = run({"--memory", "4GiB"}, {"true"});
    EXPECT_EQ(result.exit_code, 125);
    EXPECT_THAT(result.err, AllOf(HasSubstr("VG1006"), HasSubstr(name)));
    unset(name);
  }
}

TEST_F(RunTest, RefusesATenantInsideATenant) {
  const Result result = shell(std::string(TOOL) + " run --memory 8GiB -- true");
  EXPECT_EQ(result.exit_code, 125);
  EXPECT_THAT(result.err, HasSubstr("VG1007"));
}

TEST_F(RunTest, HasItsOwnStatusForWhatItCanNotStart) {
  EXPECT_EQ(run({}, {"no-such-program"}).exit_code, 127);
  EXPECT_EQ(run({}, {write_file("data", "x", 0644)}).exit_code, 126);
  const Result directory = run({}, {folder()});
  EXPECT_EQ(directory.exit_code, 126);
  EXPECT_THAT(directory.err, AllOf(HasSubstr("a directory"), Not(HasSubstr("chmod"))));
  EXPECT_EQ(run({}, {STATIC_OPENER}).exit_code, 125);
  EXPECT_EQ(vgpu({"run", "--memory", "4GiB"}).exit_code, 125);
}

TEST_F(RunTest, SaysInOneLineWhatIsMissing) {
  unset("VGPU_SIMULATED");
  const Result no_driver = run({"--memory", "4GiB"}, {"true"});
  if (!std::filesystem::exists("/dev/nvidiactl")) {
    EXPECT_EQ(no_driver.exit_code, 125);
    EXPECT_THAT(no_driver.err, HasSubstr("VG1041"));
  }
  EXPECT_THAT(run({"--memory", "4XB"}, {"true"}).err, HasSubstr("VG1004")) << "needs no driver";
  set("VGPU_SIMULATED", "1");
  set("VGPU_LIBRARY", "/nonexistent.so");
  EXPECT_THAT(run({}, {"true"}).err, HasSubstr("VG1031"));
  unset("VGPU_LIBRARY");
  set("VGPU_STATE_DIR", "/proc/nowhere");
  EXPECT_THAT(run({}, {"true"}).err, HasSubstr("VG1021"));
}

TEST_F(RunTest, WorksWithoutAHome) {
  unset("HOME");
  EXPECT_EQ(shell("exit 0").exit_code, 0);
}

TEST_F(RunTest, EndsTheTenantWithTheLastProcess) {
  EXPECT_EQ(shell("ls $VGPU_STATE_DIR/*.tenant | wc -l").out, "1\n");
  EXPECT_EQ(tenants(), 0U);
}

TEST_F(RunTest, ReturnsWithTheProgramAndLeavesWhatItLeftBehindUnderItsTenant) {
  const std::string fifo = folder() + "/fifo";
  const Result result = shell("mkfifo " + fifo + "; (setsid sh -c 'read a < " + fifo +
                              "' >/dev/null 2>&1 </dev/null &) ; exit 4");
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_EQ(tenants(), 1U);
  auto release =
      start({"completion", "bash"});  // any program: the writing side of the fifo is ours
  (void)release.finish();
  FILE* writer = fopen(fifo.c_str(), "w");
  ASSERT_NE(writer, nullptr);
  fputs("go\n", writer);
  fclose(writer);
  for (int i = 0; i < 600 && tenants() != 0; ++i) usleep(50'000);
  EXPECT_EQ(tenants(), 0U);
}

TEST_F(RunTest, DoesNotKeepTheProgramsFilesOpen) {
  // The reader sees the end as soon as the program closes its output, not when the run ends.
  auto running = start({"run", "-q", "--", "sh", "-c", "echo one; exec >&- 2>&-; read a"});
  EXPECT_TRUE(running.wait_for("one"));
  EXPECT_FALSE(running.wait_for("never"));
  EXPECT_EQ(running.finish().exit_code, 1);
}

TEST_F(RunTest, ExecJoinsTheTenant) {
  auto running = start(
      {"run", "-q", "--name", "train", "--memory", "4GiB", "--", CLIENT, "alloc=2048", "hold"});
  ASSERT_TRUE(running.wait_for("holding"));
  const Result joined = vgpu({"exec", "-q", "tra", "--", CLIENT, "fill=512"});
  EXPECT_EQ(joined.exit_code, 0) << joined.err;
  EXPECT_THAT(joined.out, HasSubstr("ok 1 times, then CUDA_ERROR_OUT_OF_MEMORY"));
  const Result unknown = vgpu({"exec", "trian", "--", "true"});
  EXPECT_EQ(unknown.exit_code, 125);
  EXPECT_THAT(unknown.err, AllOf(HasSubstr("VG1022"), HasSubstr("vgpu exec train")));
  EXPECT_THAT(vgpu({"run", "--name", "train", "--", "true"}).err, HasSubstr("VG1024"));
  EXPECT_EQ(running.finish().exit_code, 0);
  EXPECT_EQ(tenants(), 0U);
}

}  // namespace
}  // namespace vgpu::cli_test

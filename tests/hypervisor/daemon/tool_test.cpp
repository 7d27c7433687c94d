// SPDX-License-Identifier: Apache-2.0
// vgpu beside a daemon: what it asks of it, that it says the same as alone, and what becomes of a
// run whose daemon isn't the right one, goes, or doesn't answer.
#include "tool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>

#include "simulated_daemon.h"

namespace vgpu::cli_test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class ToolWithDaemonTest : public ToolTest {
 protected:
  // Until it listens. Its lines are on standard output.
  Running begin_daemon(const std::string& flags = "") {
    Running daemon = start_program(
        {"/bin/sh", "-c",
         std::string("exec ") + DAEMON + " daemon --api-listen-addr none " + flags + " 2>&1"});
    EXPECT_TRUE(daemon.wait_for("listening on"));
    EXPECT_TRUE(daemon.wait_for("driver_found"));
    return daemon;
  }
  static void end(Running& daemon) {
    daemon.send(SIGTERM);
    EXPECT_EQ(daemon.finish().exit_code, 0);
  }
  Running holding(const std::string& name, std::vector<std::string> flags,
                  const std::vector<std::string>& words = {"hold"}) {
    flags.insert(flags.begin(), {"run", "-q", "--name", name});
    flags.insert(flags.end(), {"--", CLIENT});
    flags.insert(flags.end(), words.begin(), words.end());
    Running running = start(flags);
    EXPECT_TRUE(running.wait_for("holding"));
    return running;
  }
  Result run(std::vector<std::string> flags) {
    flags.insert(flags.begin(), "run");
    flags.insert(flags.end(), {"--", "/bin/true"});
    return vgpu(flags);
  }
  json tenant(const std::string& name) {
    const json all = json::parse(vgpu({"ls", "--json"}).out, nullptr, false);
    for (const auto& one : all["tenants"]) {
      if (one["name"] == name) return one;
    }
    return nullptr;
  }
  std::vector<std::string> segments() const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(folder() + "/state")) {
      if (entry.path().extension() == ".tenant") found.push_back(entry.path().filename());
    }
    return found;
  }
  std::string made_by_daemon() const {
    std::ifstream file(folder() + "/state/hypervisor.tenants");
    return {std::istreambuf_iterator<char>(file), {}};
  }
};

TEST_F(ToolWithDaemonTest, ARunIsTheDaemonsToAdmitAndEndsWithItsProgram) {
  auto daemon = begin_daemon();
  auto running = holding("train", {"--gpu", "0", "--memory", "4GiB", "--compute", "30"});
  EXPECT_THAT(made_by_daemon(), AllOf(HasSubstr("train-"), HasSubstr(" run\n")));
  const json seen = tenant("train");
  EXPECT_EQ(seen["gpus"][0]["memory"]["limit_bytes"], 4 * kGiB);
  EXPECT_EQ(seen["gpus"][0]["memory"]["source"], "run");
  EXPECT_EQ(seen["gpus"].size(), 1u);
  EXPECT_EQ(running.finish().exit_code, 0);
  EXPECT_THAT(segments(), IsEmpty()) << "the run's keeper ends it, not the daemon, later";
  EXPECT_TRUE(daemon.wait_for("tenant train ended"));
  end(daemon);
}

TEST_F(ToolWithDaemonTest, SaysWithADaemonWhatItSaysAlone) {
  auto daemon = begin_daemon();
  auto running = holding("train", {"--gpu", "0", "--compute", "70"});
  const std::vector<std::vector<std::string>> commands = {
      {"run", "--gpu", "0", "--name", "b", "--compute", "40", "--", "/bin/true"},
      {"run", "--gpu", "0", "--name", "b", "--compute", "40", "--oversubscribe", "--", "/bin/true"},
      {"run", "--gpu", "0", "--name", "b", "--memory", "900GiB", "--", "/bin/true"},
      {"run", "--gpu", "0", "--name", "train", "--", "/bin/true"},
      {"run", "--gpu", "0", "--name", "b", "--compute", "none", "--", "/bin/sh", "-c", "exit 7"},
      {"run", "--gpus", "3", "--name", "b", "--", "/bin/true"},
      {"set", "train", "--compute", "60"},
      {"set", "train", "--compute", "60", "--json"},
      {"set", "train", "--compute", "101"},
      {"set", "trian", "--compute", "50"},
      {"set", "train", "--compute", "70", "--policy", "fixed"},
      {"ls"},
  };
  set("VGPU_MEMORY_LIMIT", "3GiB");
  for (const auto& command : commands) {
    const Result with = vgpu(command);
    if (command[0] == "set") vgpu({"set", "train", "--compute", "70", "--policy", "elastic"});
    set("VGPU_SOCKET", "none");
    const Result without = vgpu(command);
    if (command[0] == "set") vgpu({"set", "train", "--compute", "70", "--policy", "elastic"});
    unset("VGPU_SOCKET");
    const std::string shown = testing::PrintToString(command);
    EXPECT_EQ(with.exit_code, without.exit_code) << shown;
    EXPECT_EQ(with.out, without.out) << shown;
    if (command.size() < 2 || command[1] != "--gpus") {
      EXPECT_EQ(with.err, without.err) << shown;
    }
  }
  end(daemon);
}

TEST_F(ToolWithDaemonTest, ASourceStaysWhatItWas) {
  auto daemon = begin_daemon();
  set("VGPU_MEMORY_LIMIT", "3GiB");
  auto running = holding("train", {"--gpu", "0", "--compute", "30"});
  EXPECT_EQ(tenant("train")["gpus"][0]["memory"]["source"], "VGPU_*");
  EXPECT_EQ(tenant("train")["gpus"][0]["compute"]["source"], "run");
  running.finish();
  end(daemon);
}

TEST_F(ToolWithDaemonTest, MemoryThatIsPromisedAlreadyIsRefusedWithTheFigure) {
  auto daemon = begin_daemon();
  auto running = holding("train", {"--gpu", "0", "--memory", "16GiB"});
  const Result result = run({"--gpu", "0", "--memory", "8GiB"});
  EXPECT_EQ(result.exit_code, 125);
  EXPECT_THAT(result.err, AllOf(HasSubstr("VG1064"), HasSubstr("6644 MiB would fit")));
  EXPECT_EQ(run({"--gpu", "0", "--memory", "8GiB", "--oversubscribe"}).exit_code, 0);
  running.finish();
  end(daemon);
}

TEST_F(ToolWithDaemonTest, GpusByNumberAreThoseWhereTheQuotaFits) {
  for (const bool alone : {true, false}) {
    std::optional<Running> daemon;
    if (!alone) daemon.emplace(begin_daemon());
    const auto placed = [&](const std::string& memory) {
      const Result result = vgpu({"run", "-q", "--gpus", "1", "--memory", memory, "--", "/bin/sh",
                                  "-c", "nvidia-smi --query-gpu=name --format=csv,noheader"});
      return result.out + result.err;
    };
    EXPECT_THAT(placed("4GiB"), HasSubstr("A10")) << alone;
    EXPECT_THAT(placed("40GiB"), HasSubstr("H200")) << alone;
    auto running = holding("train", {"--gpu", "0", "--memory", "20GiB"});
    EXPECT_THAT(placed("4GiB"), HasSubstr("H200")) << alone;
    running.finish();
    EXPECT_THAT(run({"--gpus", "0"}).err, HasSubstr("no number of GPUs"));
    EXPECT_THAT(run({"--gpus", "1", "--gpu", "0"}).err, HasSubstr("exclude each other"));
    EXPECT_THAT(run({"--gpus", "1", "--compute", "0=30"}).err, HasSubstr("here they differ"));
    if (daemon) end(*daemon);
  }
}

TEST_F(ToolWithDaemonTest, WaitStartsTheProgramWhenThereIsRoom) {
  for (const bool alone : {true, false}) {
    std::optional<Running> daemon;
    if (!alone) daemon.emplace(begin_daemon());
    auto first = holding("first", {"--gpu", "0", "--compute", "80"});
    const Result late = run({"--gpu", "0", "--compute", "50", "--wait=100ms"});
    EXPECT_EQ(late.exit_code, 125);
    EXPECT_THAT(late.err, AllOf(HasSubstr("waiting for room"), HasSubstr("VG1014"))) << alone;
    auto second = start({"run", "--gpu", "0", "--compute", "50", "--wait", "--name", "second", "--",
                         "/bin/sh", "-c", "echo begun; exit 7"});
    if (daemon) {
      EXPECT_TRUE(daemon->wait_for("tenant second of user"));
    }
    EXPECT_EQ(first.finish().exit_code, 0);
    const Result result = second.finish();
    EXPECT_EQ(result.exit_code, 7) << result.err;
    EXPECT_THAT(result.out, HasSubstr("begun"));
    EXPECT_THAT(segments(), IsEmpty());
    if (daemon) end(*daemon);
  }
  EXPECT_THAT(run({"--wait=soon"}).err, HasSubstr("\"soon\" is no time"));
}

TEST_F(ToolWithDaemonTest, WhoGivesUpWaitingIsForgotten) {
  auto daemon = begin_daemon();
  auto first = holding("first", {"--gpu", "0", "--compute", "80"});
  auto second = start({"run", "--gpu", "0", "--compute", "50", "--wait", "--", "/bin/true"});
  EXPECT_TRUE(daemon.wait_for(" queued: "));
  second.send(SIGKILL);
  second.finish();
  EXPECT_TRUE(daemon.wait_for("whoever asked has gone"));
  first.finish();
  EXPECT_EQ(run({"--gpu", "0", "--compute", "100"}).exit_code, 0);
  EXPECT_THAT(segments(), IsEmpty());
  end(daemon);
}

TEST_F(ToolWithDaemonTest, AWaitOutlivesItsDaemonAndIsServedByTheNextOrByNone) {
  for (const int signal : {SIGKILL, SIGTERM}) {
    auto daemon = begin_daemon();
    auto first = holding("first", {"--gpu", "0", "--compute", "80"});
    auto second = start({"run", "--gpu", "0", "--compute", "50", "--wait", "--name", "second", "--",
                         "/bin/sh", "-c", "exit 7"});
    EXPECT_TRUE(daemon.wait_for("tenant second of user"));
    daemon.send(signal);
    daemon.finish();
    std::optional<Running> next;
    if (signal == SIGTERM) {
      next.emplace(begin_daemon());
      EXPECT_TRUE(next->wait_for("tenant second of user"));
    }
    first.finish();
    EXPECT_EQ(second.finish().exit_code, 7);
    EXPECT_THAT(segments(), IsEmpty());
    if (next) end(*next);
  }
}

TEST_F(ToolWithDaemonTest, TheDaemonOfAnotherDirectoryIsNotAsked) {
  auto daemon = begin_daemon("--api-socket " + folder() + "/other.sock");
  set("VGPU_STATE_DIR", folder() + "/own");
  set("VGPU_SOCKET", folder() + "/other.sock");
  const auto made = made_by_daemon();
  EXPECT_EQ(run({"--gpu", "0", "--compute", "100"}).exit_code, 0);
  EXPECT_EQ(made_by_daemon(), made);
  // Nor one that isn't there, which is said.
  set("VGPU_SOCKET", folder() + "/nowhere.sock");
  const Result result = run({"--gpu", "0", "--compute", "100"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.err, HasSubstr("note: no daemon (VGPU_SOCKET)"));
  end(daemon);
}

TEST_F(ToolWithDaemonTest, ADaemonThatDoesNotAnswerIsNotPassedOver) {
  auto daemon = begin_daemon();
  daemon.send(SIGSTOP);
  const Result result = run({"--gpu", "0", "--compute", "10"});
  EXPECT_EQ(result.exit_code, 125);
  EXPECT_THAT(result.err, AllOf(HasSubstr("VG1072"), HasSubstr("VGPU_SOCKET=none")));
  EXPECT_THAT(segments(), IsEmpty());
  daemon.send(SIGCONT);
  end(daemon);
}

class SetWithDaemonTest : public ToolWithDaemonTest {
 protected:
  std::uint64_t limit() { return tenant("train")["gpus"][0]["memory"]["limit_bytes"]; }
};

TEST_F(SetWithDaemonTest, ALowerLimitComesDownWithWhatIsHeld) {
  auto daemon = begin_daemon();
  auto running = holding("train", {"--gpu", "1", "--memory", "8GiB"}, {"alloc=1024", "hold"});
  auto more = start({"exec", "-q", "train", "--", CLIENT, "alloc=2048", "hold"});
  ASSERT_TRUE(more.wait_for("holding"));
  EXPECT_THAT(vgpu({"set", "train", "--memory", "2GiB"}).err, HasSubstr("VG1017"));
  auto setting = start({"set", "train", "--memory", "2GiB", "--when-free"});
  EXPECT_TRUE(daemon.wait_for("memory 8 GiB -> "));
  EXPECT_LT(limit(), 8 * kGiB);
  EXPECT_GT(limit(), 2 * kGiB);
  more.finish();
  const Result result = setting.finish();
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "train GPU 1: memory 8 GiB -> 2 GiB\n");
  EXPECT_EQ(limit(), 2 * kGiB);
  running.finish();
  end(daemon);
}

TEST_F(SetWithDaemonTest, CtrlCPutsAllBack) {
  auto daemon = begin_daemon();
  auto running = holding("train", {"--gpu", "1", "--memory", "8GiB", "--compute", "30"},
                         {"alloc=3072", "hold"});
  const json before = tenant("train")["gpus"][0];
  auto setting = start({"set", "train", "--memory", "2GiB", "--compute", "50", "--when-free"});
  EXPECT_TRUE(daemon.wait_for("memory 8 GiB -> "));
  setting.send(SIGINT);
  const Result result = setting.finish();
  EXPECT_EQ(result.exit_code, 128 + SIGINT);
  EXPECT_THAT(result.err, HasSubstr("train is as it was"));
  EXPECT_EQ(tenant("train")["gpus"][0], before);
  running.finish();
  end(daemon);
}

TEST_F(ToolWithDaemonTest, DoctorSaysWhetherOneLooksAfterThisDirectory) {
  const auto said = [&](int status) {
    const Result doctor = vgpu({"doctor", "--json"});
    EXPECT_EQ(doctor.exit_code, status) << doctor.out;
    std::string text;
    const json report = json::parse(doctor.out, nullptr, false);
    for (const auto& check : report["checks"]) {
      if (check["about"] == "daemon")
        text += check["status"].get<std::string>() + ": " + check["text"].get<std::string>() + "\n";
    }
    return text;
  };
  EXPECT_THAT(said(0), HasSubstr("info: none"));
  Running daemon = begin_daemon();
  EXPECT_THAT(said(0), AllOf(HasSubstr("ok: unix:"), HasSubstr("looks after"),
                             HasSubstr("hosts the arbiter")));
  set("VGPU_SOCKET", folder() + "/state/hypervisor.sock");
  set("VGPU_STATE_DIR", folder() + "/another");
  EXPECT_THAT(said(0), AllOf(HasSubstr("warning: "), HasSubstr("doesn't look after")));
  set("VGPU_STATE_DIR", folder() + "/state");
  daemon.send(SIGSTOP);
  EXPECT_THAT(said(1), HasSubstr("problem: "));
  daemon.send(SIGCONT);
  unset("VGPU_SOCKET");
  end(daemon);
}

}  // namespace
}  // namespace vgpu::cli_test

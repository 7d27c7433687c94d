// SPDX-License-Identifier: Apache-2.0
// Programs in a pod without a file, whose limits come from a daemon that is made by hand: what it
// is asked, how often, what its answers do, and what happens when there is none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "pod_rig.h"

namespace vgpu::test {
namespace {

using testing::HasSubstr;
using Way = HandMadeDaemon::Way;

class PodDaemon : public testing::Test {
 protected:
  PodDaemon() { daemon_.set(ok(predecessors(4 * kGiB))); }

  Environment pod() const {
    Environment environment = rig_.pod();
    environment.erase("TF_SHM_PATH");
    environment["SHM_PATH"] = rig_.folder();
    environment["HYPERVISOR_IP"] = "127.0.0.1";
    environment["HYPERVISOR_PORT"] = daemon_.port();
    return environment;
  }
  std::string predecessors(std::uint64_t bytes, const std::string& more = "") const {
    return R"({"success":true,"data":{"pod_name":"trainer","namespace":"ml","gpu_uuids":[")" +
           rig_.uuid(0) + R"("],"tflops_limit":null,"vram_limit":)" + std::to_string(bytes) +
           R"(,"qos_level":"Medium","compute_shard":false,"isolation":"soft")" + more +
           R"(},"message":"found"})";
  }
  std::string ours(std::uint64_t bytes, int percent) const {
    return predecessors(1, R"(,"vgpu":{"gpus":[{"uuid":")" + rig_.uuid(0) +
                               R"(","quota":{"memory_limit_bytes":)" + std::to_string(bytes) +
                               R"(,"share_percent":)" + std::to_string(percent) +
                               R"(,"limit_percent":)" + std::to_string(percent) +
                               R"(,"policy":"fixed","priority":"normal","memory_source":"daemon",)"
                               R"("compute_source":"daemon"}}]})");
  }
  Worker in_context(const Environment& environment) const {
    Worker worker(environment);
    EXPECT_EQ(worker.ask("context").code, 0);
    return worker;
  }
  void expect_refusal(const Environment& environment, const char* why) const {
    const Outcome outcome = rig_.run(environment);
    EXPECT_NE(outcome.status, 0) << why;
    EXPECT_LT(outcome.status, 128) << "nothing aborts";
    EXPECT_EQ(outcome.err.find("vgpu: "), 0u) << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("HYPERVISOR_IP=\"127.0.0.1\", HYPERVISOR_PORT=\""));
    EXPECT_THAT(outcome.err, HasSubstr(why));
  }

  PodRig rig_;
  HandMadeDaemon daemon_;
};

TEST_F(PodDaemon, GivesGpusAndMemoryAndIsAskedOnceATenant) {
  Worker first = in_context(pod());
  EXPECT_EQ(first.ask("total").number, static_cast<long>(4 * kGiB));
  EXPECT_EQ(first.ask("devices").number, 1);
  Worker second = in_context(pod());
  EXPECT_EQ(second.ask("total").number, static_cast<long>(4 * kGiB));
  EXPECT_EQ(daemon_.count("GET "), 1);
  const std::string request = daemon_.requests()[0];
  EXPECT_THAT(request, HasSubstr("GET /api/v1/pod?container_pid="));
  EXPECT_THAT(request, HasSubstr("&container_name=main%20one HTTP/1.1\r\n"));
  EXPECT_THAT(request, HasSubstr("\r\nAuthorization: Bearer a-token\r\n"));
  EXPECT_THAT(request, HasSubstr("\r\nHost: 127.0.0.1:" + daemon_.port() + "\r\n"));
}

TEST_F(PodDaemon, IsToldOfEachProcess) {
  Worker first = in_context(pod());
  Worker second = in_context(pod());
  const auto told = [&](long pid) {
    return eventually(1, [&] {
      return daemon_.count("POST /api/v1/process?container_pid=" + std::to_string(pid) +
                           "&container_name=main%20one ");
    });
  };
  EXPECT_EQ(told(first.pid()), 1);
  EXPECT_EQ(told(second.pid()), 1);
#if !defined(__SANITIZE_THREAD__)  // it has no threads in a child of a process with threads
  const Child child(second.ask("fork-nvml"));
  ASSERT_TRUE(child.started());
  EXPECT_EQ(told(child.pid()), 1);
#endif
}

TEST_F(PodDaemon, OfOurKindGivesTheWholeQuota) {
  const auto done_under = [&](int percent) {
    daemon_.set(ok(ours(6 * kGiB, percent)));
    Worker worker = in_context(pod());
    EXPECT_EQ(worker.ask("total").number, static_cast<long>(6 * kGiB));
    return static_cast<double>(worker.ask("work 600 kernel").number);
  };
  expect_a_fifth_to_hold(done_under);
}

TEST_F(PodDaemon, MayAnswerInChunks) {
  const std::string body = predecessors(5 * kGiB);
  char size[32];
  std::snprintf(size, sizeof size, "%zx", body.size());
  daemon_.set("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + std::string(size) + "\r\n" +
              body + "\r\n0\r\n\r\n");
  Worker worker = in_context(pod());
  EXPECT_EQ(worker.ask("total").number, static_cast<long>(5 * kGiB));
}

TEST_F(PodDaemon, MayBeNamed) {
  Environment environment = pod();
  environment["HYPERVISOR_IP"] = "localhost";
  Worker worker = in_context(environment);
  EXPECT_EQ(worker.ask("total").number, static_cast<long>(4 * kGiB));
}

// One process of the tenant asks again, every ten seconds.
TEST_F(PodDaemon, IsAskedAgainByOneOfAll) {
  Worker first = in_context(pod());
  Worker second = in_context(pod());
  daemon_.set(ok(predecessors(7 * kGiB)));
  const auto seven = static_cast<long>(7 * kGiB);
  for (Worker* worker : {&first, &second}) {
    EXPECT_EQ(eventually(
                  seven, [&] { return worker->ask("total").number; }, std::chrono::seconds(60)),
              seven);
  }
  EXPECT_EQ(daemon_.count("GET "), 2);
  // It goes away: what it said last holds.
  daemon_.set("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n");
  EXPECT_EQ(eventually(
                3, [&] { return std::min(daemon_.count("GET "), 3L); }, std::chrono::seconds(60)),
            3);
  EXPECT_EQ(first.ask("total").number, seven);
  EXPECT_EQ(first.ask("alloc 1024").code, 0);
}

// The predecessor's makes the file when it is asked; that says more than its answer.
TEST_F(PodDaemon, MakesTheFileThatIsReadThen) {
  daemon_.when_asked([&] { rig_.write_file({{rig_.uuid(0), 30, 5 * kGiB}}); });
  Worker worker = in_context(pod());
  EXPECT_EQ(worker.ask("total").number, static_cast<long>(5 * kGiB));
  EXPECT_EQ(daemon_.count("GET "), 1);
}

TEST_F(PodDaemon, MayMakeTheFileAndSayNothingElse) {
  daemon_.set(ok(R"({"success":true,"data":null,"message":""})"));
  daemon_.when_asked([&] { rig_.write_file({{rig_.uuid(0), 30, 5 * kGiB}}); });
  Worker worker = in_context(pod());
  EXPECT_EQ(worker.ask("total").number, static_cast<long>(5 * kGiB));
}

TEST_F(PodDaemon, IsntAskedForLimitsWhereThereIsAFile) {
  rig_.write_file({{rig_.uuid(0), 30, 5 * kGiB}});
  Worker worker = in_context(pod());
  EXPECT_EQ(worker.ask("total").number, static_cast<long>(5 * kGiB));
  EXPECT_EQ(eventually(1, [&] { return daemon_.count("POST "); }), 1);
  EXPECT_EQ(daemon_.count("GET "), 0);
}

TEST_F(PodDaemon, IsRefusedWhereItDoesntAnswerAsOneWould) {
  if (std::string(VGPU_LIMITER).empty()) GTEST_SKIP() << "needs the library in every program";
  Environment environment = pod();
  environment["HTTP_REQUEST_TIMEOUT"] = "400ms";
  daemon_.set("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
  expect_refusal(environment, "answers 401: it doesn't take the pod's token");
  daemon_.set("HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno");
  expect_refusal(environment, "the daemon answers 500");
  daemon_.set(ok(R"({"success":false,"data":null,"message":"pod trainer isn't a tenant"})"));
  expect_refusal(environment, "the daemon says \"pod trainer isn't a tenant\"");
  daemon_.set(ok("{}"));
  expect_refusal(environment, "isn't what such a daemon says");
  daemon_.set(ok(predecessors(kGiB, R"(,"isolation":"hard")")));
  expect_refusal(environment, "isolation \"hard\"");
  daemon_.set("SSH-2.0-OpenSSH_9.2\r\n");
  expect_refusal(environment, "the answer is no HTTP");
  daemon_.set("");
  expect_refusal(environment, "the answer is no HTTP");
  daemon_.set(ok(predecessors(kGiB)).substr(0, 90));
  expect_refusal(environment, "breaks off");
  daemon_.set("X: " + std::string(1000, 'x') + "\r\n", Way::endless);
  expect_refusal(environment, "the answer is no HTTP, too long");
  daemon_.set("", Way::silent);
  expect_refusal(environment, "no answer in time");
  daemon_.set("HTTP/1.1 200 OK\r\n\r\nx", Way::drips);
  expect_refusal(environment, "no answer in time");
}

TEST_F(PodDaemon, ThatIsAwayIsSaid) {
  if (std::string(VGPU_LIMITER).empty()) GTEST_SKIP() << "needs the library in every program";
  Environment environment = pod();
  {
    const HandMadeDaemon gone;
    environment["HYPERVISOR_PORT"] = gone.port();
  }
  expect_refusal(environment, "connection refused");
  environment["HYPERVISOR_PORT"] = "80000";
  expect_refusal(environment, "HYPERVISOR_PORT is no port");
  environment["HYPERVISOR_PORT"] = daemon_.port();
  environment["VGPU_POD_TOKEN"] = rig_.folder() + "/none";
  expect_refusal(environment, "the token can't be read");
  std::ofstream(rig_.token_file(), std::ios::trunc) << " two words ";
  environment["VGPU_POD_TOKEN"] = rig_.token_file();
  expect_refusal(environment, "no token is in");
  EXPECT_EQ(daemon_.count("GET "), 0);
}

TEST_F(PodDaemon, TimesThatCantBeReadAreSaid) {
  if (std::string(VGPU_LIMITER).empty()) GTEST_SKIP() << "needs the library in every program";
  Environment environment = pod();
  environment["HTTP_CONNECT_TIMEOUT"] = "soon";
  const Outcome outcome = rig_.run(environment);
  EXPECT_EQ(outcome.status, 0);
  EXPECT_EQ(outcome.err.find("vgpu: HTTP_CONNECT_TIMEOUT is no time"), 0u) << outcome.err;
}

TEST_F(PodDaemon, LimitsInTflopsAreSaidToBeNone) {
  if (std::string(VGPU_LIMITER).empty()) GTEST_SKIP() << "needs the library in every program";
  std::string body = predecessors(4 * kGiB);
  body.replace(body.find("\"tflops_limit\":null"), 19, "\"tflops_limit\":31.5");
  daemon_.set(ok(body));
  const Outcome outcome = rig_.run(pod());
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.err, HasSubstr("TFLOPS is not enforced"));
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
}

}  // namespace
}  // namespace vgpu::test

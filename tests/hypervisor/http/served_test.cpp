// SPDX-License-Identifier: Apache-2.0
// What the predecessor's clients and Prometheus are told of a moment made by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "hand_made.h"
#include "http/api.h"
#include "http/metrics.h"
#include "http/predecessor.h"
#include "vgpu/pod/answer.h"

namespace vgpu::hypervisor::http {
namespace {

using http_test::full_state;
using http_test::HandMadeControl;
using Json = nlohmann::ordered_json;
using testing::HasSubstr;

TEST(Predecessor, APodLearnsItsGpusAndLimitsFieldForField) {
  const Json body = Json::parse(pod_body(full_state(), {"ml", "trainer"}, {}));
  EXPECT_EQ(body.dump(),
            R"({"success":true,"data":{"pod_name":"trainer","namespace":"ml","gpu_uuids":)"
            R"(["GPU-00000000-0000-0000-0000-000000000001"],"tflops_limit":494.75,)"
            R"("vram_limit":8589934592,"qos_level":"High","compute_shard":false,)"
            R"("isolation":"soft","vgpu":{"gpus":[{"uuid":)"
            R"("GPU-00000000-0000-0000-0000-000000000001","quota":{"memory_limit_bytes":)"
            R"(8589934592,"share_percent":30,"limit_percent":50,"policy":"elastic",)"
            R"("priority":"high","memory_source":"run","compute_source":"run"}}]}},)"
            R"("message":"Pod information retrieved"})");
}

TEST(Predecessor, ALimitInTflopsIsSaidWhereTheModelIsKnownAndThereIsALimit) {
  const auto said = [](auto change) {
    NodeState state = full_state();
    change(state);
    return Json::parse(pod_body(state, {"ml", "trainer"}, {}))["data"]["tflops_limit"];
  };
  EXPECT_EQ(said([](NodeState&) {}), 494.75);
  EXPECT_TRUE(said([](NodeState& state) { state.gpus[0].fp16_tflops.reset(); }).is_null());
  EXPECT_TRUE(said([](NodeState& state) {
                state.tenants[0].gpus[0].quota.compute_limit_percent = 0;
              }).is_null())
      << "a share limits nobody";
  EXPECT_TRUE(said([](NodeState& state) { state.gpus.clear(); }).is_null());
}

TEST(Predecessor, OurLimiterReadsTheWholeQuotaFromTheSameAnswer) {
  const NodeState state = full_state();
  pod::Limits limits;
  pod::Why why;
  ASSERT_TRUE(pod::parse_answer(pod_body(state, {"ml", "trainer"}, {}), limits, why)) << why.view();
  ASSERT_EQ(limits.gpus.size(), state.tenants[0].gpus.size());
  EXPECT_TRUE(limits.has_compute);
  for (const auto& gpu : state.tenants[0].gpus) {
    const pod::GpuLimits* const read = find(limits, gpu.gpu);
    ASSERT_NE(read, nullptr);
    EXPECT_EQ(read->quota.memory_limit_bytes, gpu.quota.memory_limit_bytes);
    EXPECT_EQ(read->quota.compute_share_percent, gpu.quota.compute_share_percent);
    EXPECT_EQ(read->quota.compute_limit_percent, gpu.quota.compute_limit_percent);
    EXPECT_EQ(read->quota.policy, gpu.quota.policy);
    EXPECT_EQ(read->quota.priority, gpu.quota.priority);
  }
  EXPECT_FALSE(pod::parse_answer(pod_body(state, {"ml", "other"}, {}), limits, why));
  EXPECT_THAT(std::string(why.view()), HasSubstr("isn't a tenant"));
}

TEST(Predecessor, APodThatIsNoTenantIsAnsweredWith200AndFalse) {
  const Json body = Json::parse(pod_body(full_state(), {"ml", "other"}, {}));
  EXPECT_EQ(body["success"], false);
  EXPECT_TRUE(body["data"].is_null());
  EXPECT_THAT(body["message"].get<std::string>(), HasSubstr("isn't a tenant"));
}

TEST(Predecessor, DeclaredPodsComeBeforeNames) {
  const std::vector<DeclaredPod> declared = {{"default", "notebook", "ml.trainer"},
                                             {"ml", "trainer", "absent"}};
  EXPECT_EQ(tenant_of(full_state(), {"ml", "trainer"}, declared), nullptr);
  const NodeState state = full_state();
  EXPECT_EQ(tenant_of(state, {"default", "notebook"}, declared), &state.tenants[0]);
}

TEST(Predecessor, AProcessLearnsItsPidOnTheNode) {
  const auto ask = [](const NodeState& state, std::uint32_t pid) {
    HandMadeControl control(state);
    return Json::parse(process_body(control, {"ml", "trainer"}, {}, "main", pid));
  };
  EXPECT_EQ(ask(full_state(), 7)["data"].dump(),
            R"({"host_pid":4711,"container_pid":7,"container_name":"main","pod_name":"trainer",)"
            R"("namespace":"ml"})");
  EXPECT_EQ(ask(full_state(), 8)["success"], false);
  NodeState twice = full_state();
  twice.processes.push_back(twice.processes[0]);
  twice.processes.back().host_pid = 4713;
  EXPECT_EQ(ask(twice, 7)["success"], false) << "never a guess";
  NodeState foreign = full_state();
  foreign.processes[0].tenant = "odd-bbbb";
  EXPECT_EQ(ask(foreign, 7)["success"], false) << "another tenant's";
}

TEST(Predecessor, AProcessWithoutASlotIsLookedForInItsPod) {
  HandMadeControl control;
  const auto ask = [&](const char* uid, std::uint32_t pid) {
    return Json::parse(process_body(control, {"ml", "trainer", uid}, {}, "main", pid));
  };
  EXPECT_EQ(ask("its-uid", 9)["data"]["host_pid"], 4799);
  EXPECT_EQ(ask("its-uid", 7)["data"]["host_pid"], 4711) << "one that has a slot";
  EXPECT_EQ(ask("", 9)["message"],
            "no process of the pod is known by the pid 9 in its container: no file is kept for the "
            "pod");
  NodeState state = full_state();
  state.processes[0].limiter = LimiterPresence::predecessor;
  state.processes[0].own_pid = 9;
  control.set(state);
  EXPECT_EQ(ask("its-uid", 9)["data"]["host_pid"], 4799) << "one that has asked before";
}

TEST(Readiness, MeansWhatItSays) {
  const NodeState good = full_state();
  EXPECT_EQ(not_ready(good, good.time_ns), "");
  NodeState state = good;
  state.driver.available = false;
  state.driver.why = "no libnvidia-ml.so.1";
  EXPECT_EQ(not_ready(state, good.time_ns), "no driver: no libnvidia-ml.so.1");
  state = good;
  state.hosts_arbiter = false;
  EXPECT_NE(not_ready(state, good.time_ns), "");
  EXPECT_THAT(not_ready(good, good.time_ns + 3'000'000'000), HasSubstr("tenants"));
  state = good;
  state.segments_read_ns = good.time_ns + 20'000'000'000;
  EXPECT_THAT(not_ready(state, good.time_ns + 20'000'000'000), HasSubstr("NVML"));
}

std::string metrics(const NodeState& state) { return metrics_text(metrics_of(state, {}, {})); }

TEST(Metrics, AreInBaseUnits) {
  const std::string text = metrics(full_state());
  constexpr const char* kGpu = "{gpu=\"GPU-00000000-0000-0000-0000-000000000001\"}";
  for (const auto& [name, value] : std::vector<std::pair<std::string, std::string>>{
           {"vgpu_gpu_power_watts", "512"},
           {"vgpu_gpu_busy_ratio", "0.93"},
           {"vgpu_gpu_temperature_celsius", "61"},
           {"vgpu_gpu_energy_joules_total", "123456.789"},
           {"vgpu_gpu_share_promised_ratio", "1.3"},
           {"vgpu_gpu_unlimited_processes", "1"}})
    EXPECT_THAT(text, HasSubstr(name + kGpu + " " + value)) << text;
  constexpr const char* kTenant =
      "{tenant=\"ml.trainer\",tenant_id=\"ml.trainer-aaaa\",gpu=\"GPU-00000000-0000-0000-0000-"
      "000000000001\"";
  for (const std::string& line :
       {std::string("vgpu_tenant_waited_seconds_total") + kTenant + ",reason=\"turn\"} 3\n",
        std::string("vgpu_tenant_waited_seconds_total") + kTenant + ",reason=\"limit\"} 0.5\n",
        std::string("vgpu_tenant_share_owed_ratio") + kTenant + "} 0.23",
        std::string("vgpu_tenant_delayed_launches_total") + kTenant + "} 400",
        std::string("vgpu_tenant_memory_denied_total") + kTenant + "} 3",
        std::string("vgpu_tenant_memory_limit_bytes") + kTenant + "} 8589934592"})
    EXPECT_THAT(text, HasSubstr(line)) << text;
}

TEST(Metrics, NameEachReasonThatHoldsClocksBack) {
  NodeState state = full_state();
  state.gpus[0].sample.throttle_reasons = 0x45;
  state.gpus[1].sample.throttle_reasons = 0;
  const std::string text = metrics(state);
  constexpr const char* kThrottled =
      "\nvgpu_gpu_throttled{gpu=\"GPU-00000000-0000-0000-0000-000000000001\",reason=\"";
  EXPECT_THAT(text, HasSubstr(kThrottled + std::string("software_power_cap\"} 1\n")));
  EXPECT_THAT(text, HasSubstr(kThrottled + std::string("hardware_thermal_slowdown\"} 1\n")));
  EXPECT_THAT(text, testing::Not(HasSubstr("vgpu_gpu_throttled{gpu=\"GPU-00000000-0000-0000-0000-"
                                           "000000000002\"")));
}

TEST(Metrics, WhatIsntKnownHasNoSample) {
  const std::string text = metrics(full_state());
  EXPECT_THAT(text, testing::Not(HasSubstr("vgpu_gpu_power_watts{gpu=\"GPU-00000000-0000-0000-0000-"
                                           "000000000002\"}")));
  NodeState empty;
  EXPECT_THAT(metrics(empty), testing::Not(HasSubstr("vgpu_tenant")));
  EXPECT_THAT(metrics(empty), HasSubstr("vgpu_driver_available 0"));
}

TEST(Api, TenantsAndGpusAreFoundAsPeopleNameThem) {
  const NodeState state = full_state();
  EXPECT_EQ(find_tenant(state, "ml.trainer"), &state.tenants[0]);
  EXPECT_EQ(find_tenant(state, "od"), &state.tenants[1]);
  EXPECT_EQ(find_tenant(state, ""), nullptr);
  EXPECT_EQ(find_tenant(state, "x"), nullptr);
  EXPECT_EQ(find_gpu(state, "1"), &state.gpus[1]);
  EXPECT_EQ(find_gpu(state, "gpu-00000000-0000-0000-0000-000000000001"), &state.gpus[0]);
  EXPECT_EQ(find_gpu(state, "GPU-0"), nullptr) << "both begin so";
}

TEST(Api, EventIdsBelongToARun) {
  EXPECT_EQ(sequence_in("run-1:17", "run-1"), 17U);
  for (const char* id : {"run-2:17", "17", "run-1:", "run-1:x", ""})
    EXPECT_EQ(sequence_in(id, "run-1"), 0U) << id;
}

}  // namespace
}  // namespace vgpu::hypervisor::http

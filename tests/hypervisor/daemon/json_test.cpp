// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "node_state_json.h"

namespace vgpu::hypervisor {
namespace {

TEST(NodeStateJsonTest, WhatIsNotKnownIsNull) {
  NodeState state;
  state.gpus.emplace_back();
  state.processes.emplace_back();
  const Json json = state_json(state);
  EXPECT_TRUE(json["gpus"][0]["sample"]["busy_percent"].is_null());
  EXPECT_TRUE(json["gpus"][0]["sample"]["throttle_reasons"].is_null());
  EXPECT_TRUE(json["gpus"][0]["unhealthy_since"].is_null());
  EXPECT_TRUE(json["processes"][0]["host_pid"].is_null());
  EXPECT_TRUE(json["node"]["processes_age_ms"].is_null());
}

TEST(NodeStateJsonTest, ValuesHaveTheirUnits) {
  NodeState state;
  state.time_ns = 10'000'000'000;
  state.processes_read_ns = 9'750'000'000;
  TenantState tenant;
  tenant.id = "train-1";
  TenantGpuState gpu;
  gpu.quota.memory_limit_bytes = 4096;
  gpu.quota.compute_share_percent = 30;
  gpu.got_percent_1s = 29.996;
  tenant.gpus.push_back(gpu);
  state.tenants.push_back(tenant);
  const Json json = state_json(state);
  EXPECT_EQ(json["node"]["processes_age_ms"], 250);
  const Json& on = json["tenants"][0]["gpus"][0];
  EXPECT_EQ(on["quota"]["memory_limit_bytes"], 4096);
  EXPECT_EQ(on["quota"]["share_percent"], 30);
  EXPECT_TRUE(on["quota"]["limit_percent"].is_null());
  EXPECT_EQ(on["got_percent_1s"], 30.0);
}

TEST(NodeStateJsonTest, AMigDeviceSaysWhatIsEnforcedOnIt) {
  GpuState gpu;
  gpu.mig_enabled = true;
  gpu.mig_devices = {{"MIG-1", "", 0, 0, std::nullopt, std::nullopt}};
  const Json enforced = gpu_json(gpu)["mig_devices"][0]["enforced"];
  EXPECT_EQ(enforced["memory"], true);
  EXPECT_EQ(enforced["compute"], false);
  EXPECT_NE(enforced["why"].get<std::string>().find("whole GPU"), std::string::npos);
}

TEST(NodeStateJsonTest, AnyBytesOfAProcessAreText) {
  ProcessState process;
  process.command_line = "evil\xff\xfe\x1b[2J";
  EXPECT_NO_THROW(EXPECT_TRUE(Json::accept(dumped(process_json(process)))));
}

TEST(NodeStateJsonTest, TimesAreRfc3339) {
  EXPECT_EQ(time_text(1'764'111'845'678'000'000), "2025-11-25T23:04:05.678Z");
}

TEST(NodeStateJsonTest, ThrottlingNamesWhatHoldsBack) {
  EXPECT_EQ(throttle_names(0x1), std::vector<std::string>()) << "idle holds nothing back";
  EXPECT_EQ(throttle_names(0x44),
            (std::vector<std::string>{"software_power_cap", "hardware_thermal_slowdown"}));
}

}  // namespace
}  // namespace vgpu::hypervisor

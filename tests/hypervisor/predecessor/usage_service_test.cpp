// SPDX-License-Identifier: Apache-2.0
// From what the daemon knows to lines of the usage log.
#include "usage_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <iterator>
#include <memory>

#include "quiet_control.h"
#include "scratch.h"
#include "usage_log.h"

namespace vgpu::hypervisor::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const GpuUuid kGpu = *GpuUuid::parse("GPU-11111111-2222-3333-4444-555555555555");

NodeState busy_node() {
  NodeState state;
  state.node_name = "n1";
  state.time_ns = 1'700'000'000'000'000'000;
  GpuState gpu;
  gpu.uuid = kGpu;
  gpu.name = "NVIDIA H200";
  gpu.total_bytes = 1000;
  gpu.sampled_ns = state.time_ns;
  gpu.sample.used_bytes = 250;
  gpu.sample.busy_percent = 50;
  gpu.sample.power_milliwatts = 300'000;
  state.gpus.push_back(gpu);
  TenantState tenant;
  tenant.id = tenant.name = "a";
  TenantGpuState part;
  part.gpu = kGpu;
  part.charged_bytes = 100;
  part.quota.memory_limit_bytes = 400;
  part.got_percent_1s = 20;
  part.counters.delayed_launches = 7;
  tenant.gpus.push_back(part);
  state.tenants.push_back(tenant);
  return state;
}

std::string lines_of(const NodeState* before, const NodeState& now, const UsageOptions& options) {
  UsageBatch batch;
  add_usage(before, now, options, batch);
  std::string text;
  for (const auto& line : batch.take(1)) text += influx_line(line);
  return text;
}

TEST(Usage, WritesWhatIsKnownAndNothingElse) {
  UsageOptions options;
  options.pool = "p";
  const NodeState before = busy_node();
  NodeState now = busy_node();
  now.tenants[0].gpus[0].counters.delayed_launches = 10;
  EXPECT_EQ(
      lines_of(&before, now, options),
      "tf_gpu_usage,node=n1,pool=p,uuid=GPU-11111111-2222-3333-4444-555555555555 "
      "compute_percentage=50,memory_bytes=250u,memory_percentage=25,power_usage=300000i 1\n"
      "tf_worker_usage,node=n1,pool=p,uuid=GPU-11111111-2222-3333-4444-555555555555,worker=a "
      "compute_percentage=20,compute_throttled_cnt=3i,memory_bytes=100u,memory_percentage=25 1\n");
}

std::string first_worker_line(const NodeState& now, const UsageOptions& options) {
  const std::string lines = lines_of(nullptr, now, options);
  const std::size_t at = lines.find("tf_worker_usage");
  return lines.substr(at, lines.find(' ', at) - at);
}

TEST(Usage, ATenantThatIsAPodIsCalledByIt) {
  UsageOptions options;
  options.pods = {{"a", "ml", "train-0", "train"}, {"b", "ml", "other", ""}};
  const std::string uuid = ",uuid=GPU-11111111-2222-3333-4444-555555555555";
  EXPECT_EQ(first_worker_line(busy_node(), options),
            "tf_worker_usage,namespace=ml,node=n1" + uuid + ",worker=train-0,workload=train");
  options.pods[0].workload = "";
  EXPECT_EQ(first_worker_line(busy_node(), options),
            "tf_worker_usage,namespace=ml,node=n1" + uuid + ",worker=train-0");
  options.pods[1].tenant = "a";
  EXPECT_EQ(first_worker_line(busy_node(), options), "tf_worker_usage,node=n1" + uuid + ",worker=a")
      << "two pods are one tenant";
  // Another user's of the same name isn't the pod.
  NodeState two = busy_node();
  two.tenants.push_back(two.tenants[0]);
  two.tenants[1].id = "a@1";
  options.pods = {{"a", "ml", "train-0", ""}};
  const std::string lines = lines_of(nullptr, two, options);
  EXPECT_THAT(lines, HasSubstr("worker=train-0"));
  EXPECT_THAT(lines, HasSubstr("worker=a "));
}

TEST(Usage, EveryTagIsInTheTable) {
  UsageOptions options;
  options.pool = "p";
  options.pods = {{"a", "ml", "train-0", "train"}};
  UsageBatch batch;
  add_usage(nullptr, busy_node(), options, batch);
  std::size_t tags = 0;
  for (const auto& line : batch.take(1)) {
    for (const auto& [tag, value] : line.tags) {
      ++tags;
      EXPECT_THAT(usage_fields_page(),
                  HasSubstr("| `" + line.measurement + "` | `" + tag + "` | tag |"));
    }
  }
  EXPECT_EQ(tags, 9U) << "and there are no others";
}

TEST(Usage, HasWhatTheDriverCountsForThePredecessorsLimiter) {
  NodeState now = busy_node();
  ProcessState process;
  process.tenant = "a";
  process.limiter = LimiterPresence::predecessor;
  process.gpus = {{kGpu, std::nullopt, 60, std::nullopt}};
  now.processes = {process};
  EXPECT_THAT(lines_of(nullptr, now, {}), HasSubstr("memory_bytes=160u,memory_percentage=40 "));
}

TEST(Usage, HasTflopsOfModelsThatAreInTheTable) {
  NodeState state = busy_node();
  state.gpus[0].fp16_tflops = 1000;
  const std::string lines = lines_of(nullptr, state, {});
  EXPECT_THAT(lines, HasSubstr("compute_tflops=500"));
  EXPECT_THAT(lines, HasSubstr("compute_tflops=200"));
  EXPECT_THAT(lines, Not(HasSubstr("compute_throttled_cnt"))) << "there is nothing to compare with";
}

TEST(Usage, AGpuThatCannotBeReadHasNoFields) {
  NodeState state = busy_node();
  state.gpus[0].health = GpuHealth::lost;
  EXPECT_THAT(lines_of(nullptr, state, {}), Not(HasSubstr("tf_gpu_usage")));
}

TEST(Usage, WhatWasSampledIsWrittenAtTheLatestWhenItStops) {
  const Scratch scratch;
  QuietControl control(busy_node());
  UsageOptions options;
  options.path = scratch.path("metrics.log");
  options.format = UsageFormat::json;
  options.batch_samples = 1000;
  start_usage_log(control, options, [](const std::string& line) { ADD_FAILURE() << line; })->stop();
  std::ifstream file(UsageLog::file_name(options.path, 1'700'000'000));
  const std::string text(std::istreambuf_iterator<char>(file), {});
  EXPECT_THAT(text, HasSubstr(R"({"measure":"tf_gpu_usage","ts":1700000000000,)"));
  EXPECT_THAT(text, HasSubstr(R"("measure":"tf_worker_usage")"));
}

}  // namespace
}  // namespace vgpu::hypervisor::testing

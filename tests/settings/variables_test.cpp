// SPDX-License-Identifier: Apache-2.0
// The table itself: every variable that a user of one of the limiters may have set has a row, and
// each row is what it claims to be when the variable is set.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "environment.h"

namespace vgpu::settings {
namespace {

TEST(Table, HasEveryNameOnce) {
  std::set<std::string> names;
  for (const Variable& variable : variables()) {
    EXPECT_TRUE(names.insert(variable.name).second) << variable.name;
    EXPECT_FALSE(variable.text.empty()) << variable.name;
  }
}

TEST(Table, FindsIndexedNames) {
  ASSERT_NE(find_variable("CUDA_MEM_LIMIT_3"), nullptr);
  EXPECT_STREQ(find_variable("CUDA_MEM_LIMIT_3")->name, "CUDA_MEM_LIMIT");
  EXPECT_STREQ(find_variable("CUDA_MEM_LIMIT")->name, "CUDA_MEM_LIMIT");
  EXPECT_EQ(find_variable("CUDA_MEM_LIMIT_"), nullptr);
  EXPECT_EQ(find_variable("CUDA_MEM_LIMIT_x"), nullptr);
  EXPECT_NE(find_variable("CUDA_MEM_LIMIT_31"), nullptr);
  EXPECT_EQ(find_variable("CUDA_MEM_LIMIT_32"), nullptr);
  EXPECT_EQ(find_variable("CUDA_MEM_LIMIT_01"), nullptr);
  EXPECT_EQ(find_variable("VGPU_MEMORY_LIMIT_0"), nullptr);
  EXPECT_EQ(find_variable("VGPU_MEMORY_LIMT"), nullptr);
}

TEST(Table, KnowsTheVariablesOfEveryLimiterThatItReplaces) {
  for (const char* name : {"VGPU_MEMORY_LIMIT",
                           "VGPU_COMPUTE",
                           "VGPU_COMPUTE_LIMIT",
                           "VGPU_POLICY",
                           "VGPU_PRIORITY",
                           "VGPU_GPUS",
                           "VGPU_TENANT",
                           "VGPU_STATE_DIR",
                           "VGPU_SOCKET",
                           "VGPU_LOG",
                           "VGPU_ON_ERROR",
                           "VGPU_LIBRARY",
                           "VGPU_SIMULATED",
                           "ENABLE_NVML_HOOKS",
                           "ENABLE_CUDA_HOOKS",
                           "TF_SKIP_HOOKS_IF_NO_LIMIT",
                           "HYPERVISOR_IP",
                           "HYPERVISOR_PORT",
                           "CONTAINER_NAME",
                           "POD_NAME",
                           "POD_NAMESPACE",
                           "SHM_PATH",
                           "TF_SHM_PATH",
                           "TF_SHM_FILE",
                           "TF_VISIBLE_DEVICES",
                           "TF_REMAPPED",
                           "CUDA_VISIBLE_DEVICES",
                           "NVIDIA_VISIBLE_DEVICES",
                           "TF_CUDA_LIB_PATH",
                           "TF_NVML_LIB_PATH",
                           "HTTP_REQUEST_TIMEOUT",
                           "HTTP_CONNECT_TIMEOUT",
                           "TF_ENABLE_LOG",
                           "TF_LOG_LEVEL",
                           "TF_LOG_PATH",
                           "CUDA_LIMITER_MOCK_MODE",
                           "TENSOR_FUSION_CUDA_UP_LIMIT",
                           "TENSOR_FUSION_CUDA_MEM_LIMIT",
                           "RUST_BACKTRACE",
                           "RUST_LOG",
                           "TF_PREPEND_PATH",
                           "TF_LD_LIBRARY_PATH",
                           "TF_ISOLATION_MODE",
                           "TENSOR_FUSION_NGPU_PATH",
                           "DISABLE_GPU_LIMITER",
                           "TF_ENABLE_DISPATCH_FORWARD",
                           "TF_DISABLE_MEMORY_MANAGER",
                           "TF_CUDA_SM_PERCENT_LIMIT",
                           "TF_GPU_MEMORY_LIMIT",
                           "TF_CUDA_MEMORY_LIMIT",
                           "TENSOR_FUSION_CUSTOM_DOMAIN_PREFIX",
                           "TENSOR_FUSION_CUSTOM_DOMAIN_SUFFIX",
                           "CUDA_DEVICE_MEMORY_LIMIT",
                           "CUDA_DEVICE_SM_LIMIT",
                           "GPU_CORE_UTILIZATION_POLICY",
                           "CUDA_TASK_PRIORITY",
                           "CUDA_OVERSUBSCRIBE",
                           "CUDA_DISABLE_CONTROL",
                           "CUDA_DEVICE_MEMORY_SHARED_CACHE",
                           "ACTIVE_OOM_KILLER",
                           "RECORD_KERNEL_INTERVAL",
                           "LIBCUDA_LOG_LEVEL",
                           "CUDA_REDIRECT",
                           "CUDA_MEM_LIMIT",
                           "CUDA_CORE_LIMIT",
                           "CUDA_CORE_SOFT_LIMIT",
                           "MANAGER_VISIBLE_DEVICES",
                           "MANAGER_VISIBLE_DEVICE_0",
                           "CUDA_MEM_RATIO",
                           "CUDA_MEM_OVERSOLD",
                           "CUDA_MEM_UVA_ADVISE",
                           "CUDA_SM_CONTROLLER",
                           "CUDA_SM_SHARED_BUCKET",
                           "MANAGER_COMPATIBILITY_MODE",
                           "EXTERNAL_SM_WATCHER_ENABLED",
                           "VMEMORY_NODE_ENABLED",
                           "VGPU_POD_NAME",
                           "VGPU_POD_NAMESPACE",
                           "VGPU_POD_UID",
                           "VGPU_CONTAINER_NAME",
                           "LOGGER_LEVEL"}) {
    EXPECT_NE(find_variable(name), nullptr) << name;
  }
}

// A good value for a row, by what the row says about itself.
std::string good_value(const Variable& variable) {
  const auto one = [&]() -> std::string {
    switch (variable.value) {
      case Value::size:
      case Value::size_or_zero:
        return "2g";
      case Value::bytes:
        return "2147483648";
      case Value::percent:
      case Value::percent_off:
      case Value::percent_lenient:
        return "40";
      case Value::policy:
        return "elastic";
      case Value::hami_policy:
        return "force";
      case Value::priority:
        return "low";
      case Value::hami_priority:
        return "1";
      case Value::gpu:
        return "1";
      case Value::boolean:
        return "true";
      case Value::ratio:
        return "2";
      case Value::on_error:
        return "open";
      case Value::isolation:
        return "soft";
      case Value::log:
        return "info:/tmp/log";
      case Value::log_level:
        return "debug";
      case Value::path:
        return "/some/where";
      case Value::text:
        return "word";
    }
    return "";
  };
  return variable.shape == Shape::json ? "{\"1\": " + one() + "}" : one();
}

class Row : public testing::TestWithParam<Variable> {};

TEST_P(Row, HasTheEffectThatItClaims) {
  const Variable& variable = GetParam();
  std::string name = variable.name;
  if (variable.shape == Shape::indexed) name += "_1";
  const Resolved resolved = resolve(TableEnvironment{{name, good_value(variable)}});
  const Resolved without = resolve(TableEnvironment{});
  EXPECT_EQ(resolved.messages.errors.size(), variable.effect == Effect::refused ? 1u : 0u)
      << resolved.error();
  const bool said = variable.effect == Effect::ignored_said;
  EXPECT_EQ(resolved.messages.notices.size(), said ? 1u : 0u) << resolved.notices();
  if (said) {
    EXPECT_THAT(resolved.notices(), testing::HasSubstr(variable.name));
  }

  const Quota& before = without.quotas.per_gpu[1];
  const Quota& after = resolved.quotas.per_gpu[1];
  EXPECT_EQ(before.memory_limit_bytes != after.memory_limit_bytes,
            variable.quantity == Quantity::memory);
  EXPECT_EQ(before.compute_share_percent != after.compute_share_percent,
            variable.quantity == Quantity::share);
  EXPECT_EQ(before.priority != after.priority, variable.quantity == Quantity::priority);
  const bool bounds_compute =
      variable.quantity == Quantity::limit ||
      (variable.quantity == Quantity::share && variable.family != Family::vgpu);
  EXPECT_EQ(before.compute_limit_percent != after.compute_limit_percent, bounds_compute);
}

TEST_P(Row, DescribesItsForm) { EXPECT_FALSE(describe_form(GetParam()).empty()); }

INSTANTIATE_TEST_SUITE_P(Settings, Row, testing::ValuesIn(variables().begin(), variables().end()),
                         [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace vgpu::settings

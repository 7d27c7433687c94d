// SPDX-License-Identifier: Apache-2.0
// Hook switches, what happens at an error, and where logs go: silent unless somebody asked.
#include <gtest/gtest.h>

#include "environment.h"

namespace vgpu::settings {
namespace {

TEST(HookSwitches, AreOnUnlessSwitchedOff) {
  EXPECT_TRUE(hook_switches(TableEnvironment{}).cuda);
  EXPECT_TRUE(hook_switches(TableEnvironment{}).nvml);
  for (const char* off : {"false", "False", "0", "off", "no", " false "}) {
    EXPECT_FALSE(hook_switches(TableEnvironment{{"ENABLE_CUDA_HOOKS", off}}).cuda) << off;
    EXPECT_TRUE(hook_switches(TableEnvironment{{"ENABLE_CUDA_HOOKS", off}}).nvml) << off;
    EXPECT_FALSE(hook_switches(TableEnvironment{{"ENABLE_NVML_HOOKS", off}}).nvml) << off;
  }
  for (const char* on : {"true", "1", "", "nonsense"}) {
    EXPECT_TRUE(hook_switches(TableEnvironment{{"ENABLE_CUDA_HOOKS", on}}).cuda) << on;
  }
}

TEST(OnError, RefusesUnlessOpenIsAskedFor) {
  EXPECT_FALSE(opens_on_error(TableEnvironment{}));
  EXPECT_FALSE(opens_on_error(TableEnvironment{{"VGPU_ON_ERROR", "refuse"}}));
  EXPECT_FALSE(opens_on_error(TableEnvironment{{"VGPU_ON_ERROR", "opened"}}));
  EXPECT_TRUE(opens_on_error(TableEnvironment{{"VGPU_ON_ERROR", "open"}}));
  EXPECT_TRUE(opens_on_error(TableEnvironment{{"VGPU_ON_ERROR", " Open "}}));
}

TEST(Log, IsSilentByDefault) {
  EXPECT_EQ(log_settings(TableEnvironment{}).level, LogLevel::off);
  EXPECT_EQ(log_settings(TableEnvironment{{"TF_ENABLE_LOG", "0"}}).level, LogLevel::off);
  EXPECT_EQ(log_settings(TableEnvironment{{"VGPU_LOG", ""}}).level, LogLevel::off);
}

TEST(Log, TakesLevelAndFile) {
  const LogSettings plain = log_settings(TableEnvironment{{"VGPU_LOG", "debug"}});
  EXPECT_EQ(plain.level, LogLevel::debug);
  EXPECT_TRUE(plain.path.empty());
  const LogSettings file = log_settings(TableEnvironment{{"VGPU_LOG", "Warning:/var/log/a:b"}});
  EXPECT_EQ(file.level, LogLevel::warning);
  EXPECT_EQ(file.path, "/var/log/a:b");
  EXPECT_FALSE(file.may_be_directory);
  for (const char* bad : {"loud", "info:", ":/tmp/x"}) {
    EXPECT_EQ(log_settings(TableEnvironment{{"VGPU_LOG", bad}}).level, LogLevel::off) << bad;
  }
  const std::string deep = "info:/" + std::string(300, 'x');
  EXPECT_EQ(log_settings(TableEnvironment{{"VGPU_LOG", deep}}).level, LogLevel::off);
}

TEST(Log, UnderstandsTheVariablesOfVgpuRs) {
  EXPECT_EQ(log_settings(TableEnvironment{{"TF_ENABLE_LOG", "1"}}).level, LogLevel::info);
  EXPECT_EQ(log_settings(TableEnvironment{{"TF_LOG_LEVEL", "debug"}}).level, LogLevel::debug);
  EXPECT_EQ(log_settings(TableEnvironment{{"TF_LOG_LEVEL", "warn,cuda_limiter=trace"}}).level,
            LogLevel::debug);
  EXPECT_EQ(log_settings(TableEnvironment{{"TF_LOG_LEVEL", "nonsense"}}).level, LogLevel::info);
  EXPECT_EQ(log_settings(TableEnvironment{{"TF_LOG_LEVEL", "off"}, {"TF_ENABLE_LOG", "1"}}).level,
            LogLevel::off);
  const LogSettings path = log_settings(TableEnvironment{{"TF_LOG_PATH", "/tmp/tf.log"}});
  EXPECT_EQ(path.level, LogLevel::info);
  EXPECT_EQ(path.path, "/tmp/tf.log");
  EXPECT_TRUE(path.may_be_directory);
  for (const char* off : {"0", "off", "false"}) {
    const TableEnvironment environment{
        {"TF_ENABLE_LOG", off}, {"TF_LOG_LEVEL", "debug"}, {"TF_LOG_PATH", "/tmp/tf.log"}};
    EXPECT_EQ(log_settings(environment).level, LogLevel::off) << off;
  }
  EXPECT_EQ(log_settings(TableEnvironment{{"TF_ENABLE_LOG", "0"}, {"VGPU_LOG", "error"}}).level,
            LogLevel::error);
}

}  // namespace
}  // namespace vgpu::settings

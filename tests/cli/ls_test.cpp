// SPDX-License-Identifier: Apache-2.0
// vgpu ls and doctor: what scripts rely on (JSON), and what people are shown.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tool.h"

namespace vgpu::cli_test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class ListTest : public ToolTest {
 protected:
  json list(const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{"ls", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Result result = vgpu(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return json::parse(result.out, nullptr, false);
  }
  Running tenant(const std::string& name, std::vector<std::string> options = {}) {
    options.insert(options.begin(),
                   {"run", "-q", "--name", name, "--memory", "4GiB", "--compute", "30"});
    options.insert(options.end(), {"--", CLIENT, "alloc=1024", "hold"});
    Running running = start(options);
    EXPECT_TRUE(running.wait_for("holding"));
    return running;
  }
};

TEST_F(ListTest, WithoutTenantsShowsTheGpus) {
  const json all = list();
  EXPECT_EQ(all["version"], 1);
  EXPECT_EQ(all["driver"]["simulated"], true);
  ASSERT_EQ(all["gpus"].size(), 2U);
  EXPECT_EQ(all["gpus"][0]["index"], 0);
  EXPECT_THAT(all["gpus"][0]["uuid"].get<std::string>(), testing::StartsWith("GPU-"));
  EXPECT_TRUE(all["tenants"].empty());
  EXPECT_THAT(vgpu({"ls"}).out, HasSubstr("no tenant"));
}

TEST_F(ListTest, ShowsWhatATenantHoldsAndWhoSaidSo) {
  auto running = tenant("train");
  const json all = list();
  ASSERT_EQ(all["tenants"].size(), 1U);
  const json& shown = all["tenants"][0];
  EXPECT_EQ(shown["name"], "train");
  EXPECT_EQ(shown["made_by"], "run");
  ASSERT_EQ(shown["gpus"].size(), 2U);
  std::uint64_t used = 0;
  for (const auto& gpu : shown["gpus"]) {
    EXPECT_EQ(gpu["memory"]["limit_bytes"], std::uint64_t{4} << 30);
    EXPECT_EQ(gpu["memory"]["source"], "run");
    EXPECT_EQ(gpu["memory"]["enforced"], true);
    EXPECT_EQ(gpu["compute"]["share_percent"], 30);
    EXPECT_EQ(gpu["compute"]["limit_percent"], nullptr);
    EXPECT_EQ(gpu["compute"]["enforced"], false);
    used += gpu["memory"]["used_bytes"].get<std::uint64_t>();
  }
  EXPECT_GE(used, std::uint64_t{1024} << 20);
  ASSERT_EQ(shown["processes"].size(), 1U);
  EXPECT_EQ(shown["processes"][0]["program"], "gpu_client");
  for (const auto& gpu : all["gpus"]) EXPECT_TRUE(gpu["unlimited"].empty()) << gpu.dump();

  const std::string text = vgpu({"ls"}).out;
  EXPECT_THAT(text, AllOf(HasSubstr("train"), HasSubstr("[#"), HasSubstr("of 4 GiB"),
                          HasSubstr("not enforced yet"), HasSubstr("by run")));
  EXPECT_THAT(text, Not(HasSubstr("\033"))) << "colours belong on a terminal";
}

TEST_F(ListTest, OfOneTenantOrGpuShowsOnlyThat) {
  auto one = tenant("one");
  auto two = tenant("two");
  EXPECT_EQ(list({"two"})["tenants"].size(), 1U);
  EXPECT_EQ(list({"0"})["gpus"].size(), 1U);
  const Result none = vgpu({"ls", "nobody"});
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_THAT(none.err, HasSubstr("VG1022"));
}

TEST_F(ListTest, ShowsAProcessWithoutALimiterAsUnlimited) {
  const std::string folder_of_library =
      std::string(TOOL).substr(0, std::string(TOOL).rfind("/bin/")) + "/lib/vgpu/simulated";
  set("LD_LIBRARY_PATH", folder_of_library);
  auto free_process = start_program({CLIENT, "alloc=256", "hold"});
  ASSERT_TRUE(free_process.wait_for("holding"));
  std::size_t found = 0;
  const json all = list();
  for (const auto& gpu : all["gpus"]) {
    for (const auto& process : gpu["unlimited"]) {
      ++found;
      EXPECT_EQ(process["pid"], free_process.pid());
      EXPECT_EQ(process["program"], "gpu_client");
      EXPECT_GE(process["used_bytes"].get<std::uint64_t>(), std::uint64_t{256} << 20);
    }
  }
  EXPECT_EQ(found, 1U);
  EXPECT_THAT(vgpu({"ls"}).out, HasSubstr("UNLIMITED"));
}

TEST_F(ListTest, WithoutADriverSaysSoAndAnswersNull) {
  unset("VGPU_SIMULATED");
  const json all = list();
  if (all["driver"]["available"] == true) GTEST_SKIP() << "there is a driver here";
  EXPECT_EQ(all["driver"]["version"], nullptr);
  EXPECT_TRUE(all["driver"]["why"].is_string());
}

class DoctorTest : public ToolTest {};

TEST_F(DoctorTest, SaysWhatIsWellAndWhatTheVariablesDo) {
  set("VGPU_MEMORY_LIMIT", "4GiB");
  set("VGPU_MEMROY_LIMIT", "4GiB");
  const Result result = vgpu({"doctor", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.out;
  const json report = json::parse(result.out, nullptr, false);
  EXPECT_EQ(report["enforced"]["memory"], true);
  EXPECT_EQ(report["enforced"]["compute"], false);
  bool known = false, misspelt = false;
  for (const auto& variable : report["variables"])
    known = known || variable["name"] == "VGPU_MEMORY_LIMIT";
  for (const auto& check : report["checks"]) {
    misspelt = misspelt ||
               (check["text"].get<std::string>().find("VGPU_MEMROY_LIMIT") != std::string::npos &&
                check["do"] == "VGPU_MEMORY_LIMIT?");
    EXPECT_NE(check["status"], "problem") << check.dump();
  }
  EXPECT_TRUE(known);
  EXPECT_TRUE(misspelt);
}

TEST_F(DoctorTest, FailsWithWhatToDoWhenSomethingDoesNotWork) {
  set("VGPU_MEMORY_LIMIT", "4XB");
  set("VGPU_STATE_DIR", "/proc/nowhere");
  const Result result = vgpu({"doctor"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("VGPU_MEMORY_LIMIT"), HasSubstr("/proc/nowhere"), HasSubstr("do: ")));
}

}  // namespace
}  // namespace vgpu::cli_test

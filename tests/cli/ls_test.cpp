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
    EXPECT_EQ(gpu["compute"]["policy"], "elastic");
    EXPECT_EQ(gpu["compute"]["enforced"], true);
    EXPECT_EQ(gpu["compute"]["best_effort"], nullptr);
    used += gpu["memory"]["used_bytes"].get<std::uint64_t>();
  }
  EXPECT_GE(used, std::uint64_t{1024} << 20);
  ASSERT_EQ(shown["processes"].size(), 1U);
  EXPECT_EQ(shown["processes"][0]["program"], "gpu_client");
  for (const auto& gpu : all["gpus"]) EXPECT_TRUE(gpu["unlimited"].empty()) << gpu.dump();

  const std::string text = vgpu({"ls"}).out;
  EXPECT_THAT(text, AllOf(HasSubstr("train"), HasSubstr("[#"), HasSubstr("of 4 GiB"),
                          HasSubstr("share 30 %, limit none, elastic, priority normal"),
                          HasSubstr("by run"), Not(HasSubstr("best effort"))));
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

TEST_F(ListTest, CallsSharesBestEffortBesideAProcessWithoutALimiter) {
  auto running = tenant("train");
  const std::string folder_of_library =
      std::string(TOOL).substr(0, std::string(TOOL).rfind("/bin/")) + "/lib/vgpu/simulated";
  set("LD_LIBRARY_PATH", folder_of_library);
  auto free_process = start_program({CLIENT, "alloc=256", "hold"});
  ASSERT_TRUE(free_process.wait_for("holding"));
  const json all = list();
  std::size_t found = 0;
  for (std::size_t i = 0; i < all["gpus"].size(); ++i) {
    const bool is_beside = !all["gpus"][i]["unlimited"].empty();
    found += is_beside ? 1 : 0;
    const json& compute = all["tenants"][0]["gpus"][i]["compute"];
    EXPECT_EQ(compute["enforced"], !is_beside);
    EXPECT_EQ(compute["best_effort"].is_string(), is_beside);
    EXPECT_EQ(all["gpus"][i]["shares"]["best_effort"], compute["best_effort"]);
    EXPECT_EQ(all["gpus"][i]["shares"]["sum_percent"], 30);
  }
  EXPECT_EQ(found, 1U);
  EXPECT_THAT(vgpu({"ls"}).out,
              HasSubstr("shares are best effort: gpu_client (pid " +
                        std::to_string(free_process.pid()) + ") is on it without the limiter"));
  const Result doctor = vgpu({"doctor"});
  EXPECT_THAT(doctor.out, HasSubstr("shares are best effort: gpu_client"));

  const std::vector<std::string> wanted = {"run", "--compute", "30", "--require-share",
                                           "--",  "true"};
  const Result refused = vgpu(wanted);
  EXPECT_EQ(refused.exit_code, 125);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("VG1015"), HasSubstr("without the limiter")));
  const Result said = vgpu({"run", "--compute", "30", "--", "true"});
  EXPECT_EQ(said.exit_code, 0);
  EXPECT_THAT(said.err, HasSubstr("note: GPU 1: shares are best effort"));
}

TEST_F(ListTest, SaysThatSharesAreScaled) {
  auto one = tenant("one");
  auto two = start(
      {"run", "-q", "--name", "two", "--compute", "90", "--oversubscribe", "--", CLIENT, "hold"});
  ASSERT_TRUE(two.wait_for("holding"));
  EXPECT_EQ(list()["gpus"][0]["shares"]["oversubscribed"], true);
  EXPECT_THAT(
      vgpu({"ls"}).out,
      HasSubstr("shares add up to 120 %: while all want the GPU each gets 83 % of its own"));
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
  EXPECT_EQ(report["enforced"]["compute"], true);
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

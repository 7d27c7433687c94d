// SPDX-License-Identifier: Apache-2.0
// Programs that don't use a GPU, on a machine without a driver: to the byte as without the library.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "run.h"

namespace vgpu::test {
namespace {

class WithoutADriver : public ::testing::Test {
 protected:
  std::map<std::string, std::string> environment(bool preloaded) const {
    std::map<std::string, std::string> variables = {
        {"PATH", "/usr/local/bin:/usr/bin:/bin"}, {"HOME", "/"}, {"LC_ALL", "C"}};
    if (preloaded) variables["LD_PRELOAD"] = kLimiter;
    return variables;
  }

  void expect_same(const std::vector<std::string>& command) {
    Ended with = run(command, environment(true));
    const Ended without = run(command, environment(false));
    EXPECT_EQ(with.status, without.status);
    EXPECT_EQ(with.out, without.out);
    EXPECT_EQ(with.err, without.err);
  }

  TemporaryDirectory directory_;
};

TEST_F(WithoutADriver, LookupsAndTheirErrorsAreTheSame) {
  expect_same({std::string(VGPU_PROBE_DIR) + "/no_driver_probe"});
}
TEST_F(WithoutADriver, LsIsTheSame) { expect_same({"/bin/ls", "-la", "/etc"}); }
TEST_F(WithoutADriver, BashIsTheSame) {
  expect_same(
      {"/bin/bash", "-c",
       "x=1; export x; y=$(echo $x); echo $y; ls /nowhere; env | grep -v LD_PRELOAD | sort"});
}
TEST_F(WithoutADriver, PythonIsTheSame) {
  expect_same({VGPU_PYTHON, "-S", "-c",
               "import ctypes\n"
               "for name in ('libcuda.so.1', 'libnvidia-ml.so.1'):\n"
               "  try: ctypes.CDLL(name)\n"
               "  except OSError as error: print(error)\n"
               "try: ctypes.CDLL(None).cuInit\n"
               "except AttributeError as error: print(error)\n"});
}

// Opening and mapping the library, and nothing else: no thread, no file, no call of the driver.
TEST_F(WithoutADriver, StartCostsAProgramNothingButMappingTheLibrary) {
  const std::size_t without = count_system_calls({"/bin/true"}, environment(false));
  const std::size_t with = count_system_calls({"/bin/true"}, environment(true));
  if (without == 0 || with == 0) GTEST_SKIP() << "system calls can't be watched here";
  EXPECT_LE(with, without + 16);
}

TEST_F(WithoutADriver, StartOfATenantsProcessCostsAFewCallsMore) {
  auto variables = environment(true);
  variables["VGPU_MEMORY_LIMIT"] = "4GiB";
  const std::size_t without = count_system_calls({"/bin/true"}, environment(true));
  const std::size_t with = count_system_calls({"/bin/true"}, variables);
  if (without == 0 || with == 0) GTEST_SKIP() << "system calls can't be watched here";
  EXPECT_LE(with, without + 16);
  variables["VGPU_TENANT"] = "inherited";
  EXPECT_EQ(count_system_calls({"/bin/true"}, variables), without);
}

TEST_F(WithoutADriver, LimitVariablesChangeNothingButTheTenant) {
  auto variables = environment(true);
  variables["VGPU_MEMORY_LIMIT"] = "4GiB";
  variables["VGPU_STATE_DIR"] = directory_.path() + "/state";
  const Ended ended =
      run({"/bin/bash", "-c",
           "env | grep -c '^VGPU_TENANT=t-'; bash -c 'echo $VGPU_TENANT'; echo $VGPU_TENANT"},
          variables);
  EXPECT_EQ(ended.status, 0);
  EXPECT_EQ(ended.err, "");
  ASSERT_EQ(ended.out.substr(0, 2), "1\n");
  const std::string tenants = ended.out.substr(2);
  EXPECT_EQ(tenants.substr(0, tenants.size() / 2), tenants.substr(tenants.size() / 2))
      << "a child is another tenant";
  EXPECT_FALSE(std::filesystem::exists(directory_.path() + "/state"));
}

TEST_F(WithoutADriver, TenantThatIsThereStays) {
  auto variables = environment(true);
  variables["VGPU_MEMORY_LIMIT"] = "4GiB";
  variables["VGPU_TENANT"] = "mine";
  EXPECT_EQ(run({"/usr/bin/env"}, variables).out.find("VGPU_TENANT=t-"), std::string::npos);
}

}  // namespace
}  // namespace vgpu::test

// SPDX-License-Identifier: Apache-2.0
// Every way of reaching the driver, each in a program of its own under a limit of 2 GiB on the
// simulated GPU: the program gets what fits and is refused what doesn't (probe.h), and without the
// library the same program isn't.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "run.h"

namespace vgpu::test {
namespace {

const std::string kSimulated = VGPU_SIMULATED_DIR;
const std::string kPrograms = VGPU_PROBE_DIR;

class Binding : public ::testing::Test {
 protected:
  std::map<std::string, std::string> environment(const std::string& preload) const {
    return {{"PATH", std::getenv("PATH") == nullptr ? "/usr/bin:/bin" : std::getenv("PATH")},
            {"HOME", directory_.path()},
            {"LD_LIBRARY_PATH", kSimulated + ":" + kPrograms},
            {"LD_PRELOAD", preload},
            {"VGPU_STATE_DIR", directory_.path() + "/state"},
            {"VGPU_SIM_STATE", directory_.path() + "/sim"},
            {"VGPU_MEMORY_LIMIT", "2GiB"}};
  }

  static std::string probe(const std::string& name) { return kPrograms + "/" + name; }

  // The limit holds with the library, and it is the library that makes it hold.
  void expect_limited(const std::vector<std::string>& command,
                      const std::string& preload = kLimiter) {
    const Ended limited = run(command, environment(preload));
    EXPECT_EQ(limited.status, 0) << limited.err;
    EXPECT_EQ(limited.out, "");
    EXPECT_EQ(limited.err, "");
    const Ended unlimited = run(command, environment(""));
    EXPECT_EQ(unlimited.status, 1);
    EXPECT_EQ(unlimited.err, "probe: over the limit: 0\n");
  }

  void expect_limited_by_route(std::vector<std::string> route) {
    route.insert(route.begin(), probe("route_probe"));
    expect_limited(route);
  }

  void expect_every_row_hooked(std::vector<std::string> route) {
    route.insert(route.begin(), {probe("route_probe"), "rows"});
    const Ended limited = run(route, environment(kLimiter));
    EXPECT_EQ(limited.status, 0) << limited.err;
    const Ended unlimited = run(route, environment(""));
    EXPECT_EQ(unlimited.status, 1);
    EXPECT_NE(unlimited.err.find("cuMemAlloc_v2 isn't hooked"), std::string::npos) << unlimited.err;
  }

  // The driver under another name, file or both.
  std::string copy_of_driver() const {
    const std::string path = directory_.path() + "/libcuda.so.999.1";
    std::filesystem::copy_file(kSimulated + "/libcuda.so.1", path,
                               std::filesystem::copy_options::skip_existing);
    return path;
  }

  TemporaryDirectory directory_;
};

TEST_F(Binding, LinkedProgramIsLimited) { expect_limited({probe("linked_probe"), "linked"}); }
TEST_F(Binding, LookupBehindALinkedProgramIsLimited) {
  expect_limited({probe("linked_probe"), "next"});
}
TEST_F(Binding, DefaultLookupInALinkedProgramIsLimited) {
  expect_limited({probe("linked_probe"), "default"});
}
TEST_F(Binding, DriverOpenedBySonameIsLimited) { expect_limited_by_route({"soname"}); }
TEST_F(Binding, DriverOpenedByPathIsLimited) {
  expect_limited_by_route({"path", kSimulated + "/libcuda.so.1"});
}
TEST_F(Binding, DriverOpenedByAPathOfItsOwnIsLimited) {
  expect_limited_by_route({"path", copy_of_driver()});
}
TEST_F(Binding, SecondCopyOfTheDriverIsLimited) {
  expect_limited_by_route({"second_copy", copy_of_driver()});
}
TEST_F(Binding, DefaultLookupIsLimited) { expect_limited_by_route({"default"}); }
TEST_F(Binding, LookupInTheProgramsHandleIsLimited) { expect_limited_by_route({"program_handle"}); }
TEST_F(Binding, LookupThroughAnotherLibraryIsLimited) {
  expect_limited_by_route({"other_library", probe("liblinked_probe.so")});
}
TEST_F(Binding, LookupByADlsymThatWasLookedUpIsLimited) {
  expect_limited_by_route({"fetched_dlsym"});
}
TEST_F(Binding, ChildAfterForkIsLimited) { expect_limited_by_route({"forked"}); }
TEST_F(Binding, ChildAfterExecIsLimited) { expect_limited_by_route({"executed"}); }
TEST_F(Binding, ChildOfALimitedProcessIsLimited) { expect_limited_by_route({"forked_after_nvml"}); }
TEST_F(Binding, ThreadsThatStartTogetherAreLimited) { expect_limited_by_route({"threads"}); }
TEST_F(Binding, ChildOfAShellIsLimited) {
  expect_limited({"/bin/sh", "-c", probe("route_probe") + " soname; exit $?"});
}

TEST_F(Binding, DriverOpenedByItsPlainNameIsLimited) {
  std::filesystem::create_symlink(kSimulated + "/libcuda.so.1", directory_.path() + "/libcuda.so");
  auto variables = environment(kLimiter);
  variables["LD_LIBRARY_PATH"] = directory_.path() + ":" + variables["LD_LIBRARY_PATH"];
  const Ended limited = run({probe("route_probe"), "plain_name"}, variables);
  EXPECT_EQ(limited.status, 0) << limited.err;
}

TEST_F(Binding, DeeplyBoundLibraryThatIsLinkedIsLimited) {
  expect_limited_by_route({"deepbind", probe("liblinked_probe.so"), "check_linked"});
}
TEST_F(Binding, DeeplyBoundLibraryThatBindsLazilyIsLimited) {
  expect_limited_by_route({"deepbind", probe("liblazy_probe.so"), "check_linked"});
}
TEST_F(Binding, DeeplyBoundLibraryThatLooksUpIsLimited) {
  expect_limited_by_route({"deepbind", probe("liblinked_probe.so"), "check_default"});
}
TEST_F(Binding, DeeplyBoundLibraryThatLooksBehindItselfIsLimited) {
  expect_limited_by_route({"deepbind", probe("liblinked_probe.so"), "check_next"});
}

TEST_F(Binding, AddressesFromTheDriverAreLimited) {
  for (const char* route :
       {"proc_address_v1_11030", "proc_address_v1_12000", "proc_address_v2_12000",
        "proc_address_v2_13000", "proc_address_self_12000"}) {
    SCOPED_TRACE(route);
    expect_limited_by_route({route});
  }
}

TEST_F(Binding, EveryHookedNameIsHookedByEveryRoute) {
  const std::vector<std::vector<std::string>> routes = {
      {"soname"},
      {"path", kSimulated + "/libcuda.so.1", kSimulated + "/libnvidia-ml.so.1"},
      {"second_copy", copy_of_driver()},
      {"default"},
      {"other_library", probe("liblinked_probe.so")},
      {"fetched_dlsym"}};
  for (const std::vector<std::string>& route : routes) {
    SCOPED_TRACE(route.front());
    expect_every_row_hooked(route);
  }
}

TEST_F(Binding, EveryHookedNameThatTheDriverGivesIsHookedInEveryVersion) {
  for (const char* route :
       {"proc_address_v1_11030", "proc_address_v1_12000", "proc_address_v2_12000",
        "proc_address_v2_12080", "proc_address_v2_13000", "proc_address_self_13000"}) {
    SCOPED_TRACE(route);
    expect_every_row_hooked({route});
  }
}

TEST_F(Binding, VersionedLookupIsHooked) {
  auto variables = environment(kLimiter);
  variables["LD_LIBRARY_PATH"] = kPrograms + "/versioned";
  const Ended limited = run({probe("versioned_probe")}, variables);
  EXPECT_EQ(limited.status, 0) << limited.err;
  EXPECT_EQ(
      limited.out,
      "cuInit limiter\ncuMemAlloc_v2 limiter\ncuDriverGetVersion driver\nwrong version null\n");
}

TEST_F(Binding, PreloadedAllocatorAndLimiterWorkInEitherOrder) {
  const std::string allocator = probe("libpreloaded_allocator.so");
  for (const std::string& preload : {allocator + ":" + kLimiter, kLimiter + ":" + allocator}) {
    SCOPED_TRACE(preload);
    const Ended limited = run({probe("route_probe"), "soname"}, environment(preload));
    EXPECT_EQ(limited.status, 0) << limited.err;
  }
}

TEST_F(Binding, PreloadedWrapperAndLimiterWorkInEitherOrder) {
  const std::string wrapper = probe("libpreloaded_wrapper.so");
  for (const std::string& preload : {wrapper + ":" + kLimiter, kLimiter + ":" + wrapper}) {
    SCOPED_TRACE(preload);
    const Ended limited = run({probe("linked_probe"), "linked"}, environment(preload));
    EXPECT_EQ(limited.status, 0) << limited.err;
  }
}

TEST_F(Binding, CtypesIsLimited) {
  const Ended limited =
      run({VGPU_PYTHON, std::string(VGPU_SOURCE_DIR) + "/ctypes_probe.py"}, environment(kLimiter));
  EXPECT_EQ(limited.status, 0) << limited.out << limited.err;
}

TEST_F(Binding, LimitThatPythonSetsBeforeItUsesTheGpuHolds) {
  auto variables = environment(kLimiter);
  variables.erase("VGPU_MEMORY_LIMIT");
  const Ended limited = run(
      {VGPU_PYTHON, std::string(VGPU_SOURCE_DIR) + "/ctypes_probe.py", "VGPU_MEMORY_LIMIT=2GiB"},
      variables);
  EXPECT_EQ(limited.status, 0) << limited.out << limited.err;
}

TEST_F(Binding, ProcessWithoutALimitIsNotLimited) {
  auto variables = environment(kLimiter);
  variables.erase("VGPU_MEMORY_LIMIT");
  const Ended unlimited = run({probe("route_probe"), "soname"}, variables);
  EXPECT_EQ(unlimited.err, "probe: over the limit: 0\n");
  EXPECT_FALSE(std::filesystem::exists(directory_.path() + "/state"));
}

TEST_F(Binding, BadSettingRefusesInitialisationWithOneLine) {
  auto variables = environment(kLimiter);
  variables["VGPU_MEMORY_LIMIT"] = "2GibberishB";
  const Ended refused = run({probe("route_probe"), "soname"}, variables);
  EXPECT_EQ(refused.status, 1);
  EXPECT_EQ(refused.out, "");
  EXPECT_EQ(refused.err.rfind("vgpu: VGPU_MEMORY_LIMIT=", 0), 0U) << refused.err;
  EXPECT_NE(refused.err.find("\nprobe: cuInit: 800\n"), std::string::npos) << refused.err;
}

TEST_F(Binding, BadSettingRefusesNvmlOnceSaidAndEveryTime) {
  auto variables = environment(kLimiter);
  variables["VGPU_MEMORY_LIMIT"] = "2GibberishB";
  const Ended refused = run({probe("route_probe"), "nvml"}, variables);
  EXPECT_EQ(refused.out, "4\n4\n");  // NVML_ERROR_NO_PERMISSION
  EXPECT_EQ(std::count(refused.err.begin(), refused.err.end(), '\n'), 1) << refused.err;
}

// The simulated node's GPUs as CUDA numbers them without a tenant.
class VisibleDevices : public Binding {
 protected:
  std::vector<std::string> devices(const std::map<std::string, std::string>& variables) const {
    const Ended ended = run({probe("route_probe"), "devices"}, variables);
    EXPECT_EQ(ended.err, "");
    std::vector<std::string> lines;
    std::istringstream text(ended.out);
    for (std::string line; std::getline(text, line);) lines.push_back(line);
    return lines;
  }
  std::vector<std::string> all_uuids() const {
    std::vector<std::string> lines = devices(environment(""));
    return {lines.begin() + 1, lines.end() - 1};
  }
  using Lines = std::vector<std::string>;
};

TEST_F(VisibleDevices, AreTheTenantsGpusInTheirOrder) {
  const auto all = all_uuids();
  ASSERT_GE(all.size(), 3U);
  auto variables = environment(kLimiter);
  variables["VGPU_GPUS"] = all[2] + "," + all[0];
  EXPECT_EQ(devices(variables), (Lines{"0", all[2], all[0], "unset"}));
}

TEST_F(VisibleDevices, AreChosenAmongTheTenantsByTheProgramsOwnVariable) {
  const auto all = all_uuids();
  ASSERT_GE(all.size(), 3U);
  auto variables = environment(kLimiter);
  variables["VGPU_GPUS"] = all[2] + "," + all[0];
  variables["CUDA_VISIBLE_DEVICES"] = "1";
  EXPECT_EQ(devices(variables), (Lines{"0", all[0], "1"}));
  variables["CUDA_VISIBLE_DEVICES"] = "2";
  EXPECT_EQ(devices(variables), (Lines{"100", "2"}));
  variables["CUDA_VISIBLE_DEVICES"] = all[1];
  EXPECT_EQ(devices(variables), (Lines{"100", all[1]}));
  variables["CUDA_VISIBLE_DEVICES"] = "";
  EXPECT_EQ(devices(variables), (Lines{"100", ""}));
}

TEST_F(VisibleDevices, AreTheDriversBusinessWhereTheTenantHasThemAll) {
  const auto all = all_uuids();
  auto variables = environment(kLimiter);
  variables["CUDA_VISIBLE_DEVICES"] = "1,0";
  EXPECT_EQ(devices(variables), (Lines{"0", all[1], all[0], "1,0"}));
}

TEST_F(Binding, BadSettingRunsUnlimitedWhereThatIsAskedFor) {
  auto variables = environment(kLimiter);
  variables["VGPU_MEMORY_LIMIT"] = "2GibberishB";
  variables["VGPU_ON_ERROR"] = "open";
  const Ended open = run({probe("route_probe"), "soname"}, variables);
  EXPECT_NE(open.err.find("runs without limits)\nprobe: over the limit: 0\n"), std::string::npos)
      << open.err;
}

TEST_F(Binding, SwitchedOffCudaHooksLeaveABareTenantUnlimited) {
  auto variables = environment(kLimiter);
  variables["ENABLE_CUDA_HOOKS"] = "false";
  const Ended open = run({probe("route_probe"), "soname"}, variables);
  EXPECT_EQ(open.err, "probe: over the limit: 0\n");
}

TEST_F(Binding, ProcessesThatInheritATenantShareItsLimit) {
  // Each process of the shell takes 64 MiB and a context of about half a GiB: the third finds no
  // room beside two.
  auto variables = environment(kLimiter);
  variables["VGPU_MEMORY_LIMIT"] = "1300MiB";
  const std::string hold = probe("hold_probe");
  const Ended ended = run(
      {"/bin/bash", "-c", "test -n \"$VGPU_TENANT\" || exit 9\n" + hold + " " + hold + " " + hold},
      variables);
  EXPECT_EQ(ended.out, "0\n0\n2\n") << ended.err;
}

}  // namespace
}  // namespace vgpu::test

// SPDX-License-Identifier: Apache-2.0
// Where and by whom it is used: as installed, by a user without rights and without a home, on a
// machine whose file systems can't be written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "tool.h"

namespace {

using namespace vgpu::cli_test;
using testing::HasSubstr;
using Words = std::vector<std::string>;

class PlaceTest : public ToolTest {
 protected:
  void SetUp() override {
    chmod(folder().c_str(), 0755);  // for other users
    const std::string install = CMAKE_PROGRAM " --install " BUILD_FOLDER " --prefix " + prefix() +
                                " >" + folder() + "/log 2>&1";
    ASSERT_EQ(std::system(install.c_str()), 0) << install;
  }
  std::string prefix() const { return folder() + "/usr"; }
  std::string tool() const { return prefix() + "/bin/vgpu"; }

  // What nvidia-smi shows of a limit of 4 GiB on the first GPU. `before`: who runs the tool.
  Result limited(Words before = {}) {
    const Words words = {tool(),
                         "run",
                         "-q",
                         "--simulated",
                         "--gpu",
                         "0",
                         "--memory",
                         "4GiB",
                         "--",
                         "nvidia-smi",
                         "--query-gpu=memory.total",
                         "--format=csv,noheader"};
    before.insert(before.end(), words.begin(), words.end());
    return start_program(before).finish();
  }
  Result shell(Words before, const std::string& script) {
    before.insert(before.end(), {"/bin/sh", "-c", script});
    return start_program(before).finish();
  }
};

TEST_F(PlaceTest, WorksFromWhereItWasInstalled) {
  const Result result = limited();
  EXPECT_EQ(result.out, "4096 MiB\n") << result.err;
  for (const char* file :
       {"lib/vgpu/libcuda_limiter.so", "lib/vgpu/libadd_path.so", "share/man/man1/vgpu.1",
        "share/bash-completion/completions/vgpu", "share/zsh/site-functions/_vgpu",
        "share/fish/vendor_completions.d/vgpu.fish"})
    EXPECT_TRUE(std::filesystem::exists(prefix() + "/" + file)) << file;
}

TEST_F(PlaceTest, WorksForAUserWithoutRightsAndWithoutAHome) {
  if (geteuid() != 0) GTEST_SKIP() << "only root becomes another user";
  constexpr const char* kNobody = "65534";
  const std::vector<std::string> defaults = {std::string("/dev/shm/vgpu-") + kNobody,
                                             std::string("/dev/shm/vgpu-sim-") + kNobody};
  std::vector<std::string> made;
  for (const std::string& path : defaults) {
    if (!std::filesystem::exists(path)) made.push_back(path);
  }
  for (const char* name : {"HOME", "VGPU_STATE_DIR", "VGPU_SIM_STATE"}) unset(name);
  const Result result =
      limited({"/usr/bin/setpriv", "--reuid", kNobody, "--regid", kNobody, "--clear-groups"});
  EXPECT_EQ(result.out, "4096 MiB\n") << result.err;
  for (const std::string& path : made) std::filesystem::remove_all(path);
}

class ReadOnlyTest : public PlaceTest {
 protected:
  void SetUp() override {
    PlaceTest::SetUp();
    for (const char* flags : {"-m", "-rm"}) {
      unshare_ = {"/usr/bin/unshare", flags};
      if (on_read_only("exit 0").exit_code == 0) break;
      unshare_.clear();
    }
    if (unshare_.empty()) GTEST_SKIP() << "no mount namespaces here";
    // The simulated machine needs a place to be; the limiter has none.
    set("VGPU_SIM_STATE", folder() + "/writable/sim");
    unset("VGPU_STATE_DIR");
  }
  Result on_read_only(const std::string& script) {
    const std::string writable = folder() + "/writable";
    return shell(unshare_,
                 "set -e; mkdir -p " + writable +
                     "; mount --make-rprivate /; for d in /tmp /dev/shm /run; do mount -o bind "
                     "$d $d; mount -o remount,bind,ro $d; done; mount -o remount,bind,ro /; "
                     "mount -t tmpfs none " +
                     writable + "; set +e; " + script);
  }
  Words unshare_;
};

TEST_F(ReadOnlyTest, ARunSaysInOneLineWhatItNeeds) {
  const Result result = on_read_only(tool() + " run --simulated --memory 4GiB -- true");
  EXPECT_EQ(result.exit_code, 125);
  EXPECT_THAT(result.err, HasSubstr("can't be used: "));
  EXPECT_THAT(result.err, HasSubstr("(VG1021)"));
  EXPECT_THAT(result.err, HasSubstr("VGPU_STATE_DIR=DIRECTORY"));
}

TEST_F(ReadOnlyTest, BareVariablesLimitTheProcessAlone) {
  const std::string libraries = prefix() + "/lib/vgpu";
  const Result result =
      on_read_only("LD_PRELOAD=" + libraries + "/libcuda_limiter.so LD_LIBRARY_PATH=" + libraries +
                   "/simulated VGPU_MEMORY_LIMIT=4GiB " + libraries +
                   "/simulated/nvidia-smi -i 0 --query-gpu=memory.total --format=csv,noheader");
  EXPECT_EQ(result.out, "4096 MiB\n") << result.err;
  EXPECT_THAT(result.err, HasSubstr("the limit binds this process alone"));
}

TEST_F(ReadOnlyTest, ARunWorksWithAStateDirectoryThatCanBeWritten) {
  set("VGPU_STATE_DIR", folder() + "/writable/state");
  const Result result =
      on_read_only(tool() + " run -q --simulated --gpu 0 --memory 4GiB -- nvidia-smi " +
                   "--query-gpu=memory.total --format=csv,noheader");
  EXPECT_EQ(result.out, "4096 MiB\n") << result.err;
}

}  // namespace

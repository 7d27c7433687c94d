// SPDX-License-Identifier: Apache-2.0
// What the tool sees in a program before it starts one. The odd ones are made here: copies of a
// real program with one field changed.
#include "vgpu/survey/program.h"

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>

#include "tool.h"
#include "vgpu/survey/problem.h"

namespace vgpu::survey {
namespace {

using testing::HasSubstr;

constexpr const char* kSearchPath = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

class ProgramTest : public cli_test::ToolTest {
 protected:
  static std::string content_of(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static Problem refusal_of(const std::vector<std::string>& argv) {
    try {
      check_command(argv, kSearchPath);
    } catch (const Problem& problem) {
      return problem;
    }
    return {0, "accepted", ""};
  }
  std::string copy_with(const std::string& name, const std::function<void(std::string&)>& change) {
    std::string content = content_of(OPENER);
    change(content);
    return write_file(name, content, 0755);
  }
};

TEST_F(ProgramTest, ThatIsDynamicIsAccepted) {
  EXPECT_EQ(inspect_program(OPENER).linking, Linking::preloadable);
  EXPECT_EQ(check_command({OPENER, "x"}, kSearchPath).path, OPENER);
}

TEST_F(ProgramTest, IsLookedForInPath) {
  EXPECT_THAT(check_command({"sh", "-c", "true"}, kSearchPath).path, HasSubstr("/sh"));
}

TEST_F(ProgramTest, ThatIsStaticIsRefused) {
  const Problem problem = refusal_of({STATIC_OPENER});
  EXPECT_EQ(problem.code, "VG1103");
  EXPECT_EQ(problem.exit_code, 125);
  EXPECT_THAT(problem.what, HasSubstr("static"));
}

TEST_F(ProgramTest, ThatIsSetuidOrSetgidIsRefused) {
  EXPECT_THAT(refusal_of({write_file("suid", content_of(OPENER), 04755)}).what,
              HasSubstr("setuid"));
  EXPECT_THAT(refusal_of({write_file("sgid", content_of(OPENER), 02755)}).what,
              HasSubstr("setgid"));
}

TEST_F(ProgramTest, OfAForeignLibcIsRefused) {
  const std::string path = copy_with("musl", [](std::string& content) {
    const auto at = content.find("/lib64/ld-linux-x86-64.so.2");
    ASSERT_NE(at, std::string::npos) << "this test knows the x86-64 loader only";
    const std::string loader("/lib/ld-musl-x86_64.so.1\0\0\0", 27);
    content.replace(at, loader.size(), loader);
  });
  const Problem problem = refusal_of({path});
  EXPECT_EQ(problem.code, "VG1103");
  EXPECT_THAT(problem.what, HasSubstr("musl"));
}

TEST_F(ProgramTest, OfAnotherArchitectureIsRefused) {
  const std::string path = copy_with("ppc", [](std::string& content) {
    const std::uint16_t machine = EM_PPC64;
    std::memcpy(content.data() + offsetof(Elf64_Ehdr, e_machine), &machine, sizeof machine);
  });
  EXPECT_THAT(refusal_of({path}).what, HasSubstr("ppc64"));
}

TEST_F(ProgramTest, ThatIsCutOffAnywhereIsReadWithoutHarm) {
  const std::string content = content_of(OPENER);
  for (std::size_t size = 0; size < 1024; size += 7) {
    const std::string path = write_file("cut", content.substr(0, size), 0755);
    (void)inspect_program(path);
  }
}

TEST_F(ProgramTest, WithWildHeaderOffsetsIsReadWithoutHarm) {
  const std::string path = copy_with("wild", [](std::string& content) {
    const std::uint64_t offset = ~std::uint64_t{0};
    std::memcpy(content.data() + offsetof(Elf64_Ehdr, e_phoff), &offset, sizeof offset);
  });
  EXPECT_NE(inspect_program(path).linking, Linking::preloadable);
}

TEST_F(ProgramTest, ThatIsAScriptIsItsInterpreter) {
  EXPECT_EQ(refusal_of({write_file("good", "#!/bin/sh -e\ntrue\n", 0755)}).code, "accepted");
  const std::string inner = write_file("inner", std::string("#!") + STATIC_OPENER + "\n", 0755);
  const Problem problem = refusal_of({write_file("outer", "#!" + inner + " -x\n", 0755)});
  EXPECT_EQ(problem.code, "VG1103");
  EXPECT_THAT(problem.what, HasSubstr(STATIC_OPENER));
}

TEST_F(ProgramTest, BehindEnvIsLookedAt) {
  EXPECT_EQ(
      refusal_of(
          {write_file("by_env", "#!/usr/bin/env -S -u A B=1 " + std::string(STATIC_OPENER) + "\n",
                      0755)})
          .code,
      "VG1103");
  EXPECT_EQ(refusal_of({"env", "A=1", STATIC_OPENER}).code, "VG1103");
  EXPECT_EQ(refusal_of({"env", "A=1", "sh"}).code, "accepted");
}

TEST_F(ProgramTest, WithoutAFormatIsRunByTheShell) {
  const Command command = check_command({write_file("plain", "echo hi\n", 0755), "a"}, kSearchPath);
  EXPECT_EQ(command.path, "/bin/sh");
  EXPECT_THAT(command.argv, testing::ElementsAre("sh", folder() + "/plain", "a"));
}

TEST_F(ProgramTest, ThatRunsTheWorkElsewhereIsRefusedWithTheRecipe) {
  for (const auto* name :
       {"sudo", "su", "docker", "podman", "tmux", "screen", "systemd-run", "ssh"}) {
    const Problem problem = refusal_of({name, "x"});
    EXPECT_EQ(problem.code, "VG1101") << name;
    EXPECT_EQ(problem.exit_code, 125);
    EXPECT_THAT(problem.next, HasSubstr("vgpu run")) << name;
  }
  EXPECT_EQ(refusal_of({"/opt/bin/docker"}).code, "VG1101");
}

TEST_F(ProgramTest, ThatIsNotThereOrNotExecutableHasItsOwnStatus) {
  EXPECT_EQ(refusal_of({"no-such-program"}).exit_code, 127);
  EXPECT_EQ(refusal_of({folder() + "/none"}).exit_code, 127);
  EXPECT_EQ(refusal_of({write_file("data", "x", 0644)}).exit_code, 126);
  EXPECT_EQ(refusal_of({folder()}).exit_code, 126);
}

}  // namespace
}  // namespace vgpu::survey

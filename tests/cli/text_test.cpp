// SPDX-License-Identifier: Apache-2.0
// What the tool says about itself: help, man pages, completion, sizes, and what it answers to bad
// input.
#include "vgpu/survey/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/App.hpp>

#include "options.h"
#include "tool.h"
#include "verbs.h"
#include "vgpu/survey/problem.h"

namespace vgpu::cli {
namespace {

using survey::bar, survey::Problem, survey::size_text, survey::table, survey::visible;
using testing::HasSubstr;

const std::vector<std::string> kVerbs = verb_names();

std::vector<std::string> flags_of(const std::string& verb) {
  Request request;
  const auto app = declare_commands(request);
  std::vector<std::string> flags;
  for (const auto* option : app->get_subcommand(verb)->get_options()) {
    for (const auto& name : option->get_lnames()) flags.push_back("--" + name);
  }
  return flags;
}

std::string code_of(const std::vector<std::string>& arguments) {
  try {
    parse_arguments(arguments);
  } catch (const Problem& problem) {
    return problem.code;
  }
  return "";
}

TEST(Help, OfEachVerbIsWhatItWas) {
  cli_test::expect_golden("help.txt", help_text(""));
  for (const auto& verb : kVerbs) cli_test::expect_golden("help_" + verb + ".txt", help_text(verb));
}

TEST(Help, ShowsEveryFlagAnExampleAndTheExitStatus) {
  for (const auto& verb : kVerbs) {
    const std::string help = help_text(verb);
    for (const auto& flag : flags_of(verb)) EXPECT_THAT(help, HasSubstr(flag)) << verb;
    EXPECT_THAT(help, HasSubstr("Examples\n"));
    EXPECT_THAT(help, HasSubstr("Exit status\n"));
  }
}

TEST(ManPages, NameEveryFlagAndVerb) {
  for (const auto& verb : kVerbs) {
    const std::string page = man_page(verb);
    EXPECT_THAT(page, HasSubstr(".SH EXIT STATUS"));
    EXPECT_THAT(man_page(""), HasSubstr("vgpu\\-" + verb));
    for (auto flag : flags_of(verb)) {
      for (auto at = flag.find('-'); at != std::string::npos; at = flag.find('-', at + 2))
        flag.replace(at, 1, "\\-");
      EXPECT_THAT(page, HasSubstr(flag)) << verb;
    }
  }
}

TEST(Completion, NamesEveryFlagAndVerb) {
  for (const auto* shell : {"bash", "zsh", "fish"}) {
    const std::string script = completion_script(shell);
    for (const auto& verb : kVerbs) {
      EXPECT_THAT(script, HasSubstr(verb)) << shell;
      for (const auto& flag : flags_of(verb)) {
        const std::string wanted = std::string(shell) == "fish" ? "-l " + flag.substr(2) : flag;
        EXPECT_THAT(script, HasSubstr(wanted)) << shell;
      }
    }
  }
}

TEST(Completion, OfAnUnknownShellIsRefused) { EXPECT_THROW(completion_script("tcsh"), Problem); }

TEST(Arguments, BehindTheDashesBelongToTheProgram) {
  const auto parsed =
      parse_arguments({"run", "--memory", "4GiB", "--", "python", "--memory", "-q", "--", "x"});
  EXPECT_EQ(parsed.request.run.memory, "4GiB");
  EXPECT_FALSE(parsed.request.run.quiet);
  EXPECT_THAT(parsed.request.run.command,
              testing::ElementsAre("python", "--memory", "-q", "--", "x"));
}

TEST(Arguments, WithoutDashesTheFirstWordStartsTheProgram) {
  const auto parsed =
      parse_arguments({"run", "-q", "--memory=4GiB", "--compute", "30", "python", "--help"});
  EXPECT_TRUE(parsed.proceed);
  EXPECT_TRUE(parsed.request.run.quiet);
  EXPECT_EQ(parsed.request.run.memory, "4GiB");
  EXPECT_EQ(parsed.request.run.compute, "30");
  EXPECT_THAT(parsed.request.run.command, testing::ElementsAre("python", "--help"));
}

TEST(Arguments, OfExecAreATenantAndAProgram) {
  const auto parsed = parse_arguments({"exec", "train", "--", "bash", "-c", "true"});
  EXPECT_EQ(parsed.request.exec.tenant, "train");
  EXPECT_THAT(parsed.request.exec.command, testing::ElementsAre("bash", "-c", "true"));
}

TEST(Arguments, OfATenantNeedNotSayThatItsGpuIsSimulated) {
  try {
    parse_arguments({"set", "train", "--simulated", "--compute", "30"});
    FAIL();
  } catch (const survey::Problem& problem) {
    EXPECT_THAT(problem.next, testing::HasSubstr("without it"));
  }
}

TEST(Arguments, ThatAreNotKnownNameTheNearest) {
  EXPECT_EQ(code_of({"rnu"}), "VG1001");
  EXPECT_EQ(code_of({"run", "--memroy", "4GiB", "--", "true"}), "VG1002");
  EXPECT_EQ(code_of({"run", "--memory"}), "VG1002");
  try {
    parse_arguments({"run", "--memroy", "4GiB", "--", "true"});
    FAIL();
  } catch (const Problem& problem) {
    EXPECT_EQ(problem.exit_code, 125);
    EXPECT_EQ(problem.next, "--memory");
  }
  try {
    parse_arguments({"ls", "--jsno"});
    FAIL();
  } catch (const Problem& problem) {
    EXPECT_EQ(problem.exit_code, 2);
    EXPECT_EQ(problem.next, "--json");
  }
}

TEST(Sizes, AreShownInTheUnitThatFits) {
  EXPECT_EQ(size_text(std::nullopt), "-");
  EXPECT_EQ(size_text(0), "0 MiB");
  EXPECT_EQ(size_text(512), "512 B");
  EXPECT_EQ(size_text(std::uint64_t{526} << 20), "526 MiB");
  EXPECT_EQ(size_text(std::uint64_t{4} << 30), "4 GiB");
  EXPECT_EQ(size_text((std::uint64_t{3} << 30) / 2), "1.5 GiB");
}

TEST(Bars, ShowALittleAsOneCellAndTheUnknownAsNone) {
  EXPECT_EQ(bar(0.0, 4), "[....]");
  EXPECT_EQ(bar(0.01, 4), "[#...]");
  EXPECT_EQ(bar(1.0, 4), "[####]");
  EXPECT_EQ(bar(7.0, 4), "[####]");
  EXPECT_EQ(bar(std::nullopt, 4), "[....]");
}

TEST(Names, CanNotMoveTheCursor) {
  EXPECT_EQ(visible("python"), "python");
  EXPECT_EQ(visible("a\033[2Jb\n"), "a?[2Jb?");
  EXPECT_EQ(visible("\u00e4\xc2\x9b\xe2\x96"), "\u00e4???") << "C1 controls, cut characters";
}

TEST(Tables, AlignByCharactersNotBytes) {
  EXPECT_EQ(table({{"\u00e4", "x"}, {"bb", "y"}}, ""), "\u00e4   x\nbb  y\n");
}

}  // namespace
}  // namespace vgpu::cli

// SPDX-License-Identifier: Apache-2.0
// The entry: parse, run, say what went wrong in one place.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "commands.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/text.h"

namespace {

std::vector<std::string> names_of_commands(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* each : app.get_subcommands({})) names.push_back(each->get_name());
  return names;
}

// "hypervisor deamon": says what it may have been meant to be. False: it is one.
bool refuses_command(const CLI::App& app, std::string_view word) {
  const std::vector<std::string> names = names_of_commands(app);
  if (word.empty() || word[0] == '-' || std::find(names.begin(), names.end(), word) != names.end())
    return false;
  const std::string_view guess = vgpu::survey::nearest(word, names);
  fmt::print(stderr, "hypervisor: {} is no command of hypervisor (VG1001)\n  try: hypervisor {}\n",
             word, guess.empty() ? "--help" : guess);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  using vgpu::survey::kExitFailed;
  using vgpu::survey::kExitUsage;
  try {
    vgpu::hypervisor::Run run;
    const auto app = vgpu::hypervisor::declare_commands(run);
    try {
      app->parse(argc, argv);
    } catch (const CLI::Success& answer) {  // --help, --version
      return app->exit(answer);
    } catch (const CLI::ParseError& error) {
      if (refuses_command(*app, argc > 1 ? argv[1] : "")) return kExitUsage;
      fmt::print(stderr, "hypervisor: {} (VG1001)\n  try: hypervisor --help\n", error.what());
      return kExitUsage;
    }
    if (run) return run();
    std::fputs(app->help().c_str(), stdout);
    return kExitUsage;
  } catch (const vgpu::survey::Problem& problem) {
    fmt::print(stderr, "hypervisor: {} ({})\n", problem.what, problem.code);
    if (!problem.next.empty()) fmt::print(stderr, "  try: {}\n", problem.next);
    return problem.exit_code;
  } catch (const std::exception& error) {
    fmt::print(stderr, "hypervisor: {} (VG1999)\n", error.what());
    return kExitFailed;
  }
}

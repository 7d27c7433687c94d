// SPDX-License-Identifier: Apache-2.0
// The entry: parse, run, say what went wrong in one place.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <span>
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

// The command that the words name, "daemon" or "config check", which comes after "hypervisor".
const CLI::App& named_command(const CLI::App& app, std::span<char* const> words,
                              std::string& name) {
  for (const CLI::App* each : app.get_subcommands({})) {
    if (words.empty() || each->get_name() != words.front()) continue;
    name += " " + each->get_name();
    return named_command(*each, words.subspan(1), name);
  }
  return app;
}

// "hypervisor daemon --api-listen ...": likewise.
bool refuses_option(const CLI::App& app, std::span<char* const> words) {
  std::string name = "hypervisor";
  const CLI::App& command = named_command(app, words, name);
  std::vector<std::string> options;
  for (const CLI::Option* each : command.get_options()) {
    for (const std::string& option : each->get_lnames()) options.push_back("--" + option);
  }
  for (const std::string_view word : words) {
    const std::string_view option = word.substr(0, word.find('='));
    if (!option.starts_with("--") || option == "--" ||
        std::find(options.begin(), options.end(), option) != options.end())
      continue;
    const auto longer = std::find_if(options.begin(), options.end(), [&](const std::string& each) {
      return each.starts_with(option);
    });
    const std::string_view guess =
        longer != options.end() ? *longer : vgpu::survey::nearest(option, options);
    fmt::print(stderr, "hypervisor: {} is no option of {} (VG1001)\n  try: {}\n", option, name,
               guess.empty() ? name + " --help" : std::string(guess));
    return true;
  }
  return false;
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
      const std::span<char* const> words(argv + 1, argv + std::max(argc, 1));
      if (refuses_command(*app, words.empty() ? "" : words.front()) || refuses_option(*app, words))
        return kExitUsage;
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

// SPDX-License-Identifier: Apache-2.0
// The entry: parse, run, say what went wrong in one place.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include "commands.h"
#include "vgpu/survey/problem.h"

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

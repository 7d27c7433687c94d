// SPDX-License-Identifier: Apache-2.0
// The tool's entry: parse, go to the verb, say what went wrong in one place.
#include <fmt/format.h>

#include <cstdio>
#include <exception>

#include "launch.h"
#include "verbs.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/text.h"

namespace {

int perform(const vgpu::cli::Request& request) {
  using vgpu::cli::Verb;
  switch (request.verb) {
    case Verb::run:
      return vgpu::cli::run_verb(request.run);
    case Verb::exec:
      return vgpu::cli::exec_verb(request.exec);
    case Verb::set:
      return vgpu::cli::set_verb(request.set);
    case Verb::ls:
      return vgpu::cli::list_verb(request.list);
    case Verb::top:
      return vgpu::cli::top_verb(request.top);
    case Verb::why:
      return vgpu::cli::why_verb(request.why);
    case Verb::doctor:
      return vgpu::cli::doctor_verb(request.doctor);
    case Verb::completion:
      return vgpu::cli::completion_verb(request.completion);
  }
  return vgpu::survey::kExitFailed;
}

}  // namespace

int main(int argc, char** argv) {
  vgpu::cli::remember_inherited_files();
  try {
    const auto parsed = vgpu::cli::parse_arguments({argv + 1, argv + argc});
    if (parsed.proceed) return perform(parsed.request);
    std::fputs(parsed.text.c_str(), stdout);
    return parsed.exit_code;
  } catch (const vgpu::survey::Problem& problem) {
    const auto style = vgpu::survey::Style::for_descriptor(2);
    fmt::print(stderr, "{}vgpu: {} ({}){}\n", style.red, problem.what, problem.code, style.plain);
    if (!problem.next.empty()) fmt::print(stderr, "  try: {}\n", problem.next);
    return problem.exit_code;
  } catch (const std::exception& error) {
    fmt::print(stderr, "vgpu: {} (VG1999)\n", error.what());
    return vgpu::survey::kExitFailed;
  }
}

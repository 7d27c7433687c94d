// SPDX-License-Identifier: Apache-2.0
// pod_daemon SETTINGS PROC: the real daemon, for whom the kernel shows processes in the folder
// PROC: a test can't put its processes into a pod's control group.
#include <fmt/format.h>

#include "run_daemon.h"
#include "settings/apply.h"
#include "settings/setting_flags.h"
#include "vgpu/survey/problem.h"

int main(int argc, char** argv) {
  using namespace vgpu::hypervisor;
  if (argc != 3) return 2;
  try {
    settings::TypedFlags typed;
    typed.config = argv[1];
    const settings::Loaded loaded = settings::load_settings(typed);
    settings::refuse_faults(loaded);
    DaemonOptions options = settings::options_of(loaded);
    if (options.pod_files) options.pod_files->proc = argv[2];
    return run_daemon(options, [&] { return options; });
  } catch (const vgpu::survey::Problem& problem) {
    fmt::print(stderr, "{}\n", problem.what);
    return 1;
  }
}

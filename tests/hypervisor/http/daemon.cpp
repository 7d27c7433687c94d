// SPDX-License-Identifier: Apache-2.0
// http_daemon ADDRESS...: the real daemon on the simulated GPU, listening there and on the socket
// in its state directory. For the tests that are scripts.
#include <fmt/format.h>

#include "run_daemon.h"
#include "vgpu/survey/problem.h"

int main(int argc, char** argv) {
  vgpu::hypervisor::DaemonOptions options;
  options.simulated = true;
  options.http.listen.assign(argv + 1, argv + argc);
  options.http.listen_is_default = false;
  try {
    return vgpu::hypervisor::run_daemon(options, [&] { return options; });
  } catch (const vgpu::survey::Problem& problem) {
    fmt::print(stderr, "{}\n", problem.what);
    return 1;
  }
}

// SPDX-License-Identifier: Apache-2.0
// hypervisor daemon.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "activation.h"
#include "commands.h"
#include "run_daemon.h"
#include "settings/apply.h"
#include "settings/setting_flags.h"

namespace vgpu::hypervisor {
namespace {

int start(const settings::TypedFlags& typed) {
  const settings::Loaded first = settings::load_settings(typed);
  settings::refuse_faults(first);
  for (const auto& notice : first.notices) fmt::print(stderr, "hypervisor: {}\n", notice);
  DaemonOptions options = settings::options_of(first);
  options.http.sockets = take_activated_sockets();
  return run_daemon(options, [&] {
    settings::Loaded again = settings::load_settings(typed);
    settings::refuse_faults(again);
    for (const auto& key : settings::keep_unreloadable(first, again))
      fmt::print(stderr, "hypervisor: {} has changed; it takes effect at the next start\n", key);
    DaemonOptions fresh = settings::options_of(again);
    fresh.http.sockets = options.http.sockets;
    return fresh;
  });
}

}  // namespace

void add_daemon_command(CLI::App& app, Run& run) {
  const auto typed = std::make_shared<settings::TypedFlags>();
  CLI::App* command = app.add_subcommand("daemon", "Looks after the GPUs until it is ended.");
  settings::add_setting_flags(*command, *typed);
  command->callback([&run, typed] { run = [typed] { return start(*typed); }; });
}

}  // namespace vgpu::hypervisor

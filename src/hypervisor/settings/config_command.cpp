// SPDX-License-Identifier: Apache-2.0
// hypervisor config check | show | example, and the flags of settings that it shares with `daemon`.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>

#include "apply.h"
#include "commands.h"
#include "pages.h"
#include "setting_flags.h"
#include "settings.h"
#include "vgpu/survey/problem.h"
#include "vgpu/survey/quotas.h"

namespace vgpu::hypervisor {
namespace settings {
namespace {

// A boolean may stand alone; a list may be given in several flags; else the last one counts.
void add_flag(CLI::App& command, TypedFlags& typed, std::string_view name, const Row* row,
              const std::string& text) {
  const std::string flag(name);
  auto* option = command.add_option_function<std::vector<std::string>>(
      flag,
      [&typed, flag](const std::vector<std::string>& words) {
        std::string joined;
        for (const std::string& word : words) joined += (joined.empty() ? "" : ",") + word;
        typed.flags[flag] = joined;
      },
      text);
  if (row == nullptr) {
    option->expected(0, 1)->group("");  // of the predecessor: taken, to say why it isn't kept
    option->default_str("");
    return;
  }
  option->group("Settings")->type_name(placeholder(*row))->option_text(placeholder(*row));
  if (row->kind == Kind::boolean) {
    option->expected(0, 1)->default_str("true")->option_text("[" + placeholder(*row) + "]");
  } else if (row->kind == Kind::texts) {
    option->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  } else {
    option->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }
}

}  // namespace

void add_setting_flags(CLI::App& command, TypedFlags& typed) {
  command.add_option("--config", typed.config, "Settings file, in place of the usual ones")
      ->type_name("FILE");
  for (const Row& row : rows()) {
    add_flag(command, typed, row.flag, &row, std::string(row.text));
  }
  for (const Foreign& row : foreign()) {
    if (row.what == ForeignWhat::flag && row.effect != Effect::works &&
        row.effect != Effect::changed)
      add_flag(command, typed, row.name, nullptr, std::string(row.text));
  }
}

Loaded load_settings(const TypedFlags& typed) {
  Loaded loaded = load(typed.config, typed.flags, survey::ProcessEnvironment());
  check_meaning(loaded);
  return loaded;
}

void refuse_faults(const Loaded& loaded) {
  if (loaded.faults.empty()) return;
  for (std::size_t i = 0; i + 1 < loaded.faults.size(); ++i)
    fmt::print(stderr, "hypervisor: {} (VG2201)\n", loaded.faults[i].text());
  throw survey::Problem(
      survey::kExitUsage, "VG2201", loaded.faults.back().text(),
      loaded.file.empty() ? "hypervisor daemon --help" : "hypervisor config check " + loaded.file);
}

namespace {

int check(const TypedFlags& typed) {
  const Loaded loaded = load_settings(typed);
  for (const std::string& notice : loaded.notices) fmt::print(stderr, "hypervisor: {}\n", notice);
  for (const Fault& fault : loaded.faults) fmt::print(stderr, "{}\n", fault.text());
  if (!loaded.faults.empty()) return survey::kExitFailed;
  fmt::print("{}: good\n", loaded.file.empty() ? "no settings file" : loaded.file);
  return 0;
}

int show(const TypedFlags& typed, bool json) {
  const Loaded loaded = load_settings(typed);
  refuse_faults(loaded);
  fmt::print("{}", json ? shown_json(loaded) : shown(loaded));
  return 0;
}

}  // namespace
}  // namespace settings

void add_config_command(CLI::App& app, Run& run) {
  CLI::App* config = app.add_subcommand("config", "Settings: checks, shows and explains them.");
  config->require_subcommand(1);
  const auto typed = std::make_shared<settings::TypedFlags>();
  const auto json = std::make_shared<bool>(false);

  CLI::App* check = config->add_subcommand(
      "check", "Lists every fault of FILE, variables and flags with its place.");
  settings::add_setting_flags(*check, *typed);
  check->add_option("file", typed->config, "As --config")
      ->type_name("FILE")
      ->excludes(check->get_option("--config"));
  check->callback([&run, typed] { run = [typed] { return settings::check(*typed); }; });

  CLI::App* show = config->add_subcommand("show", "Shows each value and where it comes from.");
  show->add_flag("--json", *json, "Machine-readable");
  settings::add_setting_flags(*show, *typed);
  show->callback(
      [&run, typed, json] { run = [typed, json] { return settings::show(*typed, *json); }; });

  CLI::App* example = config->add_subcommand("example", "Prints a file with every setting.");
  example->callback([&run] {
    run = [] {
      fmt::print("{}", settings::example_toml());
      return 0;
    };
  });
}

}  // namespace vgpu::hypervisor

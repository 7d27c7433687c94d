// SPDX-License-Identifier: Apache-2.0
// What is written from the table of settings: the example file, the page of the docs, man pages,
// completion, and `config show`. Pure.
#pragma once

#include <string>

#include "settings.h"

namespace vgpu::hypervisor::settings {

std::string example_toml();   // every setting, commented out, at its default
std::string settings_page();  // docs/hypervisor-settings.md
std::string toml_man_page();  // hypervisor.toml(5)

std::string shown(const Loaded& loaded);       // a line for each setting: value and source
std::string shown_json(const Loaded& loaded);  // the same for scripts

}  // namespace vgpu::hypervisor::settings

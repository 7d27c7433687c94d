// SPDX-License-Identifier: Apache-2.0
// The man page and the completion scripts of `hypervisor`, made of the declared commands, so that
// they can't forget a flag.
#pragma once

#include <string>

namespace vgpu::hypervisor::settings {

std::string command_man_page();  // hypervisor(8)
std::string bash_completion();
std::string zsh_completion();
std::string fish_completion();

}  // namespace vgpu::hypervisor::settings

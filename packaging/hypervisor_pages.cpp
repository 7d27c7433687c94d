// SPDX-License-Identifier: Apache-2.0
// Writes the man pages and the completion of the daemon's program into the folder that it is told.
// Runs at build time only.
#include <cstdio>
#include <filesystem>
#include <string>

#include "command_pages.h"
#include "pages.h"
#include "write_file.h"

using vgpu::packaging::write_file;

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: hypervisor_pages FOLDER\n", stderr);
    return 2;
  }
  namespace settings = vgpu::hypervisor::settings;
  const std::filesystem::path folder = argv[1];
  bool good = write_file(folder / "man8/hypervisor.8", settings::command_man_page());
  good = write_file(folder / "man5/hypervisor.toml.5", settings::toml_man_page()) && good;
  good = write_file(folder / "bash/hypervisor", settings::bash_completion()) && good;
  good = write_file(folder / "zsh/_hypervisor", settings::zsh_completion()) && good;
  good = write_file(folder / "fish/hypervisor.fish", settings::fish_completion()) && good;
  good = write_file(folder / "hypervisor.toml", settings::example_toml()) && good;
  return good ? 0 : 1;
}

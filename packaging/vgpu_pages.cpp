// SPDX-License-Identifier: Apache-2.0
// Writes the man pages and completion scripts of the tool into the folder that it is told. Runs at
// build time only.
#include <cstdio>
#include <filesystem>
#include <string>

#include "verbs.h"
#include "write_file.h"

using vgpu::packaging::write_file;

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: vgpu_pages FOLDER\n", stderr);
    return 2;
  }
  const std::filesystem::path folder = argv[1];
  bool good = write_file(folder / "man1/vgpu.1", vgpu::cli::man_page(""));
  for (const std::string& verb : vgpu::cli::verb_names()) {
    good = write_file(folder / ("man1/vgpu-" + verb + ".1"), vgpu::cli::man_page(verb)) && good;
  }
  good = write_file(folder / "bash/vgpu", vgpu::cli::completion_script("bash")) && good;
  good = write_file(folder / "zsh/_vgpu", vgpu::cli::completion_script("zsh")) && good;
  good = write_file(folder / "fish/vgpu.fish", vgpu::cli::completion_script("fish")) && good;
  return good ? 0 : 1;
}

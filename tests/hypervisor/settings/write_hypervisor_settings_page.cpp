// SPDX-License-Identifier: Apache-2.0
// Writes docs/hypervisor-settings.md from the table of the daemon's settings; with --check FILE,
// says whether FILE is what it would write.
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <string_view>

#include "pages.h"

int main(int argc, char** argv) {
  const std::string page = vgpu::hypervisor::settings::settings_page();
  if (argc == 3 && std::string_view(argv[1]) == "--check") {
    std::ifstream file(argv[2], std::ios::binary);
    const std::string there(std::istreambuf_iterator<char>(file), {});
    if (there == page) return 0;
    std::cerr << argv[2]
              << " is not what the table says; write it anew:\n  write_hypervisor_settings_page > "
                 "docs/hypervisor-settings.md\n";
    return 1;
  }
  std::cout << page;
  return 0;
}

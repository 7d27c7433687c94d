// SPDX-License-Identifier: Apache-2.0
// Any bytes as the daemon's TOML file: either there are faults, each printable and with its place,
// or the values are ones that read back as themselves.
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>

#include "pages.h"
#include "settings.h"

namespace {

using namespace vgpu::hypervisor::settings;

void require(bool condition, const char* what) {
  if (condition) return;
  std::cerr << "config_fuzz: " << what << std::endl;
  std::abort();
}

class Nothing final : public vgpu::settings::Environment {
 public:
  const char* get(const char* /*name*/) const override { return nullptr; }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const Loaded loaded = read({}, Nothing(), text, "fuzz.toml");
  for (const Fault& fault : loaded.faults) {
    require(!fault.what.empty() && fault.what.size() < 1024,
            "a fault without words, or with too many");
    for (const char c : fault.text())
      require(static_cast<unsigned char>(c) >= 0x20 && c != 0x7F, "a fault that can't be printed");
    require(fault.place.line >= 1, "a fault without a line");
  }
  if (!loaded.faults.empty()) return 0;
  for_each_setting(loaded.values, [&](std::size_t i, const Row& row, const auto& value) {
    require(!toml_text(row, value).empty(), "a value without text");
    if (loaded.origins[i].source == Source::file)
      require(loaded.origins[i].place.line >= 1, "a value from nowhere");
  });
  for (const Pod& pod : loaded.values.pods)
    require(!pod.name_space.empty() && !pod.name.empty() && !pod.tenant.empty(), "half a pod");
  // What `config show` prints is a file that says the same.
  const Loaded again = read({}, Nothing(), shown(loaded), "shown.toml");
  require(again.faults.empty(), "shown values that can't be read");
  for_each_setting(loaded.values, [&](std::size_t i, const Row& row, const auto& value) {
    std::size_t at = 0;
    for_each_setting(again.values, [&](std::size_t, const Row& other, const auto& shown_value) {
      if (at++ == i)
        require(toml_text(row, value) == toml_text(other, shown_value), "a value that changed");
    });
  });
  static_cast<void>(shown_json(loaded));
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
// Each entry of a variable is edited by itself if an environment has several of one name: getenv
// reads the first, shells the last.
#include "vgpu/add_path/environment.h"

#include <cstring>
#include <string_view>

#include "vgpu/add_path/edit.h"

namespace vgpu::add_path {
namespace {

bool names(const char* entry, std::string_view name) {
  return std::strncmp(entry, name.data(), name.size()) == 0 && entry[name.size()] == '=';
}

std::string_view value_of(char** environment, std::string_view name) {
  for (; *environment != nullptr; ++environment) {
    if (names(*environment, name)) return *environment + name.size() + 1;
  }
  return {};
}

// "NAME=value" after the edit, or nullptr if there is nothing to change.
char* edited_entry(std::string_view name, const Edit& edit, Allocate allocate) {
  const std::size_t name_size = name.size() + 1;
  char* entry = static_cast<char*>(allocate(name_size + edit.size_max() + 1));
  if (entry == nullptr) return nullptr;
  const auto size = edit.write_to(entry + name_size);
  if (!size) return nullptr;
  std::memcpy(entry, name.data(), name.size());
  entry[name.size()] = '=';
  entry[name_size + *size] = '\0';
  return entry;
}

char** with_entry(char** environment, char* entry, Allocate allocate) {
  std::size_t count = 0;
  while (environment[count] != nullptr) ++count;
  char** longer = static_cast<char**>(allocate((count + 2) * sizeof(char*)));
  if (longer == nullptr) return environment;
  std::memcpy(longer, environment, count * sizeof(char*));
  longer[count] = entry;
  longer[count + 1] = nullptr;
  return longer;
}

}  // namespace

char** edit_environment(char** environment, Allocate allocate) {
  for (const Variable& variable : kVariables) {
    const std::string_view append = value_of(environment, variable.append_name);
    const std::string_view prepend = value_of(environment, variable.prepend_name);
    if (append.empty() && prepend.empty()) continue;
    bool present = false;
    for (char** entry = environment; *entry != nullptr; ++entry) {
      if (!names(*entry, variable.name)) continue;
      present = true;
      const std::string_view value = *entry + variable.name.size() + 1;
      const Edit edit{variable.separators, value, append, prepend};
      if (char* edited = edited_entry(variable.name, edit, allocate)) *entry = edited;
    }
    if (present) continue;
    const Edit edit{variable.separators, {}, append, prepend};
    if (char* added = edited_entry(variable.name, edit, allocate)) {
      environment = with_entry(environment, added, allocate);
    }
  }
  return environment;
}

}  // namespace vgpu::add_path

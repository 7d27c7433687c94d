// SPDX-License-Identifier: Apache-2.0
// One list variable (PATH, LD_PRELOAD, LD_LIBRARY_PATH) edited as TF_<name> and TF_PREPEND_<name>
// ask. Pure: bytes in, bytes out, no heap, any encoding. Editing an edited value changes nothing,
// however many processes are nested.
//   * What is to be appended goes to the end unless the list has it already.
//   * What is to be prepended goes to the front, wherever the list had it, also if it is to be
//   appended too.
//   * Nothing is added twice. What the list holds besides keeps its order, its separators and its
//   empty elements.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>

namespace vgpu::add_path {

struct Variable {
  std::string_view name;
  std::string_view append_name;
  std::string_view prepend_name;
  std::string_view separators;  // what the reader of this variable splits it at; we join with ':'
};

inline constexpr std::array<Variable, 3> kVariables{{
    {"PATH", "TF_PATH", "TF_PREPEND_PATH", ":"},
    {"LD_PRELOAD", "TF_LD_PRELOAD", "TF_PREPEND_LD_PRELOAD", ": "},
    {"LD_LIBRARY_PATH", "TF_LD_LIBRARY_PATH", "TF_PREPEND_LD_LIBRARY_PATH", ":;"},
}};

struct Edit {
  std::string_view separators;
  std::string_view value;  // empty if the variable is unset or empty: a list without elements
  std::string_view append;
  std::string_view prepend;

  // At least the size of the result: one more separator for each part.
  constexpr std::size_t size_max() const {
    return value.size() + append.size() + prepend.size() + 2;
  }

  // Writes the new value to `out`, which has room for size_max() bytes. Without a value when
  // nothing changes.
  std::optional<std::size_t> write_to(char* out) const;
};

}  // namespace vgpu::add_path

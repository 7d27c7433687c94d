// SPDX-License-Identifier: Apache-2.0
// The address of a library's own export, read from its file: a limiter answers every look-up, so to
// compare with and without it inside one process the look-up has to be passed by.
#pragma once

#include <elf.h>
#include <link.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace own_export {

struct Mapped {
  const char* name_part;  // of the file's name
  std::uintptr_t base = 0;
  std::string path;
};

inline int find_mapped(dl_phdr_info* info, std::size_t, void* out) {
  auto& wanted = *static_cast<Mapped*>(out);
  if (info->dlpi_name == nullptr || std::strstr(info->dlpi_name, wanted.name_part) == nullptr)
    return 0;
  wanted.base = info->dlpi_addr;
  wanted.path = info->dlpi_name;
  return 1;
}

// Null: no such library is loaded, or it exports no such function.
inline void* find(const char* library_name_part, const char* symbol) {
  Mapped library{library_name_part, 0, {}};
  if (dl_iterate_phdr(find_mapped, &library) == 0) return nullptr;
  std::ifstream file(library.path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  const auto at = [&]<class T>(T& value, std::uint64_t offset) {
    if (offset + sizeof(T) > bytes.size()) return false;
    std::memcpy(&value, bytes.data() + offset, sizeof(T));
    return true;
  };
  Elf64_Ehdr header;
  if (!at(header, 0)) return nullptr;
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr symbols, names;
    if (!at(symbols, header.e_shoff + i * sizeof(Elf64_Shdr)) || symbols.sh_type != SHT_DYNSYM ||
        !at(names, header.e_shoff + symbols.sh_link * sizeof(Elf64_Shdr)))
      continue;
    for (std::uint64_t offset = 0; offset < symbols.sh_size; offset += sizeof(Elf64_Sym)) {
      Elf64_Sym entry;
      if (!at(entry, symbols.sh_offset + offset)) return nullptr;
      const std::uint64_t name = names.sh_offset + entry.st_name;
      const std::size_t length = std::strlen(symbol) + 1;
      if (entry.st_shndx != SHN_UNDEF && name + length <= bytes.size() &&
          std::memcmp(bytes.data() + name, symbol, length) == 0)
        return reinterpret_cast<void*>(library.base + entry.st_value);
    }
  }
  return nullptr;
}

}  // namespace own_export

// SPDX-License-Identifier: Apache-2.0
// A shared object as the dynamic linker has mapped it, read directly: its exported symbols, its
// names, its relocations. Needed because the limiter replaces dlsym: it finds libc's own dlsym, and
// the exports of a driver, without calling through what it replaces. Allocates nothing, calls only
// dl_iterate_phdr; safe before main.
#pragma once

#include <elf.h>
#include <link.h>

#include <cstddef>
#include <cstdint>

namespace vgpu::driver {

class ElfImage {
 public:
  ElfImage() = default;
  ElfImage(std::uintptr_t base, const ElfW(Dyn) * dynamic);

  // Address of the function or object of that name that this object itself defines and exports (not
  // hidden by its symbol version); nullptr: none.
  void* find(const char* name) const;
  const char* soname() const { return soname_; }  // "" where there is none
  bool needs(
      bool (*accepts)(const char* soname)) const;  // whether one of its DT_NEEDED is accepted

  // Every relocation that stores a symbol's address: visit(context, symbol name, place of the
  // address).
  void relocations(void (*visit)(void* context, const char* name, void** slot),
                   void* context) const;

 private:
  const ElfW(Sym) * gnu_lookup(const char* name) const;
  const ElfW(Sym) * sysv_lookup(const char* name) const;
  bool is_export(std::size_t index, const char* name) const;

  std::uintptr_t base_ = 0;
  const ElfW(Dyn) * dynamic_ = nullptr;
  const ElfW(Sym) * symbols_ = nullptr;
  const char* strings_ = "";
  const std::uint32_t* gnu_hash_ = nullptr;
  const std::uint32_t* sysv_hash_ = nullptr;
  const std::uint16_t* versions_ = nullptr;
  const char* soname_ = "";
  const ElfW(Rela) * rela_ = nullptr;
  std::size_t rela_count_ = 0;
  const ElfW(Rela) * plt_rela_ = nullptr;
  std::size_t plt_rela_count_ = 0;
};

struct LoadedObject {
  const char* path = "";
  std::uintptr_t base = 0;
  const ElfW(Dyn) * dynamic = nullptr;
  std::uintptr_t low = 0, high = 0;              // mapped range
  std::uintptr_t relro_low = 0, relro_high = 0;  // made read-only after relocation
  ElfImage image;

  bool contains(const void* address) const {
    const auto at = reinterpret_cast<std::uintptr_t>(address);
    return at >= low && at < high;
  }
};

// Visits the loaded objects in the order in which they were loaded, which for those there at
// start-up is the order of symbol look-up, until visit(context, object) is true; whether one was.
// No object goes away meanwhile.
bool visit_objects(bool (*visit)(void* context, const LoadedObject& object), void* context);

template <class Visitor>
bool for_each_object(Visitor&& visitor) {
  return visit_objects(
      [](void* context, const LoadedObject& object) {
        return (*static_cast<Visitor*>(context))(object);
      },
      &visitor);
}

enum class Library : std::uint8_t { none, cuda, nvml };
// Which library of NVIDIA's (or the simulated one) a name like "libcuda.so.1" stands for.
Library library_of(const char* soname);

}  // namespace vgpu::driver

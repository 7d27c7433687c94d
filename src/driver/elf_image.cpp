// SPDX-License-Identifier: Apache-2.0
#include "vgpu/driver/elf_image.h"

#include <cstring>

namespace vgpu::driver {
namespace {

constexpr std::uint16_t kHiddenVersion = 0x8000;

#if defined(__x86_64__)
constexpr bool stores_symbol(std::uint32_t type) {
  return type == R_X86_64_JUMP_SLOT || type == R_X86_64_GLOB_DAT || type == R_X86_64_64;
}
#elif defined(__aarch64__)
constexpr bool stores_symbol(std::uint32_t type) {
  return type == R_AARCH64_JUMP_SLOT || type == R_AARCH64_GLOB_DAT || type == R_AARCH64_ABS64;
}
#else
#error "no relocation types for this machine"
#endif

std::uint32_t gnu_hash_of(const char* name) {
  std::uint32_t hash = 5381;
  for (; *name != '\0'; ++name) hash = hash * 33 + static_cast<unsigned char>(*name);
  return hash;
}

std::uint32_t sysv_hash_of(const char* name) {
  std::uint32_t hash = 0;
  for (; *name != '\0'; ++name) {
    hash = (hash << 4) + static_cast<unsigned char>(*name);
    const std::uint32_t high = hash & 0xf0000000U;
    hash = (hash ^ (high >> 24)) & ~high;
  }
  return hash;
}

}  // namespace

ElfImage::ElfImage(std::uintptr_t base, const ElfW(Dyn) * dynamic)
    : base_(base), dynamic_(dynamic) {
  if (dynamic == nullptr) return;
  // The linker rewrites these values to addresses, except in objects whose dynamic section is
  // read-only (the vDSO).
  const auto address = [base](ElfW(Addr) value) { return value < base ? value + base : value; };
  std::size_t soname_offset = SIZE_MAX;
  bool plt_has_addends = false;
  for (const ElfW(Dyn)* entry = dynamic; entry->d_tag != DT_NULL; ++entry) {
    const ElfW(Addr) value = entry->d_un.d_ptr;
    switch (entry->d_tag) {
      case DT_SYMTAB:
        symbols_ = reinterpret_cast<const ElfW(Sym)*>(address(value));
        break;
      case DT_STRTAB:
        strings_ = reinterpret_cast<const char*>(address(value));
        break;
      case DT_GNU_HASH:
        gnu_hash_ = reinterpret_cast<const std::uint32_t*>(address(value));
        break;
      case DT_HASH:
        sysv_hash_ = reinterpret_cast<const std::uint32_t*>(address(value));
        break;
      case DT_VERSYM:
        versions_ = reinterpret_cast<const std::uint16_t*>(address(value));
        break;
      case DT_SONAME:
        soname_offset = value;
        break;
      case DT_RELA:
        rela_ = reinterpret_cast<const ElfW(Rela)*>(address(value));
        break;
      case DT_RELASZ:
        rela_count_ = value / sizeof(ElfW(Rela));
        break;
      case DT_JMPREL:
        plt_rela_ = reinterpret_cast<const ElfW(Rela)*>(address(value));
        break;
      case DT_PLTRELSZ:
        plt_rela_count_ = value / sizeof(ElfW(Rela));
        break;
      case DT_PLTREL:
        plt_has_addends = value == DT_RELA;
        break;
      default:
        break;
    }
  }
  if (soname_offset != SIZE_MAX) soname_ = strings_ + soname_offset;
  if (rela_ == nullptr) rela_count_ = 0;
  if (plt_rela_ == nullptr || !plt_has_addends) plt_rela_count_ = 0;
}

bool ElfImage::is_export(std::size_t index, const char* name) const {
  const ElfW(Sym)& symbol = symbols_[index];
  const unsigned type = symbol.st_info & 0xfU;
  if (symbol.st_shndx == SHN_UNDEF ||
      (type != STT_FUNC && type != STT_OBJECT && type != STT_NOTYPE))
    return false;
  if (versions_ != nullptr && (versions_[index] & kHiddenVersion) != 0) return false;
  return std::strcmp(strings_ + symbol.st_name, name) == 0;
}

const ElfW(Sym) * ElfImage::gnu_lookup(const char* name) const {
  constexpr std::uint32_t kWordBits = sizeof(ElfW(Addr)) * 8;
  const std::uint32_t bucket_count = gnu_hash_[0];
  const std::uint32_t first_symbol = gnu_hash_[1];
  const std::uint32_t bloom_words = gnu_hash_[2];
  const std::uint32_t bloom_shift = gnu_hash_[3];
  const auto* bloom = reinterpret_cast<const ElfW(Addr)*>(gnu_hash_ + 4);
  const auto* buckets = reinterpret_cast<const std::uint32_t*>(bloom + bloom_words);
  const std::uint32_t* chains = buckets + bucket_count;
  if (bucket_count == 0 || bloom_words == 0) return nullptr;

  const std::uint32_t hash = gnu_hash_of(name);
  const ElfW(Addr) word = bloom[(hash / kWordBits) % bloom_words];
  const ElfW(Addr) mask = (ElfW(Addr){1} << (hash % kWordBits)) |
                          (ElfW(Addr){1} << ((hash >> bloom_shift) % kWordBits));
  if ((word & mask) != mask) return nullptr;
  std::uint32_t index = buckets[hash % bucket_count];
  if (index < first_symbol) return nullptr;
  for (;; ++index) {
    const std::uint32_t chain = chains[index - first_symbol];
    if ((chain | 1U) == (hash | 1U) && is_export(index, name)) return &symbols_[index];
    if ((chain & 1U) != 0) return nullptr;
  }
}

const ElfW(Sym) * ElfImage::sysv_lookup(const char* name) const {
  const std::uint32_t bucket_count = sysv_hash_[0];
  if (bucket_count == 0) return nullptr;
  const std::uint32_t* buckets = sysv_hash_ + 2;
  const std::uint32_t* chains = buckets + bucket_count;
  for (std::uint32_t i = buckets[sysv_hash_of(name) % bucket_count]; i != STN_UNDEF;
       i = chains[i]) {
    if (is_export(i, name)) return &symbols_[i];
  }
  return nullptr;
}

void* ElfImage::find(const char* name) const {
  if (symbols_ == nullptr) return nullptr;
  const ElfW(Sym)* symbol = nullptr;
  if (gnu_hash_ != nullptr) {
    symbol = gnu_lookup(name);
  } else if (sysv_hash_ != nullptr) {
    symbol = sysv_lookup(name);
  }
  return symbol == nullptr ? nullptr : reinterpret_cast<void*>(base_ + symbol->st_value);
}

bool ElfImage::needs(bool (*accepts)(const char* soname)) const {
  if (dynamic_ == nullptr) return false;
  for (const ElfW(Dyn)* entry = dynamic_; entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_NEEDED && accepts(strings_ + entry->d_un.d_val)) return true;
  }
  return false;
}

void ElfImage::relocations(void (*visit)(void*, const char*, void**), void* context) const {
  if (symbols_ == nullptr) return;
  const auto scan = [&](const ElfW(Rela) * table, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      if (!stores_symbol(static_cast<std::uint32_t>(ELF64_R_TYPE(table[i].r_info)))) continue;
      const std::size_t symbol = ELF64_R_SYM(table[i].r_info);
      if (symbol == STN_UNDEF) continue;
      visit(context, strings_ + symbols_[symbol].st_name,
            reinterpret_cast<void**>(base_ + table[i].r_offset));
    }
  };
  scan(rela_, rela_count_);
  scan(plt_rela_, plt_rela_count_);
}

bool visit_objects(bool (*visit)(void*, const LoadedObject&), void* context) {
  struct Visit {
    bool (*visit)(void*, const LoadedObject&);
    void* context;
  } request{visit, context};
  return dl_iterate_phdr(
             [](dl_phdr_info* info, std::size_t, void* data) -> int {
               LoadedObject object;
               object.path = info->dlpi_name == nullptr ? "" : info->dlpi_name;
               object.base = info->dlpi_addr;
               object.low = UINTPTR_MAX;
               for (std::size_t i = 0; i < info->dlpi_phnum; ++i) {
                 const ElfW(Phdr)& header = info->dlpi_phdr[i];
                 const std::uintptr_t start = info->dlpi_addr + header.p_vaddr;
                 const std::uintptr_t end = start + header.p_memsz;
                 if (header.p_type == PT_LOAD) {
                   object.low = start < object.low ? start : object.low;
                   object.high = end > object.high ? end : object.high;
                 } else if (header.p_type == PT_DYNAMIC) {
                   object.dynamic = reinterpret_cast<const ElfW(Dyn)*>(start);
                 } else if (header.p_type == PT_GNU_RELRO) {
                   object.relro_low = start;
                   object.relro_high = end;
                 }
               }
               object.image = ElfImage(object.base, object.dynamic);
               const auto* wanted = static_cast<Visit*>(data);
               return wanted->visit(wanted->context, object) ? 1 : 0;
             },
             &request) != 0;
}

Library library_of(const char* soname) {
  const auto starts_with = [soname](const char* prefix) {
    return std::strncmp(soname, prefix, std::strlen(prefix)) == 0;
  };
  if (starts_with("libcuda.so")) return Library::cuda;
  if (starts_with("libnvidia-ml.so")) return Library::nvml;
  return Library::none;
}

}  // namespace vgpu::driver

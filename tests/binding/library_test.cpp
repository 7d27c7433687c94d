// SPDX-License-Identifier: Apache-2.0
// The file libcuda_limiter.so: what it needs, exports and refers to. Read from the file, so that a
// symbol which would only fail on an older system fails here.
#include <elf.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <set>
#include <string>
#include <vector>

namespace vgpu::test {
namespace {

// The parts of a 64-bit shared object that the dynamic linker reads.
class ObjectFile {
 public:
  explicit ObjectFile(const std::string& path) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    bytes_.resize(static_cast<std::size_t>(file.tellg()));
    file.seekg(0);
    file.read(bytes_.data(), static_cast<std::streamsize>(bytes_.size()));
    const auto* header = at<Elf64_Ehdr>(0);
    const auto* sections = at<Elf64_Shdr>(header->e_shoff);
    for (std::size_t i = 0; i < header->e_shnum; ++i) {
      const Elf64_Shdr& section = sections[i];
      const char* strings = section.sh_link < header->e_shnum
                                ? at<char>(sections[section.sh_link].sh_offset)
                                : nullptr;
      if (section.sh_type == SHT_DYNAMIC) read_dynamic(section, strings);
      if (section.sh_type == SHT_DYNSYM) read_symbols(section, strings);
      if (section.sh_type == SHT_GNU_versym) versions_ = at<Elf64_Half>(section.sh_offset);
      if (section.sh_type == SHT_GNU_verneed) read_needed_versions(section, strings);
    }
  }

  struct Symbol {
    std::string name;
    bool defined = false;
    bool weak = false;
    std::size_t index = 0;
  };

  std::set<std::string> needed;
  std::set<std::string> needed_versions;
  std::vector<Symbol> symbols;
  bool has_soname = false;
  bool has_text_relocations = false;

  unsigned version_of(const Symbol& symbol) const { return versions_[symbol.index]; }

 private:
  template <class T>
  const T* at(std::size_t offset) const {
    return reinterpret_cast<const T*>(bytes_.data() + offset);
  }
  void read_dynamic(const Elf64_Shdr& section, const char* strings) {
    const auto* entries = at<Elf64_Dyn>(section.sh_offset);
    for (std::size_t i = 0; i < section.sh_size / sizeof(Elf64_Dyn); ++i) {
      if (entries[i].d_tag == DT_NEEDED) needed.insert(strings + entries[i].d_un.d_val);
      if (entries[i].d_tag == DT_SONAME) has_soname = true;
      if (entries[i].d_tag == DT_TEXTREL) has_text_relocations = true;
    }
  }
  void read_symbols(const Elf64_Shdr& section, const char* strings) {
    const auto* entries = at<Elf64_Sym>(section.sh_offset);
    for (std::size_t i = 1; i < section.sh_size / sizeof(Elf64_Sym); ++i) {
      symbols.push_back({strings + entries[i].st_name, entries[i].st_shndx != SHN_UNDEF,
                         ELF64_ST_BIND(entries[i].st_info) == STB_WEAK, i});
    }
  }
  void read_needed_versions(const Elf64_Shdr& section, const char* strings) {
    std::size_t offset = section.sh_offset;
    for (std::size_t i = 0; i < section.sh_info; ++i) {
      const auto* file = at<Elf64_Verneed>(offset);
      std::size_t version_offset = offset + file->vn_aux;
      for (std::size_t j = 0; j < file->vn_cnt; ++j) {
        const auto* version = at<Elf64_Vernaux>(version_offset);
        needed_versions.insert(strings + version->vna_name);
        version_offset += version->vna_next;
      }
      offset += file->vn_next;
    }
  }

  std::vector<char> bytes_;
  const Elf64_Half* versions_ = nullptr;
};

std::set<std::string> hooked_names() {
  return {
#define VGPU_HOOK(symbol, family, since, params, args) #symbol,
#include "vgpu/api/driver_hooks.def"
#undef VGPU_HOOK
#define VGPU_NVML_HOOK(symbol, family, params, args) #symbol,
#include "vgpu/api/nvml_hooks.def"
#undef VGPU_NVML_HOOK
  };
}

class LimiterLibrary : public ::testing::Test {
 protected:
  const ObjectFile library_{VGPU_LIMITER};
};

TEST_F(LimiterLibrary, NeedsNothingButLibc) {
  const std::set<std::string> allowed = {
      "libc.so.6",       "libdl.so.2",           "libm.so.6",
      "libpthread.so.0", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"};
  for (const std::string& name : library_.needed) EXPECT_TRUE(allowed.contains(name)) << name;
  EXPECT_TRUE(library_.needed.contains("libc.so.6"));
}

TEST_F(LimiterLibrary, NeedsNoGlibcNewerThan2_28) {
  for (const std::string& version : library_.needed_versions) {
    ASSERT_EQ(version.rfind("GLIBC_", 0), 0U) << version;
    int major = 0;
    int minor = 0;
    ASSERT_GE(std::sscanf(version.c_str(), "GLIBC_%d.%d", &major, &minor), 2) << version;
    EXPECT_TRUE(major == 2 && minor <= 28) << version;
  }
}

TEST_F(LimiterLibrary, ExportsExactlyTheHookedNamesAndTheLookups) {
  std::set<std::string> wanted = hooked_names();
  wanted.insert({"dlsym", "dlvsym", "dlopen"});
  std::set<std::string> exported;
  for (const ObjectFile::Symbol& symbol : library_.symbols) {
    if (symbol.defined && symbol.name != "VGPU_HOOKS") exported.insert(symbol.name);
  }
  EXPECT_EQ(exported, wanted);
}

// What dlsym must not find is a hidden version, and of the first node: references without a version
// find no other.
TEST_F(LimiterLibrary, HidesTheHooksFromLookups) {
  constexpr unsigned kHiddenFirstNode = 0x8002;
  constexpr unsigned kNoVersion = 1;
  const std::set<std::string> hooks = hooked_names();
  for (const ObjectFile::Symbol& symbol : library_.symbols) {
    if (!symbol.defined || symbol.name == "VGPU_HOOKS") continue;
    EXPECT_EQ(library_.version_of(symbol),
              hooks.contains(symbol.name) ? kHiddenFirstNode : kNoVersion)
        << symbol.name;
  }
}

TEST_F(LimiterLibrary, RefersToNoRuntimeOfTheCompiler) {
  for (const ObjectFile::Symbol& symbol : library_.symbols) {
    if (symbol.defined) continue;
    EXPECT_NE(symbol.name.rfind("_Z", 0), 0U) << symbol.name << " is C++";
    EXPECT_NE(symbol.name.rfind("_Unwind", 0), 0U) << symbol.name << " is the unwinder's";
    if (symbol.name.rfind("__cxa_", 0) == 0) {
      EXPECT_EQ(symbol.name, "__cxa_finalize");
    }
    for (const char* forbidden :
         {"exit", "abort", "_exit", "__assert_fail", "printf", "puts", "fork", "signal",
          "sigaction", "pthread_create", "__gxx_personality_v0", "dlsym", "dlopen", "dlvsym"}) {
      EXPECT_NE(symbol.name, forbidden);
    }
  }
}

TEST_F(LimiterLibrary, HasNoSonameAndNoTextRelocations) {
  EXPECT_FALSE(library_.has_soname);
  EXPECT_FALSE(library_.has_text_relocations);
}

}  // namespace
}  // namespace vgpu::test

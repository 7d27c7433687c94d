// SPDX-License-Identifier: Apache-2.0
// No entry of a driver may be forgotten: every name that a real libcuda or libnvidia-ml exports is
// in the tables once, and whatever belongs to a hooked name (other versions, per-thread-stream
// forms, other entries that allocate by the same means) is hooked as well or stands below with its
// reason. The committed export lists are those of one driver; where one is installed, its own
// exports are read too.
#include <dlfcn.h>
#include <elf.h>
#include <gtest/gtest.h>
#include <link.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace {

using Names = std::set<std::string>;
using Reasons = std::map<std::string, std::string>;

struct Tables {
  std::vector<std::string> hooked;
  std::vector<std::string> passed;
};

const Tables kDriver = {{
#define VGPU_HOOK(symbol, family, since, params, args) #symbol,
#include "vgpu/api/driver_hooks.def"
#undef VGPU_HOOK
                        },
                        {
#define VGPU_PASSTHROUGH(symbol, reason) #symbol,
#include "vgpu/api/driver_passthrough.def"
#undef VGPU_PASSTHROUGH
                        }};

const Tables kNvml = {{
#define VGPU_NVML_HOOK(symbol, family, params, args) #symbol,
#include "vgpu/api/nvml_hooks.def"
#undef VGPU_NVML_HOOK
                      },
                      {
#define VGPU_NVML_PASSTHROUGH(symbol, reason) #symbol,
#include "vgpu/api/nvml_passthrough.def"
#undef VGPU_NVML_PASSTHROUGH
                      }};

Names names_in(const std::string& file) {
  std::ifstream in(std::string(VGPU_EXPORT_LISTS) + "/" + file);
  Names names;
  for (std::string line; std::getline(in, line);) names.insert(line);
  return names;
}

Names as_set(const std::vector<std::string>& list) { return {list.begin(), list.end()}; }

std::string missing_from(const Names& all, const Names& some) {
  std::string text;
  for (const std::string& name : all) {
    if (!some.contains(name)) text += " " + name;
  }
  return text;
}

std::string twice_in(const Tables& tables) {
  std::map<std::string, int> times;
  for (const auto& name : tables.hooked) ++times[name];
  for (const auto& name : tables.passed) ++times[name];
  std::string text;
  for (const auto& [name, count] : times) {
    if (count > 1) text += " " + name;
  }
  return text;
}

Names all_of(const Tables& tables) {
  Names names = as_set(tables.hooked);
  names.insert(tables.passed.begin(), tables.passed.end());
  return names;
}

// cuMemAlloc, cuMemAlloc_v2, cuX_ptsz and cuX_v2_ptds are forms of one entry.
std::string without_form(const std::string& name) {
  static const std::regex kForm("(_v[0-9]+)?(_pt[sd][sz])?$");
  return std::regex_replace(name, kForm, "", std::regex_constants::format_first_only);
}

std::string siblings_not_hooked(const Tables& tables, const Reasons& known) {
  Names entries;
  for (const auto& name : tables.hooked) entries.insert(without_form(name));
  std::string text;
  for (const auto& name : tables.passed) {
    if (entries.contains(without_form(name)) && !known.contains(name)) text += " " + name;
  }
  return text;
}

// Names exported by a shared object, from the section that lists them: nothing of it runs.
Names exports_of(const std::string& path, const std::string& prefix) {
  std::ifstream in(path, std::ios::binary);
  const std::string image((std::istreambuf_iterator<char>(in)), {});
  Names names;
  if (image.size() < sizeof(ElfW(Ehdr)) || image.compare(0, SELFMAG, ELFMAG) != 0) return names;
  ElfW(Ehdr) header;
  std::memcpy(&header, image.data(), sizeof header);
  std::vector<ElfW(Shdr)> sections(header.e_shnum);
  std::memcpy(sections.data(), image.data() + header.e_shoff, sections.size() * sizeof sections[0]);
  for (const auto& section : sections) {
    if (section.sh_type != SHT_DYNSYM) continue;
    for (std::size_t at = 0; at < section.sh_size; at += sizeof(ElfW(Sym))) {
      ElfW(Sym) symbol;
      std::memcpy(&symbol, image.data() + section.sh_offset + at, sizeof symbol);
      if (symbol.st_shndx == SHN_UNDEF) continue;
      const std::string name = image.data() + sections[section.sh_link].sh_offset + symbol.st_name;
      if (name.starts_with(prefix)) names.insert(name);
    }
  }
  return names;
}

Names exports_of_installed(const char* soname, const std::string& prefix) {
  void* handle = dlopen(soname, RTLD_LAZY | RTLD_LOCAL);
  if (handle == nullptr) return {};
  link_map* map = nullptr;
  dlinfo(handle, RTLD_DI_LINKMAP, &map);
  return map != nullptr ? exports_of(map->l_name, prefix) : Names{};
}

TEST(DriverTable, ClassifiesEveryExportOnce) {
  const Names exports = names_in("libcuda.txt");
  ASSERT_GT(exports.size(), 700U);
  EXPECT_EQ(missing_from(exports, all_of(kDriver)), "") << "exported, but in no table";
  EXPECT_EQ(missing_from(all_of(kDriver), exports), "") << "in a table, but not exported";
  EXPECT_EQ(twice_in(kDriver), "");
}

TEST(DriverTable, HooksEveryFormOfAHookedEntry) { EXPECT_EQ(siblings_not_hooked(kDriver, {}), ""); }

// By what a name says it does, so that the table cannot agree with its own omissions. One row a
// path family.
TEST(DriverTable, HooksEveryEntryOfAPathFamily) {
  const std::pair<const char*, const char*> kFamilies[] = {
      {"plain, pitch and managed memory", "^cuMem(Alloc|Free)"},
      {"arrays", "^cu(Array|Array3D|MipmappedArray)(Create|Destroy)"},
      {"pools", "MemPool(Create|Destroy|TrimTo|SetAttribute|Export|Import)|SetMemPool"},
      {"physical memory", "^cuMem(Create|Release|Map|Unmap|RetainAllocation|Export|Import)"},
      {"graph memory",
       "^cuGraph(AddMemAlloc|AddNode|Instantiate|Upload|Launch|ExecUpdate|ExecDestroy)|"
       "GraphMemTrim|SetGraphMem"},
      {"shared and imported memory", "^cuIpc|^cuImportExternal|^cuDestroyExternal"},
      {"contexts", "Ctx(Create|Destroy|Attach|Detach|From)|PrimaryCtx(Retain|Release|Reset)"},
      {"modules and code", "^cuModule(Load|Unload)|^cuLibrary(Load|Unload)|^cuFuncLoad"},
      {"local memory and heaps", "^cuLaunch|CtxSetLimit"},
      {"multicast", "^cuMulticast(Create|Add|Bind|Unbind)"},
  };
  const Reasons kNotHooked = {
      {"cuMemAllocHost", "host memory"},
      {"cuMemAllocHost_v2", "host memory"},
      {"cuMemFreeHost", "host memory"},
      {"cuLaunchHostFunc", "runs on the host"},
      {"cuLaunchHostFunc_ptsz", "runs on the host"},
      {"cuIpcGetEventHandle", "an event"},
      {"cuIpcOpenEventHandle", "an event"},
      {"cuImportExternalSemaphore", "a semaphore"},
      {"cuDestroyExternalSemaphore", "a semaphore"},
  };
  const Names hooked = as_set(kDriver.hooked);
  for (const auto& [family, pattern] : kFamilies) {
    const std::regex regex(pattern);
    int members = 0;
    for (const std::string& name : names_in("libcuda.txt")) {
      if (!std::regex_search(name, regex) || kNotHooked.contains(name)) continue;
      ++members;
      EXPECT_TRUE(hooked.contains(name)) << name << " looks like a way to " << family;
    }
    EXPECT_GT(members, 0) << family;
  }
}

TEST(DriverTable, KnowsWhatTheInstalledDriverExports) {
  const Names exports = exports_of_installed("libcuda.so.1", "cu");
  if (exports.empty()) GTEST_SKIP() << "no CUDA driver is installed here";
  EXPECT_EQ(missing_from(exports, all_of(kDriver)), "");
}

TEST(NvmlTable, ClassifiesEveryExportOnce) {
  const Names exports = names_in("libnvidia-ml.txt");
  ASSERT_GT(exports.size(), 400U);
  EXPECT_EQ(missing_from(exports, all_of(kNvml)), "") << "exported, but in no table";
  EXPECT_EQ(missing_from(all_of(kNvml), exports), "") << "in a table, but not exported";
  EXPECT_EQ(twice_in(kNvml), "");
}

TEST(NvmlTable, HooksEveryFormOfAHookedEntry) { EXPECT_EQ(siblings_not_hooked(kNvml, {}), ""); }

TEST(NvmlTable, KnowsWhatTheInstalledDriverExports) {
  const Names exports = exports_of_installed("libnvidia-ml.so.1", "nvml");
  if (exports.empty()) GTEST_SKIP() << "no NVML is installed here";
  EXPECT_EQ(missing_from(exports, all_of(kNvml)), "");
}

}  // namespace

// SPDX-License-Identifier: Apache-2.0
// Code: what a PTX text says about its kernels and globals, and the objects behind modules,
// functions, libraries and kernels. Code costs device memory when a function of it is first used,
// globals when the module is loaded.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "driver.h"

namespace vgpu::sim {

// A number that a directive states: itself, or the value of one of the kernel's parameters.
struct Stated {
  std::uint64_t literal = 0;
  int param = -1;
};

// What a kernel does, in the words of its `// vgpu-sim:` comments (docs/simulated-gpu.md).
struct Directives {
  Stated spin_ns{kDefaultKernelNs};  // how long it runs
  std::optional<Stated> arrive;      // address of the 32-bit word that it adds 1 to at its start
  std::optional<Stated> wait;        // address of the one that has to be `wait_value` at least
  Stated wait_value;                 // before spin_ns begin
};

struct KernelText {
  std::string name;
  std::vector<std::uint64_t> param_offsets;
  std::vector<std::uint64_t> param_sizes;
  std::uint64_t param_bytes = 0;
  std::uint64_t local_bytes = 0;
  std::uint64_t shared_bytes = 0;
  std::uint64_t code_bytes = 0;
  int max_threads = 1024;
  bool uses_heap = false;
  bool uses_printf = false;
  Directives directives;
};

struct GlobalText {
  std::string name;
  std::uint64_t bytes = 0;
  std::uint64_t align = 1;
  bool managed = false;
  std::vector<std::uint8_t> initial;
};

struct ModuleText {
  std::vector<KernelText> kernels;
  std::vector<GlobalText> globals;
};

// nullopt: not a PTX text that a driver would accept.
std::optional<ModuleText> parse_ptx(std::string_view text);
// The image as cuModuleLoadData takes it: PTX text, or a container that holds some. The error is
// the driver's.
CUresult read_image(const void* image, std::shared_ptr<const ModuleText>& out);

// One kernel of a module in a context.
struct Code {
  bool loaded = false;
};

void unload_module(CUmodule module);
CUresult load_module(CUcontext context, std::shared_ptr<const ModuleText> text, CUmodule& out);
// Makes the code of a function resident. OUT_OF_MEMORY if the device has no room.
CUresult load_code(CUfunction function);
// A function of the context of `stream` for what a launch names: a function, or a kernel that was
// cast to one.
CUfunction launchable(CUcontext context, CUfunction handle, CUresult& result);

}  // namespace vgpu::sim

struct CUfunc_st : vgpu::sim::Handle<CUfunc_st> {
  static constexpr std::uint32_t kMagic = 0x46554e31;
  CUmodule module = nullptr;
  CUkernel kernel = nullptr;
  const vgpu::sim::KernelText* text = nullptr;
  bool loaded = false;
  int max_dynamic_shared = 0;
  int carveout = -1;
  int non_portable_cluster = 0;
  int cluster_policy = 0;
  // Legacy launches.
  unsigned block[3] = {1, 1, 1};
  unsigned dynamic_shared = 0;
  std::vector<unsigned char> legacy_params;
};

struct CUmod_st : vgpu::sim::Handle<CUmod_st> {
  static constexpr std::uint32_t kMagic = 0x4d4f4431;
  CUcontext context = nullptr;
  CUlibrary library = nullptr;
  std::shared_ptr<const vgpu::sim::ModuleText> text;
  std::map<std::string, CUfunction, std::less<>> functions;
  std::map<std::string, std::uint64_t, std::less<>> globals;  // name -> address
};

struct CUkern_st : vgpu::sim::Handle<CUkern_st> {
  static constexpr std::uint32_t kMagic = 0x4b45524e;
  CUlibrary library = nullptr;
  const vgpu::sim::KernelText* text = nullptr;
};

struct CUlib_st : vgpu::sim::Handle<CUlib_st> {
  static constexpr std::uint32_t kMagic = 0x4c494231;
  std::shared_ptr<const vgpu::sim::ModuleText> text;
  std::map<std::string, CUkernel, std::less<>> kernels;
  std::map<CUcontext, CUmodule> modules;
  std::map<std::string, std::uint64_t, std::less<>> managed;  // name -> address
};

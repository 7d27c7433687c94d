// SPDX-License-Identifier: Apache-2.0
#include "vgpu/driver/real_loader.h"

#include <atomic>
#include <cstring>

#include "vgpu/driver/elf_image.h"

namespace vgpu::driver {
namespace {

// Written with the same values by whoever comes first and by all who come at the same time, also
// while others read; `ready` is stored last (release) and loaded first (acquire), so that a reader
// that sees it sees them.
std::atomic<bool> g_ready{false};
RealLoader g_loader;

template <class Function>
Function load(const Function& source) {
  return __atomic_load_n(&source, __ATOMIC_RELAXED);
}

template <class Function>
void read(Function& target, const ElfImage& image, const char* name) {
  __atomic_store_n(&target, reinterpret_cast<Function>(image.find(name)), __ATOMIC_RELAXED);
}

bool read_from(const char* soname) {
  return for_each_object([soname](const LoadedObject& object) {
    if (std::strcmp(object.image.soname(), soname) != 0 || object.image.find("dlsym") == nullptr)
      return false;
    read(g_loader.dlsym, object.image, "dlsym");
    read(g_loader.dlvsym, object.image, "dlvsym");
    read(g_loader.dlopen, object.image, "dlopen");
    read(g_loader.dlclose, object.image, "dlclose");
    read(g_loader.dladdr1, object.image, "dladdr1");
    read(g_loader.dlinfo, object.image, "dlinfo");
    return true;
  });
}

}  // namespace

RealLoader real_loader() {
  if (!g_ready.load(std::memory_order_acquire) &&
      (read_from("libc.so.6") || read_from("libdl.so.2"))) {
    g_ready.store(true, std::memory_order_release);
  }
  return {load(g_loader.dlsym),   load(g_loader.dlvsym),  load(g_loader.dlopen),
          load(g_loader.dlclose), load(g_loader.dladdr1), load(g_loader.dlinfo)};
}

}  // namespace vgpu::driver

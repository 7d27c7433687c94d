// SPDX-License-Identifier: Apache-2.0
// RTLD_DEEPBIND: a library opened so looks for symbols among its own dependencies first, finds the
// real driver there and libc's dlsym, and passes by the hooks that everybody else is bound to. So
// once it is open, the places where its relocations stored those addresses get the hooks' instead.
// Its constructors have run by then: what they bound by themselves stays; Limiter::start() is asked
// for at any hooked call, not only at cuInit.
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "lookup.h"
#include "pointer_map.h"
#include "vgpu/driver/elf_image.h"
#include "vgpu/driver/real_loader.h"

namespace vgpu::limiter {
namespace {

using driver::LoadedObject;
using driver::RealLoader;

// Opens `file` by the search path of `caller`, since libc would take this library's:
// LD_LIBRARY_PATH and the system's directories are the same for both, RPATH and RUNPATH aren't.
void* open_as(const char* file, int mode, const void* caller) {
  const RealLoader loader = driver::real_loader();
  if (std::strchr(file, '/') != nullptr || loader.dladdr1 == nullptr || loader.dlinfo == nullptr) {
    return loader.dlopen(file, mode);
  }
  if (void* loaded = loader.dlopen(file, mode | RTLD_NOLOAD); loaded != nullptr) return loaded;
  Dl_info info;
  void* object = nullptr;
  Dl_serinfo size{};
  if (loader.dladdr1(caller, &info, &object, RTLD_DL_LINKMAP) != 0 &&
      loader.dlinfo(object, RTLD_DI_SERINFOSIZE, &size) == 0) {
    auto* paths = static_cast<Dl_serinfo*>(std::malloc(size.dls_size));
    void* opened = nullptr;
    if (paths != nullptr) {
      *paths = size;
      if (loader.dlinfo(object, RTLD_DI_SERINFOSIZE, paths) == 0 &&
          loader.dlinfo(object, RTLD_DI_SERINFO, paths) == 0) {
        for (unsigned i = 0; i < paths->dls_cnt && opened == nullptr; ++i) {
          char path[4096];
          const char* directory = paths->dls_serpath[i].dls_name;
          const std::size_t length = std::strlen(directory);
          if (length + 1 + std::strlen(file) >= sizeof(path)) continue;
          std::memcpy(path, directory, length);
          path[length] = '/';
          std::strcpy(path + length + 1, file);
          if (access(path, R_OK) == 0) opened = loader.dlopen(path, mode);
        }
      }
      std::free(paths);
    }
    if (opened != nullptr) return opened;
  }
  return loader.dlopen(file, mode);
}

void* replacement_for(const LoadedObject& object, const char* name, void* stored) {
  if (void* hook = known_hook_for(stored); hook != nullptr) return hook;
  if (void* own = replacement_of_loader_function(stored); own != nullptr) return own;
  if (!object.contains(stored)) return nullptr;  // bound, and to something else
  // Not bound yet (the place leads back into the object's own PLT): decided by name, as the dynamic
  // linker would.
  if (void* hook = hook_named(name); hook != nullptr) return hook;
  const RealLoader loader = driver::real_loader();
  if (std::strcmp(name, "dlsym") == 0)
    return replacement_of_loader_function(reinterpret_cast<void*>(loader.dlsym));
  if (std::strcmp(name, "dlvsym") == 0)
    return replacement_of_loader_function(reinterpret_cast<void*>(loader.dlvsym));
  if (std::strcmp(name, "dlopen") == 0)
    return replacement_of_loader_function(reinterpret_cast<void*>(loader.dlopen));
  return nullptr;
}

void store(const LoadedObject& object, void** slot, void* value) {
  const auto at = reinterpret_cast<std::uintptr_t>(slot);
  const bool read_only = at >= object.relro_low && at < object.relro_high;
  const auto page_bytes = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  void* page = reinterpret_cast<void*>(at & ~(page_bytes - 1));
  // The last page of the range may hold data that isn't read-only: it stays writable.
  const bool shared_page = read_only && (at & ~(page_bytes - 1)) + page_bytes > object.relro_high;
  if (read_only && mprotect(page, page_bytes, PROT_READ | PROT_WRITE) != 0) return;
  __atomic_store_n(slot, value, __ATOMIC_RELAXED);
  if (read_only && !shared_page) mprotect(page, page_bytes, PROT_READ);
}

bool is_rebindable(const LoadedObject& object) {
  return driver::library_of(object.image.soname()) == driver::Library::none &&
         object.dynamic != nullptr &&
         !object.contains(reinterpret_cast<const void*>(&open_deeply_bound)) &&
         object.image.find("dlsym") == nullptr;
}

// New objects are appended to the list, so those behind what was last before the call came with it.
std::uintptr_t last_object() {
  std::uintptr_t base = 0;
  driver::for_each_object([&](const LoadedObject& object) {
    base = object.low;
    return false;
  });
  return base;
}

void rebind_objects_after(std::uintptr_t last) {
  enter_loaded_libraries();
  bool is_new = false;
  driver::for_each_object([&](const LoadedObject& object) {
    if (!is_new) {
      is_new = object.low == last;
      return false;
    }
    if (!is_rebindable(object)) return false;
    object.image.relocations(
        [](void* context, const char* name, void** slot) {
          const LoadedObject& in = *static_cast<const LoadedObject*>(context);
          void* value = replacement_for(in, name, __atomic_load_n(slot, __ATOMIC_RELAXED));
          if (value != nullptr) store(in, slot, value);
        },
        const_cast<LoadedObject*>(&object));
    return false;
  });
}

}  // namespace

void* open_deeply_bound(const char* file, int mode, const void* caller) {
  const std::uintptr_t last = last_object();
  void* handle = open_as(file, mode, caller);
  if (handle != nullptr) {
    const int saved_errno = errno;
    rebind_objects_after(last);
    errno = saved_errno;
  }
  return handle;
}

}  // namespace vgpu::limiter

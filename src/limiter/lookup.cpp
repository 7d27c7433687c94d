// SPDX-License-Identifier: Apache-2.0
#include "lookup.h"

#include <cerrno>
#include <cstring>

#include "pointer_map.h"
#include "vgpu/driver/elf_image.h"
#include "vgpu/driver/real_loader.h"

void* vgpu_real_dlsym = nullptr;
void* vgpu_real_dlvsym = nullptr;
void* vgpu_real_dlopen = nullptr;

namespace vgpu::limiter {
namespace {

using driver::LoadedObject;
using driver::RealLoader;

RealLoader prepared_loader() {
  const RealLoader loader = driver::real_loader();
  if (__atomic_load_n(&vgpu_real_dlopen, __ATOMIC_RELAXED) == nullptr) {
    __atomic_store_n(&vgpu_real_dlsym, reinterpret_cast<void*>(loader.dlsym), __ATOMIC_RELAXED);
    __atomic_store_n(&vgpu_real_dlvsym, reinterpret_cast<void*>(loader.dlvsym), __ATOMIC_RELAXED);
    __atomic_store_n(&vgpu_real_dlopen, reinterpret_cast<void*>(loader.dlopen), __ATOMIC_RELAXED);
  }
  return loader;
}

// "cuInit" and "nvmlInit", not "curl_easy_init", "cudaMalloc" or "cublasCreate".
bool is_nvidia_name(const char* name) {
  const auto upper = [](char c) { return c >= 'A' && c <= 'Z'; };
  if (name == nullptr) return false;
  if (name[0] == 'c') return name[1] == 'u' && upper(name[2]);
  return name[0] == 'n' && name[1] == 'v' && name[2] == 'm' && name[3] == 'l' && upper(name[4]);
}

bool is_loader_name(const char* name) {
  return name != nullptr && name[0] == 'd' && name[1] == 'l' &&
         (std::strcmp(name, "dlsym") == 0 || std::strcmp(name, "dlvsym") == 0 ||
          std::strcmp(name, "dlopen") == 0);
}

bool is_nvidia_library(const char* soname) {
  return driver::library_of(soname) != driver::Library::none;
}

void* real_lookup(void* handle, const char* name, const char* version) {
  const RealLoader loader = driver::real_loader();
  return version == nullptr ? loader.dlsym(handle, name) : loader.dlvsym(handle, name, version);
}

link_map* object_of(const void* address) {
  Dl_info info;
  void* object = nullptr;
  const RealLoader loader = driver::real_loader();
  if (loader.dladdr1 == nullptr || loader.dladdr1(address, &info, &object, RTLD_DL_LINKMAP) == 0)
    return nullptr;
  return static_cast<link_map*>(object);
}

// What RTLD_NEXT means for `caller`: asked from here libc would search behind this library instead,
// and give a wrapper of cuInit its own wrapper again. Only asked whether the answer is the
// driver's; libc answers the rest.
void* next_after(const void* caller, const char* name, const char* version) {
  bool passed_caller = false;
  bool caller_defines_it = false;
  bool caller_needs_driver = false;
  void* found = nullptr;
  driver::for_each_object([&](const LoadedObject& object) {
    if (!passed_caller) {
      passed_caller = object.contains(caller);
      if (passed_caller) {
        caller_defines_it = object.image.find(name) != nullptr;
        caller_needs_driver = object.image.needs(is_nvidia_library);
      }
      return false;
    }
    found = object.image.find(name);
    return found != nullptr;
  });
  if (found != nullptr || !passed_caller) return found;
  if (!caller_defines_it) {
    // Its dependencies may be older than itself: the search order of an object opened at run time.
    link_map* object = object_of(caller);
    return object == nullptr ? nullptr : real_lookup(object, name, version);
  }
  if (!caller_needs_driver) return nullptr;
  driver::for_each_object([&](const LoadedObject& object) {
    if (is_nvidia_library(object.image.soname())) found = object.image.find(name);
    return found != nullptr;
  });
  return found;
}

void* replacement_of(void* found, const char* name) {
  if (found == nullptr) return nullptr;
  void* hook = hook_for(found);
  return hook != nullptr ? hook : in_first_copy(found, name);
}

VgpuAnswer look_up(void* handle, const char* name, const char* version, const void* caller) {
  const RealLoader loader = prepared_loader();
  const bool loader_name = is_loader_name(name);
  if ((!loader_name && !is_nvidia_name(name)) || loader.dlsym == nullptr ||
      loader.dlvsym == nullptr || is_in_real_library(caller)) {
    return {nullptr, 0};
  }
  const int saved_errno = errno;
  void* instead = nullptr;
  if (loader_name) {
    // Whoever fetches libc's dlsym to look up the driver with it. RTLD_NEXT is how an interposer
    // reaches the next.
    if (handle != RTLD_NEXT)
      instead = replacement_of_loader_function(real_lookup(handle, name, version));
  } else if (handle == RTLD_NEXT) {
    instead = replacement_of(next_after(caller, name, version), name);
  } else {
    void* found = real_lookup(handle, name, version);
    if (found == nullptr && handle == RTLD_DEFAULT) {
      // From here only the global scope was searched; the caller may have a local one.
      if (link_map* object = object_of(caller); object != nullptr)
        found = real_lookup(object, name, version);
    }
    instead = replacement_of(found, name);
  }
  errno = saved_errno;
  return {instead, instead != nullptr};
}

}  // namespace

void* replacement_of_loader_function(const void* address) {
  const RealLoader loader = driver::real_loader();
  if (address == nullptr) return nullptr;
  if (address == reinterpret_cast<void*>(loader.dlsym)) return reinterpret_cast<void*>(&vgpu_dlsym);
  if (address == reinterpret_cast<void*>(loader.dlvsym))
    return reinterpret_cast<void*>(&vgpu_dlvsym);
  if (address == reinterpret_cast<void*>(loader.dlopen))
    return reinterpret_cast<void*>(&vgpu_dlopen);
  return nullptr;
}

}  // namespace vgpu::limiter

VgpuAnswer vgpu_before_dlsym(void* handle, const char* name, const void* caller) {
  return vgpu::limiter::look_up(handle, name, nullptr, caller);
}

VgpuAnswer vgpu_before_dlvsym(void* handle, const char* name, const char* version,
                              const void* caller) {
  return vgpu::limiter::look_up(handle, name, version, caller);
}

VgpuAnswer vgpu_before_dlopen(const char* file, int mode, const void* caller) {
  const vgpu::driver::RealLoader loader = vgpu::limiter::prepared_loader();
  if ((mode & RTLD_DEEPBIND) == 0 || file == nullptr || loader.dlopen == nullptr)
    return {nullptr, 0};
  return {vgpu::limiter::open_deeply_bound(file, mode, caller), 1};
}

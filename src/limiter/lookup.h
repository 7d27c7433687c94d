// SPDX-License-Identifier: Apache-2.0
// What the exported dlsym, dlvsym and dlopen (lookup_<machine>.S) ask before they jump to libc's
// own. Most calls end in that jump, with the caller's return address in place, because libc
// resolves RTLD_NEXT, RTLD_DEFAULT and search paths by who called; only a result that is a hook, or
// a library opened with RTLD_DEEPBIND, comes from here. Any thread, before main too, inside a
// preloaded allocator's first call too: names that aren't NVIDIA's cost a few compares and allocate
// nothing.
#pragma once

#include <cstdint>

extern "C" {

// In two registers: the result, and whether it is one (0: go on to libc).
struct VgpuAnswer {
  void* value;
  std::uintptr_t answered;
};

VgpuAnswer vgpu_before_dlsym(void* handle, const char* name, const void* caller);
VgpuAnswer vgpu_before_dlvsym(void* handle, const char* name, const char* version,
                              const void* caller);
VgpuAnswer vgpu_before_dlopen(const char* file, int mode, const void* caller);

// Where the assembly goes on to; set by the functions above, null only in a process without libc's
// own.
extern void* vgpu_real_dlsym;
extern void* vgpu_real_dlvsym;
extern void* vgpu_real_dlopen;

// The exported functions (assembly).
void* vgpu_dlsym(void* handle, const char* name);
void* vgpu_dlvsym(void* handle, const char* name, const char* version);
void* vgpu_dlopen(const char* file, int mode);
}

namespace vgpu::limiter {

// Opens `file` as `caller` would have, and leads the references of what came with it to the hooks
// (deepbind.cpp).
void* open_deeply_bound(const char* file, int mode, const void* caller);

// libc's dlsym, dlvsym or dlopen: the limiter's. nullptr: it is none of them.
void* replacement_of_loader_function(const void* address);

}  // namespace vgpu::limiter

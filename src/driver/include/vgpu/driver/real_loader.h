// SPDX-License-Identifier: Apache-2.0
// libc's own dlsym, dlvsym and dlopen. The limiter exports functions of these names, so neither a
// plain call nor dlvsym(RTLD_NEXT, ...) is a safe way to them: they are read from the symbol table
// of libc.so.6 (since glibc 2.34) or libdl.so.2 (before). Any thread, before main too; allocates
// nothing.
#pragma once

#include <dlfcn.h>
#include <link.h>

namespace vgpu::driver {

struct RealLoader {
  void* (*dlsym)(void* handle, const char* name) = nullptr;
  void* (*dlvsym)(void* handle, const char* name, const char* version) = nullptr;
  void* (*dlopen)(const char* file, int mode) = nullptr;
  int (*dlclose)(void* handle) = nullptr;
  int (*dladdr1)(const void* address, Dl_info* info, void** extra, int flags) = nullptr;
  int (*dlinfo)(void* handle, int request, void* answer) = nullptr;
};

// Null pointers only where the process has no dynamic linking library at all: then nobody can call
// them either.
RealLoader real_loader();

}  // namespace vgpu::driver

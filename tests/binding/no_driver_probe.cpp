// SPDX-License-Identifier: Apache-2.0
// What a program sees on a machine without a driver, as text: it has to be the same with and
// without the limiter.
#include <dlfcn.h>

#include <cstdio>
#include <initializer_list>

namespace {

void show(const char* what, const void* result) {
  const char* error = dlerror();
  std::printf("%s: %s, %s\n", what, result == nullptr ? "null" : "found",
              error == nullptr ? "no error" : error);
}

}  // namespace

int main() {
  show("dlopen libcuda.so.1", dlopen("libcuda.so.1", RTLD_NOW));
  show("dlopen libcuda.so.1 deeply", dlopen("libcuda.so.1", RTLD_NOW | RTLD_DEEPBIND));
  show("dlopen /nowhere/libcuda.so", dlopen("/nowhere/libcuda.so", RTLD_NOW));
  for (const char* name : {"cuInit", "cuMemAlloc_v2", "cuGetProcAddress_v2", "nvmlInit_v2",
                           "cuNothing", "nvmlNothing"}) {
    show(name, dlsym(RTLD_DEFAULT, name));
    show(name, dlsym(RTLD_NEXT, name));
    show(name, dlsym(dlopen(nullptr, RTLD_NOW), name));
    show(name, dlvsym(RTLD_DEFAULT, name, "GLIBC_2.2.5"));
    show(name, dlvsym(RTLD_NEXT, name, "DRIVER_1"));
  }
  show("cos", dlsym(RTLD_DEFAULT, "getpid"));
  show("none", dlsym(RTLD_NEXT, "there_is_no_such_function"));
  // An error that wasn't asked for stays until it is.
  dlsym(RTLD_DEFAULT, "cuInit");
  dlsym(RTLD_DEFAULT, "getpid");
  show("after a success", nullptr);
  return 0;
}

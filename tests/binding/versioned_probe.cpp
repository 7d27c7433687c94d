// SPDX-License-Identifier: Apache-2.0
// dlvsym on a driver whose exports carry a version: which library each name leads into.
#include <dlfcn.h>

#include <cstdio>
#include <cstring>
#include <initializer_list>

int main() {
  void* driver = dlopen("libcuda.so.1", RTLD_NOW);
  if (driver == nullptr) return 1;
  const auto show = [](const char* what, void* address) {
    Dl_info info{};
    const bool known = address != nullptr && dladdr(address, &info) != 0;
    const char* in = !known                                                         ? "null"
                     : std::strstr(info.dli_fname, "libcuda_limiter.so") != nullptr ? "limiter"
                                                                                    : "driver";
    std::printf("%s %s\n", what, in);
  };
  for (const char* name : {"cuInit", "cuMemAlloc_v2", "cuDriverGetVersion"})
    show(name, dlvsym(driver, name, "DRIVER_1"));
  show("wrong version", dlvsym(driver, "cuInit", "DRIVER_2"));
  return 0;
}

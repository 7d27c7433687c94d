// SPDX-License-Identifier: Apache-2.0
// Linked against the driver: "linked" calls it directly, "next" looks behind itself, "lookup" by
// RTLD_DEFAULT. Built as a program and, for RTLD_DEEPBIND and look-ups through another library, as
// a shared object.
#include <dlfcn.h>

#include <string_view>

#include "probe.h"

extern "C" {
CUresult cuInit(unsigned int flags);
CUresult cuDeviceGet(CUdevice* device, int ordinal);
CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device);
CUresult cuCtxSetCurrent(CUcontext context);
CUresult cuMemAlloc_v2(CUdeviceptr* pointer, std::size_t bytes);
CUresult cuMemFree_v2(CUdeviceptr pointer);

__attribute__((visibility("default"))) int check_linked() {
  return vgpu::probe::check_limit({cuInit, cuDeviceGet, cuDevicePrimaryCtxRetain, cuCtxSetCurrent,
                                   cuMemAlloc_v2, cuMemFree_v2});
}

__attribute__((visibility("default"))) int check_next() {
  return vgpu::probe::check_limit(
      vgpu::probe::calls_by([](const char* name) { return dlsym(RTLD_NEXT, name); }));
}

__attribute__((visibility("default"))) int check_default() {
  return vgpu::probe::check_limit(
      vgpu::probe::calls_by([](const char* name) { return dlsym(RTLD_DEFAULT, name); }));
}
}

#ifdef VGPU_PROBE_PROGRAM
int main(int argc, char** argv) {
  const std::string_view way = argc > 1 ? argv[1] : "";
  if (way == "next") return check_next();
  return way == "default" ? check_default() : check_linked();
}
#endif

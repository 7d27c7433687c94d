// SPDX-License-Identifier: Apache-2.0
// Takes a context and 64 MiB, prints the result of the call that failed or 0, and runs the rest of
// its arguments as a program while it holds them.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe.h"

namespace {

CUresult take(const vgpu::probe::Calls& calls) {
  CUdevice device = -1;
  CUcontext context = nullptr;
  CUdeviceptr pointer = 0;
  CUresult result = calls.init(0);
  if (result == CUDA_SUCCESS) result = calls.device_get(&device, 0);
  if (result == CUDA_SUCCESS) result = calls.retain(&context, device);
  if (result == CUDA_SUCCESS) result = calls.set_current(context);
  if (result == CUDA_SUCCESS) result = calls.allocate(&pointer, vgpu::probe::kWithinBytes);
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  void* driver = dlopen("libcuda.so.1", RTLD_NOW);
  if (driver == nullptr) return 1;
  const CUresult result =
      take(vgpu::probe::calls_by([&](const char* name) { return dlsym(driver, name); }));
  std::printf("%d\n", result);
  std::fflush(stdout);
  if (argc < 2) return 0;
  const pid_t child = vfork();
  if (child == 0) {
    execv(argv[1], argv + 1);
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

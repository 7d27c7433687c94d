// SPDX-License-Identifier: Apache-2.0
// A program that uses a GPU as its arguments say, in that order, and says what it got. Binds to the
// driver by dlopen, as most programs do. Words:
//   info          cuMemGetInfo
//   alloc=MIB     one cuMemAlloc
//   fill=MIB      allocations of that size until one is refused
//   free          frees everything
//   hold          waits until standard input ends
//   fork=WORDS    a child of fork() does these (+ between them) and is waited for
// Status: 0, or 1 when the driver can't be used, 2 when a word isn't known, 3 when a wanted
// allocation was refused.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr double kMiB = 1024.0 * 1024.0;
constexpr int kOutOfMemory = 2;

using DevicePointer = unsigned long long;

struct Driver {
  int (*init)(unsigned);
  int (*device)(int*, int);
  int (*retain)(void**, int);
  int (*set_current)(void*);
  int (*allocate)(DevicePointer*, std::size_t);
  int (*release)(DevicePointer);
  int (*memory)(std::size_t*, std::size_t*);
};

template <class Function>
bool bind(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) std::fprintf(stderr, "gpu_client: no %s\n", name);
  return function != nullptr;
}

class Client {
 public:
  bool start() {
    void* library = dlopen("libcuda.so.1", RTLD_NOW);
    if (library == nullptr) {
      std::fprintf(stderr, "gpu_client: %s\n", dlerror());
      return false;
    }
    if (!bind(library, "cuInit", driver_.init) || !bind(library, "cuDeviceGet", driver_.device) ||
        !bind(library, "cuDevicePrimaryCtxRetain", driver_.retain) ||
        !bind(library, "cuCtxSetCurrent", driver_.set_current) ||
        !bind(library, "cuMemAlloc_v2", driver_.allocate) ||
        !bind(library, "cuMemFree_v2", driver_.release) ||
        !bind(library, "cuMemGetInfo_v2", driver_.memory)) {
      return false;
    }
    int device = 0;
    void* context = nullptr;
    int result = driver_.init(0);
    if (result == 0) result = driver_.device(&device, 0);
    if (result == 0) result = driver_.retain(&context, device);
    if (result == 0) result = driver_.set_current(context);
    if (result != 0) std::fprintf(stderr, "gpu_client: the driver answers %d\n", result);
    return result == 0;
  }

  int perform(std::string_view word) {
    const auto equals = word.find('=');
    const std::string_view verb = word.substr(0, equals);
    const std::string value(equals == std::string_view::npos ? "" : word.substr(equals + 1));
    if (verb == "info") return info();
    if (verb == "alloc") return allocate(std::strtoull(value.c_str(), nullptr, 10)) == 0 ? 0 : 3;
    if (verb == "fill") return fill(std::strtoull(value.c_str(), nullptr, 10));
    if (verb == "free") return free_all();
    if (verb == "hold") return hold();
    if (verb == "fork") return in_child(value);
    std::fprintf(stderr, "gpu_client: \"%.*s\" is no word\n", static_cast<int>(word.size()),
                 word.data());
    return 2;
  }

 private:
  int info() {
    std::size_t free_bytes = 0, total_bytes = 0;
    if (driver_.memory(&free_bytes, &total_bytes) != 0) return 1;
    std::printf("cuMemGetInfo: %.0f MiB free of %.0f MiB\n", static_cast<double>(free_bytes) / kMiB,
                static_cast<double>(total_bytes) / kMiB);
    return 0;
  }

  int allocate(std::size_t mib) {
    DevicePointer pointer = 0;
    const int result = driver_.allocate(&pointer, mib << 20U);
    if (result == 0) {
      pointers_.push_back(pointer);
      std::printf("cuMemAlloc %zu MiB: ok\n", mib);
    } else {
      std::printf("cuMemAlloc %zu MiB: %s\n", mib,
                  result == kOutOfMemory ? "CUDA_ERROR_OUT_OF_MEMORY" : "error");
    }
    return result;
  }

  int fill(std::size_t mib) {
    const std::size_t before = pointers_.size();
    DevicePointer pointer = 0;
    int result = 0;
    while (mib > 0 && (result = driver_.allocate(&pointer, mib << 20U)) == 0)
      pointers_.push_back(pointer);
    std::printf("cuMemAlloc %zu MiB: ok %zu times, then %s\n", mib, pointers_.size() - before,
                result == kOutOfMemory ? "CUDA_ERROR_OUT_OF_MEMORY" : "another error");
    return 0;
  }

  int free_all() {
    for (const DevicePointer pointer : pointers_) driver_.release(pointer);
    std::printf("cuMemFree: all\n");
    pointers_.clear();
    return 0;
  }

  static int hold() {
    std::printf("holding\n");
    std::fflush(stdout);
    char byte = 0;
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    return 0;
  }

  int in_child(const std::string& words) {
    std::fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
      int worst = 0;
      std::string_view rest = words;
      while (!rest.empty() && worst == 0) {
        const auto plus = std::min(rest.find('+'), rest.size());
        worst = perform(rest.substr(0, plus));
        rest.remove_prefix(std::min(plus + 1, rest.size()));
      }
      std::fflush(stdout);
      _exit(worst);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
  }

  Driver driver_{};
  std::vector<DevicePointer> pointers_;
};

}  // namespace

int main(int argc, char** argv) {
  Client client;
  if (!client.start()) return 1;
  for (int i = 1; i < argc; ++i) {
    const int result = client.perform(argv[i]);
    std::fflush(stdout);
    if (result != 0) return result;
  }
  return 0;
}

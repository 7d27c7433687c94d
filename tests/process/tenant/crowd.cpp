// SPDX-License-Identifier: Apache-2.0
#include "crowd.h"

#include <dlfcn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "taking.h"
#include "vgpu/api/nvml_abi.h"

namespace vgpu::test {
namespace {

using gpu_client::cu;

// Keeps the first answer that may not be, and says what it was the answer to.
class Verdict {
 public:
  void add(const char* what, CUresult code) {
    CUresult none = CUDA_SUCCESS;
    if (code != CUDA_SUCCESS && first_.compare_exchange_strong(none, code))
      std::fprintf(stderr, "%s: CUDA error %d\n", what, static_cast<int>(code));
  }
  CUresult code() const { return first_.load(); }

 private:
  std::atomic<CUresult> first_{CUDA_SUCCESS};
};

// What an allocation may answer.
CUresult allowed(CUresult code) { return code == CUDA_ERROR_OUT_OF_MEMORY ? CUDA_SUCCESS : code; }

struct Nvml {
  nvmlReturn_t (*init)() = nullptr;
  nvmlReturn_t (*handle)(unsigned, nvmlDevice_t*) = nullptr;
  nvmlReturn_t (*memory)(nvmlDevice_t, nvmlMemory_t*) = nullptr;
  nvmlReturn_t (*processes)(nvmlDevice_t, unsigned*, nvmlProcessInfo_t*) = nullptr;
};

Nvml open_nvml() {
  Nvml nvml;
  void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
  if (library == nullptr) return nvml;
  const auto find = [library](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
  };
  find(nvml.init, "nvmlInit_v2");
  find(nvml.handle, "nvmlDeviceGetHandleByIndex_v2");
  find(nvml.memory, "nvmlDeviceGetMemoryInfo");
  find(nvml.processes, "nvmlDeviceGetComputeRunningProcesses_v3");
  return nvml;
}

CUresult as_cuda(bool succeeded) { return succeeded ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN; }

CUresult first_call(unsigned entry) {
  int count = 0;
  void* found = nullptr;
  switch (entry % 4) {
    case 0:
      return cu.cuInit(0);
    case 1: {
      const Nvml nvml = open_nvml();
      return as_cuda(nvml.init != nullptr && nvml.init() == NVML_SUCCESS);
    }
    case 2:
      return cu.cuDriverGetVersion(&count);
    default:
      return cu.cuGetProcAddress_v2("cuInit", &found, 12000, CU_GET_PROC_ADDRESS_DEFAULT, nullptr);
  }
}

template <class Body>
void on_threads(unsigned threads, Body body) {
  std::atomic<unsigned> waiting{threads};
  std::vector<std::thread> all;
  for (unsigned i = 0; i < threads; ++i) {
    all.emplace_back([&, i] {
      // All at once, as far as the machine can.
      for (--waiting; waiting.load() != 0;) std::this_thread::yield();
      body(i);
    });
  }
  for (std::thread& each : all) each.join();
}

// The kernel's letter for what the thread is at.
char state_of_thread(long thread) {
  char path[64];
  char text[256] = "";
  std::snprintf(path, sizeof(path), "/proc/self/task/%ld/stat", thread);
  std::FILE* file = std::fopen(path, "r");
  if (file == nullptr) return 'X';
  const std::size_t size = std::fread(text, 1, sizeof(text) - 1, file);
  std::fclose(file);
  const std::string stat(text, size);
  const std::size_t end = stat.rfind(") ");
  return end == std::string::npos ? 'X' : stat[end + 2];
}

struct TwoUsers {
  std::atomic<long> first_thread{0};
  std::atomic<bool> go{false};
  std::atomic<bool> first_is_done{false};
  Verdict verdict;
};
TwoUsers* g_two_users = nullptr;

// What a child of a process in the middle of its work sees of the GPU: CUDA refuses itself to it,
// NVML shows the tenant.
[[noreturn]] void look_in_child(const Nvml& nvml) {
  nvmlDevice_t device = nullptr;
  nvmlMemory_t memory{};
  bool good = cu.cuInit(0) != CUDA_ERROR_NOT_PERMITTED;
  good = good && nvml.init() == NVML_SUCCESS && nvml.handle(0, &device) == NVML_SUCCESS &&
         nvml.memory(device, &memory) == NVML_SUCCESS && memory.used <= memory.total;
  _exit(good ? 0 : 1);
}

void look(const Nvml& nvml, nvmlDevice_t device, Verdict& verdict) {
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  verdict.add("cuMemGetInfo", cu.cuMemGetInfo_v2(&free_bytes, &total_bytes));
  nvmlMemory_t memory{};
  nvmlProcessInfo_t processes[64];
  unsigned count = std::size(processes);
  verdict.add("view",
              as_cuda(nvml.memory(device, &memory) == NVML_SUCCESS && memory.total == total_bytes &&
                      free_bytes <= total_bytes && memory.used <= memory.total &&
                      nvml.processes(device, &count, processes) == NVML_SUCCESS && count > 0));
}

const Kinds kAllKinds = {"alloc",      "async",    "pool",      "vmm",      "mapped",
                         "graph",      "captured", "array",     "pitch",    "module",
                         "newcontext", "shared",   "mipmapped", "local",    "library",
                         "stack",      "managed",  "alloc",     "multicast"};

// Others may hold everything at the moment, but not for ever.
CUresult make_stream() {
  CUresult code = CUDA_ERROR_OUT_OF_MEMORY;
  while (code == CUDA_ERROR_OUT_OF_MEMORY)
    code = cu.cuStreamCreate(&t_stream, CU_STREAM_NON_BLOCKING);
  return code;
}

// One thread's part: at most three pieces at a time.
void take_and_give_back(unsigned thread, unsigned steps, const Kinds& kinds, const Nvml& nvml,
                        Verdict& verdict) {
  CUcontext context = nullptr;
  nvmlDevice_t device = nullptr;
  verdict.add("retain", cu.cuDevicePrimaryCtxRetain(&context, g_device));
  verdict.add("set current", cu.cuCtxSetCurrent(context));
  verdict.add("stream", make_stream());
  verdict.add("NVML device", as_cuda(nvml.handle(0, &device) == NVML_SUCCESS));
  for (unsigned step = 0; step < steps && verdict.code() == CUDA_SUCCESS; ++step) {
    const unsigned turn = step + 5 * thread;
    const std::string& kind = kinds[turn % kinds.size()];
    verdict.add(kind.c_str(), allowed(take(kind, (2 + turn % 16 * 8) * kMiB)));
    if (step % 4 == 0) look(nvml, device, verdict);
    while (verdict.code() == CUDA_SUCCESS && taken_count() > turn % 4)
      verdict.add("giving back", give_back());
  }
  while (taken_count() > 0 && verdict.code() == CUDA_SUCCESS)
    verdict.add("giving back", give_back());
  verdict.add("stream", cu.cuStreamDestroy_v2(t_stream));
  verdict.add("release", cu.cuDevicePrimaryCtxRelease_v2(g_device));
}

}  // namespace

CUresult use_first(unsigned threads) {
  Verdict verdict;
  on_threads(threads, [&](unsigned i) { verdict.add("first call", first_call(i)); });
  return verdict.code();
}

CUresult use_in_constructor() {
  TwoUsers two;
  g_two_users = &two;
  std::thread first([&] {
    two.first_thread = syscall(SYS_gettid);
    while (!two.go) {
    }
    two.verdict.add("cuInit", cu.cuInit(0));
    two.first_is_done = true;
  });
  void* library = dlopen(VGPU_EAGER_LIBRARY, RTLD_NOW);
  two.go = true;
  first.join();
  two.verdict.add("dlopen", as_cuda(library != nullptr));
  return two.verdict.code();
}

CUresult storm(unsigned threads, unsigned steps, unsigned children, const Kinds& kinds) {
  const Kinds& used = kinds.empty() ? kAllKinds : kinds;
  Verdict verdict;
  const Nvml nvml = open_nvml();
  verdict.add("NVML", as_cuda(nvml.init != nullptr && nvml.init() == NVML_SUCCESS));
  std::thread crowd([&] {
    on_threads(threads, [&](unsigned i) { take_and_give_back(i, steps, used, nvml, verdict); });
  });
  for (unsigned i = 0; i < children; ++i) {
    const pid_t child = fork();
    if (child == 0) look_in_child(nvml);
    int status = -1;
    verdict.add("child", as_cuda(waitpid(child, &status, 0) == child && status == 0));
  }
  crowd.join();
  verdict.add("synchronise", cu.cuCtxSynchronize());
  verdict.add("trim", cu.cuDeviceGraphMemTrim(g_device));
  return verdict.code();
}

void storm_on(unsigned threads) {
  for (;;) storm(threads, 1000, 0);
}

}  // namespace vgpu::test

// What the constructor of eager_library.cpp runs, with the dynamic linker's lock held. The first
// thread is in the middle of its first use once it sleeps: it waits for that lock.
extern "C" __attribute__((visibility("default"))) void vgpu_in_constructor() {
  vgpu::test::TwoUsers& two = *vgpu::test::g_two_users;
  while (two.first_thread == 0) {
  }
  two.go = true;
  while (!two.first_is_done && vgpu::test::state_of_thread(two.first_thread) == 'R') {
  }
  two.verdict.add("cuInit", gpu_client::cu.cuInit(0));
}

// SPDX-License-Identifier: Apache-2.0
// A program that uses a GPU as it is told, one line of standard input after the other, and answers
// each with "CODE NUMBER": the driver's result, and what the command yields. It ends with its
// input.
//   init | context | info                 NUMBER of info: bytes that cuMemGetInfo says are in use
//   KIND MIB                              takes memory by that kind of call (kinds: see take())
//   free                                  gives back what was taken last
//   fill MIB                              takes pieces until it is refused; NUMBER: how many
//   churn                                 takes and frees by all kinds for ever, without an answer
//   fork | exec                           a child that holds on | that is this program again, with
//                                         a context and 64 MiB; NUMBER: its pid
//   become                                this program anew in the same process
//   driver                                bytes in use on GPU 0 by NVML
// `worker start MIB`: at its start context and fill, then "CODE PIECES", and waits for its input's
// end.
#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "gpu_client.h"
#include "vgpu/api/nvml_abi.h"

using namespace gpu_client;

namespace {

constexpr std::size_t kMiB = 1u << 20;

// How to give back each thing that was taken, last one on top.
std::vector<std::function<CUresult()>> g_taken;
CUdevice g_device = 0;

CUresult keep(CUresult code, std::function<CUresult()> free) {
  if (code == CUDA_SUCCESS) g_taken.push_back(std::move(free));
  return code;
}

CUmemLocation here() {
  CUmemLocation location{};
  location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  location.id = g_device;
  return location;
}

CUDA_ARRAY3D_DESCRIPTOR array_of(std::size_t bytes) {
  CUDA_ARRAY3D_DESCRIPTOR d{};
  d.Format = CU_AD_FORMAT_FLOAT;
  d.NumChannels = 1;
  d.Width = 4096;
  d.Height = bytes / (4 * 4096);
  return d;
}

CUresult take_graph(std::size_t bytes) {
  CUgraph graph = nullptr;
  CUgraphNode node = nullptr;
  CUgraphExec exec = nullptr;
  CUDA_MEM_ALLOC_NODE_PARAMS params{};
  params.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  params.poolProps.location = here();
  params.bytesize = bytes;
  CUresult code = cu.cuGraphCreate(&graph, 0);
  if (code == CUDA_SUCCESS) code = cu.cuGraphAddMemAllocNode(&node, graph, nullptr, 0, &params);
  if (code == CUDA_SUCCESS) code = cu.cuGraphInstantiateWithFlags(&exec, graph, 0);
  if (code == CUDA_SUCCESS) code = cu.cuGraphLaunch(exec, nullptr);
  if (code == CUDA_SUCCESS) code = cu.cuCtxSynchronize();
  if (exec != nullptr) cu.cuGraphExecDestroy(exec);
  if (graph != nullptr) cu.cuGraphDestroy(graph);
  return keep(code, [p = params.dptr] {
    const CUresult freed = cu.cuMemFreeAsync(p, nullptr);
    cu.cuCtxSynchronize();
    cu.cuDeviceGraphMemTrim(g_device);
    return freed;
  });
}

CUresult take(const std::string& kind, std::size_t bytes) {
  CUdeviceptr p = 0;
  const auto pointer = [&](CUresult code) {
    return keep(code, [p] { return cu.cuMemFree_v2(p); });
  };
  if (kind == "alloc") return pointer(cu.cuMemAlloc_v2(&p, bytes));
  if (kind == "managed") return pointer(cu.cuMemAllocManaged(&p, bytes, CU_MEM_ATTACH_GLOBAL));
  if (kind == "pitch") {
    std::size_t pitch = 0;
    return pointer(cu.cuMemAllocPitch_v2(&p, &pitch, 4096, bytes / 4096, 4));
  }
  if (kind == "array") {
    const CUDA_ARRAY3D_DESCRIPTOR d = array_of(bytes);
    CUarray array = nullptr;
    const CUresult code = cu.cuArray3DCreate_v2(&array, &d);
    return keep(code, [array] { return cu.cuArrayDestroy(array); });
  }
  if (kind == "mipmapped") {
    const CUDA_ARRAY3D_DESCRIPTOR d = array_of(bytes);
    CUmipmappedArray array = nullptr;
    const CUresult code = cu.cuMipmappedArrayCreate(&array, &d, 4);
    return keep(code, [array] { return cu.cuMipmappedArrayDestroy(array); });
  }
  if (kind == "async") {
    const CUresult code = cu.cuMemAllocAsync(&p, bytes, nullptr);
    return keep(code, [p] {
      const CUresult freed = cu.cuMemFreeAsync(p, nullptr);
      cu.cuCtxSynchronize();
      return freed;
    });
  }
  if (kind == "vmm") {
    CUmemAllocationProp prop{};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location = here();
    CUmemGenericAllocationHandle handle = 0;
    const CUresult code = cu.cuMemCreate(&handle, bytes, &prop, 0);
    return keep(code, [handle] { return cu.cuMemRelease(handle); });
  }
  if (kind == "graph") return take_graph(bytes);
  if (kind == "module") {
    const std::string ptx =
        ".version 7.0\n.target sm_70\n.address_size 64\n.visible .global .align 4 .b8 table[" +
        std::to_string(bytes) + "];\n.visible .entry empty()\n{\nret;\n}\n";
    CUmodule module = nullptr;
    const CUresult code = cu.cuModuleLoadData(&module, ptx.c_str());
    return keep(code, [module] { return cu.cuModuleUnload(module); });
  }
  if (kind == "stack") {  // MIB of local memory, whatever that is for one thread
    int processors = 0;
    int threads = 0;
    cu.cuDeviceGetAttribute(&processors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, g_device);
    cu.cuDeviceGetAttribute(&threads, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, g_device);
    const std::size_t resident =
        static_cast<std::size_t>(processors) * static_cast<std::size_t>(threads);
    const CUresult code = cu.cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 1024 + bytes / resident / 16 * 16);
    return keep(code, [] { return cu.cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 1024); });
  }
  if (kind == "newcontext") {
    CUcontext before = nullptr;
    CUcontext created = nullptr;
    cu.cuCtxGetCurrent(&before);
    const CUresult code = cu.cuCtxCreate_v2(&created, 0, g_device);
    cu.cuCtxSetCurrent(before);
    return keep(code, [created] { return cu.cuCtxDestroy_v2(created); });
  }
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult give_back() {
  if (g_taken.empty()) return CUDA_ERROR_INVALID_VALUE;
  const CUresult code = g_taken.back()();
  if (code == CUDA_SUCCESS) g_taken.pop_back();
  return code;
}

CUresult make_context() {
  CUcontext context = nullptr;
  CUresult code = cu.cuInit(0);
  if (code == CUDA_SUCCESS) code = cu.cuDeviceGet(&g_device, 0);
  if (code == CUDA_SUCCESS) code = cu.cuDevicePrimaryCtxRetain(&context, g_device);
  return code == CUDA_SUCCESS ? cu.cuCtxSetCurrent(context) : code;
}

CUresult fill(std::size_t bytes, std::size_t& pieces) {
  CUresult code = CUDA_SUCCESS;
  for (pieces = 0; (code = take("alloc", bytes)) == CUDA_SUCCESS;) ++pieces;
  return code;
}

[[noreturn]] void churn() {
  const char* const kinds[] = {"alloc",  "vmm",   "async", "array",  "pitch",
                               "module", "graph", "stack", "managed"};
  for (unsigned i = 0;; ++i) {
    take(kinds[i % std::size(kinds)], (1 + i % 64) * kMiB);
    if (g_taken.size() > 3 || i % 3 == 0) give_back();
  }
}

// Ends when the parent's end of the pipe does, or by SIGKILL.
pid_t start_child(bool executes) {
  int ready[2];
  if (pipe(ready) != 0) return -1;
  const pid_t child = fork();
  if (child == 0) {
    if (executes) {
      dup2(ready[1], 1);
      execl("/proc/self/exe", "worker", "hold", "64", static_cast<char*>(nullptr));
      _exit(127);
    }
    if (write(ready[1], "0\n", 2) != 2) _exit(1);
    for (;;) pause();
  }
  close(ready[1]);
  std::string answer;
  char byte = 0;
  while (read(ready[0], &byte, 1) == 1 && byte != '\n') answer += byte;
  close(ready[0]);
  return answer == "0" ? child : -1;
}

long driver_bytes() {
  static void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
  static nvmlDevice_t device = nullptr;
  if (library == nullptr) return -1;
  const auto find = [](const char* name) { return dlsym(library, name); };
  if (device == nullptr) {
    reinterpret_cast<nvmlReturn_t (*)()>(find("nvmlInit_v2"))();
    reinterpret_cast<nvmlReturn_t (*)(unsigned, nvmlDevice_t*)>(
        find("nvmlDeviceGetHandleByIndex_v2"))(0, &device);
  }
  nvmlMemory_t memory{};
  const auto read_memory = reinterpret_cast<nvmlReturn_t (*)(nvmlDevice_t, nvmlMemory_t*)>(
      find("nvmlDeviceGetMemoryInfo"));
  return read_memory(device, &memory) == NVML_SUCCESS ? static_cast<long>(memory.used) : -1;
}

void answer(CUresult code, long number) {
  std::printf("%d %ld\n", static_cast<int>(code), number);
  std::fflush(stdout);
}

void obey(const std::string& line) {
  std::istringstream words(line);
  std::string verb;
  std::size_t mib = 0;
  words >> verb >> mib;
  if (verb == "init") return answer(cu.cuInit(0), 0);
  if (verb == "context") return answer(make_context(), 0);
  if (verb == "free") return answer(give_back(), 0);
  if (verb == "churn") churn();
  if (verb == "become") {
    execl("/proc/self/exe", "worker", "anew", static_cast<char*>(nullptr));
    _exit(127);
  }
  if (verb == "driver") return answer(CUDA_SUCCESS, driver_bytes());
  if (verb == "fork" || verb == "exec") {
    const pid_t child = start_child(verb == "exec");
    return answer(child > 0 ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN, child);
  }
  if (verb == "info") {
    std::size_t free_bytes = 0;
    std::size_t total_bytes = 0;
    const CUresult code = cu.cuMemGetInfo_v2(&free_bytes, &total_bytes);
    return answer(code, static_cast<long>(total_bytes - free_bytes));
  }
  if (verb == "fill") {
    std::size_t pieces = 0;
    const CUresult code = fill(mib * kMiB, pieces);
    return answer(code, static_cast<long>(pieces));
  }
  answer(take(verb, mib * kMiB), 0);
}

}  // namespace

int main(int argc, char** argv) {
  if (!load_driver()) return 77;
  if (argc == 2) answer(CUDA_SUCCESS, 0);
  if (argc == 3 && std::strcmp(argv[1], "hold") == 0) {
    CUresult code = make_context();
    if (code == CUDA_SUCCESS) code = take("alloc", std::strtoull(argv[2], nullptr, 10) * kMiB);
    std::printf("%d\n", static_cast<int>(code));
    std::fflush(stdout);
    for (;;) pause();
  }
  if (argc == 3 && std::strcmp(argv[1], "start") == 0) {
    std::size_t pieces = 0;
    CUresult code = cu.cuInit(0);
    if (code == CUDA_SUCCESS && make_context() == CUDA_SUCCESS)
      fill(std::strtoull(argv[2], nullptr, 10) * kMiB, pieces);
    answer(code, static_cast<long>(pieces));
  }
  for (std::string line; std::getline(std::cin, line);) obey(line);
  _exit(0);
}

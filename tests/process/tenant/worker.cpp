// SPDX-License-Identifier: Apache-2.0
// A program that uses a GPU as it is told, one line of standard input after the other, and answers
// each with "CODE NUMBER": the driver's result, and what the command yields. It ends with its
// input.
//   init | context | info                 NUMBER of info: bytes that the tenant is charged, as NVML
//                                         shows them
//   KIND MIB                              takes memory by that kind of call (kinds: taking.h)
//   free                                  gives back what was taken last
//   total                                 NUMBER: bytes that cuMemGetInfo says there are
//   devices                               NUMBER: how many CUDA shows
//   rest                                  takes all that cuMemGetInfo says is free, in one piece;
//                                         NUMBER: bytes
//   fill MIB                              takes pieces until it is refused; NUMBER: how many
//   churn                                 takes and frees by all kinds for ever, without an answer
//   first THREADS | constructor           the first use of the GPU in several threads (crowd.h)
//   storm THREADS [KIND...] | storm on    takes and frees by all kinds in so many threads, forking,
//   or
//                                         by these without; in four for ever, without an answer
//   record LAUNCHES MODE ENTRY            captures so many (capturing.h); NUMBER: nodes of the
//   graph fork | exec                           a child that holds on | that is this program again,
//   with
//                                         a context and 64 MiB; NUMBER: its pid
//   fork-nvml                             a child that has asked NVML and holds on; NUMBER: its pid
//   become                                this program anew in the same process
//   driver                                bytes in use on GPU 0 by NVML
// `worker start MIB`: at its start context and fill, then "CODE PIECES", and waits for its input's
// end.
#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>

#include "capturing.h"
#include "crowd.h"
#include "gpu_client.h"
#include "taking.h"
#include "vgpu/api/nvml_abi.h"
#include "working.h"

using namespace gpu_client;
using namespace vgpu::test;

namespace {

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
    if (taken_count() > 3 || i % 3 == 0) give_back();
  }
}

// Ends when the parent's end of the pipe does, or by SIGKILL.
// Of a storm. The address sanitizer of GCC 12 doesn't free its own locks in a child that is forked
// while another thread holds them: the child waits for ever at its first allocation, and everybody
// for the lock on the simulated GPU that it held by then.
#ifdef __SANITIZE_ADDRESS__
constexpr unsigned kChildren = 0;
#else
constexpr unsigned kChildren = 8;
#endif

long driver_bytes();

pid_t start_child(bool executes, bool uses_nvml) {
  int ready[2];
  if (pipe(ready) != 0) return -1;
  const pid_t child = fork();
  if (child == 0) {
    if (executes) {
      dup2(ready[1], 1);
      execl("/proc/self/exe", "worker", "hold", "64", static_cast<char*>(nullptr));
      _exit(127);
    }
    if (uses_nvml && driver_bytes() < 0) _exit(1);
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

struct Nvml {
  nvmlDevice_t device = nullptr;
  nvmlReturn_t (*memory)(nvmlDevice_t, nvmlMemory_t*) = nullptr;
  nvmlReturn_t (*memory_v2)(nvmlDevice_t, nvmlMemory_v2_t*) = nullptr;
};

const Nvml& nvml() {
  static const Nvml opened = [] {
    Nvml made;
    void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    if (library == nullptr) return made;
    const auto find = [library](const char* name) { return dlsym(library, name); };
    reinterpret_cast<nvmlReturn_t (*)()>(find("nvmlInit_v2"))();
    reinterpret_cast<nvmlReturn_t (*)(unsigned, nvmlDevice_t*)>(
        find("nvmlDeviceGetHandleByIndex_v2"))(0, &made.device);
    made.memory = reinterpret_cast<decltype(made.memory)>(find("nvmlDeviceGetMemoryInfo"));
    made.memory_v2 = reinterpret_cast<decltype(made.memory_v2)>(find("nvmlDeviceGetMemoryInfo_v2"));
    return made;
  }();
  return opened;
}

long driver_bytes() {
  nvmlMemory_t memory{};
  const bool known =
      nvml().memory != nullptr && nvml().memory(nvml().device, &memory) == NVML_SUCCESS;
  return known ? static_cast<long>(memory.used) : -1;
}

long charged_bytes() {
  nvmlMemory_v2_t memory{};
  memory.version = nvmlMemory_v2;
  const bool known =
      nvml().memory_v2 != nullptr && nvml().memory_v2(nvml().device, &memory) == NVML_SUCCESS;
  return known ? static_cast<long>(memory.used) : -1;
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
  const auto threads = static_cast<unsigned>(mib);
  if (verb == "init") return answer(cu.cuInit(0), 0);
  if (verb == "context") return answer(make_context(), 0);
  if (verb == "free") return answer(give_back(), 0);
  if (verb == "churn") churn();
  if (verb == "first") return answer(use_first(threads), 0);
  if (verb == "constructor") return answer(use_in_constructor(), 0);
  if (verb == "storm" && threads == 0) storm_on(4);
  if (verb == "storm") {
    const Kinds kinds(std::istream_iterator<std::string>(words), {});
    return answer(storm(threads, 40, kinds.empty() ? kChildren : 0, kinds), 0);
  }
  if (verb == "record") {
    std::string mode;
    std::string entry;
    words >> mode >> entry;
    std::size_t nodes = 0;
    const CUresult code =
        capture_beside_work(entry,
                            mode == "global"   ? CU_STREAM_CAPTURE_MODE_GLOBAL
                            : mode == "thread" ? CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
                                               : CU_STREAM_CAPTURE_MODE_RELAXED,
                            threads, nodes);
    return answer(code, static_cast<long>(nodes));
  }
  if (verb == "work") {
    std::string kind;
    words >> kind;
    long done = 0;
    const CUresult code = work_for(kind, threads, done);
    return answer(code, done);
  }
  if (verb == "become") {
    execl("/proc/self/exe", "worker", "anew", static_cast<char*>(nullptr));
    _exit(127);
  }
  if (verb == "driver") return answer(CUDA_SUCCESS, driver_bytes());
  if (verb == "fork" || verb == "fork-nvml" || verb == "exec") {
    const pid_t child = start_child(verb == "exec", verb == "fork-nvml");
    return answer(child > 0 ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN, child);
  }
  if (verb == "info") {
    std::size_t free_bytes = 0;
    std::size_t total_bytes = 0;
    const CUresult code = cu.cuMemGetInfo_v2(&free_bytes, &total_bytes);
    return answer(code, charged_bytes());
  }
  if (verb == "total") {
    std::size_t free_bytes = 0;
    std::size_t total_bytes = 0;
    const CUresult code = cu.cuMemGetInfo_v2(&free_bytes, &total_bytes);
    return answer(code, static_cast<long>(total_bytes));
  }
  if (verb == "devices") {
    int count = 0;
    const CUresult code = cu.cuDeviceGetCount(&count);
    return answer(code, count);
  }
  if (verb == "rest") {
    std::size_t free_bytes = 0;
    std::size_t total_bytes = 0;
    cu.cuMemGetInfo_v2(&free_bytes, &total_bytes);
    return answer(take("alloc", free_bytes), static_cast<long>(free_bytes));
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

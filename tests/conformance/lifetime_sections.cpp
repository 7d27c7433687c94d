// SPDX-License-Identifier: Apache-2.0
// What contexts, limits, modules, graphs and shared memory hold, and what a full GPU answers to
// each family.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "conformance.h"

namespace conformance {
namespace {
long long graph_mem_kib(CUgraphMem_attribute attribute) {
  cuuint64_t value = 0;
  cu.cuDeviceGetGraphMemAttribute(device(), attribute, &value);
  return static_cast<long long>(value / kKiB);
}
CUDA_MEM_ALLOC_NODE_PARAMS node_of(std::size_t bytes) {
  CUDA_MEM_ALLOC_NODE_PARAMS params{};
  params.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  params.poolProps.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  params.poolProps.location.id = device();
  params.bytesize = bytes;
  return params;
}
}  // namespace

void section_context() {
  cu.cuInit(0);
  CUdevice dev = 0;
  cu.cuDeviceGet(&dev, 0);
  const std::size_t nothing = process_bytes();
  answer("context.nvml_mib_before", static_cast<long long>(nothing / kMiB));
  CUcontext primary = nullptr;
  answer_code("context.retain", cu.cuDevicePrimaryCtxRetain(&primary, dev));
  answer("~context.primary_nvml_mib", static_cast<long long>(process_bytes() / kMiB));
  answer_code("context.current_after_retain_is_null", [] {
    CUcontext c = nullptr;
    cu.cuCtxGetCurrent(&c);
    return c == nullptr ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN;
  }());
  cu.cuCtxSetCurrent(primary);
  CUcontext again = nullptr;
  answer("context.retain_again_growth_kib",
         growth_kib([&] { cu.cuDevicePrimaryCtxRetain(&again, dev); }));
  answer("context.retain_again_same", again == primary);
  std::size_t before = process_bytes();
  CUcontext second = nullptr;
  answer_code("context.create_v2", cu.cuCtxCreate_v2(&second, 0, dev));
  answer("~context.second_nvml_growth_mib",
         static_cast<long long>((process_bytes() - before) / kMiB));
  answer_code("context.create_is_current", [&] {
    CUcontext c = nullptr;
    cu.cuCtxGetCurrent(&c);
    return c == second ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN;
  }());
  // Memory of a context goes with it.
  CUdeviceptr p = 0;
  cu.cuMemAlloc_v2(&p, 100 * kMiB);
  before = process_bytes();
  answer_code("context.destroy", cu.cuCtxDestroy_v2(second));
  answer("~context.destroy_freed_mib", static_cast<long long>((before - process_bytes()) / kMiB));
  cu.cuCtxSetCurrent(primary);
  CUctxCreateParams params{};
  before = process_bytes();
  answer_code("context.create_v4", cu.cuCtxCreate_v4(&second, &params, 0, dev));
  answer("~context.v4_nvml_growth_mib", static_cast<long long>((process_bytes() - before) / kMiB));
  cu.cuCtxDestroy_v2(second);
  cu.cuCtxSetCurrent(primary);
  // Green context of a quarter of the SMs.
  CUdevResource all{}, part{}, rest{};
  answer_code("context.green_resource",
              cu.cuDeviceGetDevResource(dev, &all, CU_DEV_RESOURCE_TYPE_SM));
  unsigned groups = 1;
  answer_code("context.green_split",
              cu.cuDevSmResourceSplitByCount(&part, &groups, &all, &rest, 0, 32));
  CUdevResourceDesc desc = nullptr;
  cu.cuDevResourceGenerateDesc(&desc, &part, 1);
  CUgreenCtx green = nullptr;
  before = process_bytes();
  answer_code("context.green_create",
              cu.cuGreenCtxCreate(&green, desc, dev, CU_GREEN_CTX_DEFAULT_STREAM));
  answer("~context.green_nvml_growth_mib",
         static_cast<long long>((process_bytes() - before) / kMiB));
  CUcontext green_context = nullptr;
  answer_code("context.green_to_context", cu.cuCtxFromGreenCtx(&green_context, green));
  before = process_bytes();
  answer_code("context.green_destroy", cu.cuGreenCtxDestroy(green));
  answer("~context.green_destroy_freed_mib",
         static_cast<long long>((before - process_bytes()) / kMiB));
  // Releases: the primary context goes with the last one.
  cu.cuMemAlloc_v2(&p, 100 * kMiB);
  answer_code("context.release_first", cu.cuDevicePrimaryCtxRelease_v2(dev));
  answer("context.alive_after_first_release", process_bytes() > 0);
  answer_code("context.release_last", cu.cuDevicePrimaryCtxRelease_v2(dev));
  answer("~context.nvml_mib_after_last_release", static_cast<long long>(process_bytes() / kMiB));
  answer_code("context.release_too_often", cu.cuDevicePrimaryCtxRelease_v2(dev));
  cu.cuDevicePrimaryCtxRetain(&primary, dev);
  cu.cuCtxSetCurrent(primary);
  cu.cuMemAlloc_v2(&p, 100 * kMiB);
  answer_code("context.reset", cu.cuDevicePrimaryCtxReset_v2(dev));
  answer("~context.nvml_mib_after_reset", static_cast<long long>(process_bytes() / kMiB));
  unsigned flags = 0;
  int active = -1;
  cu.cuDevicePrimaryCtxGetState(dev, &flags, &active);
  answer("context.active_after_reset", active);
}

void section_limit() {
  use_device();
  const std::pair<const char*, CUlimit> limits[] = {
      {"stack", CU_LIMIT_STACK_SIZE},
      {"printf", CU_LIMIT_PRINTF_FIFO_SIZE},
      {"heap", CU_LIMIT_MALLOC_HEAP_SIZE},
      {"depth", CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH},
      {"pending", CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT}};
  std::size_t value = 0;
  for (const auto& [name, limit] : limits) {
    answer_code(std::string("limit.get_code.") + name, cu.cuCtxGetLimit(&value, limit));
    answer(std::string("limit.default.") + name, static_cast<long long>(value));
  }
  const CUmodule module = load_ptx(spin_ptx("spin"));
  CUfunction spin = nullptr;
  cu.cuModuleGetFunction(&spin, module, "spin");
  unsigned long long ns = 1000;
  void* params[] = {&ns};
  const auto launch = [&] {
    cu.cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, nullptr, params, nullptr);
    cu.cuCtxSynchronize();
  };
  launch();
  for (const std::size_t stack : {1000, 2048, 4096, 16384, 65536}) {
    const std::string key = std::to_string(stack);
    answer("limit.stack_set_growth_kib." + key, growth_kib([&] {
             answer_code("limit.stack_set." + key, cu.cuCtxSetLimit(CU_LIMIT_STACK_SIZE, stack));
           }));
    cu.cuCtxGetLimit(&value, CU_LIMIT_STACK_SIZE);
    answer("limit.stack_reads." + key, static_cast<long long>(value));
    answer("limit.stack_launch_growth_kib." + key, growth_kib(launch));
  }
  answer("limit.stack_back_to_1024_growth_kib",
         growth_kib([&] { cu.cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 1024); }));
  answer("limit.stack_back_launch_growth_kib", growth_kib(launch));
  answer_code("limit.stack_too_much", cu.cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 1 << 20));
  cu.cuCtxGetLimit(&value, CU_LIMIT_STACK_SIZE);
  answer("limit.stack_reads_after_refusal", static_cast<long long>(value));
  answer("limit.heap_1GiB_growth_kib", growth_kib([&] {
           answer_code("limit.heap_1GiB",
                       cu.cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, std::size_t{1} << 30));
         }));
  answer("limit.heap_launch_growth_kib", growth_kib(launch));
  answer("limit.printf_256MiB_growth_kib", growth_kib([&] {
           answer_code("limit.printf_256MiB",
                       cu.cuCtxSetLimit(CU_LIMIT_PRINTF_FIFO_SIZE, std::size_t{256} << 20));
         }));
  answer("limit.printf_launch_growth_kib", growth_kib(launch));
  // A kernel that calls malloc makes the heap real: at its load, or at its first launch?
  const std::string uses_heap =
      ".version 7.0\n.target sm_70\n.address_size 64\n"
      ".extern .func (.param .b64 r) malloc (.param .b64 n);\n"
      "// vgpu-sim: spin_ns=1000 heap\n"
      ".visible .entry uses_heap()\n{\n.reg .b64 %d<3>;\n{\n.param .b64 n;\nst.param.b64 [n], "
      "16;\n.param .b64 r;\n"
      "call.uni (r), malloc, (n);\nld.param.b64 %d1, [r];\n}\nret;\n}\n";
  CUmodule heap_module = nullptr;
  answer("limit.heap_module_growth_kib", growth_kib([&] {
           answer_code("limit.heap_module", cu.cuModuleLoadData(&heap_module, uses_heap.c_str()));
         }));
  CUfunction heap_kernel = nullptr;
  answer("limit.heap_function_growth_kib", growth_kib([&] {
           answer_code("limit.heap_function",
                       cu.cuModuleGetFunction(&heap_kernel, heap_module, "uses_heap"));
         }));
  answer("limit.heap_kernel_growth_kib", growth_kib([&] {
           answer_code("limit.heap_kernel", cu.cuLaunchKernel(heap_kernel, 1, 1, 1, 1, 1, 1, 0,
                                                              nullptr, nullptr, nullptr));
           cu.cuCtxSynchronize();
         }));
  answer_code("limit.heap_after_use",
              cu.cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, std::size_t{2} << 30));
  answer_code("limit.unknown", cu.cuCtxSetLimit(static_cast<CUlimit>(99), 1));
}

void section_module() {
  use_device();
  const std::string globals = ".visible .global .align 4 .b8 table[67108864];\n";
  CUmodule module = nullptr;
  const std::string with_globals = spin_ptx("with_globals", globals);
  answer("module.load_64MiB_global_growth_kib",
         growth_kib([&] { module = load_ptx(with_globals); }));
  CUfunction f = nullptr;
  answer("module.function_growth_kib", growth_kib([&] {
           answer_code("module.function", cu.cuModuleGetFunction(&f, module, "with_globals"));
         }));
  CUdeviceptr p = 0;
  std::size_t size = 0;
  answer("module.global_growth_kib", growth_kib([&] {
           answer_code("module.global", cu.cuModuleGetGlobal_v2(&p, &size, module, "table"));
         }));
  answer("module.global_bytes", static_cast<long long>(size));
  unsigned long long ns = 1000;
  void* params[] = {&ns};
  const auto launch = [&](CUfunction function) {
    answer_code("module.launch",
                cu.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, nullptr, params, nullptr));
    cu.cuCtxSynchronize();
  };
  answer("module.launch_growth_kib", growth_kib([&] { launch(f); }));
  answer("module.unload_freed_kib",
         -growth_kib([&] { answer_code("module.unload", cu.cuModuleUnload(module)); }));
  for (const std::size_t local : {1024, 4096, 32768, 131072}) {
    const std::string key = std::to_string(local);
    const std::string ptx = spin_ptx("local_" + key, "", local);
    answer("module.local_load_growth_kib." + key, growth_kib([&] { module = load_ptx(ptx); }));
    answer("module.local_function_growth_kib." + key,
           growth_kib([&] { cu.cuModuleGetFunction(&f, module, ("local_" + key).c_str()); }));
    int bytes = -1;
    cu.cuFuncGetAttribute(&bytes, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, f);
    answer("module.local_attribute." + key, bytes);
    answer("module.local_launch_growth_kib." + key, growth_kib([&] { launch(f); }));
    answer("module.local_again_growth_kib." + key, growth_kib([&] { launch(f); }));
    answer("module.local_unload_freed_kib." + key, -growth_kib([&] { cu.cuModuleUnload(module); }));
  }
  CUlibrary library = nullptr;
  answer("module.library_growth_kib", growth_kib([&] {
           answer_code("module.library",
                       cu.cuLibraryLoadData(&library, with_globals.c_str(), nullptr, nullptr, 0,
                                            nullptr, nullptr, 0));
         }));
  CUkernel kernel = nullptr;
  answer("module.library_kernel_growth_kib", growth_kib([&] {
           answer_code("module.library_kernel",
                       cu.cuLibraryGetKernel(&kernel, library, "with_globals"));
         }));
  answer("module.library_function_growth_kib", growth_kib([&] {
           answer_code("module.library_function", cu.cuKernelGetFunction(&f, kernel));
         }));
  answer("module.library_global_growth_kib", growth_kib([&] {
           answer_code("module.library_global", cu.cuLibraryGetGlobal(&p, &size, library, "table"));
         }));
  answer("module.library_launch_growth_kib",
         growth_kib([&] { launch(reinterpret_cast<CUfunction>(kernel)); }));
  answer("module.library_unload_freed_kib",
         -growth_kib([&] { answer_code("module.library_unload", cu.cuLibraryUnload(library)); }));
  // Many kernels in one module: what is loaded at once and what at first use?
  std::string many;
  for (int i = 0; i < 50; ++i)
    many +=
        spin_ptx("k" + std::to_string(i)).substr(i == 0 ? 0 : spin_ptx("k").find("// vgpu-sim"));
  answer("module.many_load_growth_kib", growth_kib([&] { module = load_ptx(many); }));
  answer("module.many_launch_growth_kib", growth_kib([&] {
           for (int i = 0; i < 50; ++i) {
             cu.cuModuleGetFunction(&f, module, ("k" + std::to_string(i)).c_str());
             cu.cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, nullptr, params, nullptr);
           }
           cu.cuCtxSynchronize();
         }));
}

void section_graph() {
  use_device();
  CUstream stream = nullptr;
  cu.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING);
  for (const std::size_t bytes : {kMiB, 20 * kMiB, 100 * kMiB}) {
    const std::string key = std::to_string(bytes / kMiB) + "MiB";
    CUgraph graph = nullptr;
    cu.cuGraphCreate(&graph, 0);
    CUgraphNode node = nullptr, free_node = nullptr;
    auto params = node_of(bytes);
    answer("graph.add_growth_kib." + key, growth_kib([&] {
             answer_code("graph.add." + key,
                         cu.cuGraphAddMemAllocNode(&node, graph, nullptr, 0, &params));
           }));
    answer("graph.add_reserved_kib." + key, graph_mem_kib(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT));
    answer_code("graph.add_free." + key,
                cu.cuGraphAddMemFreeNode(&free_node, graph, &node, 1, params.dptr));
    CUgraphExec exec = nullptr;
    answer("graph.instantiate_growth_kib." + key, growth_kib([&] {
             answer_code("graph.instantiate." + key,
                         cu.cuGraphInstantiateWithFlags(&exec, graph, 0));
           }));
    answer("graph.instantiate_reserved_kib." + key,
           graph_mem_kib(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT));
    answer("graph.upload_growth_kib." + key, growth_kib([&] {
             answer_code("graph.upload." + key, cu.cuGraphUpload(exec, stream));
             cu.cuStreamSynchronize(stream);
           }));
    answer("graph.upload_reserved_kib." + key,
           graph_mem_kib(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT));
    answer("graph.launch_growth_kib." + key, growth_kib([&] {
             answer_code("graph.launch." + key, cu.cuGraphLaunch(exec, stream));
             cu.cuStreamSynchronize(stream);
           }));
    answer("graph.launch_reserved_kib." + key,
           graph_mem_kib(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT));
    answer("graph.launch_used_kib." + key, graph_mem_kib(CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT));
    answer("graph.again_growth_kib." + key, growth_kib([&] {
             cu.cuGraphLaunch(exec, stream);
             cu.cuStreamSynchronize(stream);
           }));
    answer("graph.exec_destroy_freed_kib." + key,
           -growth_kib([&] { cu.cuGraphExecDestroy(exec); }));
    answer("graph.exec_destroy_reserved_kib." + key,
           graph_mem_kib(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT));
    answer("graph.destroy_freed_kib." + key, -growth_kib([&] { cu.cuGraphDestroy(graph); }));
    answer("graph.trim_freed_kib." + key, -growth_kib([&] {
             answer_code("graph.trim." + key, cu.cuDeviceGraphMemTrim(device()));
           }));
    answer("graph.trim_reserved_kib." + key, graph_mem_kib(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT));
  }
  // Without a free node: the memory outlives the launch; freed by the stream or at the next launch.
  CUgraph graph = nullptr;
  cu.cuGraphCreate(&graph, 0);
  CUgraphNode node = nullptr;
  auto params = node_of(50 * kMiB);
  cu.cuGraphAddMemAllocNode(&node, graph, nullptr, 0, &params);
  CUgraphExec exec = nullptr;
  answer_code("graph.unfreed_instantiate", cu.cuGraphInstantiateWithFlags(&exec, graph, 0));
  answer("graph.unfreed_growth_kib", growth_kib([&] {
           cu.cuGraphLaunch(exec, stream);
           cu.cuStreamSynchronize(stream);
         }));
  answer_code("graph.unfreed_relaunch", cu.cuGraphLaunch(exec, stream));
  answer_code("graph.unfreed_free_async", cu.cuMemFreeAsync(params.dptr, stream));
  cu.cuStreamSynchronize(stream);
  answer("graph.unfreed_reserved_kib", graph_mem_kib(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT));
  CUgraphExec twice = nullptr;
  answer_code("graph.instantiate_twice", cu.cuGraphInstantiateWithFlags(&twice, graph, 0));
  answer_code("graph.clone_with_alloc", [&] {
    CUgraph clone = nullptr;
    return cu.cuGraphClone(&clone, graph);
  }());
  cu.cuGraphExecDestroy(exec);
  cu.cuGraphDestroy(graph);
  cu.cuDeviceGraphMemTrim(device());
  // Several nodes alive at once, and the same captured from a stream.
  cu.cuGraphCreate(&graph, 0);
  std::vector<CUgraphNode> chain;
  for (int i = 0; i < 4; ++i) {
    auto p = node_of(30 * kMiB);
    CUgraphNode n = nullptr;
    cu.cuGraphAddMemAllocNode(&n, graph, chain.empty() ? nullptr : &chain.back(),
                              chain.empty() ? 0 : 1, &p);
    chain.push_back(n);
  }
  answer_code("graph.four_instantiate", cu.cuGraphInstantiateWithFlags(&exec, graph, 0));
  answer("graph.four_30MiB_launch_growth_kib", growth_kib([&] {
           cu.cuGraphLaunch(exec, stream);
           cu.cuStreamSynchronize(stream);
         }));
  answer("graph.four_reserved_kib", graph_mem_kib(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT));
  cu.cuGraphExecDestroy(exec);
  cu.cuGraphDestroy(graph);
  cu.cuDeviceGraphMemTrim(device());
  answer("graph.four_reserved_after_trim_kib",
         graph_mem_kib(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT));
  CUmemoryPool pool = nullptr;
  cu.cuDeviceGetDefaultMemPool(&pool, device());
  CUdeviceptr a = 0;
  cu.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
  answer_code("graph.captured_alloc", cu.cuMemAllocAsync(&a, 70 * kMiB, stream));
  answer_code("graph.captured_free", cu.cuMemFreeAsync(a, stream));
  answer_code("graph.end_capture", cu.cuStreamEndCapture(stream, &graph));
  std::size_t nodes = 0;
  cu.cuGraphGetNodes(graph, nullptr, &nodes);
  answer("graph.captured_nodes", static_cast<long long>(nodes));
  cu.cuGraphInstantiateWithFlags(&exec, graph, CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);
  answer("graph.captured_launch_growth_kib", growth_kib([&] {
           cu.cuGraphLaunch(exec, stream);
           cu.cuStreamSynchronize(stream);
         }));
  cuuint64_t pool_reserved = 0;
  cu.cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &pool_reserved);
  answer("graph.captured_default_pool_reserved_kib", static_cast<long long>(pool_reserved / kKiB));
  answer("graph.captured_graph_reserved_kib",
         graph_mem_kib(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT));
}

namespace {
struct Pipe {
  int read_end = -1, write_end = -1;
};
void tell(int fd, const void* bytes, std::size_t size) { (void)!write(fd, bytes, size); }
bool hear(int fd, void* bytes, std::size_t size) {
  auto* at = static_cast<char*>(bytes);
  while (size > 0) {
    const ssize_t got = read(fd, at, size);
    if (got <= 0) return false;
    at += got;
    size -= static_cast<std::size_t>(got);
  }
  return true;
}
}  // namespace

// The child of section_ipc: owns 200 MiB, hands out its handle, then frees it and exits when told.
void section_ipc_child() {
  use_device();
  CUdeviceptr p = 0;
  cu.cuMemAlloc_v2(&p, 200 * kMiB);
  CUipcMemHandle handle{}, again{};
  cu.cuIpcGetMemHandle(&handle, p);
  cu.cuIpcGetMemHandle(&again, p);
  char same = std::memcmp(&handle, &again, sizeof handle) == 0 ? 1 : 0;
  tell(STDOUT_FILENO, &handle, sizeof handle);
  tell(STDOUT_FILENO, &same, 1);
  char command = 0;
  while (hear(STDIN_FILENO, &command, 1)) {
    if (command == 'f') cu.cuMemFree_v2(p);
    if (command == 'x') _exit(0);
    tell(STDOUT_FILENO, &command, 1);
  }
}

void section_ipc() {
  use_device();
  for (const bool exporter_frees : {true, false}) {
    const std::string key = exporter_frees ? "exporter_frees" : "exporter_dies";
    int to_child[2], from_child[2];
    if (pipe(to_child) != 0 || pipe(from_child) != 0) return;
    const pid_t child = fork();
    if (child == 0) {
      dup2(to_child[0], STDIN_FILENO);
      dup2(from_child[1], STDOUT_FILENO);
      for (const int fd : {to_child[0], to_child[1], from_child[0], from_child[1]}) close(fd);
      execl("/proc/self/exe", "conformance", "--section", "ipc_child", static_cast<char*>(nullptr));
      _exit(127);
    }
    close(to_child[0]);
    close(from_child[1]);
    CUipcMemHandle handle{};
    char same = 0;
    if (!hear(from_child[0], &handle, sizeof handle) || !hear(from_child[0], &same, 1)) {
      answer("ipc." + key, "the child died");
      return;
    }
    answer("ipc.same_handle_twice." + key, same);
    CUdeviceptr p = 0, q = 0;
    const std::size_t own = process_bytes();
    answer("ipc.open_growth_kib." + key, growth_kib([&] {
             answer_code("ipc.open." + key,
                         cu.cuIpcOpenMemHandle_v2(&p, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
           }));
    answer("ipc.open_nvml_growth_kib." + key,
           static_cast<long long>((process_bytes() - own) / kKiB));
    answer_code("ipc.open_again." + key,
                cu.cuIpcOpenMemHandle_v2(&q, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
    answer("ipc.open_again_same_pointer." + key, p == q);
    CUdeviceptr base = 0;
    std::size_t size = 0;
    cu.cuMemGetAddressRange_v2(&base, &size, p);
    answer("ipc.range_kib." + key, static_cast<long long>(size / kKiB));
    char echo = 0;
    if (exporter_frees) {
      answer("ipc.exporter_free_freed_kib", -growth_kib([&] {
               tell(to_child[1], "f", 1);
               hear(from_child[0], &echo, 1);
             }));
    } else {
      tell(to_child[1], "x", 1);
      waitpid(child, nullptr, 0);
      // The exporter's context goes; is its exported memory kept for us?
      answer("~ipc.after_exporter_death_nvml_mib", static_cast<long long>(process_bytes() / kMiB));
    }
    answer_code("ipc.touch_after." + key, cu.cuMemsetD8_v2(p, 1, 4096));
    answer_code("ipc.close." + key, cu.cuIpcCloseMemHandle(p));
    answer("ipc.close_last_freed_kib." + key,
           -growth_kib([&] { answer_code("ipc.close_last." + key, cu.cuIpcCloseMemHandle(p)); }));
    answer_code("ipc.close_too_often." + key, cu.cuIpcCloseMemHandle(p));
    close(to_child[1]);
    close(from_child[0]);
    if (exporter_frees) waitpid(child, nullptr, 0);
  }
  CUdeviceptr p = 0, q = 0;
  cu.cuMemAlloc_v2(&p, 4 * kMiB);
  CUipcMemHandle handle{};
  answer_code("ipc.get_own", cu.cuIpcGetMemHandle(&handle, p));
  answer_code("ipc.open_own",
              cu.cuIpcOpenMemHandle_v2(&q, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
  answer_code("ipc.get_inside", cu.cuIpcGetMemHandle(&handle, p + 4096));
  answer_code("ipc.get_bogus", cu.cuIpcGetMemHandle(&handle, 0x1000));
}

// A GPU filled by plain allocations: what does each family answer when the driver itself has no
// room?
void section_full() {
  use_device();
  const CUmodule spin_module = load_ptx(spin_ptx("big_local", "", 131072));
  CUfunction big_local = nullptr, small = nullptr;
  cu.cuModuleGetFunction(&big_local, spin_module, "big_local");
  const CUmodule small_module = load_ptx(spin_ptx("small"));
  cu.cuModuleGetFunction(&small, small_module, "small");
  unsigned long long ns = 1000;
  void* params[] = {&ns};
  cu.cuLaunchKernel(small, 1, 1, 1, 1, 1, 1, 0, nullptr, params, nullptr);
  cu.cuCtxSynchronize();
  CUstream stream = nullptr;
  cu.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING);
  CUgraph graph = nullptr;
  cu.cuGraphCreate(&graph, 0);
  CUgraphNode node = nullptr;
  auto node_params = node_of(512 * kMiB);
  cu.cuGraphAddMemAllocNode(&node, graph, nullptr, 0, &node_params);
  CUgraphExec exec = nullptr;
  cu.cuGraphInstantiateWithFlags(&exec, graph, 0);
  std::vector<CUdeviceptr> held;
  for (std::size_t piece = 4096 * kMiB; piece >= 2 * kMiB;) {
    CUdeviceptr p = 0;
    if (cu.cuMemAlloc_v2(&p, piece) == CUDA_SUCCESS) {
      held.push_back(p);
    } else {
      piece /= 2;
    }
  }
  std::size_t free_bytes = 0, total = 0;
  cu.cuMemGetInfo_v2(&free_bytes, &total);
  answer("~full.left_mib", static_cast<long long>(free_bytes / kMiB));
  const std::size_t big = 512 * kMiB;
  CUdeviceptr p = 0x77;
  std::size_t pitch = 0;
  answer_code("full.alloc", cu.cuMemAlloc_v2(&p, big));
  answer_code("full.pitch", cu.cuMemAllocPitch_v2(&p, &pitch, 1 << 20, 512, 4));
  answer("full.pointer_untouched", p == 0x77);
  CUDA_ARRAY3D_DESCRIPTOR d{};
  d.Format = CU_AD_FORMAT_FLOAT;
  d.NumChannels = 4;
  d.Width = 8192;
  d.Height = 8192;
  CUarray array = nullptr;
  answer_code("full.array", cu.cuArray3DCreate_v2(&array, &d));
  CUmipmappedArray mip = nullptr;
  answer_code("full.mipmapped", cu.cuMipmappedArrayCreate(&mip, &d, 3));
  answer_code("full.async", cu.cuMemAllocAsync(&p, big, stream));
  CUmemPoolProps props{};
  props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  props.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  CUmemoryPool pool = nullptr;
  cu.cuMemPoolCreate(&pool, &props);
  answer_code("full.from_pool", cu.cuMemAllocFromPoolAsync(&p, big, pool, stream));
  CUmemAllocationProp prop{};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  CUmemGenericAllocationHandle handle = 0;
  answer_code("full.vmm", cu.cuMemCreate(&handle, big, &prop, 0));
  answer_code("full.graph_launch", cu.cuGraphLaunch(exec, stream));
  answer_code("full.graph_upload", cu.cuGraphUpload(exec, stream));
  CUgraph other_graph = nullptr;
  cu.cuGraphCreate(&other_graph, 0);
  auto other_params = node_of(big);
  answer_code("full.graph_add_node",
              cu.cuGraphAddMemAllocNode(&node, other_graph, nullptr, 0, &other_params));
  CUgraphExec other_exec = nullptr;
  answer_code("full.graph_instantiate",
              cu.cuGraphInstantiateWithFlags(&other_exec, other_graph, 0));
  CUmodule module = nullptr;
  const std::string big_global =
      spin_ptx("big_global", ".visible .global .align 4 .b8 huge[536870912];\n");
  answer_code("full.module", cu.cuModuleLoadData(&module, big_global.c_str()));
  CUfunction f = nullptr;
  if (module != nullptr)
    answer_code("full.module_function", cu.cuModuleGetFunction(&f, module, "big_global"));
  CUlibrary library = nullptr;
  answer_code("full.library", cu.cuLibraryLoadData(&library, big_global.c_str(), nullptr, nullptr,
                                                   0, nullptr, nullptr, 0));
  CUkernel kernel = nullptr;
  if (library != nullptr) {
    cu.cuLibraryGetKernel(&kernel, library, "big_global");
    answer_code("full.library_kernel_function", cu.cuKernelGetFunction(&f, kernel));
    answer_code("full.library_launch", cu.cuLaunchKernel(reinterpret_cast<CUfunction>(kernel), 1, 1,
                                                         1, 1, 1, 1, 0, nullptr, params, nullptr));
  }
  answer_code("full.local_launch",
              cu.cuLaunchKernel(big_local, 1, 1, 1, 1, 1, 1, 0, nullptr, params, nullptr));
  answer_code("full.sync_after", cu.cuCtxSynchronize());
  answer_code("full.stack_set", cu.cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 65536));
  answer_code("full.stack_launch",
              cu.cuLaunchKernel(small, 1, 1, 1, 1, 1, 1, 0, nullptr, params, nullptr));
  cu.cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 1024);
  answer_code("full.printf_set", cu.cuCtxSetLimit(CU_LIMIT_PRINTF_FIFO_SIZE, big));
  answer_code("full.heap_set", cu.cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, big));
  answer_code("full.small_launch_after",
              cu.cuLaunchKernel(small, 1, 1, 1, 1, 1, 1, 0, nullptr, params, nullptr));
  answer_code("full.sync_end", cu.cuCtxSynchronize());
  CUcontext second = nullptr;
  answer_code("full.context", cu.cuCtxCreate_v2(&second, 0, device()));
  for (const auto q : held) cu.cuMemFree_v2(q);
  answer_code("full.alloc_after_free", cu.cuMemAlloc_v2(&p, big));
}

// Host nanoseconds of calls that a limiter may want to make itself. Not compared: a machine's own
// figures.
void section_cost() {
  use_device();
  const auto time = [](const char* name, const std::function<void()>& call) {
    for (int i = 0; i < 100; ++i) call();
    std::vector<long long> samples;
    for (int i = 0; i < 50; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      for (int k = 0; k < 20; ++k) call();
      samples.push_back(std::chrono::duration_cast<std::chrono::nanoseconds>(
                            std::chrono::steady_clock::now() - begin)
                            .count() /
                        20);
    }
    std::sort(samples.begin(), samples.end());
    answer(std::string("~cost.ns.") + name, samples[samples.size() / 2]);
  };
  CUstream stream = nullptr;
  cu.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING);
  CUmemoryPool pool = nullptr;
  cu.cuDeviceGetDefaultMemPool(&pool, device());
  cuuint64_t value = 0;
  CUdevice d = 0;
  CUcontext c = nullptr;
  CUdeviceptr p = 0;
  CUstreamCaptureStatus status{};
  std::size_t f = 0, t = 0;
  time("cuMemPoolGetAttribute",
       [&] { cu.cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &value); });
  time("cuDeviceGetGraphMemAttribute",
       [&] { cu.cuDeviceGetGraphMemAttribute(d, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, &value); });
  time("cuDeviceGetMemPool", [&] { cu.cuDeviceGetMemPool(&pool, d); });
  time("cuCtxGetDevice", [&] { cu.cuCtxGetDevice(&d); });
  time("cuCtxGetCurrent", [&] { cu.cuCtxGetCurrent(&c); });
  time("cuStreamIsCapturing", [&] { cu.cuStreamIsCapturing(stream, &status); });
  time("cuStreamGetDevice", [&] { cu.cuStreamGetDevice(stream, &d); });
  time("cuStreamGetCtx", [&] { cu.cuStreamGetCtx(stream, &c); });
  time("cuMemGetInfo", [&] { cu.cuMemGetInfo_v2(&f, &t); });
  time("cuMemAlloc_2MiB_free", [&] {
    cu.cuMemAlloc_v2(&p, 2 * kMiB);
    cu.cuMemFree_v2(p);
  });
  time("cuMemAlloc_1KiB_free", [&] {
    cu.cuMemAlloc_v2(&p, kKiB);
    cu.cuMemFree_v2(p);
  });
  time("cuMemAllocAsync_1MiB_free", [&] {
    cu.cuMemAllocAsync(&p, kMiB, stream);
    cu.cuMemFreeAsync(p, stream);
  });
  time("process_bytes_by_nvml", [&] { process_bytes(); });
  CUDA_ARRAY3D_DESCRIPTOR a{};
  a.Format = CU_AD_FORMAT_FLOAT;
  a.NumChannels = 1;
  a.Width = a.Height = 1024;
  time("array_4MiB_create_destroy", [&] {
    CUarray array = nullptr;
    cu.cuArray3DCreate_v2(&array, &a);
    cu.cuArrayDestroy(array);
  });
  a.Flags = CUDA_ARRAY3D_DEFERRED_MAPPING;
  time("array_deferred_create_destroy", [&] {
    CUarray array = nullptr;
    cu.cuArray3DCreate_v2(&array, &a);
    cu.cuArrayDestroy(array);
  });
}

}  // namespace conformance

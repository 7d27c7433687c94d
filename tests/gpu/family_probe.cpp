// SPDX-License-Identifier: Apache-2.0
// family_probe FAMILY PIECE_MIB MAX_MIB: takes device memory by ONE family of calls, piece by
// piece, until a call refuses or MAX_MIB is asked for; frees all of it; fills again. Families of
// pools that use their memory again go on at the limit, see kept_pool.h. Prints a line
// of JSON after each stage (full, freed, again, freed again), and with --pause waits for a line on
// standard input after each, so that an outside observer can read what the driver itself says the
// process holds. `family_probe list` names the families. exit 77: not possible on this driver.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "gpu_client.h"
#include "kept_pool.h"

using namespace gpu_client;

namespace {

constexpr std::size_t kMiB = 1u << 20;

struct Family {
  const char* name;
  // One more piece of `bytes`; the code of the call that refused.
  std::function<CUresult(std::size_t bytes)> take;
  std::function<void()> free_all;
  bool simulated_only = false;
  // What the program holds in pointers, where that isn't what it asked for piece by piece.
  std::function<std::size_t()> held_bytes = nullptr;
};

CUdevice g_device = 0;
CUstream g_stream = nullptr;
CUfunction g_spin = nullptr;

template <class Handle>
std::vector<Handle>& held() {
  static std::vector<Handle> handles;
  return handles;
}

void synchronize() { cu.cuCtxSynchronize(); }

std::string spin_ptx(const std::string& name, const std::string& globals, std::size_t local_bytes) {
  std::string local;
  std::string use;
  if (local_bytes > 0) {
    const std::string mask = std::to_string(local_bytes - 4);
    local = ".local .align 16 .b8 scratch[" + std::to_string(local_bytes) +
            "];\n.reg .b64 %l<4>;\n.reg .b32 %v<4>;\n";
    use = "cvt.u32.u64 %v1, %t1;\nand.b32 %v1, %v1, " + mask +
          ";\ncvt.u64.u32 %l1, %v1;\nmov.u64 %l2, scratch;\nadd.u64 %l1, %l2, %l1;\nst.local.u32 "
          "[%l1], %v1;\n"
          "cvt.u32.u64 %v3, %t3;\nand.b32 %v3, %v3, " +
          mask +
          ";\ncvt.u64.u32 %l3, %v3;\nadd.u64 %l3, %l2, %l3;\nld.local.u32 %v2, [%l3];\nsetp.eq.u32 "
          "%p2, %v2, 12345678;\n@%p2 ret;\n";
  }
  return ".version 7.0\n.target sm_70\n.address_size 64\n" + globals +
         "// vgpu-sim: spin_ns=param0\n.visible .entry " + name +
         "(.param .u64 ns)\n{\n.reg .pred %p<3>;\n.reg .b64 %t<5>;\n" + local +
         "ld.param.u64 %t3, [ns];\nmov.u64 %t1, %globaltimer;\n" + use +
         "again:\nmov.u64 %t2, %globaltimer;\nsub.u64 %t4, %t2, %t1;\nsetp.lt.u64 %p1, %t4, "
         "%t3;\n@%p1 bra again;\nret;\n}\n";
}

CUresult launch(CUfunction function) {
  unsigned long long ns = 1000;
  void* params[] = {&ns};
  const CUresult code = cu.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, g_stream, params, nullptr);
  return code == CUDA_SUCCESS ? cu.cuStreamSynchronize(g_stream) : code;
}

CUresult keep(CUresult code, CUdeviceptr p) {
  if (code == CUDA_SUCCESS) held<CUdeviceptr>().push_back(p);
  return code;
}
void free_pointers() {
  for (const auto p : held<CUdeviceptr>()) cu.cuMemFree_v2(p);
  held<CUdeviceptr>().clear();
}
void free_pointers_async() {
  for (const auto p : held<CUdeviceptr>()) cu.cuMemFreeAsync(p, g_stream);
  held<CUdeviceptr>().clear();
  cu.cuStreamSynchronize(g_stream);
}

CUmemLocation here() {
  CUmemLocation location{};
  location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  location.id = g_device;
  return location;
}

CUmemoryPool explicit_pool() {
  static CUmemoryPool pool = [] {
    CUmemPoolProps props{};
    props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    props.location = here();
    CUmemoryPool created = nullptr;
    cu.cuMemPoolCreate(&created, &props);
    return created;
  }();
  return pool;
}

CUresult take_array(std::size_t bytes, unsigned dimensions) {
  CUDA_ARRAY3D_DESCRIPTOR d{};
  d.Format = CU_AD_FORMAT_FLOAT;
  d.NumChannels = dimensions == 1 ? 4 : 1;
  const std::size_t elements = bytes / (4 * d.NumChannels);
  if (dimensions == 1) {
    d.Width = 65536;  // 1 MiB each, about as long as a 1-D array may be
  } else if (dimensions == 2) {
    d.Width = 4096;
    d.Height = elements / 4096;
  } else {
    d.Width = d.Height = 256;
    d.Depth = std::max<std::size_t>(1, elements / 65536);
  }
  CUresult code = CUDA_SUCCESS;
  for (std::size_t taken = 0; taken < bytes && code == CUDA_SUCCESS;
       taken += dimensions == 1 ? kMiB : bytes) {
    CUarray array = nullptr;
    code = cu.cuArray3DCreate_v2(&array, &d);
    if (code == CUDA_SUCCESS) held<CUarray>().push_back(array);
  }
  return code;
}
void free_arrays() {
  for (const auto a : held<CUarray>()) cu.cuArrayDestroy(a);
  held<CUarray>().clear();
}

CUresult take_mipmapped(std::size_t bytes) {
  CUDA_ARRAY3D_DESCRIPTOR d{};
  d.Format = CU_AD_FORMAT_FLOAT;
  d.NumChannels = 1;
  d.Width = 2048;
  d.Height = std::max<std::size_t>(1, bytes / (4 * 2048));
  CUmipmappedArray array = nullptr;
  const CUresult code = cu.cuMipmappedArrayCreate(&array, &d, 12);
  if (code == CUDA_SUCCESS) held<CUmipmappedArray>().push_back(array);
  return code;
}

struct Mapping {
  CUdeviceptr address;
  std::size_t bytes;
};
CUmemAllocationProp device_memory() {
  CUmemAllocationProp prop{};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location = here();
  return prop;
}
CUresult take_vmm(std::size_t bytes, bool mapped) {
  const CUmemAllocationProp prop = device_memory();
  CUmemGenericAllocationHandle handle = 0;
  CUresult code = cu.cuMemCreate(&handle, bytes, &prop, 0);
  if (code != CUDA_SUCCESS) return code;
  if (!mapped) {
    held<CUmemGenericAllocationHandle>().push_back(handle);
    return code;
  }
  // Mapped and released at once: only the mapping keeps it, as frameworks do.
  Mapping m{0, bytes};
  cu.cuMemAddressReserve(&m.address, bytes, 0, 0, 0);
  code = cu.cuMemMap(m.address, bytes, 0, handle, 0);
  cu.cuMemRelease(handle);
  if (code == CUDA_SUCCESS) held<Mapping>().push_back(m);
  return code;
}
void free_vmm() {
  for (const auto h : held<CUmemGenericAllocationHandle>()) cu.cuMemRelease(h);
  held<CUmemGenericAllocationHandle>().clear();
  for (const auto& m : held<Mapping>()) {
    cu.cuMemUnmap(m.address, m.bytes);
    cu.cuMemAddressFree(m.address, m.bytes);
  }
  held<Mapping>().clear();
}

CUresult finish_graph(CUgraph graph, bool per_thread) {
  CUgraphExec exec = nullptr;
  CUresult code = cu.cuGraphInstantiateWithFlags(&exec, graph, 0);
  if (code == CUDA_SUCCESS)
    code = per_thread ? cu.cuGraphLaunch_ptsz(exec, g_stream) : cu.cuGraphLaunch(exec, g_stream);
  if (code == CUDA_SUCCESS) code = cu.cuStreamSynchronize(g_stream);
  if (exec != nullptr) cu.cuGraphExecDestroy(exec);
  cu.cuGraphDestroy(graph);
  return code;
}
CUresult take_graph(std::size_t bytes, bool per_thread) {
  CUgraph graph = nullptr;
  CUresult code = cu.cuGraphCreate(&graph, 0);
  CUDA_MEM_ALLOC_NODE_PARAMS params{};
  params.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  params.poolProps.location = here();
  params.bytesize = bytes;
  CUgraphNode node = nullptr;
  if (code == CUDA_SUCCESS) code = cu.cuGraphAddMemAllocNode(&node, graph, nullptr, 0, &params);
  if (code == CUDA_SUCCESS) code = finish_graph(graph, per_thread);
  return keep(code, params.dptr);
}
CUresult take_captured(std::size_t bytes) {
  CUgraph graph = nullptr;
  CUdeviceptr p = 0;
  cu.cuStreamBeginCapture_v2(g_stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
  const CUresult captured = cu.cuMemAllocAsync(&p, bytes, g_stream);
  CUresult code = cu.cuStreamEndCapture(g_stream, &graph);
  if (captured != CUDA_SUCCESS) return captured;
  if (code == CUDA_SUCCESS) code = finish_graph(graph, false);
  return keep(code, p);
}
void free_graph() {
  free_pointers_async();
  cu.cuDeviceGraphMemTrim(g_device);
}

CUresult take_context() {
  CUcontext before = nullptr, created = nullptr;
  cu.cuCtxGetCurrent(&before);
  const CUresult code = cu.cuCtxCreate_v2(&created, 0, g_device);
  cu.cuCtxSetCurrent(before);
  if (code == CUDA_SUCCESS) held<CUcontext>().push_back(created);
  return code;
}

CUresult take_module(std::size_t bytes) {
  static int number = 0;
  const std::string ptx =
      spin_ptx("m" + std::to_string(number++),
               ".visible .global .align 4 .b8 table[" + std::to_string(bytes) + "];\n", 0);
  CUmodule module = nullptr;
  const CUresult code = cu.cuModuleLoadData(&module, ptx.c_str());
  if (code == CUDA_SUCCESS) held<CUmodule>().push_back(module);
  return code;
}

CUresult take_library(std::size_t bytes) {
  static int number = 0;
  const std::string name = "l" + std::to_string(number++);
  const std::string ptx =
      spin_ptx(name, ".visible .global .align 4 .b8 table[" + std::to_string(bytes) + "];\n", 0);
  CUlibrary library = nullptr;
  CUkernel kernel = nullptr;
  CUresult code =
      cu.cuLibraryLoadData(&library, ptx.c_str(), nullptr, nullptr, 0, nullptr, nullptr, 0);
  if (code == CUDA_SUCCESS) held<CUlibrary>().push_back(library);
  if (code == CUDA_SUCCESS) code = cu.cuLibraryGetKernel(&kernel, library, name.c_str());
  if (code == CUDA_SUCCESS)
    code = launch(reinterpret_cast<CUfunction>(kernel));  // loaded at its first launch
  return code;
}

std::size_t g_stack = 1024;
int threads_on_device() {
  int sms = 0, threads = 0;
  cu.cuDeviceGetAttribute(&sms, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, g_device);
  cu.cuDeviceGetAttribute(&threads, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, g_device);
  return std::max(1, sms * threads);
}
CUresult take_stack(std::size_t bytes) {
  const std::size_t step =
      std::max<std::size_t>(16, bytes / static_cast<std::size_t>(threads_on_device()) / 16 * 16);
  const CUresult code = cu.cuCtxSetLimit(CU_LIMIT_STACK_SIZE, g_stack + step);
  if (code != CUDA_SUCCESS) return code;
  g_stack += step;
  return launch(g_spin);
}

// Kernels with ever more local memory. What the driver took for the biggest one it keeps until the
// context goes.
std::size_t g_local = 1024;
CUresult take_local(std::size_t bytes) {
  const std::size_t step =
      std::max<std::size_t>(256, bytes / static_cast<std::size_t>(threads_on_device()) / 16 * 16);
  const std::string name = "local_" + std::to_string(g_local + step);
  CUmodule module = nullptr;
  CUfunction function = nullptr;
  CUresult code = cu.cuModuleLoadData(&module, spin_ptx(name, "", g_local + step).c_str());
  if (code == CUDA_SUCCESS) code = cu.cuModuleGetFunction(&function, module, name.c_str());
  if (code == CUDA_SUCCESS) code = launch(function);
  if (code == CUDA_SUCCESS) g_local += step;
  return code;
}

// Memory of another process: children outside of any limit each own a piece and hand out its
// handle.
struct Exporter {
  pid_t pid;
  int to, from;
  CUdeviceptr pointer;
};
CUresult take_ipc(std::size_t bytes) {
  int to[2], from[2];
  // Closed on exec: a later exporter must not keep an earlier one's pipe open.
  if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0) return CUDA_ERROR_UNKNOWN;
  const pid_t child = fork();
  if (child == 0) {
    dup2(to[0], STDIN_FILENO);
    dup2(from[1], STDOUT_FILENO);
    for (const char* name : {"LD_PRELOAD", "VGPU_TENANT", "VGPU_ACK", "VGPU_MEMORY_LIMIT"})
      unsetenv(name);
    execl("/proc/self/exe", "family_probe", "exporter", std::to_string(bytes).c_str(),
          static_cast<char*>(nullptr));
    _exit(127);
  }
  close(to[0]);
  close(from[1]);
  Exporter e{child, to[1], from[0], 0};
  CUipcMemHandle handle{};
  CUresult code = CUDA_ERROR_UNKNOWN;
  if (read(e.from, &handle, sizeof handle) == static_cast<ssize_t>(sizeof handle)) {
    code = cu.cuIpcOpenMemHandle_v2(&e.pointer, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
  }
  if (code == CUDA_SUCCESS) {
    held<Exporter>().push_back(e);
  } else {
    close(e.to);
    close(e.from);
    waitpid(child, nullptr, 0);
  }
  return code;
}
void free_ipc() {
  for (const auto& e : held<Exporter>()) {
    cu.cuIpcCloseMemHandle(e.pointer);
    close(e.to);
    close(e.from);
    waitpid(e.pid, nullptr, 0);
  }
  held<Exporter>().clear();
}
int be_exporter(std::size_t bytes) {
  if (!load_driver() || !use_device(0)) return 1;
  CUdeviceptr p = 0;
  CUipcMemHandle handle{};
  if (cu.cuMemAlloc_v2(&p, bytes) != CUDA_SUCCESS ||
      cu.cuIpcGetMemHandle(&handle, p) != CUDA_SUCCESS)
    return 1;
  if (write(STDOUT_FILENO, &handle, sizeof handle) < 0) return 1;
  char byte = 0;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return 0;
}

// Memory bound to a multicast object stays alive with the object. Never on a real GPU: it can put a
// machine out of service.
CUmemGenericAllocationHandle g_multicast = 0;
CUresult take_multicast(std::size_t bytes) {
  static std::size_t offset = 0;
  if (g_multicast == 0) {
    CUmulticastObjectProp prop{};
    prop.numDevices = 1;
    prop.size = std::size_t{64} << 30;
    const CUresult code = cu.cuMulticastCreate(&g_multicast, &prop);
    if (code != CUDA_SUCCESS) return code;
    cu.cuMulticastAddDevice(g_multicast, g_device);
    offset = 0;
  }
  const CUmemAllocationProp prop = device_memory();
  CUmemGenericAllocationHandle handle = 0;
  CUresult code = cu.cuMemCreate(&handle, bytes, &prop, 0);
  if (code != CUDA_SUCCESS) return code;
  code = cu.cuMulticastBindMem(g_multicast, offset, handle, 0, bytes, 0);
  cu.cuMemRelease(handle);
  if (code == CUDA_SUCCESS) {
    held<Mapping>().push_back({offset, bytes});
    offset += bytes;
  }
  return code;
}
void free_multicast() {
  for (const auto& m : held<Mapping>())
    cu.cuMulticastUnbind(g_multicast, g_device, m.address, m.bytes);
  held<Mapping>().clear();
  if (g_multicast != 0) cu.cuMemRelease(g_multicast);
  g_multicast = 0;
}

std::vector<Family> families() {
  return {
      {"alloc",
       [](std::size_t n) {
         CUdeviceptr p = 0;
         const CUresult r = cu.cuMemAlloc_v2(&p, n);
         return keep(r, p);
       },
       free_pointers},
      {"alloc-small",
       [](std::size_t n) {
         // The piece in parts of 100 KiB and 1 KiB in turn: what a driver packs into blocks.
         for (std::size_t done = 0, i = 0; done < n; ++i) {
           const std::size_t part = i % 2 == 0 ? 100 * 1024 : 1024;
           CUdeviceptr p = 0;
           const CUresult r = cu.cuMemAlloc_v2(&p, part);
           if (keep(r, p) != CUDA_SUCCESS) return r;
           done += part;
         }
         return CUDA_SUCCESS;
       },
       free_pointers},
      {"pitch",
       [](std::size_t n) {
         CUdeviceptr p = 0;
         std::size_t pitch = 0;
         const CUresult r = cu.cuMemAllocPitch_v2(&p, &pitch, 5000, n / 5000, 4);
         return keep(r, p);
       },
       free_pointers},
      {"managed",
       [](std::size_t n) {
         CUdeviceptr p = 0;
         const CUresult r = cu.cuMemAllocManaged(&p, n, CU_MEM_ATTACH_GLOBAL);
         if (r == CUDA_SUCCESS) {
           cu.cuMemsetD8_v2(p, 1, n);
           synchronize();
         }
         return keep(r, p);
       },
       free_pointers},
      {"array1d", [](std::size_t n) { return take_array(n, 1); }, free_arrays},
      {"array2d", [](std::size_t n) { return take_array(n, 2); }, free_arrays},
      {"array3d", [](std::size_t n) { return take_array(n, 3); }, free_arrays},
      {"mipmapped", take_mipmapped,
       [] {
         for (const auto a : held<CUmipmappedArray>()) cu.cuMipmappedArrayDestroy(a);
         held<CUmipmappedArray>().clear();
       }},
      {"async",
       [](std::size_t n) {
         CUdeviceptr p = 0;
         const CUresult r = cu.cuMemAllocAsync(&p, n, g_stream);
         return keep(r, p);
       },
       free_pointers_async},
      {"async-ptsz",
       [](std::size_t n) {
         CUdeviceptr p = 0;
         const CUresult r = cu.cuMemAllocAsync_ptsz(&p, n, nullptr);
         return keep(r, p);
       },
       [] {
         for (const auto p : held<CUdeviceptr>()) cu.cuMemFreeAsync_ptsz(p, nullptr);
         held<CUdeviceptr>().clear();
         cu.cuStreamSynchronize_ptsz(nullptr);
       }},
      {"pool",
       [](std::size_t n) {
         CUdeviceptr p = 0;
         const CUresult r = cu.cuMemAllocFromPoolAsync(&p, n, explicit_pool(), g_stream);
         return keep(r, p);
       },
       free_pointers_async},
      {"pool-ptsz",
       [](std::size_t n) {
         CUdeviceptr p = 0;
         const CUresult r = cu.cuMemAllocFromPoolAsync_ptsz(&p, n, explicit_pool(), g_stream);
         return keep(r, p);
       },
       free_pointers_async},
      {"pool-kept", kept_pool::take_odd, kept_pool::free_all, false, kept_pool::held_bytes},
      {"pool-fragmented", kept_pool::take_fragmented, kept_pool::free_all, false,
       kept_pool::held_bytes},
      {"pool-busy", kept_pool::take_busy, kept_pool::free_all, false, kept_pool::held_bytes},
      {"vmm", [](std::size_t n) { return take_vmm(n, false); }, free_vmm},
      {"vmm-mapped", [](std::size_t n) { return take_vmm(n, true); }, free_vmm},
      {"graph", [](std::size_t n) { return take_graph(n, false); }, free_graph},
      {"graph-ptsz", [](std::size_t n) { return take_graph(n, true); }, free_graph},
      {"graph-captured", take_captured, free_graph},
      {"ipc", take_ipc, free_ipc},
      {"context", [](std::size_t) { return take_context(); },
       [] {
         for (const auto c : held<CUcontext>()) cu.cuCtxDestroy_v2(c);
         held<CUcontext>().clear();
       }},
      {"module", take_module,
       [] {
         for (const auto m : held<CUmodule>()) cu.cuModuleUnload(m);
         held<CUmodule>().clear();
       }},
      {"library", take_library,
       [] {
         for (const auto l : held<CUlibrary>()) cu.cuLibraryUnload(l);
         held<CUlibrary>().clear();
       }},
      {"stack", take_stack,
       [] {
         g_stack = 1024;
         cu.cuCtxSetLimit(CU_LIMIT_STACK_SIZE, g_stack);
       }},
      {"local", take_local,
       [] {
         g_local = 1024;
         cu.cuDevicePrimaryCtxReset_v2(g_device);  // the only way to get it back
         use_device(0);
         cu.cuStreamCreate(&g_stream, CU_STREAM_NON_BLOCKING);
       }},
      {"multicast", take_multicast, free_multicast, true},
  };
}

bool simulated() {
  char name[256] = {};
  cu.cuDeviceGetName(name, sizeof name, g_device);
  return std::strstr(name, "simulated") != nullptr;
}

void stage(const char* what, const char* family, std::size_t pieces, std::size_t asked,
           CUresult code, bool pause) {
  std::size_t free_bytes = 0, total_bytes = 0;
  cu.cuMemGetInfo_v2(&free_bytes, &total_bytes);
  std::printf(
      "{\"stage\": \"%s\", \"family\": \"%s\", \"pieces\": %zu, \"asked_mib\": %zu, \"code\": %d, "
      "\"seen_used_mib\": %zu, \"seen_total_mib\": %zu}\n",
      what, family, pieces, asked / kMiB, static_cast<int>(code), (total_bytes - free_bytes) / kMiB,
      total_bytes / kMiB);
  std::fflush(stdout);
  char byte = 0;
  while (pause && read(STDIN_FILENO, &byte, 1) > 0 && byte != '\n') {
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<Family> all = families();
  if (argc > 1 && std::strcmp(argv[1], "list") == 0) {
    for (const Family& f : all) std::printf("%s\n", f.name);
    return 0;
  }
  if (argc > 2 && std::strcmp(argv[1], "exporter") == 0)
    return be_exporter(std::strtoull(argv[2], nullptr, 10));
  if (argc < 4) {
    std::fprintf(stderr,
                 "usage: family_probe FAMILY PIECE_MIB MAX_MIB [--pause]   (family_probe list)\n");
    return 2;
  }
  const std::size_t piece = std::strtoull(argv[2], nullptr, 10) * kMiB;
  const std::size_t most = std::strtoull(argv[3], nullptr, 10) * kMiB;
  const bool pause = argc > 4 && std::strcmp(argv[4], "--pause") == 0;
  const auto family = std::find_if(
      all.begin(), all.end(), [&](const Family& f) { return std::strcmp(f.name, argv[1]) == 0; });
  if (family == all.end()) {
    std::fprintf(stderr, "family_probe: no family '%s'\n", argv[1]);
    return 2;
  }
  if (!load_driver()) return no_driver();
  if (!use_device(0)) return 1;
  cu.cuCtxGetDevice(&g_device);
  if (family->simulated_only && !simulated()) {
    std::fprintf(stderr, "skipped: %s is only tried on the simulated GPU\n", family->name);
    return 77;
  }
  cu.cuStreamCreate(&g_stream, CU_STREAM_NON_BLOCKING);
  CUmodule module = nullptr;
  cu.cuModuleLoadData(&module, spin_ptx("spin", "", 0).c_str());
  cu.cuModuleGetFunction(&g_spin, module, "spin");
  launch(g_spin);
  for (const bool again : {false, true}) {
    std::size_t pieces = 0, asked = 0;
    CUresult code = CUDA_SUCCESS;
    while (code == CUDA_SUCCESS && asked < most) {
      code = family->take(piece);
      if (code != CUDA_SUCCESS) break;
      ++pieces;
      asked += piece;
    }
    const std::size_t held = family->held_bytes ? family->held_bytes() : asked;
    stage(again ? "again" : "full", family->name, pieces, held, code, pause);
    family->free_all();
    stage(again ? "freed_again" : "freed", family->name, 0, 0, CUDA_SUCCESS, pause);
  }
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include "taking.h"

#include <unistd.h>

#include <functional>
#include <utility>
#include <vector>

namespace vgpu::test {
namespace {

using gpu_client::cu;

// How to give back each thing that was taken, last one on top.
thread_local std::vector<std::function<CUresult()>> t_taken;

CUresult keep(CUresult code, std::function<CUresult()> free) {
  if (code == CUDA_SUCCESS) t_taken.push_back(std::move(free));
  return code;
}

CUresult finish() {
  return t_stream == nullptr ? cu.cuCtxSynchronize() : cu.cuStreamSynchronize(t_stream);
}

CUmemLocation here() {
  CUmemLocation location{};
  location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  location.id = g_device;
  return location;
}

CUresult take_pitched(std::size_t bytes) {
  CUdeviceptr p = 0;
  std::size_t pitch = 0;
  const CUresult code = cu.cuMemAllocPitch_v2(&p, &pitch, 4096, bytes / 4096, 4);
  return keep(code, [p] { return cu.cuMemFree_v2(p); });
}

// A place of 512 bytes in a block that others share.
CUresult take_small_pitched() {
  CUdeviceptr p = 0;
  std::size_t pitch = 0;
  const CUresult code = cu.cuMemAllocPitch_v2(&p, &pitch, 512, 1, 4);
  return keep(code, [p] { return cu.cuMemFree_v2(p); });
}

CUresult take_stream() {
  CUstream stream = nullptr;
  const CUresult code = cu.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING);
  return keep(code, [stream] { return cu.cuStreamDestroy_v2(stream); });
}

CUDA_ARRAY3D_DESCRIPTOR array_of(std::size_t bytes) {
  CUDA_ARRAY3D_DESCRIPTOR d{};
  d.Format = CU_AD_FORMAT_FLOAT;
  d.NumChannels = 1;
  d.Width = 4096;
  d.Height = bytes / (4 * 4096);
  return d;
}

CUresult take_array(std::size_t bytes) {
  const CUDA_ARRAY3D_DESCRIPTOR d = array_of(bytes);
  CUarray array = nullptr;
  const CUresult code = cu.cuArray3DCreate_v2(&array, &d);
  return keep(code, [array] { return cu.cuArrayDestroy(array); });
}

CUresult take_mipmapped(std::size_t bytes) {
  const CUDA_ARRAY3D_DESCRIPTOR d = array_of(bytes);
  CUmipmappedArray array = nullptr;
  const CUresult code = cu.cuMipmappedArrayCreate(&array, &d, 4);
  return keep(code, [array] { return cu.cuMipmappedArrayDestroy(array); });
}

CUresult free_in_order(CUdeviceptr p) {
  const CUresult freed = cu.cuMemFreeAsync(p, t_stream);
  const CUresult finished = finish();
  return freed == CUDA_SUCCESS ? finished : freed;
}

CUresult take_from_pool(std::size_t bytes) {
  CUmemPoolProps props{};
  props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  props.location = here();
  CUmemoryPool pool = nullptr;
  CUdeviceptr p = 0;
  CUresult code = cu.cuMemPoolCreate(&pool, &props);
  if (code != CUDA_SUCCESS) return code;
  code = cu.cuMemAllocFromPoolAsync(&p, bytes, pool, t_stream);
  if (code != CUDA_SUCCESS) cu.cuMemPoolDestroy(pool);
  return keep(code, [p, pool] {
    const CUresult freed = free_in_order(p);
    const CUresult destroyed = cu.cuMemPoolDestroy(pool);
    return freed == CUDA_SUCCESS ? destroyed : freed;
  });
}

CUresult create(CUmemGenericAllocationHandle& handle, std::size_t bytes, bool exportable) {
  CUmemAllocationProp prop{};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location = here();
  if (exportable) prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  return cu.cuMemCreate(&handle, bytes, &prop, 0);
}

CUresult take_physical(std::size_t bytes) {
  CUmemGenericAllocationHandle handle = 0;
  const CUresult code = create(handle, bytes, false);
  return keep(code, [handle] { return cu.cuMemRelease(handle); });
}

// Only the mapping keeps it, as frameworks do.
CUresult take_mapped(std::size_t bytes) {
  CUmemGenericAllocationHandle handle = 0;
  CUdeviceptr address = 0;
  CUresult code = create(handle, bytes, false);
  if (code != CUDA_SUCCESS) return code;
  code = cu.cuMemAddressReserve(&address, bytes, 0, 0, 0);
  if (code == CUDA_SUCCESS) code = cu.cuMemMap(address, bytes, 0, handle, 0);
  cu.cuMemRelease(handle);
  return keep(code, [address, bytes] {
    const CUresult unmapped = cu.cuMemUnmap(address, bytes);
    cu.cuMemAddressFree(address, bytes);
    return unmapped;
  });
}

// Once through a file descriptor and back: one piece of memory with two handles.
CUresult take_shared(std::size_t bytes) {
  CUmemGenericAllocationHandle own = 0;
  CUmemGenericAllocationHandle imported = 0;
  int fd = -1;
  CUresult code = create(own, bytes, true);
  if (code != CUDA_SUCCESS) return code;
  code = cu.cuMemExportToShareableHandle(&fd, own, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
  if (code == CUDA_SUCCESS) {
    void* shareable = reinterpret_cast<void*>(static_cast<std::intptr_t>(fd));
    code = cu.cuMemImportFromShareableHandle(&imported, shareable,
                                             CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    close(fd);
  }
  cu.cuMemRelease(own);
  return keep(code, [imported] { return cu.cuMemRelease(imported); });
}

CUresult launch(CUgraph graph, CUdeviceptr p) {
  CUgraphExec exec = nullptr;
  CUresult code = cu.cuGraphInstantiateWithFlags(&exec, graph, 0);
  if (code == CUDA_SUCCESS) code = cu.cuGraphLaunch(exec, t_stream);
  if (code == CUDA_SUCCESS) code = finish();
  if (exec != nullptr) cu.cuGraphExecDestroy(exec);
  cu.cuGraphDestroy(graph);
  return keep(code, [p] {
    const CUresult freed = free_in_order(p);
    cu.cuDeviceGraphMemTrim(g_device);
    return freed;
  });
}

CUresult take_by_graph(std::size_t bytes) {
  CUgraph graph = nullptr;
  CUgraphNode node = nullptr;
  CUDA_MEM_ALLOC_NODE_PARAMS params{};
  params.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  params.poolProps.location = here();
  params.bytesize = bytes;
  CUresult code = cu.cuGraphCreate(&graph, 0);
  if (code != CUDA_SUCCESS) return code;
  code = cu.cuGraphAddMemAllocNode(&node, graph, nullptr, 0, &params);
  if (code == CUDA_SUCCESS) return launch(graph, params.dptr);
  cu.cuGraphDestroy(graph);
  return code;
}

// Needs a stream of its own: the legacy one can't be captured.
CUresult take_captured(std::size_t bytes) {
  CUgraph graph = nullptr;
  CUdeviceptr p = 0;
  CUresult code = cu.cuStreamBeginCapture_v2(t_stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
  if (code != CUDA_SUCCESS) return code;
  const CUresult recorded = cu.cuMemAllocAsync(&p, bytes, t_stream);
  code = cu.cuStreamEndCapture(t_stream, &graph);
  if (recorded == CUDA_SUCCESS && code == CUDA_SUCCESS) return launch(graph, p);
  if (graph != nullptr) cu.cuGraphDestroy(graph);
  return recorded == CUDA_SUCCESS ? code : recorded;
}

std::string code_with(std::size_t global_bytes, std::size_t local_bytes) {
  const auto bytes = [](const char* space, const char* name, std::size_t count) {
    return count == 0 ? std::string()
                      : std::string(space) + " .align 16 .b8 " + name + "[" +
                            std::to_string(count) + "];\n";
  };
  return ".version 7.0\n.target sm_70\n.address_size 64\n" +
         bytes(".visible .global", "table", global_bytes) +
         "// vgpu-sim: spin_ns=1000\n.visible .entry work()\n{\n" +
         bytes(".local", "scratch", local_bytes) + "ret;\n}\n";
}

CUresult take_module(std::size_t bytes) {
  CUmodule module = nullptr;
  const CUresult code = cu.cuModuleLoadData(&module, code_with(bytes, 0).c_str());
  return keep(code, [module] { return cu.cuModuleUnload(module); });
}

CUresult run(CUfunction function) {
  CUresult code = cu.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, t_stream, nullptr, nullptr);
  return code == CUDA_SUCCESS ? finish() : code;
}

// Loaded at its first launch.
CUresult take_library(std::size_t bytes) {
  CUlibrary library = nullptr;
  CUkernel kernel = nullptr;
  CUresult code = cu.cuLibraryLoadData(&library, code_with(bytes, 0).c_str(), nullptr, nullptr, 0,
                                       nullptr, nullptr, 0);
  if (code != CUDA_SUCCESS) return code;
  code = cu.cuLibraryGetKernel(&kernel, library, "work");
  if (code == CUDA_SUCCESS) code = run(reinterpret_cast<CUfunction>(kernel));
  if (code != CUDA_SUCCESS) cu.cuLibraryUnload(library);
  return keep(code, [library] { return cu.cuLibraryUnload(library); });
}

std::size_t for_one_thread(std::size_t bytes) {
  int processors = 0;
  int threads = 0;
  cu.cuDeviceGetAttribute(&processors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, g_device);
  cu.cuDeviceGetAttribute(&threads, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, g_device);
  return bytes / static_cast<std::size_t>(processors) / static_cast<std::size_t>(threads) / 16 * 16;
}

// A kernel whose local memory is so much for all threads. The context keeps it.
CUresult take_local(std::size_t bytes) {
  CUmodule module = nullptr;
  CUfunction function = nullptr;
  CUresult code = cu.cuModuleLoadData(&module, code_with(0, 1024 + for_one_thread(bytes)).c_str());
  if (code != CUDA_SUCCESS) return code;
  code = cu.cuModuleGetFunction(&function, module, "work");
  if (code == CUDA_SUCCESS) code = run(function);
  if (code != CUDA_SUCCESS) cu.cuModuleUnload(module);
  return keep(code, [module] { return cu.cuModuleUnload(module); });
}

// The same by a graph, into which its launch was captured.
CUresult take_local_by_graph(std::size_t bytes) {
  CUmodule module = nullptr;
  CUfunction function = nullptr;
  CUstream stream = nullptr;
  CUgraph graph = nullptr;
  CUresult code = cu.cuModuleLoadData(&module, code_with(0, 1024 + for_one_thread(bytes)).c_str());
  if (code != CUDA_SUCCESS) return code;
  cu.cuModuleGetFunction(&function, module, "work");
  cu.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING);
  cu.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
  const CUresult recorded =
      cu.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, nullptr, nullptr);
  code = cu.cuStreamEndCapture(stream, &graph);
  CUgraphExec exec = nullptr;
  if (code == CUDA_SUCCESS) code = cu.cuGraphInstantiateWithFlags(&exec, graph, 0);
  if (code == CUDA_SUCCESS) code = cu.cuGraphLaunch(exec, stream);
  if (code == CUDA_SUCCESS) code = cu.cuStreamSynchronize(stream);
  if (exec != nullptr) cu.cuGraphExecDestroy(exec);
  if (graph != nullptr) cu.cuGraphDestroy(graph);
  cu.cuStreamDestroy_v2(stream);
  return keep(recorded == CUDA_SUCCESS ? code : recorded,
              [module] { return cu.cuModuleUnload(module); });
}

constexpr const char* kUsesHeap =
    ".version 7.0\n.target sm_70\n.address_size 64\n"
    ".extern .func (.param .b64 r) malloc (.param .b64 n);\n"
    "// vgpu-sim: spin_ns=1000 heap\n.visible .entry work()\n{\n.reg .b64 %d<3>;\n{\n"
    ".param .b64 n;\nst.param.b64 [n], 16;\n.param .b64 r;\ncall.uni (r), malloc, (n);\n"
    "ld.param.b64 %d1, [r];\n}\nret;\n}\n";

// A malloc heap of this size, and a kernel that uses it. The context keeps it.
CUresult take_heap(std::size_t bytes) {
  CUmodule module = nullptr;
  CUfunction function = nullptr;
  CUresult code = cu.cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, bytes);
  if (code == CUDA_SUCCESS) code = cu.cuModuleLoadData(&module, kUsesHeap);
  if (code != CUDA_SUCCESS) return code;
  code = cu.cuModuleGetFunction(&function, module, "work");
  if (code == CUDA_SUCCESS) code = run(function);
  return keep(code, [module] { return cu.cuModuleUnload(module); });
}

CUresult take_stack(std::size_t bytes) {
  const CUresult code = cu.cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 1024 + for_one_thread(bytes));
  return keep(code, [] { return cu.cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 1024); });
}

CUresult take_context() {
  CUcontext before = nullptr;
  CUcontext created = nullptr;
  cu.cuCtxGetCurrent(&before);
  const CUresult code = cu.cuCtxCreate_v2(&created, 0, g_device);
  cu.cuCtxSetCurrent(before);
  return keep(code, [created] { return cu.cuCtxDestroy_v2(created); });
}

// Memory that is bound to a multicast object stays with it. Never on a real GPU, where it can put a
// machine out of service.
CUresult take_multicast(std::size_t bytes) {
  CUmulticastObjectProp prop{};
  prop.numDevices = 1;
  prop.size = bytes;
  CUmemGenericAllocationHandle object = 0;
  CUmemGenericAllocationHandle handle = 0;
  CUresult code = cu.cuMulticastCreate(&object, &prop);
  if (code != CUDA_SUCCESS) return code;
  cu.cuMulticastAddDevice(object, g_device);
  code = create(handle, bytes, false);
  if (code == CUDA_SUCCESS) {
    code = cu.cuMulticastBindMem(object, 0, handle, 0, bytes, 0);
    cu.cuMemRelease(handle);
  }
  if (code != CUDA_SUCCESS) cu.cuMemRelease(object);
  return keep(code, [object, bytes] {
    const CUresult unbound = cu.cuMulticastUnbind(object, g_device, 0, bytes);
    cu.cuMemRelease(object);
    return unbound;
  });
}

}  // namespace

CUresult take(const std::string& kind, std::size_t bytes) {
  CUdeviceptr p = 0;
  const auto pointer = [&](CUresult code) {
    return keep(code, [p] { return cu.cuMemFree_v2(p); });
  };
  if (kind == "alloc") return pointer(cu.cuMemAlloc_v2(&p, bytes));
  if (kind == "managed") return pointer(cu.cuMemAllocManaged(&p, bytes, CU_MEM_ATTACH_GLOBAL));
  if (kind == "async") {
    const CUresult code = cu.cuMemAllocAsync(&p, bytes, t_stream);
    return keep(code, [p] { return free_in_order(p); });
  }
  if (kind == "small") return pointer(cu.cuMemAlloc_v2(&p, 512));
  if (kind == "smallpitch") return take_small_pitched();
  if (kind == "stream") return take_stream();
  if (kind == "pitch") return take_pitched(bytes);
  if (kind == "array") return take_array(bytes);
  if (kind == "mipmapped") return take_mipmapped(bytes);
  if (kind == "pool") return take_from_pool(bytes);
  if (kind == "vmm") return take_physical(bytes);
  if (kind == "mapped") return take_mapped(bytes);
  if (kind == "shared") return take_shared(bytes);
  if (kind == "graph") return take_by_graph(bytes);
  if (kind == "captured") return take_captured(bytes);
  if (kind == "module") return take_module(bytes);
  if (kind == "library") return take_library(bytes);
  if (kind == "local") return take_local(bytes);
  if (kind == "localgraph") return take_local_by_graph(bytes);
  if (kind == "heap") return take_heap(bytes);
  if (kind == "stack") return take_stack(bytes);
  if (kind == "newcontext") return take_context();
  if (kind == "multicast") return take_multicast(bytes);
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult give_back() {
  if (t_taken.empty()) return CUDA_ERROR_INVALID_VALUE;
  const CUresult code = t_taken.back()();
  if (code == CUDA_SUCCESS) t_taken.pop_back();
  return code;
}

std::size_t taken_count() { return t_taken.size(); }

CUresult make_context() {
  CUcontext context = nullptr;
  CUresult code = cu.cuInit(0);
  if (code == CUDA_SUCCESS) code = cu.cuDeviceGet(&g_device, 0);
  if (code == CUDA_SUCCESS) code = cu.cuDevicePrimaryCtxRetain(&context, g_device);
  return code == CUDA_SUCCESS ? cu.cuCtxSetCurrent(context) : code;
}

}  // namespace vgpu::test

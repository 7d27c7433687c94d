// SPDX-License-Identifier: Apache-2.0
// How the driver answers: initialisation, errors, visible devices, symbol look-up, stream order,
// capture.
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "conformance.h"

namespace conformance {

void section_init() {
  int n = -7;
  CUdevice d = 0;
  int version = 0;
  CUdeviceptr p = 0;
  answer_code("init.count_before", cu.cuDeviceGetCount(&n));
  answer_code("init.alloc_before", cu.cuMemAlloc_v2(&p, 4096));
  answer_code("init.get_device_before", cu.cuDeviceGet(&d, 0));
  answer_code("init.ctx_current_before", [] {
    CUcontext c = nullptr;
    return cu.cuCtxGetCurrent(&c);
  }());
  answer_code("init.version_before", cu.cuDriverGetVersion(&version));
  answer("init.version", version);
  answer_code("init.flags_1", cu.cuInit(1));
  answer_code("init.init", cu.cuInit(0));
  answer_code("init.again", cu.cuInit(0));
  answer_code("init.count_null", cu.cuDeviceGetCount(nullptr));
  answer_code("init.device_minus_1", cu.cuDeviceGet(&d, -1));
  answer_code("init.device_99", cu.cuDeviceGet(&d, 99));
  answer_code("init.device_null", cu.cuDeviceGet(nullptr, 0));
  answer_code("init.device_0", cu.cuDeviceGet(&d, 0));
  answer("init.handle_of_device_0", d);
  answer_code("init.current_device_without_context", cu.cuCtxGetDevice(&d));
  CUcontext context = nullptr;
  answer_code("init.current_context", cu.cuCtxGetCurrent(&context));
  answer("init.current_context_is_null", context == nullptr);
  std::size_t total = 0, free_bytes = 0;
  answer_code("init.total_mem", cu.cuDeviceTotalMem_v2(&total, 0));
  answer("init.total_mem_mib", static_cast<long long>(total / kMiB));
  answer_code("init.total_mem_null", cu.cuDeviceTotalMem_v2(nullptr, 0));
  answer_code("init.total_mem_device_99", cu.cuDeviceTotalMem_v2(&total, 99));
  answer_code("init.mem_info_without_context", cu.cuMemGetInfo_v2(&free_bytes, &total));
  for (const auto& [name, attribute] : std::map<std::string, CUdevice_attribute>{
           {"sm_count", CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT},
           {"threads_per_sm", CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR},
           {"cc_major", CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR},
           {"cc_minor", CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR},
           {"warp", CU_DEVICE_ATTRIBUTE_WARP_SIZE},
           {"pools", CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED},
           {"vmm", CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED},
           {"managed", CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY},
           {"concurrent_managed", CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS},
           {"compute_mode", CU_DEVICE_ATTRIBUTE_COMPUTE_MODE},
           {"async_engines", CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT},
           {"texture_pitch_alignment", CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT},
           {"max_threads_per_block", CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK}}) {
    int value = -1;
    answer_code("init.attribute_code." + name, cu.cuDeviceGetAttribute(&value, attribute, 0));
    answer("init.attribute." + name, value);
  }
  const char* text = nullptr;
  answer_code("init.error_name", cu.cuGetErrorName(CUDA_ERROR_OUT_OF_MEMORY, &text));
  answer("init.error_name_2", text != nullptr ? text : "null");
  answer_code("init.error_name_unknown", cu.cuGetErrorName(static_cast<CUresult>(98765), &text));
  answer("init.error_name_unknown_is_null", text == nullptr);
}

void section_errors() {
  use_device();
  CUdeviceptr p = 0x1234;
  answer_code("errors.alloc_null", cu.cuMemAlloc_v2(nullptr, 4096));
  answer_code("errors.alloc_zero", cu.cuMemAlloc_v2(&p, 0));
  answer_code("errors.alloc_2_to_60", cu.cuMemAlloc_v2(&p, std::size_t{1} << 60));
  answer_code("errors.alloc_max", cu.cuMemAlloc_v2(&p, ~std::size_t{0}));
  answer("errors.alloc_failed_keeps_pointer", p == 0x1234);
  answer_code("errors.free_null", cu.cuMemFree_v2(0));
  answer_code("errors.free_bogus", cu.cuMemFree_v2(0x1234));
  cu.cuMemAlloc_v2(&p, 8 * kMiB);
  answer_code("errors.free_inside", cu.cuMemFree_v2(p + 4096));
  answer_code("errors.free", cu.cuMemFree_v2(p));
  answer_code("errors.free_twice", cu.cuMemFree_v2(p));
  std::size_t f = 0, t = 0;
  answer_code("errors.mem_info_null_both", cu.cuMemGetInfo_v2(nullptr, nullptr));
  answer_code("errors.mem_info_null_free", cu.cuMemGetInfo_v2(nullptr, &t));
  answer_code("errors.mem_info_null_total", cu.cuMemGetInfo_v2(&f, nullptr));
  CUDA_ARRAY3D_DESCRIPTOR d{};
  CUarray array = nullptr;
  answer_code("errors.array_null", cu.cuArray3DCreate_v2(nullptr, nullptr));
  answer_code("errors.array_zero_width", cu.cuArray3DCreate_v2(&array, &d));
  d.Format = CU_AD_FORMAT_FLOAT;
  d.NumChannels = 3;
  d.Width = 16;
  answer_code("errors.array_3_channels", cu.cuArray3DCreate_v2(&array, &d));
  d.NumChannels = 1;
  d.Width = 1u << 30;
  answer_code("errors.array_too_wide", cu.cuArray3DCreate_v2(&array, &d));
  answer_code("errors.array_destroy_null", cu.cuArrayDestroy(nullptr));
  CUmipmappedArray mip = nullptr;
  d.Width = 16;
  d.Height = 16;
  answer_code("errors.mip_zero_levels", cu.cuMipmappedArrayCreate(&mip, &d, 0));
  answer_code("errors.mip_99_levels", cu.cuMipmappedArrayCreate(&mip, &d, 99));
  if (mip != nullptr) cu.cuMipmappedArrayDestroy(mip);
  CUmodule module = nullptr;
  answer_code("errors.module_garbage", cu.cuModuleLoadData(&module, "this is no module"));
  answer_code("errors.module_null", cu.cuModuleLoadData(&module, nullptr));
  answer_code("errors.module_missing_file", cu.cuModuleLoad(&module, "/nonexistent/file.ptx"));
  CUfunction function = nullptr;
  module = load_ptx(spin_ptx("spin"));
  answer_code("errors.function_missing",
              cu.cuModuleGetFunction(&function, module, "no_such_kernel"));
  answer_code("errors.function", cu.cuModuleGetFunction(&function, module, "spin"));
  unsigned long long ns = 1000;
  void* params[] = {&ns};
  answer_code("errors.launch",
              cu.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, nullptr, params, nullptr));
  answer_code("errors.launch_zero_grid",
              cu.cuLaunchKernel(function, 0, 1, 1, 1, 1, 1, 0, nullptr, params, nullptr));
  answer_code("errors.launch_2048_threads",
              cu.cuLaunchKernel(function, 1, 1, 1, 2048, 1, 1, 0, nullptr, params, nullptr));
  answer_code("errors.launch_null_function",
              cu.cuLaunchKernel(nullptr, 1, 1, 1, 1, 1, 1, 0, nullptr, params, nullptr));
  answer_code("errors.launch_big_shared",
              cu.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 1u << 20, nullptr, params, nullptr));
  answer_code("errors.synchronize", cu.cuCtxSynchronize());
}

namespace {
std::string device_uuid_text() {
  CUuuid uuid{};
  cu.cuDeviceGetUuid_v2(&uuid, 0);
  std::string text = "GPU-";
  char two[3];
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    std::snprintf(two, sizeof two, "%02x", static_cast<unsigned char>(uuid.bytes[i]));
    text += two;
  }
  return text;
}
}  // namespace

void section_visible() {
  cu.cuInit(0);
  const std::string uuid = device_uuid_text();
  std::string upper = uuid;
  for (char& c : upper) c = static_cast<char>(std::toupper(c));
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"empty", ""},
      {"space", " "},
      {"0", "0"},
      {"space_0", " 0"},
      {"0_space", "0 "},
      {"0_comma", "0,"},
      {"comma_0", ",0"},
      {"comma", ","},
      {"minus_1", "-1"},
      {"0_minus_1", "0,-1"},
      {"minus_1_0", "-1,0"},
      {"0_0", "0,0"},
      {"0_99", "0,99"},
      {"99", "99"},
      {"99_0", "99,0"},
      {"abc", "abc"},
      {"0_abc", "0,abc"},
      {"abc_0", "abc,0"},
      {"00", "00"},
      {"plus_0", "+0"},
      {"0x0", "0x0"},
      {"0abc", "0abc"},
      {"0_space_99", "0 99"},
      {"tab_0", "\t0"},
      {"0_semicolon_0", "0;0"},
      {"0_comma_space", "0, 99"},
      {"uuid", uuid},
      {"uuid_upper", upper},
      {"uuid_upper_hex", "GPU-" + upper.substr(4)},
      {"uuid_lower_gpu", "gpu" + uuid.substr(3)},
      {"uuid_without_gpu", uuid.substr(4)},
      {"uuid_prefix_8", uuid.substr(0, 12)},
      {"uuid_prefix_1", uuid.substr(0, 5)},
      {"uuid_prefix_0", "GPU-"},
      {"gpu_word", "GPU"},
      {"uuid_twice", uuid + "," + uuid},
      {"uuid_then_0", uuid + ",0"},
      {"0_then_uuid", "0," + uuid},
      {"uuid_space", uuid + " "},
      {"space_uuid", " " + uuid},
      {"uuid_comma", uuid + ","},
      {"uuid_abc", uuid + ",abc"},
      {"uuid_unknown", "GPU-00000000-0000-0000-0000-000000000000"},
      {"uuid_unknown_then_known", "GPU-00000000-0000-0000-0000-000000000000," + uuid},
      {"uuid_known_then_unknown", uuid + ",GPU-00000000-0000-0000-0000-000000000000"},
      {"uuid_too_long", uuid + "0"},
      {"mig_unknown", "MIG-00000000-0000-0000-0000-000000000000"},
      {"mig_old_form", "MIG-" + uuid + "/0/0"},
      {"none", "none"},
      {"all", "all"},
      {"NoDevFiles", "NoDevFiles"},
      {"void", "void"},
  };
  for (const auto& [name, value] : cases) {
    std::string out = run_section_with("visible_child", "CUDA_VISIBLE_DEVICES", value.c_str());
    while (!out.empty() && out.back() == '\n') out.pop_back();
    answer("visible." + name, out);
  }
}

// Prints the code of cuInit, the code of cuDeviceGetCount and the count.
void section_visible_child() {
  const CUresult init = cu.cuInit(0);
  int count = -1;
  const CUresult got = cu.cuDeviceGetCount(&count);
  std::printf("%d,%d,%d\n", static_cast<int>(init), static_cast<int>(got), count);
}

void section_lookup() {
  cu.cuInit(0);
  const auto export_of = [](const void* pointer) -> std::string {
    // Any name of the same base that has this address; several exports may share one.
    static const std::vector<std::string> names = [] {
      std::vector<std::string> all;
#define VGPU_DRIVER_FUNCTION(symbol, params, args) all.push_back(#symbol);
#include "vgpu/api/driver_functions.def"
#undef VGPU_DRIVER_FUNCTION
      return all;
    }();
    std::string found;
    for (const auto& n : names) {
      if (driver_symbol(n.c_str()) == pointer) found += (found.empty() ? "" : "|") + n;
    }
    return found.empty() ? "other" : found;
  };
  struct Case {
    const char* symbol;
    int version;
    cuuint64_t flags;
  };
  const Case cases[] = {
      {"cuMemAlloc", 2000, 0},
      {"cuMemAlloc", 3010, 0},
      {"cuMemAlloc", 3020, 0},
      {"cuMemAlloc", 12000, 0},
      {"cuMemAlloc", 13000, 2},
      {"cuMemAlloc", 99999, 0},
      {"cuMemAlloc", 0, 0},
      {"cuMemAlloc", -1, 0},
      {"cuMemAlloc", 1000, 0},
      {"cuMemAlloc_v2", 12000, 0},
      {"cuMemAlloc_v2", 2000, 0},
      {"cuMemAllocAsync", 11020, 0},
      {"cuMemAllocAsync", 11010, 0},
      {"cuMemAllocAsync", 12000, 1},
      {"cuMemAllocAsync", 12000, 2},
      {"cuMemAllocAsync", 12000, 3},
      {"cuMemAllocAsync", 12000, 4},
      {"cuLaunchKernel", 12000, 0},
      {"cuLaunchKernel", 12000, 2},
      {"cuLaunchKernel", 7000, 2},
      {"cuLaunchKernel", 6050, 2},
      {"cuLaunchKernelEx", 11060, 0},
      {"cuLaunchKernelEx", 12000, 2},
      {"cuMemcpyHtoD", 12000, 0},
      {"cuMemcpyHtoD", 12000, 2},
      {"cuMemGetInfo", 2000, 0},
      {"cuMemGetInfo", 12000, 0},
      {"cuDeviceTotalMem", 12000, 0},
      {"cuCtxCreate", 2000, 0},
      {"cuCtxCreate", 3020, 0},
      {"cuCtxCreate", 11040, 0},
      {"cuCtxCreate", 12050, 0},
      {"cuCtxCreate", 13000, 0},
      {"cuGraphInstantiate", 10000, 0},
      {"cuGraphInstantiate", 11000, 0},
      {"cuGraphInstantiate", 11040, 0},
      {"cuGraphInstantiate", 12000, 0},
      {"cuGraphLaunch", 12000, 2},
      {"cuStreamGetCaptureInfo", 10010, 0},
      {"cuStreamGetCaptureInfo", 11030, 0},
      {"cuStreamGetCaptureInfo", 12030, 0},
      {"cuStreamGetCaptureInfo", 12030, 2},
      {"cuGetProcAddress", 11030, 0},
      {"cuGetProcAddress", 12000, 0},
      {"cuGetProcAddress", 12000, 2},
      {"cuDeviceGetUuid", 9020, 0},
      {"cuDeviceGetUuid", 11040, 0},
      {"cuDevicePrimaryCtxRelease", 7000, 0},
      {"cuDevicePrimaryCtxRelease", 11000, 0},
      {"cuIpcOpenMemHandle", 4010, 0},
      {"cuIpcOpenMemHandle", 11000, 0},
      {"cuNoSuchThing", 12000, 0},
      {"", 12000, 0},
      {"cudaMalloc", 12000, 0},
      {"cuMemAllocAsync_ptsz", 12000, 0},
      {"cuGreenCtxCreate", 12040, 0},
      {"cuMemPrefetchAsync", 12020, 0},
      {"cuMemPrefetchAsync", 13000, 0},
      {"cuMemPrefetchAsync", 13000, 2},
      {"cuEventElapsedTime", 2000, 0},
      {"cuEventElapsedTime", 12080, 0},
  };
  for (const Case& c : cases) {
    void* pointer = reinterpret_cast<void*>(0x1);
    CUdriverProcAddressQueryResult status = static_cast<CUdriverProcAddressQueryResult>(77);
    const CUresult code = cu.cuGetProcAddress_v2(c.symbol, &pointer, c.version, c.flags, &status);
    const std::string key =
        std::string(c.symbol) + "@" + std::to_string(c.version) + "/" + std::to_string(c.flags);
    const std::string where = pointer == nullptr                        ? "null"
                              : pointer == reinterpret_cast<void*>(0x1) ? "untouched"
                                                                        : export_of(pointer);
    answer("lookup.v2." + key, std::to_string(code) + "," + std::to_string(status) + "," + where);
    pointer = reinterpret_cast<void*>(0x1);
    const CUresult old = cu.cuGetProcAddress(c.symbol, &pointer, c.version, c.flags);
    const std::string old_where = pointer == nullptr                        ? "null"
                                  : pointer == reinterpret_cast<void*>(0x1) ? "untouched"
                                                                            : export_of(pointer);
    answer("lookup.v1." + key, std::to_string(old) + "," + old_where);
  }
  void* pointer = nullptr;
  answer_code("lookup.null_status", cu.cuGetProcAddress_v2("cuInit", &pointer, 12000, 0, nullptr));
  // Which exports share one address: a table keyed by address must know.
  std::map<void*, std::string> by_address;
#define VGPU_DRIVER_FUNCTION(symbol, params, args) \
  if (void* address = driver_symbol(#symbol))      \
    by_address[address] += (by_address[address].empty() ? "" : "|") + std::string(#symbol);
#include "vgpu/api/driver_functions.def"
#undef VGPU_DRIVER_FUNCTION
  for (const auto& [address, shared] : by_address) {
    if (shared.find('|') != std::string::npos)
      answer("lookup.shared_address." + shared.substr(0, shared.find('|')), shared);
  }
}

void section_order() {
  use_device();
  const CUmodule module = load_ptx(spin_ptx("spin"));
  CUfunction spin = nullptr;
  cu.cuModuleGetFunction(&spin, module, "spin");
  unsigned long long ns = 30'000'000;
  void* params[] = {&ns};
  CUstream a = nullptr, b = nullptr;
  cu.cuStreamCreate(&a, CU_STREAM_NON_BLOCKING);
  cu.cuStreamCreate(&b, CU_STREAM_NON_BLOCKING);
  CUevent start = nullptr, end = nullptr, plain = nullptr;
  cu.cuEventCreate(&start, CU_EVENT_DEFAULT);
  cu.cuEventCreate(&end, CU_EVENT_DEFAULT);
  cu.cuEventCreate(&plain, CU_EVENT_DISABLE_TIMING);
  cu.cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, a, params, nullptr);
  cu.cuCtxSynchronize();
  cu.cuEventRecord(start, a);
  answer_code("order.launch", cu.cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, a, params, nullptr));
  cu.cuEventRecord(end, a);
  answer_code("order.query_busy", cu.cuStreamQuery(a));
  answer_code("order.event_query_busy", cu.cuEventQuery(end));
  answer_code("order.other_stream_idle", cu.cuStreamQuery(b));
  float ms = -1;
  answer_code("order.elapsed_not_ready", cu.cuEventElapsedTime(&ms, start, end));
  answer_code("order.wait_event", cu.cuStreamWaitEvent(b, end, 0));
  answer_code("order.waiting_stream_busy", cu.cuStreamQuery(b));
  answer_code("order.synchronize", cu.cuStreamSynchronize(b));
  answer_code("order.query_idle", cu.cuStreamQuery(a));
  answer_code("order.elapsed", cu.cuEventElapsedTime(&ms, start, end));
  answer("order.elapsed_at_least_30ms", ms >= 29.9f);
  answer("order.elapsed_below_60ms", ms < 60.0f);
  answer_code("order.elapsed_without_timing", cu.cuEventElapsedTime(&ms, start, plain));
  CUevent never = nullptr;
  cu.cuEventCreate(&never, CU_EVENT_DEFAULT);
  answer_code("order.query_never_recorded", cu.cuEventQuery(never));
  answer_code("order.elapsed_never_recorded", cu.cuEventElapsedTime(&ms, never, end));
  // Memory moves in stream order, and bytes arrive.
  CUdeviceptr p = 0;
  cu.cuMemAlloc_v2(&p, 4096);
  std::vector<unsigned char> bytes(4096, 0);
  answer_code("order.memset", cu.cuMemsetD8Async(p, 0x5a, 4096, a));
  answer_code("order.copy", cu.cuMemcpyDtoHAsync_v2(bytes.data(), p, 4096, a));
  cu.cuStreamSynchronize(a);
  answer("order.bytes", bytes[0] == 0x5a && bytes[4095] == 0x5a);
  static int called = 0;
  answer_code("order.host_func", cu.cuLaunchHostFunc(
                                     a, [](void*) { ++called; }, nullptr));
  cu.cuStreamSynchronize(a);
  answer("order.host_func_called", called);
  answer_code("order.destroy_stream", cu.cuStreamDestroy_v2(a));
}

void section_capture() {
  use_device();
  const CUmodule module = load_ptx(spin_ptx("spin"));
  CUfunction spin = nullptr;
  cu.cuModuleGetFunction(&spin, module, "spin");
  unsigned long long ns = 1000;
  void* params[] = {&ns};
  CUstream s = nullptr, other = nullptr;
  cu.cuStreamCreate(&s, CU_STREAM_NON_BLOCKING);
  cu.cuStreamCreate(&other, CU_STREAM_NON_BLOCKING);
  const std::pair<const char*, CUstreamCaptureMode> modes[] = {
      {"global", CU_STREAM_CAPTURE_MODE_GLOBAL},
      {"thread_local", CU_STREAM_CAPTURE_MODE_THREAD_LOCAL},
      {"relaxed", CU_STREAM_CAPTURE_MODE_RELAXED}};
  for (const auto& [mode_name, mode] : modes) {
    const auto in_capture = [&, mode = mode, mode_name = mode_name](
                                const char* what, const std::function<CUresult()>& call,
                                int pops = 0) {
      CUgraph graph = nullptr;
      cu.cuStreamBeginCapture_v2(s, mode);
      const CUresult code = call();
      CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
      cu.cuStreamIsCapturing(s, &status);
      const CUresult ended = cu.cuStreamEndCapture(s, &graph);
      std::size_t nodes = 0;
      if (graph != nullptr) {
        cu.cuGraphGetNodes(graph, nullptr, &nodes);
        cu.cuGraphDestroy(graph);
      }
      (void)pops;
      answer(std::string("capture.") + mode_name + "." + what,
             std::to_string(code) + "," + std::to_string(status) + "," + std::to_string(ended) +
                 "," + std::to_string(nodes));
    };
    CUdeviceptr p = 0;
    in_capture("nothing", [] { return CUDA_SUCCESS; });
    in_capture("launch",
               [&] { return cu.cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, s, params, nullptr); });
    in_capture("cuMemAlloc", [&] {
      const CUresult r = cu.cuMemAlloc_v2(&p, 4 * kMiB);
      return r;
    });
    in_capture("cuMemAllocAsync", [&] { return cu.cuMemAllocAsync(&p, 4 * kMiB, s); });
    in_capture("cuMemAllocAsync_other_stream",
               [&] { return cu.cuMemAllocAsync(&p, 4 * kMiB, other); });
    in_capture("stream_sync", [&] { return cu.cuStreamSynchronize(s); });
    in_capture("stream_query", [&] { return cu.cuStreamQuery(s); });
    in_capture("other_stream_query", [&] { return cu.cuStreamQuery(other); });
    in_capture("mem_get_info", [&] {
      std::size_t f = 0, t = 0;
      return cu.cuMemGetInfo_v2(&f, &t);
    });
    in_capture("pool_attribute", [&] {
      CUmemoryPool pool = nullptr;
      cu.cuDeviceGetDefaultMemPool(&pool, device());
      cuuint64_t v = 0;
      return cu.cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &v);
    });
    in_capture("graph_mem_attribute", [&] {
      cuuint64_t v = 0;
      return cu.cuDeviceGetGraphMemAttribute(device(), CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, &v);
    });
    in_capture("mem_create", [&] {
      CUmemAllocationProp prop{};
      prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
      prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
      CUmemGenericAllocationHandle h = 0;
      const CUresult r = cu.cuMemCreate(&h, 2 * kMiB, &prop, 0);
      if (r == CUDA_SUCCESS) cu.cuMemRelease(h);
      return r;
    });
    in_capture("array_create", [&] {
      CUDA_ARRAY3D_DESCRIPTOR d{};
      d.Format = CU_AD_FORMAT_FLOAT;
      d.NumChannels = 1;
      d.Width = 64;
      CUarray a = nullptr;
      return cu.cuArray3DCreate_v2(&a, &d);
    });
    in_capture("event_query", [&] {
      CUevent e = nullptr;
      cu.cuEventCreate(&e, CU_EVENT_DISABLE_TIMING);
      return cu.cuEventQuery(e);
    });
    in_capture("func_attribute", [&] {
      int v = 0;
      return cu.cuFuncGetAttribute(&v, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, spin);
    });
    in_capture("set_limit", [&] { return cu.cuCtxSetLimit(CU_LIMIT_PRINTF_FIFO_SIZE, 1 << 20); });
    in_capture("module_load", [&] {
      CUmodule m = nullptr;
      const std::string ptx = spin_ptx("other");
      return cu.cuModuleLoadData(&m, ptx.c_str());
    });
  }
  answer_code("capture.legacy_stream_begin",
              cu.cuStreamBeginCapture_v2(nullptr, CU_STREAM_CAPTURE_MODE_GLOBAL));
  // What a query of the legacy stream says while a blocking stream captures.
  CUstream blocking = nullptr;
  cu.cuStreamCreate(&blocking, CU_STREAM_DEFAULT);
  cu.cuStreamBeginCapture_v2(blocking, CU_STREAM_CAPTURE_MODE_RELAXED);
  CUstreamCaptureStatus status{};
  answer_code("capture.is_capturing_legacy", cu.cuStreamIsCapturing(nullptr, &status));
  CUgraph graph = nullptr;
  answer_code("capture.end_after_implicit", cu.cuStreamEndCapture(blocking, &graph));
}

}  // namespace conformance

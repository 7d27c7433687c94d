// SPDX-License-Identifier: Apache-2.0
// route_probe ROUTE [PATH...]: reaches the driver by ROUTE and checks the limit; or "rows ROUTE
// ...": whether every hooked name leads into the limiter by that route. Not linked against the
// driver.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "probe.h"
#include "vgpu/api/nvml_abi.h"
#include "vgpu/base/gpu_uuid.h"

namespace {

using vgpu::probe::calls_by;
using vgpu::probe::check_limit;
using Lookup = std::function<void*(const char*)>;

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "route_probe: %s\n", what.c_str());
  std::exit(1);
}

void* open_or_fail(const char* file, int mode) {
  void* handle = dlopen(file, mode);
  if (handle == nullptr) fail(dlerror());
  return handle;
}

Lookup in_handle(void* handle) {
  return [handle](const char* name) { return dlsym(handle, name); };
}

// The name that cuGetProcAddress takes for an ABI symbol, and the flavour it asks for.
struct ApiName {
  std::string name;
  bool per_thread = false;
};
ApiName api_name_of(std::string_view symbol) {
  ApiName out;
  for (const std::string_view suffix : {"_ptsz", "_ptds"}) {
    if (symbol.ends_with(suffix)) {
      symbol.remove_suffix(suffix.size());
      out.per_thread = true;
    }
  }
  const std::size_t mark = symbol.rfind("_v");
  if (mark != std::string_view::npos && mark + 3 == symbol.size() && symbol[mark + 2] >= '2') {
    symbol.remove_suffix(3);
  }
  out.name = symbol;
  return out;
}

constexpr cuuint64_t kLegacyStream = 1;
constexpr cuuint64_t kPerThreadStream = 2;

using GetProcV1 = CUresult (*)(const char*, void**, int, cuuint64_t);
using GetProcV2 = CUresult (*)(const char*, void**, int, cuuint64_t,
                               CUdriverProcAddressQueryResult*);

Lookup by_v1(GetProcV1 get, int version) {
  return [get, version](const char* symbol) -> void* {
    const ApiName api = api_name_of(symbol);
    void* entry = nullptr;
    const CUresult result =
        get(api.name.c_str(), &entry, version, api.per_thread ? kPerThreadStream : kLegacyStream);
    return result == CUDA_SUCCESS ? entry : nullptr;
  };
}

Lookup by_v2(GetProcV2 get, int version) {
  return [get, version](const char* symbol) -> void* {
    const ApiName api = api_name_of(symbol);
    void* entry = nullptr;
    CUdriverProcAddressQueryResult found{};
    const CUresult result = get(api.name.c_str(), &entry, version,
                                api.per_thread ? kPerThreadStream : kLegacyStream, &found);
    return result == CUDA_SUCCESS ? entry : nullptr;
  };
}

template <class Get>
Get checked(void* get) {
  if (get == nullptr) fail("no cuGetProcAddress");
  return reinterpret_cast<Get>(get);
}

struct Route {
  Lookup lookup;
  Lookup nvml;  // by the same way, where NVML has one
};

Route make_route(const std::string& name, const std::vector<std::string>& paths) {
  const auto path = [&](std::size_t i) { return i < paths.size() ? paths[i].c_str() : nullptr; };
  if (name == "soname") {
    return {in_handle(open_or_fail("libcuda.so.1", RTLD_LAZY)),
            in_handle(open_or_fail("libnvidia-ml.so.1", RTLD_NOW))};
  }
  if (name == "plain_name") return {in_handle(open_or_fail("libcuda.so", RTLD_NOW)), nullptr};
  if (name == "path") {
    return {in_handle(open_or_fail(path(0), RTLD_NOW)),
            path(1) == nullptr ? nullptr : in_handle(open_or_fail(path(1), RTLD_NOW))};
  }
  if (name == "second_copy") {
    open_or_fail("libcuda.so.1", RTLD_NOW);
    return {in_handle(open_or_fail(path(0), RTLD_NOW)), nullptr};
  }
  if (name == "default") {
    open_or_fail("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    open_or_fail("libnvidia-ml.so.1", RTLD_NOW | RTLD_GLOBAL);
    return {in_handle(RTLD_DEFAULT), in_handle(RTLD_DEFAULT)};
  }
  if (name == "program_handle") {
    open_or_fail("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    return {in_handle(open_or_fail(nullptr, RTLD_NOW)), nullptr};
  }
  if (name == "other_library") return {in_handle(open_or_fail(path(0), RTLD_NOW)), nullptr};
  if (name == "fetched_dlsym") {
    // Whoever takes libc's dlsym from libc.
    void* libc = open_or_fail("libc.so.6", RTLD_NOW);
    auto* look_up = reinterpret_cast<void* (*)(void*, const char*)>(dlsym(libc, "dlsym"));
    void* driver = open_or_fail("libcuda.so.1", RTLD_NOW);
    return {[=](const char* symbol) { return look_up(driver, symbol); }, nullptr};
  }
  if (name.starts_with("proc_address")) {
    // proc_address_v1_11030, proc_address_v2_13000, proc_address_self_12000
    const int version = std::atoi(name.substr(name.rfind('_') + 1).c_str());
    void* driver = open_or_fail("libcuda.so.1", RTLD_NOW);
    if (name.find("_v1_") != std::string::npos) {
      return {by_v1(checked<GetProcV1>(dlsym(driver, "cuGetProcAddress")), version), nullptr};
    }
    auto get = checked<GetProcV2>(dlsym(driver, "cuGetProcAddress_v2"));
    if (name.find("_v2_") != std::string::npos) return {by_v2(get, version), nullptr};
    // As a static cudart does: the function asks for itself and uses what it gets.
    void* again = by_v2(get, version)("cuGetProcAddress_v2");
    return {by_v2(checked<GetProcV2>(again), version), nullptr};
  }
  fail("unknown route " + name);
}

bool is_limiter(void* address) {
  Dl_info info{};
  return dladdr(address, &info) != 0 &&
         std::strstr(info.dli_fname, "libcuda_limiter.so") != nullptr;
}

// Where cuGetProcAddress is the way, a symbol that a later version replaced can't be had: any hook
// will do.
int check_rows(const Lookup& lookup, const Lookup& nvml) {
  int wrong = 0;
  int checked_rows = 0;
  const auto check = [&](const Lookup& by, const char* symbol) {
    void* address = by(symbol);
    if (address == nullptr) return;
    ++checked_rows;
    if (!is_limiter(address)) {
      std::fprintf(stderr, "route_probe: %s isn't hooked\n", symbol);
      ++wrong;
    }
  };
#define VGPU_HOOK(symbol, family, since, params, args) check(lookup, #symbol);
#include "vgpu/api/driver_hooks.def"
#undef VGPU_HOOK
  if (nvml != nullptr) {
#define VGPU_NVML_HOOK(symbol, family, params, args) check(nvml, #symbol);
#include "vgpu/api/nvml_hooks.def"
#undef VGPU_NVML_HOOK
  }
  if (checked_rows < 100) {
    std::fprintf(stderr, "route_probe: only %d rows could be looked up\n", checked_rows);
    return 1;
  }
  return wrong == 0 ? 0 : 1;
}

// The UUIDs of the devices that CUDA shows, in its order; then what the program's own variable
// says.
int show_devices(const Lookup& lookup) {
  auto* init = reinterpret_cast<CUresult (*)(unsigned int)>(lookup("cuInit"));
  auto* count_of = reinterpret_cast<CUresult (*)(int*)>(lookup("cuDeviceGetCount"));
  auto* uuid_of = reinterpret_cast<CUresult (*)(CUuuid*, CUdevice)>(lookup("cuDeviceGetUuid_v2"));
  int count = 0;
  std::printf("%d\n", init(0));
  if (count_of(&count) != CUDA_SUCCESS) count = 0;
  for (CUdevice device = 0; device < count; ++device) {
    CUuuid uuid{};
    if (uuid_of(&uuid, device) != CUDA_SUCCESS) return 1;
    vgpu::GpuUuid named;
    std::memcpy(named.bytes.data(), uuid.bytes, sizeof(uuid.bytes));
    std::printf("%s\n", named.text().data());
  }
  const char* variable = std::getenv("CUDA_VISIBLE_DEVICES");
  std::printf("%s\n", variable == nullptr ? "unset" : variable);
  return 0;
}

// Threads that all use the GPU for the first time at the same moment.
int check_limit_in_threads(const Lookup& lookup) {
  std::vector<std::thread> threads;
  std::atomic<bool> go{false};
  std::atomic<int> refused{0};
  auto* init = reinterpret_cast<CUresult (*)(unsigned int)>(lookup("cuInit"));
  for (int i = 0; i < 32; ++i) {
    threads.emplace_back([&] {
      while (!go) std::this_thread::yield();
      if (init(0) != CUDA_SUCCESS) ++refused;
    });
  }
  go = true;
  for (std::thread& thread : threads) thread.join();
  return refused == 0 ? check_limit(calls_by(lookup)) : 1;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  if (words.empty()) fail("no route");
  const auto take = [&words] {
    std::string word = words.at(0);
    words.erase(words.begin());
    return word;
  };
  std::string name = take();
  const bool rows = name == "rows";
  if (rows) name = take();

  if (name == "deepbind") {
    // The library itself is linked against the driver; it does the checking.
    void* library = open_or_fail(words.at(0).c_str(), RTLD_NOW | RTLD_DEEPBIND);
    auto* check = reinterpret_cast<int (*)()>(dlsym(library, words.at(1).c_str()));
    return check == nullptr ? 1 : check();
  }
  if (name == "forked") {
    const pid_t child = fork();
    if (child == 0) _exit(check_limit(calls_by(make_route("soname", words).lookup)));
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
  }
  if (name == "forked_after_nvml") {
    // The parent becomes a tenant's process by NVML, which works in a child; then the child takes a
    // slot of its own.
    auto nvml = make_route("soname", words).nvml;
    auto* init = reinterpret_cast<nvmlReturn_t (*)()>(nvml("nvmlInit_v2"));
    if (init == nullptr || init() != NVML_SUCCESS) fail("nvmlInit_v2");
    const pid_t child = fork();
    if (child == 0) _exit(check_limit(calls_by(make_route("soname", words).lookup)));
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
  }
  if (name == "executed") {
    execl(argv[0], argv[0], "soname", static_cast<char*>(nullptr));
    fail("exec");
  }
  if (name == "devices") return show_devices(make_route("soname", words).lookup);
  if (name == "threads") return check_limit_in_threads(make_route("soname", words).lookup);
  if (name == "nvml") {
    auto* init =
        reinterpret_cast<nvmlReturn_t (*)()>(make_route("soname", words).nvml("nvmlInit_v2"));
    std::printf("%d\n%d\n", init(), init());
    return 0;
  }
  const Route route = make_route(name, words);
  return rows ? check_rows(route.lookup, route.nvml) : check_limit(calls_by(route.lookup));
}

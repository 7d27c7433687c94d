// SPDX-License-Identifier: Apache-2.0
// conformance [--section NAME | --all] : runs the sections, each in a process of its own, and
// prints their answers.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "conformance.h"

namespace conformance {

Driver cu;

namespace {
void* g_driver = nullptr;
void* g_nvml = nullptr;
CUdevice g_device = 0;

struct ProcessInfo {  // nvmlProcessInfo_t of nvmlDeviceGetComputeRunningProcesses_v3
  unsigned pid;
  unsigned long long used;
  unsigned gpu_instance, compute_instance;
};
}  // namespace

bool load_driver() {
  g_driver = dlopen("libcuda.so.1", RTLD_NOW);
  if (g_driver == nullptr) return false;
#define VGPU_DRIVER_FUNCTION(symbol, params, args) \
  cu.symbol = reinterpret_cast<decltype(cu.symbol)>(dlsym(g_driver, #symbol));
#include "vgpu/api/driver_functions.def"
#undef VGPU_DRIVER_FUNCTION
  return true;
}

void* driver_symbol(const char* name) { return dlsym(g_driver, name); }

void answer(const std::string& key, const std::string& value) {
  std::printf("%s %s\n", key.c_str(), value.empty() ? "-" : value.c_str());
  std::fflush(stdout);
}
void answer(const std::string& key, long long value) { answer(key, std::to_string(value)); }

void use_device() {
  CUcontext context = nullptr;
  if (cu.cuInit(0) != CUDA_SUCCESS || cu.cuDeviceGet(&g_device, 0) != CUDA_SUCCESS ||
      cu.cuDevicePrimaryCtxRetain(&context, g_device) != CUDA_SUCCESS ||
      cu.cuCtxSetCurrent(context) != CUDA_SUCCESS) {
    std::fprintf(stderr, "conformance: no usable device\n");
    std::exit(3);
  }
}
CUdevice device() { return g_device; }

std::size_t used_bytes() {
  std::size_t free_bytes = 0, total = 0;
  cu.cuMemGetInfo_v2(&free_bytes, &total);
  return total - free_bytes;
}

std::size_t process_bytes() {
  static const auto processes = [] {
    g_nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    if (g_nvml != nullptr) {
      if (auto init = reinterpret_cast<int (*)()>(dlsym(g_nvml, "nvmlInit_v2"))) init();
    }
    return g_nvml == nullptr ? nullptr
                             : reinterpret_cast<int (*)(void*, unsigned*, ProcessInfo*)>(
                                   dlsym(g_nvml, "nvmlDeviceGetComputeRunningProcesses_v3"));
  }();
  if (processes == nullptr) return 0;
  char bus_id[32] = {};
  cu.cuDeviceGetPCIBusId(bus_id, sizeof bus_id, g_device);
  void* handle = nullptr;
  auto by_bus = reinterpret_cast<int (*)(const char*, void**)>(
      dlsym(g_nvml, "nvmlDeviceGetHandleByPciBusId_v2"));
  if (by_bus == nullptr || by_bus(bus_id, &handle) != 0) return 0;
  std::vector<ProcessInfo> list(256);
  unsigned count = static_cast<unsigned>(list.size());
  if (processes(handle, &count, list.data()) != 0) return 0;
  for (unsigned i = 0; i < count; ++i) {
    if (list[i].pid == static_cast<unsigned>(getpid())) return list[i].used;
  }
  return 0;
}

long long growth_kib(const std::function<void()>& step) {
  const auto before = static_cast<long long>(used_bytes());
  step();
  return (static_cast<long long>(used_bytes()) - before) / static_cast<long long>(kKiB);
}

CUmodule load_ptx(const std::string& ptx) {
  CUmodule module = nullptr;
  const CUresult code = cu.cuModuleLoadData(&module, ptx.c_str());
  if (code != CUDA_SUCCESS) answer("module_load_failed", static_cast<long long>(code));
  return module;
}

std::string spin_ptx(const std::string& name, const std::string& extra_globals,
                     std::size_t local_bytes) {
  std::string local;
  std::string use_local;
  if (local_bytes > 0) {
    local = ".local .align 16 .b8 scratch[" + std::to_string(local_bytes) +
            "];\n.reg .b64 %l<4>;\n.reg .b32 %v<5>;\n";
    // Written where the clock says and read where the argument says, so that no compiler can drop
    // the array.
    const std::string mask = std::to_string(local_bytes - 4);
    use_local = "cvt.u32.u64 %v1, %t1;\nand.b32 %v1, %v1, " + mask +
                ";\ncvt.u64.u32 %l1, %v1;\nmov.u64 %l2, scratch;\nadd.u64 %l1, %l2, "
                "%l1;\nst.local.u32 [%l1], %v1;\n"
                "cvt.u32.u64 %v3, %t3;\nand.b32 %v3, %v3, " +
                mask +
                ";\ncvt.u64.u32 %l3, %v3;\nadd.u64 %l3, %l2, %l3;\nld.local.u32 %v2, "
                "[%l3];\nsetp.eq.u32 %p2, %v2, 12345678;\n@%p2 ret;\n";
  }
  return ".version 7.0\n.target sm_70\n.address_size 64\n" + extra_globals +
         "// vgpu-sim: spin_ns=param0\n"
         ".visible .entry " +
         name + "(.param .u64 ns)\n{\n.reg .pred %p<3>;\n.reg .b64 %t<5>;\n" + local +
         "ld.param.u64 %t3, [ns];\nmov.u64 %t1, %globaltimer;\n" + use_local +
         "again:\nmov.u64 %t2, %globaltimer;\nsub.u64 %t4, %t2, %t1;\nsetp.lt.u64 %p1, %t4, "
         "%t3;\n@%p1 bra again;\nret;\n}\n";
}

std::string run_section_with(const std::string& section, const char* variable, const char* value) {
  int channel[2];
  if (pipe(channel) != 0) return "no pipe";
  const pid_t child = fork();
  if (child == 0) {
    dup2(channel[1], STDOUT_FILENO);
    close(channel[0]);
    close(channel[1]);
    if (variable != nullptr) value != nullptr ? setenv(variable, value, 1) : unsetenv(variable);
    execl("/proc/self/exe", "conformance", "--section", section.c_str(),
          static_cast<char*>(nullptr));
    _exit(127);
  }
  close(channel[1]);
  std::string out;
  char buffer[4096];
  for (ssize_t got = 0; (got = read(channel[0], buffer, sizeof buffer)) > 0;)
    out.append(buffer, static_cast<std::size_t>(got));
  close(channel[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status))
    out += "section_" + section + ".signal " + std::to_string(WTERMSIG(status)) + "\n";
  if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
    out += "section_" + section + ".exit " + std::to_string(WEXITSTATUS(status)) + "\n";
  return out;
}

const Section kSections[] = {
    {"init", section_init, false},
    {"errors", section_errors, false},
    {"visible", section_visible, false},
    {"lookup", section_lookup, false},
    {"alloc", section_alloc, false},
    {"small_blocks", section_small_blocks, false},
    {"pitch", section_pitch, false},
    {"managed", section_managed, false},
    {"array", section_array, false},
    {"pool", section_pool, false},
    {"packing", section_packing, false},
    {"objects", section_objects, false},
    {"legacy", section_legacy, false},
    {"vmm", section_vmm, false},
    {"graph", section_graph, false},
    {"context", section_context, false},
    {"limit", section_limit, false},
    {"module", section_module, false},
    {"order", section_order, false},
    {"capture", section_capture, false},
    {"ipc", section_ipc, false},
    {"full", section_full, true},
    {"cost", section_cost, true},
    {"visible_child", section_visible_child, true},
    {"ipc_child", section_ipc_child, true},
};
const std::size_t kSectionCount = sizeof kSections / sizeof kSections[0];

}  // namespace conformance

int main(int argc, char** argv) {
  using namespace conformance;
  const std::string what = argc > 2 && std::strcmp(argv[1], "--section") == 0 ? argv[2] : "";
  if (what.empty()) {
    const bool all = argc > 1 && std::strcmp(argv[1], "--all") == 0;
    for (const Section& s : kSections) {
      if (s.on_request && !(all && std::strcmp(s.name, "full") == 0)) continue;
      std::fputs(run_section_with(s.name, nullptr, nullptr).c_str(), stdout);
      std::fflush(stdout);
    }
    return 0;
  }
  if (!load_driver()) {
    std::fprintf(stderr, "conformance: libcuda.so.1 can't be loaded: %s\n", dlerror());
    return 77;
  }
  for (const Section& s : kSections) {
    if (what == s.name) {
      s.run();
      return 0;
    }
  }
  std::fprintf(stderr, "conformance: no section '%s'\n", what.c_str());
  return 2;
}

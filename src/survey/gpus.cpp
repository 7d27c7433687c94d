// SPDX-License-Identifier: Apache-2.0
// NVML by dlopen, CUDA's order by a child process, and how people name GPUs; see gpus.h.
#include "vgpu/survey/gpus.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <map>
#include <span>
#include <string_view>

#include "vgpu/api/nvml_abi.h"
#include "vgpu/survey/problem.h"

namespace vgpu::survey {
namespace {

constexpr int kCudaOrderTimeoutMs =
    60'000;  // cuInit of many GPUs without persistence mode takes tens of seconds
constexpr std::size_t kMaxProcessesAsked = 4096;

bool is_file(const std::string& path) { return !path.empty() && access(path.c_str(), R_OK) == 0; }

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::string resolved(const std::string& path) {
  std::array<char, PATH_MAX> out{};
  return !path.empty() && realpath(path.c_str(), out.data()) != nullptr ? out.data() : path;
}

std::string own_folder() {
  std::array<char, 4096> path{};
  const ssize_t size = readlink("/proc/self/exe", path.data(), path.size() - 1);
  return size > 0 ? folder_of(std::string(path.data(), static_cast<std::size_t>(size))) : ".";
}

// The calls of NVML that the tool makes. A missing one is null: older drivers have fewer.
class Nvml {
 public:
  explicit Nvml(const std::string& library)
      : handle_(dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    if (handle_ == nullptr) error_ = dlerror();
  }
  ~Nvml() {
    if (started_) call<nvmlReturn_t()>("nvmlShutdown")();
    // Never dlclosed: NVML registers destructors of its own.
  }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  // Empty, or why not.
  std::string start() {
    if (handle_ == nullptr) return error_;
    auto* init = call<nvmlReturn_t()>("nvmlInit_v2");
    if (init == nullptr) return "it is no NVML (nvmlInit_v2 is missing)";
    const nvmlReturn_t result = init();
    if (result != NVML_SUCCESS) return error_text(result);
    started_ = true;
    return "";
  }

  template <class Function>
  Function* call(const char* name) const {
    return reinterpret_cast<Function*>(dlsym(handle_, name));
  }

  std::string error_text(nvmlReturn_t result) const {
    auto* text = call<const char*(nvmlReturn_t)>("nvmlErrorString");
    return text != nullptr ? text(result) : fmt::format("NVML error {}", static_cast<int>(result));
  }

 private:
  void* handle_;
  bool started_ = false;
  std::string error_;
};

template <std::size_t Size, class Function>
std::string text_of(Function* function, auto... leading) {
  std::array<char, Size> text{};
  if (function == nullptr || function(leading..., text.data(), Size) != NVML_SUCCESS) return "";
  return text.data();
}

void add_processes(const Nvml& nvml, const char* name, nvmlDevice_t device,
                   std::map<std::uint32_t, GpuProcess>& found) {
  auto* list = nvml.call<nvmlReturn_t(nvmlDevice_t, unsigned*, nvmlProcessInfo_t*)>(name);
  if (list == nullptr) return;
  std::vector<nvmlProcessInfo_t> infos(64);
  auto count = static_cast<unsigned>(infos.size());
  nvmlReturn_t result = list(device, &count, infos.data());
  while (result == NVML_ERROR_INSUFFICIENT_SIZE && infos.size() < kMaxProcessesAsked) {
    infos.resize(std::max<std::size_t>(infos.size() * 2, count + 16));
    count = static_cast<unsigned>(infos.size());
    result = list(device, &count, infos.data());
  }
  if (result != NVML_SUCCESS) return;
  constexpr auto kNotAvailable = static_cast<unsigned long long>(NVML_VALUE_NOT_AVAILABLE);
  for (const auto& info : std::span(infos).first(std::min<std::size_t>(count, infos.size()))) {
    auto& process = found[info.pid];
    process.pid = info.pid;
    if (info.usedGpuMemory != kNotAvailable) {
      process.used_bytes =
          std::max<std::uint64_t>(process.used_bytes.value_or(0), info.usedGpuMemory);
    }
  }
}

void read_mig(const Nvml& nvml, nvmlDevice_t device, Gpu& gpu) {
  auto* get_mode =
      nvml.call<nvmlReturn_t(nvmlDevice_t, unsigned*, unsigned*)>("nvmlDeviceGetMigMode");
  auto* get_most =
      nvml.call<nvmlReturn_t(nvmlDevice_t, unsigned*)>("nvmlDeviceGetMaxMigDeviceCount");
  auto* get_part = nvml.call<nvmlReturn_t(nvmlDevice_t, unsigned, nvmlDevice_t*)>(
      "nvmlDeviceGetMigDeviceHandleByIndex");
  unsigned now = 0, later = 0, most = 0;
  if (get_mode == nullptr || get_mode(device, &now, &later) != NVML_SUCCESS || now == 0) return;
  gpu.mig_enabled = true;
  if (get_most == nullptr || get_part == nullptr || get_most(device, &most) != NVML_SUCCESS) return;
  for (unsigned i = 0; i < std::min(most, kMostMigDevices); ++i) {
    nvmlDevice_t part = nullptr;
    if (get_part(device, i, &part) == NVML_SUCCESS) ++gpu.mig_devices;
  }
}

Gpu read_gpu(const Nvml& nvml, nvmlDevice_t device, std::uint32_t index, bool with_processes) {
  Gpu gpu;
  gpu.nvml_index = index;
  using GetText = nvmlReturn_t(nvmlDevice_t, char*, unsigned);
  gpu.name =
      text_of<NVML_DEVICE_NAME_V2_BUFFER_SIZE>(nvml.call<GetText>("nvmlDeviceGetName"), device);
  const std::string uuid =
      text_of<NVML_DEVICE_UUID_V2_BUFFER_SIZE>(nvml.call<GetText>("nvmlDeviceGetUUID"), device);
  gpu.uuid = GpuUuid::parse(uuid).value_or(GpuUuid{});
  nvmlPciInfo_t pci{};
  auto* get_pci = nvml.call<nvmlReturn_t(nvmlDevice_t, nvmlPciInfo_t*)>("nvmlDeviceGetPciInfo_v3");
  if (get_pci != nullptr && get_pci(device, &pci) == NVML_SUCCESS) gpu.pci_bus_id = pci.busId;
  nvmlMemory_t memory{};
  auto* get_memory =
      nvml.call<nvmlReturn_t(nvmlDevice_t, nvmlMemory_t*)>("nvmlDeviceGetMemoryInfo");
  if (get_memory != nullptr && get_memory(device, &memory) == NVML_SUCCESS) {
    gpu.total_bytes = memory.total;
    gpu.used_bytes = memory.used;
  }
  nvmlUtilization_t rates{};
  auto* get_rates =
      nvml.call<nvmlReturn_t(nvmlDevice_t, nvmlUtilization_t*)>("nvmlDeviceGetUtilizationRates");
  if (get_rates != nullptr && get_rates(device, &rates) == NVML_SUCCESS)
    gpu.busy_percent = rates.gpu;
  read_mig(nvml, device, gpu);
  if (with_processes) {
    std::map<std::uint32_t, GpuProcess> found;
    for (const char* name : kNvmlProcessLists) add_processes(nvml, name, device, found);
    for (const auto& [pid, process] : found) gpu.processes.push_back(process);
  }
  return gpu;
}

std::string missing_driver(const std::string& why, bool simulated) {
  if (simulated) return fmt::format("the simulated GPU can't be loaded: {}", why);
  return fmt::format("no NVIDIA driver here ({})", why);
}

// The child's side of cuda_order: writes 16 bytes a device. No return.
[[noreturn]] void write_cuda_order(const std::string& library, int out) {
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) _exit(1);
  auto* init = reinterpret_cast<int (*)(unsigned)>(dlsym(handle, "cuInit"));
  auto* count_of = reinterpret_cast<int (*)(int*)>(dlsym(handle, "cuDeviceGetCount"));
  auto* device_of = reinterpret_cast<int (*)(int*, int)>(dlsym(handle, "cuDeviceGet"));
  auto* uuid_of = reinterpret_cast<int (*)(void*, int)>(dlsym(handle, "cuDeviceGetUuid"));
  int count = 0;
  if (init == nullptr || count_of == nullptr || device_of == nullptr || uuid_of == nullptr)
    _exit(1);
  if (init(0) != 0 || count_of(&count) != 0) _exit(1);
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    GpuUuid uuid;
    int device = 0;
    if (device_of(&device, ordinal) != 0 || uuid_of(uuid.bytes.data(), device) != 0) _exit(1);
    if (write(out, uuid.bytes.data(), uuid.bytes.size()) != static_cast<ssize_t>(uuid.bytes.size()))
      _exit(1);
  }
  _exit(0);
}

std::vector<GpuUuid> read_cuda_order(pid_t child, int in) {
  std::vector<GpuUuid> order;
  GpuUuid uuid;
  pollfd waiting{in, POLLIN, 0};
  while (poll(&waiting, 1, kCudaOrderTimeoutMs) > 0 &&
         read(in, uuid.bytes.data(), uuid.bytes.size()) ==
             static_cast<ssize_t>(uuid.bytes.size())) {
    order.push_back(uuid);
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  return order;
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), GpuUuid::lower);
  return out;
}

std::size_t find_gpu(const Driver& driver, const std::string& name, int exit_code) {
  const std::string known =
      driver.gpus.size() == 1 ? "0" : fmt::format("0 to {}", driver.gpus.size() - 1);
  unsigned index = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
  if (error == std::errc() && end == name.data() + name.size()) {
    for (std::size_t i = 0; i < driver.gpus.size(); ++i) {
      if (driver.gpus[i].nvml_index == index) return i;
    }
    throw Problem(exit_code, "VG1012",
                  fmt::format("--gpu: there is no GPU {} here, only {}", name, known),
                  "vgpu doctor");
  }
  std::string wanted = lower(name);
  if (!wanted.starts_with("gpu-")) wanted = "gpu-" + wanted;
  std::vector<std::size_t> matches;
  for (std::size_t i = 0; i < driver.gpus.size(); ++i) {
    if (driver.gpus[i].uuid_text().size() >= wanted.size() &&
        lower(driver.gpus[i].uuid_text()).starts_with(wanted)) {
      matches.push_back(i);
    }
  }
  if (matches.size() == 1 && wanted.size() > 4) return matches.front();
  if (matches.size() > 1) {
    throw Problem(
        exit_code, "VG1013",
        fmt::format("--gpu: \"{}\" is the beginning of {} GPUs' UUIDs; more of it is needed", name,
                    matches.size()),
        "vgpu doctor");
  }
  throw Problem(exit_code, "VG1012",
                fmt::format("--gpu: no GPU here is called \"{}\"; an index ({}), a UUID, the "
                            "beginning of one, or all",
                            name, known),
                "vgpu doctor");
}

}  // namespace

Installation find_installation() {
  Installation found;
  const std::string own = own_folder();
  const std::array<std::string, 2> folders = {own, own + "/../lib/vgpu"};
  const char* variable = std::getenv("VGPU_LIBRARY");
  if (variable != nullptr && *variable != '\0') {
    found.searched = fmt::format("VGPU_LIBRARY={}", variable);
    if (is_file(variable)) found.limiter = variable;
  } else {
    found.searched = fmt::format("{} and {}", folders[0], folders[1]);
    for (const auto& folder : folders) {
      if (found.limiter.empty() && is_file(folder + "/libcuda_limiter.so"))
        found.limiter = folder + "/libcuda_limiter.so";
    }
  }
  found.limiter = resolved(found.limiter);
  for (const auto& folder :
       {found.limiter.empty() ? folders[1] : folder_of(found.limiter), folders[0], folders[1]}) {
    if (found.add_path.empty() && is_file(folder + "/libadd_path.so"))
      found.add_path = folder + "/libadd_path.so";
    if (found.simulated_folder.empty() && is_file(folder + "/simulated/libnvidia-ml.so.1")) {
      found.simulated_folder = folder + "/simulated";
    }
  }
  found.add_path = resolved(found.add_path);
  found.simulated_folder = resolved(found.simulated_folder);
  return found;
}

bool simulation_wanted(bool flag) {
  const char* variable = std::getenv("VGPU_SIMULATED");
  const std::string value = variable != nullptr ? lower(variable) : "";
  return flag ||
         (!value.empty() && value != "0" && value != "false" && value != "no" && value != "off");
}

std::string nvml_library(const Installation& installation, bool simulated) {
  if (!simulated) return "libnvidia-ml.so.1";
  return installation.simulated_folder.empty()
             ? ""
             : installation.simulated_folder + "/libnvidia-ml.so.1";
}

class DriverKept::Library : public Nvml {
 public:
  using Nvml::Nvml;
};

DriverKept::DriverKept(const Installation& installation, bool simulated) {
  const std::string library = nvml_library(installation, simulated);
  if (library.empty()) return;
  library_ = std::make_unique<Library>(library);
  if (!library_->start().empty()) library_.reset();
}

DriverKept::~DriverKept() = default;

Driver read_driver(const Installation& installation, bool simulated, bool with_processes) {
  Driver driver;
  driver.simulated = simulated;
  driver.library = nvml_library(installation, simulated);
  if (driver.library.empty()) {
    driver.why =
        "the simulated GPU is not installed (no simulated/libnvidia-ml.so.1 beside the limiter)";
    return driver;
  }
  const auto nvml = std::make_unique<Nvml>(driver.library);
  if (const std::string why = nvml->start(); !why.empty()) {
    driver.why = missing_driver(why, simulated);
    return driver;
  }
  using GetText = nvmlReturn_t(char*, unsigned);
  driver.version = text_of<NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE>(
      nvml->call<GetText>("nvmlSystemGetDriverVersion"));
  int cuda = 0;
  auto* get_cuda = nvml->call<nvmlReturn_t(int*)>("nvmlSystemGetCudaDriverVersion_v2");
  if (get_cuda != nullptr && get_cuda(&cuda) == NVML_SUCCESS) {
    driver.cuda_version = fmt::format("{}.{}", cuda / 1000, cuda % 1000 / 10);
  }
  unsigned count = 0;
  auto* get_count = nvml->call<nvmlReturn_t(unsigned*)>("nvmlDeviceGetCount_v2");
  auto* get_device =
      nvml->call<nvmlReturn_t(unsigned, nvmlDevice_t*)>("nvmlDeviceGetHandleByIndex_v2");
  if (get_count == nullptr || get_device == nullptr || get_count(&count) != NVML_SUCCESS) {
    driver.why = missing_driver("NVML does not list GPUs", simulated);
    return driver;
  }
  for (unsigned index = 0; index < count; ++index) {
    nvmlDevice_t device = nullptr;
    if (get_device(index, &device) != NVML_SUCCESS) continue;  // lost, or not ours to see
    driver.gpus.push_back(read_gpu(*nvml, device, index, with_processes));
  }
  driver.available = true;
  return driver;
}

std::vector<GpuUuid> cuda_order(const Installation& installation, const Driver& driver) {
  std::vector<GpuUuid> order;
  const std::string library =
      driver.simulated ? installation.simulated_folder + "/libcuda.so.1" : "libcuda.so.1";
  std::array<int, 2> ends{};
  if (driver.gpus.size() > 1 && pipe2(ends.data(), O_CLOEXEC) == 0) {
    const pid_t child = fork();
    if (child == 0) {
      close(ends[0]);
      unsetenv("CUDA_VISIBLE_DEVICES");
      write_cuda_order(library, ends[1]);
    }
    close(ends[1]);
    if (child > 0) order = read_cuda_order(child, ends[0]);
    close(ends[0]);
  }
  for (const auto& gpu : driver.gpus) {
    if (std::find(order.begin(), order.end(), gpu.uuid) == order.end()) order.push_back(gpu.uuid);
  }
  return order;
}

std::string mig_text(const Gpu& gpu) {
  if (!gpu.mig_enabled) return "";
  return fmt::format("MIG mode, {} MIG device{}", gpu.mig_devices, gpu.mig_devices == 1 ? "" : "s");
}

std::vector<std::size_t> select_gpus(const Driver& driver, const std::string& list, int exit_code) {
  std::vector<bool> chosen(driver.gpus.size());
  std::string_view rest = list;
  while (true) {
    const auto comma = rest.find(',');
    std::string name(rest.substr(0, comma));
    name.erase(0, name.find_first_not_of(' '));
    name.erase(name.find_last_not_of(' ') + 1);
    if (name.empty()) {
      throw Problem(
          exit_code, "VG1011",
          fmt::format("--gpu: \"{}\" has an empty place; write GPUs with commas between: 0,2",
                      list));
    }
    if (lower(name) == "all") {
      chosen.assign(chosen.size(), true);
    } else {
      chosen[find_gpu(driver, name, exit_code)] = true;
    }
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  std::vector<std::size_t> positions;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    if (chosen[i]) positions.push_back(i);
  }
  return positions;
}

}  // namespace vgpu::survey

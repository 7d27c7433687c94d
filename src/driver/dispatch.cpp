// SPDX-License-Identifier: Apache-2.0
// Which library is the real one: what the program itself uses if it is in the process already (two
// drivers in one process don't know each other's memory), else the path that TF_CUDA_LIB_PATH or
// TF_NVML_LIB_PATH names, else what the dynamic linker finds under the usual name. Nothing waits
// here but the dynamic linker: threads that come at the same time each fill a table of their own,
// one is published.
#include "vgpu/driver/dispatch.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

#include "vgpu/driver/elf_image.h"
#include "vgpu/driver/real_loader.h"

namespace vgpu::driver {
namespace {

// The image of the object that has `address`.
bool image_with(const void* address, ElfImage& image) {
  return for_each_object([&](const LoadedObject& object) {
    if (!object.contains(address)) return false;
    image = object.image;
    return true;
  });
}

// Opens what `file` names, or what it brings with it that has `marker`; the handle is kept for
// good.
bool open_library(const char* file, const char* marker, ElfImage& image, int mode = 0) {
  const RealLoader loader = real_loader();
  if (loader.dlopen == nullptr || loader.dlsym == nullptr) return false;
  void* object = loader.dlopen(file, mode | RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
  const void* address = object == nullptr ? nullptr : loader.dlsym(object, marker);
  return address != nullptr && image_with(address, image);
}

bool find_loaded(Library library, const char* marker, ElfImage& image) {
  char path[512] = "";
  const bool found = for_each_object([&](const LoadedObject& object) {
    if (library_of(object.image.soname()) != library || object.image.find(marker) == nullptr)
      return false;
    image = object.image;
    if (std::strlen(object.path) < sizeof(path)) std::strcpy(path, object.path);
    return true;
  });
  // Another thread may be opening it: it is in the list before its references are bound, and until
  // then no function of it can be called. Opening it too waits for that thread.
  return found && (*path == '\0' || open_library(path, marker, image, RTLD_NOLOAD));
}

// Fills and publishes a table once. Each loader fills one of its own, since a table that is
// published is read without a lock; those that come second give theirs back.
template <class Table>
class Loading {
 public:
  const Table& publish(std::atomic<const Table*>& published, bool (*load)(Table&)) {
    void* memory =
        mmap(nullptr, sizeof(Table), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return none_;
    auto* mine = new (memory) Table;
    const Table* winner = nullptr;
    if (load(*mine) && published.compare_exchange_strong(winner, mine, std::memory_order_acq_rel,
                                                         std::memory_order_acquire)) {
      return *mine;
    }
    munmap(memory, sizeof(Table));
    return winner == nullptr ? none_ : *winner;
  }
  const Table& none() const { return none_; }

 private:
  const Table none_{};
};

bool locate(Library library, const char* variable, const char* marker, const char* usual_name,
            ElfImage& image) {
  if (find_loaded(library, marker, image)) return true;
  const char* path = std::getenv(variable);
  return (path != nullptr && *path != '\0' && open_library(path, marker, image)) ||
         open_library(usual_name, marker, image);
}

bool fill_driver(DriverDispatch& table) {
  ElfImage image;
  if (!locate(Library::cuda, "TF_CUDA_LIB_PATH", "cuInit", "libcuda.so.1", image)) return false;
#define VGPU_DRIVER_FUNCTION(symbol, params, args) \
  table.symbol = reinterpret_cast<decltype(table.symbol)>(image.find(#symbol));
#include "vgpu/api/driver_functions.def"
#undef VGPU_DRIVER_FUNCTION
  return true;
}

bool fill_nvml(NvmlDispatch& table) {
  ElfImage image;
  if (!locate(Library::nvml, "TF_NVML_LIB_PATH", "nvmlInit_v2", "libnvidia-ml.so.1", image))
    return false;
#define VGPU_NVML_HOOK(symbol, family, params, args) \
  table.symbol = reinterpret_cast<decltype(table.symbol)>(image.find(#symbol));
#include "vgpu/api/nvml_hooks.def"
#undef VGPU_NVML_HOOK
#define VGPU_NVML_CALL(symbol, params) \
  table.symbol = reinterpret_cast<decltype(table.symbol)>(image.find(#symbol));
#include "vgpu/driver/nvml_calls.def"
#undef VGPU_NVML_CALL
  return true;
}

Loading<DriverDispatch> g_loading_driver;
Loading<NvmlDispatch> g_loading_nvml;

}  // namespace

namespace internal {

std::atomic<const DriverDispatch*> g_driver{nullptr};
std::atomic<const NvmlDispatch*> g_nvml{nullptr};

const DriverDispatch& load_driver() { return g_loading_driver.publish(g_driver, fill_driver); }
const NvmlDispatch& load_nvml() { return g_loading_nvml.publish(g_nvml, fill_nvml); }

}  // namespace internal

bool has_driver() { return &real() != &g_loading_driver.none(); }
bool has_nvml() { return &real_nvml() != &g_loading_nvml.none(); }

}  // namespace vgpu::driver

// SPDX-License-Identifier: Apache-2.0
// Which library is the real one: what the program itself uses if it is in the process already (two
// drivers in one process don't know each other's memory), else the path that TF_CUDA_LIB_PATH or
// TF_NVML_LIB_PATH names, else what the dynamic linker finds under the usual name. Nothing waits
// here: threads that come at the same time each fill a table of their own, one is published.
#include "vgpu/driver/dispatch.h"

#include <atomic>
#include <cstdlib>

#include "vgpu/driver/elf_image.h"
#include "vgpu/driver/real_loader.h"

namespace vgpu::driver {
namespace {

// Opens what `file` names and gives the image of it; the handle is kept for good.
bool open_library(const char* file, ElfImage& image) {
  const RealLoader& loader = real_loader();
  if (loader.dlopen == nullptr) return false;
  auto* object =
      static_cast<link_map*>(loader.dlopen(file, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE));
  if (object == nullptr) return false;
  image = ElfImage(object->l_addr, object->l_ld);
  return true;
}

bool find_loaded(Library library, const char* marker, ElfImage& image) {
  return for_each_object([&](const LoadedObject& object) {
    if (library_of(object.image.soname()) != library || object.image.find(marker) == nullptr)
      return false;
    image = object.image;
    return true;
  });
}

// Fills and publishes a table once. A loader takes a table that nobody else writes; more loaders at
// once than there are tables share the last, harmlessly, since all of them write the same values.
template <class Table>
class Loading {
 public:
  const Table& publish(std::atomic<const Table*>& published, bool (*load)(Table&)) {
    const unsigned turn = next_.fetch_add(1, std::memory_order_relaxed);
    Table& mine = tables_[turn < kTables ? turn : kTables - 1];
    if (!load(mine)) {
      next_.fetch_sub(1, std::memory_order_relaxed);
      return none_;
    }
    const Table* expected = nullptr;
    published.compare_exchange_strong(expected, &mine, std::memory_order_acq_rel,
                                      std::memory_order_acquire);
    return expected == nullptr ? mine : *expected;
  }
  const Table& none() const { return none_; }

 private:
  static constexpr unsigned kTables = 4;
  std::atomic<unsigned> next_{0};
  Table tables_[kTables];
  Table none_;
};

bool locate(Library library, const char* variable, const char* marker, const char* usual_name,
            ElfImage& image) {
  if (find_loaded(library, marker, image)) return true;
  const char* path = std::getenv(variable);
  return (path != nullptr && *path != '\0' && open_library(path, image)) ||
         open_library(usual_name, image);
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

// SPDX-License-Identifier: Apache-2.0
// Which library is the real one: the path that TF_CUDA_LIB_PATH or TF_NVML_LIB_PATH names, else one
// that is in the process already (what the program itself uses), else what the dynamic linker finds
// under the usual name. Nothing waits here: threads that come at the same time each fill a table of
// their own, one of them is published.
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

template <class Table>
class Published {
 public:
  template <class Load>
  const Table* get(Load&& load) {
    const Table* table =
        published_.load(std::memory_order_acquire);  // pairs with the release below
    return table != nullptr ? table : publish(load);
  }

 private:
  template <class Load>
  [[gnu::noinline, gnu::cold]] const Table* publish(Load&& load) {
    // A loader takes a table that nobody else writes. More than there are tables at once: the last
    // ones share one, which is harmless since all of them write the same values.
    const unsigned turn = next_.fetch_add(1, std::memory_order_relaxed);
    Table& mine = tables_[turn < kTables ? turn : kTables - 1];
    if (!load(mine)) {
      next_.fetch_sub(1, std::memory_order_relaxed);
      return nullptr;
    }
    const Table* expected = nullptr;
    published_.compare_exchange_strong(expected, &mine, std::memory_order_acq_rel,
                                       std::memory_order_acquire);
    return published_.load(std::memory_order_acquire);
  }

  static constexpr unsigned kTables = 4;
  std::atomic<const Table*> published_{nullptr};
  std::atomic<unsigned> next_{0};
  Table tables_[kTables];
};

bool locate(Library library, const char* variable, const char* marker, const char* usual_name,
            ElfImage& image) {
  if (const char* path = std::getenv(variable);
      path != nullptr && *path != '\0' && open_library(path, image)) {
    return true;
  }
  return find_loaded(library, marker, image) || open_library(usual_name, image);
}

bool load_driver(DriverDispatch& table) {
  ElfImage image;
  if (!locate(Library::cuda, "TF_CUDA_LIB_PATH", "cuInit", "libcuda.so.1", image)) return false;
#define VGPU_DRIVER_FUNCTION(symbol, params, args) \
  table.symbol = reinterpret_cast<decltype(table.symbol)>(image.find(#symbol));
#include "vgpu/api/driver_functions.def"
#undef VGPU_DRIVER_FUNCTION
  return true;
}

bool load_nvml(NvmlDispatch& table) {
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

Published<DriverDispatch> g_driver;
Published<NvmlDispatch> g_nvml;
const DriverDispatch kNoDriver{};
const NvmlDispatch kNoNvml{};

}  // namespace

const DriverDispatch& real() {
  const DriverDispatch* table = g_driver.get(load_driver);
  return table == nullptr ? kNoDriver : *table;
}

const NvmlDispatch& real_nvml() {
  const NvmlDispatch* table = g_nvml.get(load_nvml);
  return table == nullptr ? kNoNvml : *table;
}

bool has_driver() { return &real() != &kNoDriver; }
bool has_nvml() { return &real_nvml() != &kNoNvml; }

}  // namespace vgpu::driver

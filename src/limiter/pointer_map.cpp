// SPDX-License-Identifier: Apache-2.0
#include "pointer_map.h"

#include <atomic>
#include <cstdint>
#include <cstring>

#include "exports.h"
#include "vgpu/driver/dispatch.h"
#include "vgpu/driver/real_loader.h"

namespace vgpu::limiter {
namespace {

using driver::Library;
using driver::LoadedObject;

const HookedName kHooked[] = {
#define VGPU_HOOK(symbol, family, since, params, args) \
  {#symbol, Library::cuda, reinterpret_cast<void*>(&VGPU_EXPORTED(symbol))},
#include "vgpu/api/driver_hooks.def"
#undef VGPU_HOOK
#define VGPU_NVML_HOOK(symbol, family, params, args) \
  {#symbol, Library::nvml, reinterpret_cast<void*>(&VGPU_EXPORTED(symbol))},
#include "vgpu/api/nvml_hooks.def"
#undef VGPU_NVML_HOOK
};
constexpr std::size_t kHookedCount = sizeof(kHooked) / sizeof(kHooked[0]);

// Open addressing. An entry goes from free (address 0) to taken by CAS, then gets its hook; both
// never change again. A reader that sees the address without the hook takes it for a miss and
// enters the library itself.
constexpr std::size_t kEntries = 8192;
static_assert(kHookedCount * 8 < kEntries, "room for several copies of the driver");
struct Entry {
  std::atomic<std::uintptr_t> address;
  std::atomic<void*> hook;
};
Entry g_entries[kEntries];

std::size_t slot_of(std::uintptr_t address) {
  return static_cast<std::size_t>((address * 0x9e3779b97f4a7c15ULL) >> 51);  // the top 13 bits
}
static_assert(kEntries == std::size_t{1} << (64 - 51));

void* find(std::uintptr_t address) {
  for (std::size_t slot = slot_of(address);; slot = (slot + 1) % kEntries) {
    const std::uintptr_t there = g_entries[slot].address.load(std::memory_order_relaxed);
    if (there == address) return g_entries[slot].hook.load(std::memory_order_relaxed);
    if (there == 0) return nullptr;
  }
}

void enter(std::uintptr_t address, void* hook) {
  for (std::size_t slot = slot_of(address);; slot = (slot + 1) % kEntries) {
    std::uintptr_t there = 0;
    // Of two names with one address the first row's hook stays, whichever thread comes first.
    if (g_entries[slot].address.compare_exchange_strong(there, address,
                                                        std::memory_order_relaxed) ||
        there == address) {
      void* none = nullptr;
      g_entries[slot].hook.compare_exchange_strong(none, hook, std::memory_order_relaxed);
      return;
    }
  }
}

// The libraries that are entered. `complete` is stored (release) after every entry and loaded
// (acquire) by readers.
struct KnownLibrary {
  std::atomic<std::uintptr_t> low;  // 0: free; taken by CAS
  std::atomic<std::uintptr_t> high;
  std::atomic<Library> kind;
  std::atomic<bool> complete;

  bool contains(const void* address) const {
    const auto at = reinterpret_cast<std::uintptr_t>(address);
    return complete.load(std::memory_order_acquire) && at >= low.load(std::memory_order_relaxed) &&
           at < high.load(std::memory_order_relaxed);
  }
};
constexpr std::size_t kMaxLibraries = kEntries / (kHookedCount * 2);
KnownLibrary g_libraries[kMaxLibraries];

void enter_library(const LoadedObject& object, Library kind) {
  for (KnownLibrary& known : g_libraries) {
    std::uintptr_t low = 0;
    if (!known.low.compare_exchange_strong(low, object.low, std::memory_order_relaxed) &&
        low != object.low)
      continue;
    if (known.complete.load(std::memory_order_acquire)) return;
    for (const HookedName& row : kHooked) {
      if (row.library != kind) continue;
      void* address = object.image.find(row.name);
      if (address != nullptr) enter(reinterpret_cast<std::uintptr_t>(address), row.hook);
    }
    known.high.store(object.high, std::memory_order_relaxed);
    known.kind.store(kind, std::memory_order_relaxed);
    known.complete.store(true, std::memory_order_release);
    return;
  }
}

const KnownLibrary* library_with(const void* address) {
  for (const KnownLibrary& known : g_libraries) {
    if (known.low.load(std::memory_order_relaxed) == 0) return nullptr;
    if (known.contains(address)) return &known;
  }
  return nullptr;
}

// An entered library must never be unmapped: something else could get its addresses.
void pin(const char* path) {
  const driver::RealLoader loader = driver::real_loader();
  if (loader.dlopen != nullptr && *path != '\0')
    loader.dlopen(path, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

}  // namespace

bool is_in_real_library(const void* address) { return library_with(address) != nullptr; }

void* hook_for(void* address) {
  if (address == nullptr) return nullptr;
  if (void* hook = find(reinterpret_cast<std::uintptr_t>(address)); hook != nullptr) return hook;
  if (is_in_real_library(address)) return nullptr;

  char path[512] = "";
  const bool entered = driver::for_each_object([&](const LoadedObject& object) {
    if (!object.contains(address)) return false;
    const Library kind = driver::library_of(object.image.soname());
    if (kind == Library::none) return true;
    enter_library(object, kind);
    if (std::strlen(object.path) < sizeof(path)) std::strcpy(path, object.path);
    return true;
  });
  if (!entered || *path == '\0') return nullptr;
  pin(path);
  return find(reinterpret_cast<std::uintptr_t>(address));
}

void* known_hook_for(const void* address) {
  return address == nullptr ? nullptr : find(reinterpret_cast<std::uintptr_t>(address));
}

void enter_loaded_libraries() {
  // Entering pins, which opens: not while the list of objects is held.
  constexpr std::size_t kMost = 16;
  void* markers[kMost];
  std::size_t count = 0;
  driver::for_each_object([&](const LoadedObject& object) {
    const Library kind = driver::library_of(object.image.soname());
    if (kind == Library::none) return false;
    void* marker = object.image.find(kind == Library::cuda ? "cuInit" : "nvmlInit_v2");
    if (marker != nullptr) markers[count++] = marker;
    return count == kMost;
  });
  for (std::size_t i = 0; i < count; ++i) hook_for(markers[i]);
}

void* in_first_copy(void* address, const char* name) {
  const KnownLibrary* library = library_with(address);
  if (library == nullptr) return nullptr;
  const void* marker = library->kind.load(std::memory_order_relaxed) == Library::nvml
                           ? reinterpret_cast<const void*>(real_nvml().nvmlInit_v2)
                           : reinterpret_cast<const void*>(real().cuInit);
  if (marker == nullptr || library->contains(marker)) return nullptr;
  void* found = nullptr;
  driver::for_each_object([&](const LoadedObject& object) {
    if (!object.contains(marker)) return false;
    found = object.image.find(name);
    return true;
  });
  return found;
}

void* hook_named(const char* name) {
  for (const HookedName& row : kHooked) {
    if (std::strcmp(row.name, name) == 0) return row.hook;
  }
  return nullptr;
}

const HookedName* hooked_names(std::size_t& count) {
  count = kHookedCount;
  return kHooked;
}

}  // namespace vgpu::limiter

// SPDX-License-Identifier: Apache-2.0
// Birth of the simulated driver: cuInit, which devices CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER
// leave and in what order, and the way into every call. Nothing is created before cuInit, no thread
// before the first work.
#include "driver.h"

#include <cctype>
#include <cstdlib>
#include <cstring>

#include "vgpu/sim/mig.h"

namespace vgpu::sim {
namespace {

// What strtoul would take of the text's beginning, or -1.
long leading_number(std::string_view text) {
  std::size_t at = 0;
  if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
  const std::size_t digits = at;
  while (at < text.size() && text[at] >= '0' && text[at] <= '9' && at - digits < 9) ++at;
  if (at == digits) return -1;
  return std::strtol(std::string(text.substr(0, at)).c_str(), nullptr, 10);
}

// Whether a text names a UUID: "GPU-" and the first digits of it, in any case; what goes beyond a
// whole UUID is not looked at.
bool names(std::string_view text, const GpuUuid& uuid) {
  const auto whole = uuid.text();
  const std::string_view all(whole.data(), GpuUuid::kTextSize);
  text = text.substr(0, all.size());
  if (text.size() <= 4 || !text.starts_with("GPU-")) return false;
  for (std::size_t i = 4; i < text.size(); ++i) {
    if (GpuUuid::lower(text[i]) != all[i]) return false;
  }
  return true;
}

// The MIG device that a list names which begins with "MIG-": a program uses one at most.
CUresult visible_mig(std::string_view list, const DeviceState& state, std::vector<int>& chosen,
                     std::optional<GpuUuid>& mig) {
  const std::string_view name = list.substr(0, list.find(','));
  for (const DeviceInfo& info : state.devices()) {
    const auto devices = mig_devices(state, static_cast<unsigned>(info.index));
    for (std::size_t i = 0; devices && i < devices->size(); ++i) {
      if ((*devices)[i].uuid_text() != name) continue;
      chosen = {info.index};
      mig = (*devices)[i].uuid;
      return CUDA_SUCCESS;
    }
  }
  return CUDA_ERROR_NO_DEVICE;
}

// The positions in `order` that the variable leaves, in its own order: all numbers, or all UUIDs,
// as the first entry is. The first entry that names no device ends the list; one that comes twice
// spoils it.
CUresult visible(const std::vector<int>& order, const DeviceState& state, std::vector<int>& chosen,
                 std::optional<GpuUuid>& mig) {
  const char* variable = std::getenv("CUDA_VISIBLE_DEVICES");
  if (variable == nullptr) {
    chosen = order;
    return CUDA_SUCCESS;
  }
  std::string_view rest = variable;
  if (rest.starts_with("MIG-")) return visible_mig(rest, state, chosen, mig);
  const bool by_uuid = rest.starts_with("GPU-");
  bool more = !rest.empty();
  while (more) {
    const std::size_t comma = rest.find(',');
    std::string_view text = rest.substr(0, comma);
    more = comma != std::string_view::npos;
    if (more) rest.remove_prefix(comma + 1);
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0)
      text.remove_suffix(1);
    int index = -1;
    if (by_uuid) {
      int matches = 0;
      for (const int candidate : order) {
        if (!names(text, state.devices()[static_cast<std::size_t>(candidate)].uuid)) continue;
        index = candidate;
        ++matches;
      }
      if (matches != 1) break;
    } else {
      while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())) != 0)
        text.remove_prefix(1);
      const long number = leading_number(text);
      if (number < 0 || number >= static_cast<long>(order.size())) break;
      index = order[static_cast<std::size_t>(number)];
    }
    for (const int before : chosen) {
      if (before == index) return CUDA_ERROR_INVALID_DEVICE;
    }
    chosen.push_back(index);
  }
  return chosen.empty() ? CUDA_ERROR_NO_DEVICE : CUDA_SUCCESS;
}

}  // namespace

Driver& Driver::get() {
  static auto* driver = new Driver;  // never destroyed: its threads may outlive static destructors
  return *driver;
}

CUresult Driver::initialise() {
  if (ready.load(std::memory_order_acquire)) return CUDA_SUCCESS;
  state = DeviceState::instance();
  if (state == nullptr) return CUDA_ERROR_NO_DEVICE;
  const char* order_name = std::getenv("CUDA_DEVICE_ORDER");
  const bool by_pci = order_name != nullptr && std::strcmp(order_name, "PCI_BUS_ID") == 0;
  std::vector<int> chosen;
  std::optional<GpuUuid> mig;
  const CUresult seen = visible(state->cuda_order(by_pci), *state, chosen, mig);
  if (seen != CUDA_SUCCESS) return seen;
  if (!state->claim()) return CUDA_ERROR_OUT_OF_MEMORY;
  for (const int index : chosen) {
    auto device = std::make_unique<Device>();
    device->info = &state->devices()[static_cast<std::size_t>(index)];
    device->ordinal = static_cast<int>(devices.size());
    device->mig = mig;
    devices.push_back(std::move(device));
  }
  pthread_atfork(nullptr, nullptr,
                 [] { Driver::get().forked.store(true, std::memory_order_relaxed); });
  ready.store(true, std::memory_order_release);
  return CUDA_SUCCESS;
}

Device* Driver::device(CUdevice ordinal) {
  if (ordinal < 0 || static_cast<std::size_t>(ordinal) >= devices.size()) return nullptr;
  return devices[static_cast<std::size_t>(ordinal)].get();
}

Allocation* Driver::find(std::uint64_t address) {
  auto at = allocations.upper_bound(address);
  if (at == allocations.begin()) return nullptr;
  --at;
  Allocation& allocation = at->second;
  return address < allocation.base + std::max<std::uint64_t>(allocation.bytes, 1) ? &allocation
                                                                                  : nullptr;
}

Allocation* Driver::find(std::uint64_t address, std::uint64_t bytes) {
  Allocation* allocation = find(address);
  if (allocation == nullptr || bytes > allocation->base + allocation->bytes - address)
    return nullptr;
  return allocation;
}

bool Driver::accessible(std::uint64_t address, std::uint64_t bytes) {
  for (;;) {
    Allocation* allocation = find(address);
    if (allocation == nullptr) return false;
    if (allocation->kind == Kind::mapping &&
        allocation->flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
      return false;
    const std::uint64_t rest = allocation->base + allocation->bytes - address;
    if (bytes <= rest) return true;
    if (allocation->kind != Kind::mapping) return false;
    address += rest;
    bytes -= rest;
  }
}

std::vector<CUcontext>& context_stack() {
  thread_local std::vector<CUcontext> stack;
  return stack;
}

CUcontext current_context() {
  auto& stack = context_stack();
  return stack.empty() ? nullptr : stack.back();
}

Call::Call(Needs needs) : driver(Driver::get()) {
  if (!driver.ready.load(std::memory_order_acquire) ||
      driver.forked.load(std::memory_order_relaxed)) {
    result = CUDA_ERROR_NOT_INITIALIZED;
    return;
  }
  lock = std::unique_lock(driver.mutex);
  if (needs == kInit) return;
  context = current_context();
  if (context == nullptr) {
    result = CUDA_ERROR_INVALID_CONTEXT;
  } else if (!valid(context) || !context->active) {
    result = CUDA_ERROR_CONTEXT_IS_DESTROYED;
  } else {
    device = context->device;
    result = context->sticky;
  }
}

std::uint64_t thread_id() {
  static std::atomic<std::uint64_t> next{1};
  thread_local const std::uint64_t id = next.fetch_add(1, std::memory_order_relaxed);
  return id;
}

}  // namespace vgpu::sim

using vgpu::sim::Driver;

CUresult sim_cuInit(unsigned int flags) {
  Driver& driver = Driver::get();
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (driver.forked.load(std::memory_order_relaxed)) return CUDA_ERROR_NOT_INITIALIZED;
  const std::lock_guard guard(driver.mutex);
  return driver.initialise();
}

CUresult sim_cuDriverGetVersion(int* driver_version) {
  if (driver_version == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *driver_version = vgpu::sim::kDriverApiVersion;
  return CUDA_SUCCESS;
}

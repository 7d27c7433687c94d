// SPDX-License-Identifier: Apache-2.0
// NVML counts who initialised it, and the limiter is one of them. So the program's own count is
// kept apart: at zero NVML is uninitialised for the program, and it can't shut down what is the
// limiter's. Any thread.
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "../enter.h"
#include "../hooks.h"

namespace vgpu::limiter {
namespace {

// The process in the upper half and its count in the lower: a forked child starts from nothing, as
// with the driver.
std::atomic<std::uint64_t> g_initialised{0};

std::uint64_t own(std::uint64_t word) {
  const auto self = static_cast<std::uint64_t>(getpid()) << 32;
  return word >> 32 == self >> 32 ? word : self;
}
std::uint32_t count_of(std::uint64_t word) { return static_cast<std::uint32_t>(own(word)); }

nvmlReturn_t initialised(nvmlReturn_t result) {
  if (result != NVML_SUCCESS) return result;
  std::uint64_t word = g_initialised.load(std::memory_order_relaxed);
  while (!g_initialised.compare_exchange_weak(word, own(word) + 1, std::memory_order_relaxed)) {
  }
  return result;
}

// False at zero.
bool take_one() {
  std::uint64_t word = g_initialised.load(std::memory_order_relaxed);
  do {
    if (count_of(word) == 0) return false;
  } while (!g_initialised.compare_exchange_weak(word, own(word) - 1, std::memory_order_relaxed));
  return true;
}

}  // namespace

bool program_has_nvml() { return count_of(g_initialised.load(std::memory_order_relaxed)) != 0; }

}  // namespace vgpu::limiter

namespace vgpu::hooks {

nvmlReturn_t nvmlInit() { return limiter::initialised(real_nvml().nvmlInit()); }
nvmlReturn_t nvmlInit_v2() { return limiter::initialised(real_nvml().nvmlInit_v2()); }
nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
  return limiter::initialised(real_nvml().nvmlInitWithFlags(flags));
}

nvmlReturn_t nvmlShutdown() {
  if (!limiter::take_one()) return NVML_ERROR_UNINITIALIZED;
  return real_nvml().nvmlShutdown();
}

}  // namespace vgpu::hooks

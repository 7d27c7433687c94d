// SPDX-License-Identifier: Apache-2.0
// From an address in a real driver or NVML to the hook that stands for it. By address, never by
// name: whatever name, version or flag a program asked with, what it got is one of the library's
// exports or it isn't. A library is entered when the first address in it is seen, and pinned; a
// second copy (opened by another path) is entered beside the first, and its addresses lead to the
// same hooks, so to the one driver that real() calls. Any thread, no lock: concurrent writers write
// the same values.
#pragma once

#include <cstddef>

#include "vgpu/driver/elf_image.h"

namespace vgpu::limiter {

// The hook for `address`; nullptr when it isn't the address of a hooked export.
void* hook_for(void* address);

// `name` in the driver (or NVML) that real() calls, where `address` is its export in a second copy
// of it: nullptr where `address` isn't. All calls have to end in one copy, hooked or not: the other
// was never initialised.
void* in_first_copy(void* address, const char* name);

// The same as hook_for among the libraries that are entered already: calls nothing.
void* known_hook_for(const void* address);

// Enters every driver and NVML that is in the process.
void enter_loaded_libraries();

// Whether `address` lies in a library that is entered: the driver calling itself.
bool is_in_real_library(const void* address);

// The hook of that name, or nullptr. Only for places that the dynamic linker fills by name (see
// deepbind.cpp).
void* hook_named(const char* name);

// For tests and coverage: all hooked names.
struct HookedName {
  const char* name;
  driver::Library library;
  void* hook;
};
const HookedName* hooked_names(std::size_t& count);

}  // namespace vgpu::limiter

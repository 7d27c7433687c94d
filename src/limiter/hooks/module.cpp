// SPDX-License-Identifier: Apache-2.0
// Code: a module is taken into the current context when it is loaded, a library into each context
// when something of it is first used there. Reserved by an estimate from the image's headers,
// corrected by a measurement (25 us, beside a load of hundreds); a load that turns out to have
// passed the limit is undone.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "../enter.h"
#include "../hooks.h"
#include "code.h"
#include "settle.h"
#include "vgpu/core/driver_model.h"
#include "vgpu/core/module_image.h"

namespace vgpu::limiter {

namespace {

bool is_past_limit(int gpu) {
  const auto position = static_cast<std::uint32_t>(gpu);
  shm::Tenant& tenant = Limiter::active()->tenant();
  return tenant.charged_bytes(position) > tenant.memory_limit_bytes(position);
}

std::uint64_t library_bytes(CUlibrary library) {
  LoadedCode code;
  return ledger().code.find(reinterpret_cast<std::uint64_t>(library), code) ? code.bytes : 0;
}

}  // namespace

std::uint64_t unclaimed_library_bytes(CUlibrary library, const Place& place) {
  const auto handle = reinterpret_cast<std::uint64_t>(library);
  const bool is_claimed =
      library == nullptr || place.gpu == kNoGpu || ledger().code.has_use(handle, place.owner);
  return is_claimed ? 0 : library_bytes(library);
}

bool claim_library(CUlibrary library, const Place& place) {
  const auto handle = reinterpret_cast<std::uint64_t>(library);
  return ledger().code.add_use(handle, {.bytes = library_bytes(library),
                                        .owner = place.owner,
                                        .library = handle,
                                        .gpu = static_cast<std::uint32_t>(place.gpu)});
}

LibraryUse::LibraryUse(CUlibrary library, const Place& place) : library_(library), place_(place) {
  const std::uint64_t bytes = unclaimed_library_bytes(library, place);
  if (bytes == 0) return;
  reservation_.emplace(place.gpu, bytes, Charge::implicit);
  claimed_ = !reservation_->refused() && claim_library(library, place);
}

LibraryUse::~LibraryUse() {
  if (claimed_) ledger().code.remove_use(reinterpret_cast<std::uint64_t>(library_), place_.owner);
}

void LibraryUse::succeeded() {
  if (!reservation_) return;
  if (std::exchange(claimed_, false)) reservation_->keep();
  reservation_.reset();
  note_implicit_change(place_.gpu);
  measure(place_.gpu);
}

}  // namespace vgpu::limiter

namespace vgpu::hooks {

using namespace limiter;

namespace {

std::uint64_t handle_of(CUmodule module) { return reinterpret_cast<std::uint64_t>(module); }
std::uint64_t handle_of(CUlibrary library) { return reinterpret_cast<std::uint64_t>(library); }

std::uint64_t estimated_file_bytes(const char* path) {
  const int file = path == nullptr ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  struct stat status {};
  std::uint64_t bytes = 0;
  if (fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0) {
    const auto size = static_cast<std::size_t>(status.st_size);
    void* image = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
    if (image != MAP_FAILED) {
      bytes = module_image::estimate(image, size).device_bytes();
      munmap(image, size);
    }
  }
  close(file);
  return bytes;
}

std::uint64_t estimated_bytes(const void* image) {
  return module_image::estimate(image, SIZE_MAX).device_bytes();
}

CUresult unload(CUmodule module) {
  LoadedCode code;
  const bool known = ledger().code.take(handle_of(module), code);
  // Before the driver is called: its functions' handles may be others' right after.
  ledger().code.forget_launches();
  {
    ChangeScope change;
    const CUresult result = real().cuModuleUnload(module);
    if (result != CUDA_SUCCESS) {
      if (known) ledger().code.add(handle_of(module), code);
      return result;
    }
    if (!known) return result;
    release_implicit(static_cast<int>(code.gpu), code.known_bytes, code.bytes);
  }
  measure(static_cast<int>(code.gpu));
  return CUDA_SUCCESS;
}

// Modules share pages, so the last one of what a load took may stay when it goes.
std::uint64_t bytes_of_its_own(std::uint64_t grown) {
  return grown > driver_model::kPageBytes ? grown - driver_model::kPageBytes : 0;
}

template <class Call>
CUresult load_module(CUmodule* module, std::uint64_t bytes, Call call) {
  const Place place = current_place();
  if (place.gpu == kNoGpu || module == nullptr) return call(module);
  Growth growth(place.gpu);
  CUmodule loaded = nullptr;
  {
    Reservation reservation(place.gpu, bytes, Charge::implicit);
    if (reservation.refused()) return CUDA_ERROR_OUT_OF_MEMORY;
    const CUresult result = call(&loaded);
    if (result != CUDA_SUCCESS) return result;
    reservation.keep();
  }
  note_implicit_change(place.gpu);
  std::uint64_t grown = 0;
  const bool is_measured = growth.find(grown);
  ledger().code.add(handle_of(loaded), {.bytes = bytes,
                                        .known_bytes = is_measured ? bytes_of_its_own(grown) : 0,
                                        .owner = place.owner,
                                        .gpu = static_cast<std::uint32_t>(place.gpu)});
  if ((is_measured ? grown : bytes) != 0 && is_past_limit(place.gpu)) {
    unload(loaded);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  *module = loaded;
  return CUDA_SUCCESS;
}

template <class Call>
CUresult load_library(CUlibrary* library, std::uint64_t bytes, Call call) {
  const CUresult result = call();
  if (result == CUDA_SUCCESS) ledger().code.add(handle_of(*library), {.bytes = bytes});
  return result;
}

// A call that brings a library's code into the current context.
template <class Call>
CUresult use(CUlibrary library, Call call) {
  const Place place = current_place();
  if (library == nullptr || place.gpu == kNoGpu) return call();
  LibraryUse library_use(library, place);
  if (library_use.refused()) return CUDA_ERROR_OUT_OF_MEMORY;
  const CUresult result = call();
  if (result == CUDA_SUCCESS) library_use.succeeded();
  return result;
}

// A call that may bring code which was left out when its module was loaded.
template <class Call>
CUresult load_lazily(Call call) {
  ChangeScope change;
  return call();
}

}  // namespace

CUresult cuModuleLoad(CUmodule* module, const char* path) {
  return load_module(module, estimated_file_bytes(path),
                     [&](CUmodule* out) { return real().cuModuleLoad(out, path); });
}

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  return load_module(module, estimated_bytes(image),
                     [&](CUmodule* out) { return real().cuModuleLoadData(out, image); });
}

CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned int num_options,
                            CUjit_option* options, void** option_values) {
  return load_module(module, estimated_bytes(image), [&](CUmodule* out) {
    return real().cuModuleLoadDataEx(out, image, num_options, options, option_values);
  });
}

CUresult cuModuleLoadFatBinary(CUmodule* module, const void* fat_cubin) {
  return load_module(module, estimated_bytes(fat_cubin),
                     [&](CUmodule* out) { return real().cuModuleLoadFatBinary(out, fat_cubin); });
}

CUresult cuModuleUnload(CUmodule module) { return unload(module); }

// Under lazy loading a function's code comes with the first request for it, or with its first
// launch.
CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  const CUresult result =
      load_lazily([&] { return real().cuModuleGetFunction(function, module, name); });
  LoadedCode code;
  if (result == CUDA_SUCCESS && ledger().code.find(handle_of(module), code)) {
    note_implicit_change(static_cast<int>(code.gpu));
  }
  return result;
}

CUresult cuFuncLoad(CUfunction function) {
  const CUresult result = load_lazily([&] { return real().cuFuncLoad(function); });
  const Place place = current_place();
  if (result == CUDA_SUCCESS && place.gpu != kNoGpu) note_implicit_change(place.gpu);
  return result;
}

CUresult cuLibraryLoadData(CUlibrary* library, const void* code, CUjit_option* jit_options,
                           void** jit_options_values, unsigned int num_jit_options,
                           CUlibraryOption* library_options, void** library_option_values,
                           unsigned int num_library_options) {
  return load_library(library, estimated_bytes(code), [&] {
    return real().cuLibraryLoadData(library, code, jit_options, jit_options_values, num_jit_options,
                                    library_options, library_option_values, num_library_options);
  });
}

CUresult cuLibraryLoadFromFile(CUlibrary* library, const char* path, CUjit_option* jit_options,
                               void** jit_options_values, unsigned int num_jit_options,
                               CUlibraryOption* library_options, void** library_option_values,
                               unsigned int num_library_options) {
  return load_library(library, estimated_file_bytes(path), [&] {
    return real().cuLibraryLoadFromFile(library, path, jit_options, jit_options_values,
                                        num_jit_options, library_options, library_option_values,
                                        num_library_options);
  });
}

// All that is known of it goes before the driver is called: its handle and those of its kernels may
// be another library's right after.
CUresult cuLibraryUnload(CUlibrary library) {
  LoadedCode code;
  const bool known = ledger().code.take(handle_of(library), code);
  LoadedCode used[shm::kMaxGpus];
  ledger().code.drop_library(handle_of(library), [&](const LoadedCode& use) {
    used[use.gpu].bytes += use.bytes;
    used[use.gpu].known_bytes += use.known_bytes;
  });
  ledger().code.forget_launches();
  ChangeScope change;
  const CUresult result = real().cuLibraryUnload(library);
  if (result != CUDA_SUCCESS) {
    // What it takes in a context is charged again at its next use there.
    if (known) ledger().code.add(handle_of(library), code);
    return result;
  }
  for (int gpu = 0; gpu < static_cast<int>(shm::kMaxGpus); ++gpu) {
    if (used[gpu].bytes != 0) release_implicit(gpu, used[gpu].known_bytes, used[gpu].bytes);
  }
  return result;
}

CUresult cuLibraryGetKernel(CUkernel* kernel, CUlibrary library, const char* name) {
  return real().cuLibraryGetKernel(kernel, library, name);
}

CUresult cuLibraryGetModule(CUmodule* module, CUlibrary library) {
  return use(library, [&] { return real().cuLibraryGetModule(module, library); });
}

CUresult cuLibraryGetGlobal(CUdeviceptr* ptr, size_t* bytes, CUlibrary library, const char* name) {
  return use(library, [&] { return real().cuLibraryGetGlobal(ptr, bytes, library, name); });
}

CUresult cuLibraryGetManaged(CUdeviceptr* ptr, size_t* bytes, CUlibrary library, const char* name) {
  return use(library, [&] { return real().cuLibraryGetManaged(ptr, bytes, library, name); });
}

CUresult cuKernelGetFunction(CUfunction* function, CUkernel kernel) {
  CUlibrary library = nullptr;
  if (real().cuKernelGetLibrary != nullptr) real().cuKernelGetLibrary(&library, kernel);
  return use(library, [&] { return real().cuKernelGetFunction(function, kernel); });
}

}  // namespace vgpu::hooks

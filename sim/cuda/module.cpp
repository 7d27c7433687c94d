// SPDX-License-Identifier: Apache-2.0
// Modules, libraries, functions and kernels. Loading puts globals on the device; code follows when
// a function is first looked up or launched (lazy loading), in pages once the room that a context
// brings is used up.
#include "module.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>

#include "capture.h"
#include "engine.h"

using namespace vgpu::sim;

namespace vgpu::sim {
namespace {

void release_globals(CUmodule module) {
  Driver& driver = Driver::get();
  for (const auto& [name, address] : module->globals) {
    const auto at = driver.allocations.find(address);
    if (at != driver.allocations.end() && at->second.kind == Kind::global) release(at->second);
  }
  module->globals.clear();
}

}  // namespace

CUresult load_module(CUcontext context, std::shared_ptr<const ModuleText> text, CUmodule& out) {
  if (!context->has_device_runtime &&
      std::any_of(text->kernels.begin(), text->kernels.end(),
                  [](const KernelText& kernel) { return kernel.uses_heap; })) {
    if (!take_object_bytes(context, kDeviceRuntimeBytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    context->has_device_runtime = true;
  }
  auto* module = new CUmod_st;
  module->context = context;
  module->text = std::move(text);
  for (const GlobalText& global : module->text->globals) {
    if (global.managed) continue;  // a library's managed variables are one for all contexts
    Allocation* allocation = nullptr;
    const CUresult result = allocate(context, global.bytes, Kind::global, false, allocation);
    if (result != CUDA_SUCCESS) {
      release_globals(module);
      delete module;
      return result;
    }
    allocation->written = true;
    auto* place = reinterpret_cast<unsigned char*>(allocation->base);
    if (!global.initial.empty()) {
      std::copy(global.initial.begin(), global.initial.end(), place);
    } else if (allocation->small) {
      std::memset(place, 0, global.bytes);  // a shared page may hold what was there before
    }
    module->globals.emplace(global.name, allocation->base);
  }
  for (const KernelText& kernel : module->text->kernels) {
    auto* function = new CUfunc_st;
    function->module = module;
    function->text = &kernel;
    module->functions.emplace(kernel.name, function);
  }
  context->modules.insert(module);
  out = module;
  return CUDA_SUCCESS;
}

void unload_module(CUmodule module) {
  release_globals(module);
  for (const auto& [name, function] : module->functions) {
    if (function->loaded) module->context->code_used -= function->text->code_bytes;
    delete function;
  }
  CUcontext context = module->context;
  // Code pages come back when nothing needs them any more.
  const std::uint64_t needed = context->code_used > kCodeInContextBytes
                                   ? round_up(context->code_used - kCodeInContextBytes, kPageBytes)
                                   : 0;
  if (needed < context->code_charged) {
    discharge(*context->device, context->code_charged - needed);
    context->code_charged = needed;
  }
  if (module->library != nullptr) module->library->modules.erase(context);
  context->modules.erase(module);
  delete module;
}

CUresult load_code(CUfunction function) {
  if (function->loaded) return CUDA_SUCCESS;
  CUcontext context = function->module->context;
  const std::uint64_t used = context->code_used + function->text->code_bytes;
  const std::uint64_t needed =
      used > kCodeInContextBytes ? round_up(used - kCodeInContextBytes, kPageBytes) : 0;
  if (needed > context->code_charged) {
    if (!charge(*context->device, needed - context->code_charged)) return CUDA_ERROR_OUT_OF_MEMORY;
    context->code_charged = needed;
  }
  context->code_used = used;
  function->loaded = true;
  return CUDA_SUCCESS;
}

namespace {

CUresult module_of_library(CUlibrary library, CUcontext context, CUmodule& out) {
  const auto at = library->modules.find(context);
  if (at != library->modules.end()) {
    out = at->second;
    return CUDA_SUCCESS;
  }
  const CUresult result = load_module(context, library->text, out);
  if (result != CUDA_SUCCESS) return result;
  out->library = library;
  library->modules.emplace(context, out);
  for (const auto& [name, function] : out->functions)
    function->kernel = library->kernels.find(name)->second;
  return CUDA_SUCCESS;
}

CUresult function_of_kernel(CUkernel kernel, CUcontext context, CUfunction& out) {
  CUmodule module = nullptr;
  const CUresult result = module_of_library(kernel->library, context, module);
  if (result != CUDA_SUCCESS) return result;
  out = module->functions.find(kernel->text->name)->second;
  return CUDA_SUCCESS;
}

}  // namespace

CUfunction launchable(CUcontext context, CUfunction handle, CUresult& result) {
  result = CUDA_ERROR_INVALID_HANDLE;
  if (valid(handle)) {
    CUcontext owner = handle->module->context;
    const bool same = owner == context ||
                      (context->green != nullptr && owner == context->device->primary) ||
                      (owner->green != nullptr && owner->device == context->device);
    if (!same) return nullptr;
    result = CUDA_SUCCESS;
    return handle;
  }
  const auto kernel = reinterpret_cast<CUkernel>(handle);
  if (!valid(kernel)) return nullptr;
  CUfunction function = nullptr;
  result = function_of_kernel(kernel, context, function);
  return function;
}

}  // namespace vgpu::sim

namespace {

CUresult load_data(CUmodule* out, const void* image) {
  Call call;
  if (!call) return call.result;
  if (out == nullptr || image == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::shared_ptr<const ModuleText> text;
  const CUresult result = read_image(image, text);
  if (result != CUDA_SUCCESS) return result;
  CUmodule module = nullptr;
  const CUresult loaded = load_module(call.context, std::move(text), module);
  if (loaded != CUDA_SUCCESS) return loaded;
  *out = module;
  return CUDA_SUCCESS;
}

bool read_file(const char* path, std::string& out) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return false;
  out.assign(std::istreambuf_iterator<char>(file), {});
  out.append(16, '\0');  // a text has no terminator of its own
  return true;
}

CUresult load_library(CUlibrary* out, const void* code) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (out == nullptr || code == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::shared_ptr<const ModuleText> text;
  const CUresult result = read_image(code, text);
  if (result != CUDA_SUCCESS) return result;
  auto* library = new CUlib_st;
  library->text = std::move(text);
  for (const KernelText& kernel : library->text->kernels) {
    auto* made = new CUkern_st;
    made->library = library;
    made->text = &kernel;
    library->kernels.emplace(kernel.name, made);
  }
  *out = library;
  return CUDA_SUCCESS;
}

template <class Pointer, class Size>
CUresult find_global(Pointer* ptr, Size* bytes, CUmodule module, const char* name) {
  const auto at = module->globals.find(std::string_view(name));
  if (at == module->globals.end()) return CUDA_ERROR_NOT_FOUND;
  const auto global = std::find_if(module->text->globals.begin(), module->text->globals.end(),
                                   [&](const GlobalText& g) { return g.name == name; });
  if (ptr != nullptr) *ptr = static_cast<Pointer>(at->second);
  if (bytes != nullptr) *bytes = static_cast<Size>(global->bytes);
  return CUDA_SUCCESS;
}

template <class Pointer, class Size>
CUresult module_global(Pointer* ptr, Size* bytes, CUmodule module, const char* name) {
  Call call;
  if (!call) return call.result;
  if (name == nullptr || (ptr == nullptr && bytes == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(module)) return CUDA_ERROR_INVALID_HANDLE;
  if (sizeof(Pointer) == 4 && !takes_legacy(call)) return CUDA_ERROR_INVALID_CONTEXT;
  return find_global(ptr, bytes, module, name);
}

int function_attribute(const KernelText& text, int max_dynamic, int carveout, int non_portable,
                       int policy, const Device& device, CUfunction_attribute attrib, bool& known) {
  known = true;
  switch (attrib) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      return text.max_threads;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
      return static_cast<int>(text.shared_bytes);
    case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
      return 0;
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
      return static_cast<int>(text.local_bytes);
    case CU_FUNC_ATTRIBUTE_NUM_REGS:
      return 16;
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
      return device.model().compute_major * 10 + device.model().compute_minor;
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
      return device.model().compute_major * 10 + device.model().compute_minor;
    case CU_FUNC_ATTRIBUTE_CACHE_MODE_CA:
      return 0;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      return max_dynamic != 0 ? max_dynamic : 49152 - static_cast<int>(text.shared_bytes);
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      return carveout;
    case CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET:
      return 0;
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
      return 0;
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
      return 0;
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
      return 0;
    case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
      return non_portable;
    case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
      return policy;
  }
  known = false;
  return 0;
}

CUresult param_info(const KernelText& text, size_t index, size_t* offset, size_t* size) {
  if (offset == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (index >= text.param_offsets.size()) return CUDA_ERROR_INVALID_VALUE;
  *offset = text.param_offsets[index];
  if (size != nullptr) *size = text.param_sizes[index];
  return CUDA_SUCCESS;
}

CUresult set_function_attribute(CUfunction function, CUfunction_attribute attrib, int value) {
  switch (attrib) {
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: {
      const GpuModel& model = function->module->context->device->model();
      if (value < 0 || value + static_cast<int>(function->text->shared_bytes) >
                           model.shared_bytes_per_block_optin)
        return CUDA_ERROR_INVALID_VALUE;
      function->max_dynamic_shared = value;
      return CUDA_SUCCESS;
    }
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      if (value < -1 || value > 100) return CUDA_ERROR_INVALID_VALUE;
      function->carveout = value;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
      function->non_portable_cluster = value;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
      function->cluster_policy = value;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
    case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
    case CU_FUNC_ATTRIBUTE_NUM_REGS:
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
    case CU_FUNC_ATTRIBUTE_CACHE_MODE_CA:
    case CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET:
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
      break;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

// The function that a CUfunction argument names, be it a kernel in disguise.
CUfunction resolve(Call& call, CUfunction handle) {
  CUresult result = CUDA_SUCCESS;
  if (valid(handle)) return handle;
  return launchable(call.context, handle, result);
}

}  // namespace

CUresult sim_cuModuleLoadData(CUmodule* module, const void* image) {
  return load_data(module, image);
}
CUresult sim_cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned int num_options,
                                CUjit_option* options, void** option_values) {
  if (num_options > 0 && (options == nullptr || option_values == nullptr))
    return CUDA_ERROR_INVALID_VALUE;
  return load_data(module, image);
}
CUresult sim_cuModuleLoadFatBinary(CUmodule* module, const void* fat_cubin) {
  return load_data(module, fat_cubin);
}
CUresult sim_cuModuleLoad(CUmodule* module, const char* path) {
  if (module == nullptr || path == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::string text;
  if (!read_file(path, text)) return CUDA_ERROR_FILE_NOT_FOUND;
  return load_data(module, text.data());
}
CUresult sim_cuModuleUnload(CUmodule module) {
  Call call;
  if (!call) return call.result;
  if (!valid(module)) return CUDA_ERROR_INVALID_HANDLE;
  if (module->library != nullptr) return CUDA_ERROR_NOT_PERMITTED;
  Engine::get().drain(call.lock, module->context);
  if (!valid(module)) return CUDA_ERROR_INVALID_HANDLE;
  unload_module(module);
  return CUDA_SUCCESS;
}
CUresult sim_cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  Call call;
  if (!call) return call.result;
  if (function == nullptr || name == nullptr || *name == 0) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(module)) return CUDA_ERROR_INVALID_HANDLE;
  const auto at = module->functions.find(std::string_view(name));
  if (at == module->functions.end()) return CUDA_ERROR_NOT_FOUND;
  const CUresult result = load_code(at->second);
  if (result != CUDA_SUCCESS) return result;
  *function = at->second;
  return CUDA_SUCCESS;
}
CUresult sim_cuModuleGetFunctionCount(unsigned int* count, CUmodule module) {
  Call call;
  if (!call) return call.result;
  if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(module)) return CUDA_ERROR_INVALID_HANDLE;
  *count = static_cast<unsigned>(module->functions.size());
  return CUDA_SUCCESS;
}
CUresult sim_cuModuleEnumerateFunctions(CUfunction* functions, unsigned int num_functions,
                                        CUmodule module) {
  Call call;
  if (!call) return call.result;
  if (functions == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(module)) return CUDA_ERROR_INVALID_HANDLE;
  unsigned at = 0;
  for (const auto& [name, function] : module->functions) {
    if (at >= num_functions) break;
    functions[at++] = function;
  }
  return CUDA_SUCCESS;
}
CUresult sim_cuModuleGetGlobal(CUdeviceptr_v1* ptr, unsigned int* bytes, CUmodule module,
                               const char* name) {
  return module_global(ptr, bytes, module, name);
}
CUresult sim_cuModuleGetGlobal_v2(CUdeviceptr* ptr, size_t* bytes, CUmodule module,
                                  const char* name) {
  return module_global(ptr, bytes, module, name);
}
CUresult sim_cuModuleGetLoadingMode(CUmoduleLoadingMode* mode) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  if (mode == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *mode = CU_MODULE_LAZY_LOADING;
  return CUDA_SUCCESS;
}

CUresult sim_cuLibraryLoadData(CUlibrary* library, const void* code, CUjit_option*, void**,
                               unsigned int, CUlibraryOption*, void**, unsigned int) {
  return load_library(library, code);
}
CUresult sim_cuLibraryLoadFromFile(CUlibrary* library, const char* path, CUjit_option*, void**,
                                   unsigned int, CUlibraryOption*, void**, unsigned int) {
  if (library == nullptr || path == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::string text;
  if (!read_file(path, text)) return CUDA_ERROR_FILE_NOT_FOUND;
  return load_library(library, text.data());
}
CUresult sim_cuLibraryUnload(CUlibrary library) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(library)) return CUDA_ERROR_INVALID_HANDLE;
  std::vector<CUcontext> contexts;
  for (const auto& [context, module] : library->modules) contexts.push_back(context);
  for (const CUcontext context : contexts) {
    if (valid(context)) Engine::get().drain(call.lock, context);
  }
  if (!valid(library)) return CUDA_ERROR_INVALID_HANDLE;
  while (!library->modules.empty()) unload_module(library->modules.begin()->second);
  for (const auto& [name, address] : library->managed) {
    const auto at = call.driver.allocations.find(address);
    if (at != call.driver.allocations.end()) release(at->second);
  }
  for (const auto& [name, kernel] : library->kernels) delete kernel;
  delete library;
  return CUDA_SUCCESS;
}
CUresult sim_cuLibraryGetKernel(CUkernel* kernel, CUlibrary library, const char* name) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (kernel == nullptr || name == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(library)) return CUDA_ERROR_INVALID_HANDLE;
  const auto at = library->kernels.find(std::string_view(name));
  if (at == library->kernels.end()) return CUDA_ERROR_NOT_FOUND;
  *kernel = at->second;
  return CUDA_SUCCESS;
}
CUresult sim_cuLibraryGetKernelCount(unsigned int* count, CUlibrary library) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(library)) return CUDA_ERROR_INVALID_HANDLE;
  *count = static_cast<unsigned>(library->kernels.size());
  return CUDA_SUCCESS;
}
CUresult sim_cuLibraryEnumerateKernels(CUkernel* kernels, unsigned int num_kernels,
                                       CUlibrary library) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (kernels == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(library)) return CUDA_ERROR_INVALID_HANDLE;
  unsigned at = 0;
  for (const auto& [name, kernel] : library->kernels) {
    if (at >= num_kernels) break;
    kernels[at++] = kernel;
  }
  return CUDA_SUCCESS;
}
CUresult sim_cuLibraryGetModule(CUmodule* module, CUlibrary library) {
  Call call;
  if (!call) return call.result;
  if (module == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(library)) return CUDA_ERROR_INVALID_HANDLE;
  CUmodule found = nullptr;
  const CUresult result = module_of_library(library, call.context, found);
  if (result == CUDA_SUCCESS) *module = found;
  return result;
}
CUresult sim_cuLibraryGetGlobal(CUdeviceptr* ptr, size_t* bytes, CUlibrary library,
                                const char* name) {
  Call call;
  if (!call) return call.result;
  if (name == nullptr || (ptr == nullptr && bytes == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(library)) return CUDA_ERROR_INVALID_HANDLE;
  CUmodule module = nullptr;
  const CUresult result = module_of_library(library, call.context, module);
  return result != CUDA_SUCCESS ? result : find_global(ptr, bytes, module, name);
}
CUresult sim_cuLibraryGetManaged(CUdeviceptr* ptr, size_t* bytes, CUlibrary library,
                                 const char* name) {
  Call call;
  if (!call) return call.result;
  if (name == nullptr || (ptr == nullptr && bytes == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(library)) return CUDA_ERROR_INVALID_HANDLE;
  const auto global =
      std::find_if(library->text->globals.begin(), library->text->globals.end(),
                   [&](const GlobalText& g) { return g.managed && g.name == name; });
  if (global == library->text->globals.end()) return CUDA_ERROR_NOT_FOUND;
  auto at = library->managed.find(std::string_view(name));
  if (at == library->managed.end()) {
    const std::uint64_t extent = round_up(global->bytes, kPageBytes);
    const auto place = call.device->arena.take(extent, kPageBytes);
    if (!place) return CUDA_ERROR_OUT_OF_MEMORY;
    Allocation& made =
        record_allocation(*place, global->bytes, Kind::managed, nullptr, call.device);
    made.extent = extent;
    std::copy(global->initial.begin(), global->initial.end(),
              reinterpret_cast<unsigned char*>(*place));
    at = library->managed.emplace(name, *place).first;
  }
  if (ptr != nullptr) *ptr = at->second;
  if (bytes != nullptr) *bytes = global->bytes;
  return CUDA_SUCCESS;
}
CUresult sim_cuKernelGetFunction(CUfunction* function, CUkernel kernel) {
  Call call;
  if (!call) return call.result;
  if (function == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(kernel)) return CUDA_ERROR_INVALID_HANDLE;
  CUfunction found = nullptr;
  CUresult result = function_of_kernel(kernel, call.context, found);
  if (result == CUDA_SUCCESS) result = load_code(found);
  if (result == CUDA_SUCCESS) *function = found;
  return result;
}
CUresult sim_cuKernelGetLibrary(CUlibrary* library, CUkernel kernel) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (library == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(kernel)) return CUDA_ERROR_INVALID_HANDLE;
  *library = kernel->library;
  return CUDA_SUCCESS;
}
CUresult sim_cuKernelGetName(const char** name, CUkernel kernel) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (name == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(kernel)) return CUDA_ERROR_INVALID_HANDLE;
  *name = kernel->text->name.c_str();
  return CUDA_SUCCESS;
}
CUresult sim_cuKernelGetParamInfo(CUkernel kernel, size_t param_index, size_t* param_offset,
                                  size_t* param_size) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(kernel)) return CUDA_ERROR_INVALID_HANDLE;
  return param_info(*kernel->text, param_index, param_offset, param_size);
}
CUresult sim_cuKernelGetAttribute(int* value, CUfunction_attribute attrib, CUkernel kernel,
                                  CUdevice ordinal) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(kernel)) return CUDA_ERROR_INVALID_HANDLE;
  const Device* device = call.driver.device(ordinal);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  bool known = false;
  const int found = function_attribute(*kernel->text, 0, -1, 0, 0, *device, attrib, known);
  if (!known) return CUDA_ERROR_INVALID_VALUE;
  *value = found;
  return CUDA_SUCCESS;
}
CUresult sim_cuKernelSetAttribute(CUfunction_attribute attrib, int val, CUkernel kernel,
                                  CUdevice ordinal) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(kernel)) return CUDA_ERROR_INVALID_HANDLE;
  const Device* device = call.driver.device(ordinal);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  for (const auto& [context, module] : kernel->library->modules) {
    if (context->device != device) continue;
    const CUresult result =
        set_function_attribute(module->functions.find(kernel->text->name)->second, attrib, val);
    if (result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}
CUresult sim_cuKernelSetCacheConfig(CUkernel kernel, CUfunc_cache, CUdevice ordinal) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(kernel)) return CUDA_ERROR_INVALID_HANDLE;
  return call.driver.device(ordinal) == nullptr ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}

CUresult sim_cuFuncGetAttribute(int* value, CUfunction_attribute attrib, CUfunction handle) {
  Call call;
  if (!call) return call.result;
  if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const CUfunction function = resolve(call, handle);
  if (function == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  bool known = false;
  const int found = function_attribute(*function->text, function->max_dynamic_shared,
                                       function->carveout, function->non_portable_cluster,
                                       function->cluster_policy, *call.device, attrib, known);
  if (!known) return CUDA_ERROR_INVALID_VALUE;
  *value = found;
  return CUDA_SUCCESS;
}
CUresult sim_cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attrib, int value) {
  Call call;
  if (!call) return call.result;
  const CUfunction function = resolve(call, handle);
  if (function == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  return set_function_attribute(function, attrib, value);
}
CUresult sim_cuFuncSetCacheConfig(CUfunction handle, CUfunc_cache config) {
  Call call;
  if (!call) return call.result;
  if (resolve(call, handle) == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  return config > CU_FUNC_CACHE_PREFER_EQUAL ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}
CUresult sim_cuFuncSetSharedMemConfig(CUfunction handle, CUsharedconfig config) {
  Call call;
  if (!call) return call.result;
  if (resolve(call, handle) == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  return config > CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE ? CUDA_ERROR_INVALID_VALUE
                                                            : CUDA_SUCCESS;
}
CUresult sim_cuFuncGetModule(CUmodule* module, CUfunction handle) {
  Call call;
  if (!call) return call.result;
  if (module == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const CUfunction function = resolve(call, handle);
  if (function == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  *module = function->module;
  return CUDA_SUCCESS;
}
CUresult sim_cuFuncGetName(const char** name, CUfunction handle) {
  Call call;
  if (!call) return call.result;
  if (name == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const CUfunction function = resolve(call, handle);
  if (function == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  *name = function->text->name.c_str();
  return CUDA_SUCCESS;
}
CUresult sim_cuFuncGetParamInfo(CUfunction handle, size_t param_index, size_t* param_offset,
                                size_t* param_size) {
  Call call;
  if (!call) return call.result;
  const CUfunction function = resolve(call, handle);
  if (function == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  return param_info(*function->text, param_index, param_offset, param_size);
}
CUresult sim_cuFuncIsLoaded(CUfunctionLoadingState* state, CUfunction function) {
  Call call;
  if (!call) return call.result;
  if (state == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(function)) return CUDA_ERROR_INVALID_HANDLE;
  *state = function->loaded ? CU_FUNCTION_LOADING_STATE_LOADED : CU_FUNCTION_LOADING_STATE_UNLOADED;
  return CUDA_SUCCESS;
}
CUresult sim_cuFuncLoad(CUfunction function) {
  Call call;
  if (!call) return call.result;
  if (!valid(function)) return CUDA_ERROR_INVALID_HANDLE;
  return load_code(function);
}

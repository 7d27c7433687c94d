// SPDX-License-Identifier: Apache-2.0
// Launches: the first one of a function charges what it takes (local memory, lazily loaded code)
// before the driver is called; every later one costs a load and a compare here. In a capture the
// same holds: the graph will run it.
#include <algorithm>

#include "../compute/collectives.h"
#include "../compute/submit.h"
#include "../enter.h"
#include "../hooks.h"
#include "capture.h"
#include "code.h"
#include "context.h"
#include "settle.h"

namespace vgpu::limiter {

namespace {

CUlibrary library_of(CUfunction function) {
  CUlibrary library = nullptr;
  const auto kernel = reinterpret_cast<CUkernel>(function);
  const bool is_kernel = real().cuKernelGetLibrary != nullptr &&
                         real().cuKernelGetLibrary(&library, kernel) == CUDA_SUCCESS;
  return is_kernel ? library : nullptr;
}

// A CUkernel of a library may stand where a CUfunction is asked for. As a function it would be
// loaded into the context by the question.
std::uint64_t local_bytes_of(CUfunction function, CUlibrary library, const Place& place) {
  constexpr CUfunction_attribute kLocal = CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES;
  int bytes = 0;
  const bool is_known =
      library != nullptr && real().cuKernelGetAttribute != nullptr &&
      real().cuKernelGetAttribute(&bytes, kLocal, reinterpret_cast<CUkernel>(function),
                                  Limiter::active()->device_of(place.gpu)) == CUDA_SUCCESS;
  if (!is_known && real().cuFuncGetAttribute(&bytes, kLocal, function) != CUDA_SUCCESS) return 0;
  return bytes > 0 ? static_cast<std::uint64_t>(bytes) : 0;
}

bool is_collective(CUfunction function, CUlibrary library) {
  const char* name = nullptr;
  CUresult result = CUDA_ERROR_NOT_SUPPORTED;
  if (library != nullptr && real().cuKernelGetName != nullptr) {
    result = real().cuKernelGetName(&name, reinterpret_cast<CUkernel>(function));
  } else if (library == nullptr && real().cuFuncGetName != nullptr) {
    result = real().cuFuncGetName(&name, function);
  }
  return result == CUDA_SUCCESS && name != nullptr && is_collective_name(name);
}

// What a context's threads need in all, once a function with so much local memory runs in it.
std::uint64_t local_memory_of(const Context& context, std::uint64_t bytes_per_thread) {
  return local_memory_beyond_default(static_cast<int>(context.gpu),
                                     std::max(bytes_per_thread, context.stack_bytes));
}

// A buffer that was promised and for which the growth at a launch is enough has been taken.
std::uint64_t fulfilled_buffer(std::uint64_t& promised, std::uint64_t& grown) {
  if (promised == 0 || grown < promised - promised / 8) return 0;
  const std::uint64_t fulfilled = promised;
  grown -= std::min(grown, promised);
  promised = 0;
  return fulfilled;
}

}  // namespace

FirstLaunch::FirstLaunch(CUfunction function)
    : function_(reinterpret_cast<std::uint64_t>(function)), place_(current_place()) {
  if (function == nullptr || place_.gpu == kNoGpu) return;
  RelaxedCapture relaxed;
  library_ = library_of(function);
  g_collectives.note(function_, is_collective(function, library_));
  const std::uint64_t per_thread = local_bytes_of(function, library_, place_);
  const std::uint64_t code_bytes = unclaimed_library_bytes(library_, place_);
  Context context;
  const bool is_known = ledger().contexts.find(place_.context, context);
  if (context.heap_promised_bytes + context.printf_promised_bytes != 0) growth_.emplace(place_.gpu);
  // Again if another thread gave back meanwhile what this one counted on.
  for (std::uint64_t missing = 0;;) {
    const std::uint64_t needed = is_known ? local_memory_of(context, per_thread) : 0;
    missing = needed > context.local_charged_bytes ? needed - context.local_charged_bytes : 0;
    reservation_.emplace(place_.gpu, code_bytes + missing, Charge::implicit);
    if (reservation_->refused()) return;
    if (!is_known || claim_local(per_thread, missing)) break;
    reservation_.reset();
    if (!ledger().contexts.find(place_.context, context)) return;
  }
  if (code_bytes != 0 && claim_library(library_, place_)) code_bytes_ = code_bytes;
}

FirstLaunch::~FirstLaunch() {
  if (!reservation_ || reservation_->refused()) return;
  // It failed, and may come again. Its code is charged anew then.
  if (code_bytes_ != 0)
    ledger().code.remove_use(reinterpret_cast<std::uint64_t>(library_), place_.owner);
  code_bytes_ = 0;
  keep(Charge::promised);
}

// False: more is missing than was reserved.
bool FirstLaunch::claim_local(std::uint64_t bytes_per_thread, std::uint64_t reserved) {
  bool claimed = false;
  const bool is_known = ledger().contexts.edit(place_.context, [&](Context& each) {
    local_bytes_ = local_memory_of(each, bytes_per_thread);
    const std::uint64_t missing =
        local_bytes_ > each.local_charged_bytes ? local_bytes_ - each.local_charged_bytes : 0;
    claimed = missing <= reserved;
    if (!claimed) return;
    claimed_bytes_ = missing;
    each.local_charged_bytes += missing;
    each.local_bytes = std::max(each.local_bytes, bytes_per_thread);
  });
  return claimed || !is_known;
}

void FirstLaunch::keep(Charge local) {
  reservation_->keep_part(code_bytes_, Charge::implicit);
  reservation_->keep_part(claimed_bytes_, local);
  if (local == Charge::promised && claimed_bytes_ != 0)
    add_local_promise(place_.context, place_.gpu, claimed_bytes_);
}

void FirstLaunch::ran() {
  if (!reservation_) return;
  keep(Charge::implicit);
  fulfil_local_promise(place_.context, place_.gpu, local_bytes_);
  ledger().code.note_launched(function_);
  reservation_.reset();
  note_implicit_change(place_.gpu);
  std::uint64_t grown = 0;
  if (growth_) {
    if (growth_->find(grown)) note_buffers(grown);
  } else if (code_bytes_ + claimed_bytes_ != 0 || is_inexact(place_.gpu)) {
    measure(place_.gpu);
  }
}

void FirstLaunch::captured() {
  if (!reservation_) return;
  keep(Charge::promised);
  reservation_.reset();
  note_implicit_change(place_.gpu);
}

// What was measured is charged: a promise of it would be the same again.
void FirstLaunch::note_buffers(std::uint64_t grown) {
  std::uint64_t fulfilled = 0;
  grown -= std::min(grown, code_bytes_ + claimed_bytes_);
  ledger().contexts.edit(place_.context, [&](Context& each) {
    if (!growth_->is_recent()) return;
    fulfilled = fulfilled_buffer(each.heap_promised_bytes, grown);
    fulfilled += fulfilled_buffer(each.printf_promised_bytes, grown);
  });
  withdraw_promise(place_.gpu, fulfilled);
}

}  // namespace vgpu::limiter

namespace vgpu::hooks {

using namespace limiter;

namespace {

// The first launch of a function charges what it takes.
template <class Call>
[[gnu::noinline, gnu::cold]] CUresult charged_first(CUfunction function, CUstream stream,
                                                    bool per_thread, Call call) {
  FirstLaunch first(function);
  if (first.refused()) return CUDA_ERROR_OUT_OF_MEMORY;
  const bool captured = capture_of(stream, per_thread) != Capture::none;
  const CUresult result = call();
  if (result != CUDA_SUCCESS) return result;
  captured ? first.captured() : first.ran();
  return result;
}

template <class Call>
CUresult charged(CUfunction function, CUstream stream, bool per_thread, Call call) {
  if (ledger().code.was_launched(reinterpret_cast<std::uint64_t>(function))) [[likely]]
    return call();
  return charged_first(function, stream, per_thread, call);
}

// `make_work()`: the function with its grid, as costs are learned by.
template <class MakeWork, class Call>
CUresult launch(CUfunction function, CUstream stream, bool per_thread, MakeWork make_work,
                Call call) {
  return submit(make_work, stream, per_thread,
                [&] { return charged(function, stream, per_thread, call); });
}

Work grid_work(CUfunction function, int width, int height) {
  return kernel_work(function, static_cast<unsigned>(width), static_cast<unsigned>(height), 1, 0, 0,
                     0);
}

template <class Call>
CUresult launch(const CUlaunchConfig* config, CUfunction function, bool per_thread, Call call) {
  if (config == nullptr) return call();
  const auto make_work = [&] {
    return kernel_work(function, config->gridDimX, config->gridDimY, config->gridDimZ,
                       config->blockDimX, config->blockDimY, config->blockDimZ);
  };
  return launch(function, config->hStream, per_thread, make_work, call);
}

}  // namespace

CUresult cuLaunch(CUfunction function) {
  return launch(
      function, nullptr, false, [&] { return kernel_work(function); },
      [&] { return real().cuLaunch(function); });
}

CUresult cuLaunchGrid(CUfunction function, int grid_width, int grid_height) {
  return launch(
      function, nullptr, false, [&] { return grid_work(function, grid_width, grid_height); },
      [&] { return real().cuLaunchGrid(function, grid_width, grid_height); });
}

CUresult cuLaunchGridAsync(CUfunction function, int grid_width, int grid_height, CUstream stream) {
  return launch(
      function, stream, false, [&] { return grid_work(function, grid_width, grid_height); },
      [&] { return real().cuLaunchGridAsync(function, grid_width, grid_height, stream); });
}

CUresult cuLaunchKernel(CUfunction function, unsigned int grid_dim_x, unsigned int grid_dim_y,
                        unsigned int grid_dim_z, unsigned int block_dim_x, unsigned int block_dim_y,
                        unsigned int block_dim_z, unsigned int shared_mem_bytes, CUstream stream,
                        void** kernel_params, void** extra) {
  return launch(
      function, stream, false,
      [&] {
        return kernel_work(function, grid_dim_x, grid_dim_y, grid_dim_z, block_dim_x, block_dim_y,
                           block_dim_z);
      },
      [&] {
        return real().cuLaunchKernel(function, grid_dim_x, grid_dim_y, grid_dim_z, block_dim_x,
                                     block_dim_y, block_dim_z, shared_mem_bytes, stream,
                                     kernel_params, extra);
      });
}

CUresult cuLaunchKernel_ptsz(CUfunction function, unsigned int grid_dim_x, unsigned int grid_dim_y,
                             unsigned int grid_dim_z, unsigned int block_dim_x,
                             unsigned int block_dim_y, unsigned int block_dim_z,
                             unsigned int shared_mem_bytes, CUstream stream, void** kernel_params,
                             void** extra) {
  return launch(
      function, stream, true,
      [&] {
        return kernel_work(function, grid_dim_x, grid_dim_y, grid_dim_z, block_dim_x, block_dim_y,
                           block_dim_z);
      },
      [&] {
        return real().cuLaunchKernel_ptsz(function, grid_dim_x, grid_dim_y, grid_dim_z, block_dim_x,
                                          block_dim_y, block_dim_z, shared_mem_bytes, stream,
                                          kernel_params, extra);
      });
}

CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** kernel_params,
                          void** extra) {
  return launch(config, function, false,
                [&] { return real().cuLaunchKernelEx(config, function, kernel_params, extra); });
}

CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig* config, CUfunction function,
                               void** kernel_params, void** extra) {
  return launch(config, function, true, [&] {
    return real().cuLaunchKernelEx_ptsz(config, function, kernel_params, extra);
  });
}

CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned int grid_dim_x,
                                   unsigned int grid_dim_y, unsigned int grid_dim_z,
                                   unsigned int block_dim_x, unsigned int block_dim_y,
                                   unsigned int block_dim_z, unsigned int shared_mem_bytes,
                                   CUstream stream, void** kernel_params) {
  return launch(
      function, stream, false,
      [&] {
        return kernel_work(function, grid_dim_x, grid_dim_y, grid_dim_z, block_dim_x, block_dim_y,
                           block_dim_z);
      },
      [&] {
        return real().cuLaunchCooperativeKernel(function, grid_dim_x, grid_dim_y, grid_dim_z,
                                                block_dim_x, block_dim_y, block_dim_z,
                                                shared_mem_bytes, stream, kernel_params);
      });
}

CUresult cuLaunchCooperativeKernel_ptsz(CUfunction function, unsigned int grid_dim_x,
                                        unsigned int grid_dim_y, unsigned int grid_dim_z,
                                        unsigned int block_dim_x, unsigned int block_dim_y,
                                        unsigned int block_dim_z, unsigned int shared_mem_bytes,
                                        CUstream stream, void** kernel_params) {
  return launch(
      function, stream, true,
      [&] {
        return kernel_work(function, grid_dim_x, grid_dim_y, grid_dim_z, block_dim_x, block_dim_y,
                           block_dim_z);
      },
      [&] {
        return real().cuLaunchCooperativeKernel_ptsz(function, grid_dim_x, grid_dim_y, grid_dim_z,
                                                     block_dim_x, block_dim_y, block_dim_z,
                                                     shared_mem_bytes, stream, kernel_params);
      });
}

// Each part runs in its own stream's context; a function belongs to one, so what it takes is
// charged there: promised before, and found taken after.
CUresult cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS* launch_params_list,
                                              unsigned int num_devices, unsigned int flags) {
  const unsigned int count = launch_params_list == nullptr ? 0 : num_devices;
  for (unsigned int i = 0; i < count; ++i) {
    FirstLaunch first(launch_params_list[i].function);
    if (first.refused()) return CUDA_ERROR_OUT_OF_MEMORY;
    first.captured();
  }
  MultiSubmission submissions(launch_params_list, count);
  ChangeScope change;
  const CUresult result =
      real().cuLaunchCooperativeKernelMultiDevice(launch_params_list, num_devices, flags);
  submissions.ended(result);
  for (unsigned int i = 0; result == CUDA_SUCCESS && i < count; ++i)
    FirstLaunch(launch_params_list[i].function).ran();
  return result;
}

}  // namespace vgpu::hooks

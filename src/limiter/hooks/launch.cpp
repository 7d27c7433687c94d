// SPDX-License-Identifier: Apache-2.0
// Launches: the first one of a function charges what it takes (local memory, lazily loaded code)
// before the driver is called; every later one costs a load and a compare here. In a capture the
// same holds: the graph will run it.
#include <algorithm>

#include "../enter.h"
#include "../hooks.h"
#include "code.h"
#include "context.h"
#include "settle.h"

namespace vgpu::limiter {

namespace {

// A CUkernel may stand where a CUfunction is asked for.
std::uint64_t local_bytes_of(CUfunction function, const Place& place) {
  int bytes = 0;
  if (real().cuFuncGetAttribute(&bytes, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, function) !=
      CUDA_SUCCESS) {
    const auto kernel = reinterpret_cast<CUkernel>(function);
    const CUdevice device = Limiter::active()->device_of(place.gpu);
    if (real().cuKernelGetAttribute == nullptr ||
        real().cuKernelGetAttribute(&bytes, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, kernel, device) !=
            CUDA_SUCCESS) {
      return 0;
    }
  }
  return bytes > 0 ? static_cast<std::uint64_t>(bytes) : 0;
}

bool use_library_of(CUfunction function, const Place& place) {
  CUlibrary library = nullptr;
  const auto kernel = reinterpret_cast<CUkernel>(function);
  const bool is_kernel = real().cuKernelGetLibrary != nullptr &&
                         real().cuKernelGetLibrary(&library, kernel) == CUDA_SUCCESS;
  return !is_kernel || library == nullptr || use_library(library, place);
}

Prepared reserve_local(std::uint64_t bytes_per_thread, const Place& place) {
  Context context;
  const bool is_known = ledger().contexts.find(place.context, context);
  if (!is_known || bytes_per_thread <= context.local_bytes) return Prepared::ready;
  const std::uint64_t per_thread =
      bytes_per_thread > context.stack_bytes ? bytes_per_thread : context.stack_bytes;
  const std::uint64_t wanted = local_memory_beyond_default(place.gpu, per_thread);
  const std::uint64_t held = context.local_charged_bytes;
  if (wanted > held) {
    measure(place.gpu);
    Reservation reservation(place.gpu, wanted - held, Charge::promised);
    if (reservation.refused()) return Prepared::refused;
    reservation.keep();
  }
  // Another thread's launch may have been charged meanwhile: then this one's charge, or as much of
  // it as that covers, is too much.
  std::uint64_t surplus = 0;
  ledger().contexts.edit(place.context, [&](Context& each) {
    each.local_bytes = std::max(each.local_bytes, bytes_per_thread);
    if (wanted <= held) return;
    surplus = std::min(wanted, each.local_charged_bytes);
    surplus -= std::min(surplus, held);
    each.local_charged_bytes = std::max(each.local_charged_bytes, wanted);
  });
  withdraw_promise(place.gpu, surplus);
  return wanted > held ? Prepared::growing : Prepared::ready;
}

}  // namespace

Prepared prepare_function(CUfunction function) {
  const auto handle = reinterpret_cast<std::uint64_t>(function);
  if (function == nullptr || ledger().code.was_launched(handle)) return Prepared::ready;
  const Place place = current_place();
  if (place.gpu == kNoGpu) return Prepared::ready;
  RelaxedCapture relaxed;
  if (!use_library_of(function, place)) return Prepared::refused;
  const Prepared prepared = reserve_local(local_bytes_of(function, place), place);
  if (prepared == Prepared::refused) return prepared;
  note_implicit_change(place.gpu);
  ledger().code.note_launched(handle);
  return prepared;
}

}  // namespace vgpu::limiter

namespace vgpu::hooks {

using namespace limiter;

namespace {

template <class Call>
CUresult launch(CUfunction function, Call call) {
  if (ledger().code.was_launched(reinterpret_cast<std::uint64_t>(function))) return call();
  const Prepared prepared = prepare_function(function);
  if (prepared == Prepared::refused) return CUDA_ERROR_OUT_OF_MEMORY;
  const CUresult result = call();
  if (prepared == Prepared::growing) measure(current_place().gpu);
  return result;
}

}  // namespace

CUresult cuLaunch(CUfunction function) {
  return launch(function, [&] { return real().cuLaunch(function); });
}

CUresult cuLaunchGrid(CUfunction function, int grid_width, int grid_height) {
  return launch(function, [&] { return real().cuLaunchGrid(function, grid_width, grid_height); });
}

CUresult cuLaunchGridAsync(CUfunction function, int grid_width, int grid_height, CUstream stream) {
  return launch(function, [&] {
    return real().cuLaunchGridAsync(function, grid_width, grid_height, stream);
  });
}

CUresult cuLaunchKernel(CUfunction function, unsigned int grid_dim_x, unsigned int grid_dim_y,
                        unsigned int grid_dim_z, unsigned int block_dim_x, unsigned int block_dim_y,
                        unsigned int block_dim_z, unsigned int shared_mem_bytes, CUstream stream,
                        void** kernel_params, void** extra) {
  return launch(function, [&] {
    return real().cuLaunchKernel(function, grid_dim_x, grid_dim_y, grid_dim_z, block_dim_x,
                                 block_dim_y, block_dim_z, shared_mem_bytes, stream, kernel_params,
                                 extra);
  });
}

CUresult cuLaunchKernel_ptsz(CUfunction function, unsigned int grid_dim_x, unsigned int grid_dim_y,
                             unsigned int grid_dim_z, unsigned int block_dim_x,
                             unsigned int block_dim_y, unsigned int block_dim_z,
                             unsigned int shared_mem_bytes, CUstream stream, void** kernel_params,
                             void** extra) {
  return launch(function, [&] {
    return real().cuLaunchKernel_ptsz(function, grid_dim_x, grid_dim_y, grid_dim_z, block_dim_x,
                                      block_dim_y, block_dim_z, shared_mem_bytes, stream,
                                      kernel_params, extra);
  });
}

CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** kernel_params,
                          void** extra) {
  return launch(function,
                [&] { return real().cuLaunchKernelEx(config, function, kernel_params, extra); });
}

CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig* config, CUfunction function,
                               void** kernel_params, void** extra) {
  return launch(function, [&] {
    return real().cuLaunchKernelEx_ptsz(config, function, kernel_params, extra);
  });
}

CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned int grid_dim_x,
                                   unsigned int grid_dim_y, unsigned int grid_dim_z,
                                   unsigned int block_dim_x, unsigned int block_dim_y,
                                   unsigned int block_dim_z, unsigned int shared_mem_bytes,
                                   CUstream stream, void** kernel_params) {
  return launch(function, [&] {
    return real().cuLaunchCooperativeKernel(function, grid_dim_x, grid_dim_y, grid_dim_z,
                                            block_dim_x, block_dim_y, block_dim_z, shared_mem_bytes,
                                            stream, kernel_params);
  });
}

CUresult cuLaunchCooperativeKernel_ptsz(CUfunction function, unsigned int grid_dim_x,
                                        unsigned int grid_dim_y, unsigned int grid_dim_z,
                                        unsigned int block_dim_x, unsigned int block_dim_y,
                                        unsigned int block_dim_z, unsigned int shared_mem_bytes,
                                        CUstream stream, void** kernel_params) {
  return launch(function, [&] {
    return real().cuLaunchCooperativeKernel_ptsz(function, grid_dim_x, grid_dim_y, grid_dim_z,
                                                 block_dim_x, block_dim_y, block_dim_z,
                                                 shared_mem_bytes, stream, kernel_params);
  });
}

// Each part runs in its own stream's context; a function belongs to one, so what it takes is
// charged there.
CUresult cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS* launch_params_list,
                                              unsigned int num_devices, unsigned int flags) {
  for (unsigned int i = 0; launch_params_list != nullptr && i < num_devices; ++i) {
    if (prepare_function(launch_params_list[i].function) == Prepared::refused) {
      return CUDA_ERROR_OUT_OF_MEMORY;
    }
  }
  return real().cuLaunchCooperativeKernelMultiDevice(launch_params_list, num_devices, flags);
}

}  // namespace vgpu::hooks

// SPDX-License-Identifier: Apache-2.0
// Kernel launches in all their forms. A kernel runs for the time that its text states, once per
// wave of blocks that fits the SMs at a time, and meets others in memory as the text says; nothing
// else about it is simulated.
#include "launch.h"

#include <algorithm>
#include <cstring>

#include "capture.h"
#include "graph.h"
#include "module.h"
#include "stream.h"

using namespace vgpu::sim;

namespace vgpu::sim {

CUresult check_shape(const Device& device, CUfunction function, const LaunchShape& shape) {
  constexpr unsigned kMostBlock[3] = {1024, 1024, 64};
  constexpr unsigned kMostGrid[3] = {2147483647, 65535, 65535};
  for (int i = 0; i < 3; ++i) {
    if (shape.grid[i] == 0 || shape.block[i] == 0 || shape.grid[i] > kMostGrid[i] ||
        shape.block[i] > kMostBlock[i]) {
      return CUDA_ERROR_INVALID_VALUE;
    }
  }
  const std::uint64_t threads = std::uint64_t{shape.block[0]} * shape.block[1] * shape.block[2];
  if (threads > 1024 || threads > static_cast<std::uint64_t>(function->text->max_threads))
    return CUDA_ERROR_INVALID_VALUE;
  const std::uint64_t most_shared =
      function->max_dynamic_shared > 0
          ? static_cast<std::uint64_t>(function->max_dynamic_shared)
          : 49152 - std::min<std::uint64_t>(49152, function->text->shared_bytes);
  if (shape.shared_bytes > most_shared) return CUDA_ERROR_INVALID_VALUE;
  if (function->text->shared_bytes + shape.shared_bytes >
      static_cast<std::uint64_t>(device.model().shared_bytes_per_block_optin)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

// Raising the stack is dear, since every thread that can be resident has one. What the default
// takes is part of every context, so a lower limit gives some of that back.
bool hold_local(CUcontext context, std::uint64_t bytes_per_thread) {
  Device& device = *context->device;
  const std::uint64_t threads = device.model().resident_threads();
  const std::uint64_t base = round_up(kDefaultStackBytes * threads, kPageBytes);
  const std::uint64_t now = base + context->local_bytes;
  const std::uint64_t next = round_up(bytes_per_thread * threads, kPageBytes);
  if (next > now) {
    if (!charge(device, next - now)) return false;
  } else {
    discharge(device, now - next);
  }
  context->local_bytes = next - base;
  return true;
}

CUresult prepare_launch(CUcontext context, CUfunction function) {
  if (!function->loaded) {
    const CUresult result = load_code(function);
    if (result != CUDA_SUCCESS) return result;
  }
  Device& device = *context->device;
  const KernelText& text = *function->text;
  if (text.local_bytes > context->local_high) {
    const std::uint64_t stack =
        std::max<std::uint64_t>(context->limits[CU_LIMIT_STACK_SIZE], text.local_bytes);
    if (!hold_local(context, stack)) return CUDA_ERROR_OUT_OF_MEMORY;
    context->local_high = text.local_bytes;
  }
  if (text.uses_heap && context->heap_bytes == 0) {
    const std::uint64_t bytes =
        round_up(context->limits[CU_LIMIT_MALLOC_HEAP_SIZE], kPageBytes) + kHeapExtraBytes;
    if (!charge(device, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    context->heap_bytes = bytes;
  }
  const std::uint64_t fifo = context->limits[CU_LIMIT_PRINTF_FIFO_SIZE];
  if (text.uses_printf && fifo > context->printf_bytes) {
    const std::uint64_t bytes =
        kDefaultPrintfBytes + round_up(fifo - kDefaultPrintfBytes, kPageBytes);
    if (!charge(device, bytes - context->printf_bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    context->printf_bytes = bytes;
  }
  return CUDA_SUCCESS;
}

Op kernel_op(const Device& device, unsigned sm_count, const LaunchShape& shape,
             const Effects& effects) {
  const GpuModel& model = device.model();
  const std::uint64_t threads = std::uint64_t{shape.block[0]} * shape.block[1] * shape.block[2];
  const std::uint64_t blocks = std::uint64_t{shape.grid[0]} * shape.grid[1] * shape.grid[2];
  const std::uint64_t per_sm =
      std::clamp<std::uint64_t>(static_cast<std::uint64_t>(model.threads_per_sm) / threads, 1,
                                static_cast<std::uint64_t>(model.blocks_per_sm));
  const std::uint64_t at_once = per_sm * sm_count;
  const std::uint64_t waves = (blocks + at_once - 1) / at_once;
  Op op;
  op.type = Op::Type::kernel;
  op.on_sms = true;
  op.remaining_ns = effects.spin_ns * waves + kKernelGapNs;
  op.threads = std::min(blocks, at_once) * threads;
  op.blocks = blocks;
  op.block_threads = threads;
  op.wave_ns = effects.spin_ns;
  op.arrives_at = effects.arrive;
  op.spins = effects.wait != 0;
  op.address = effects.wait;
  op.value = effects.wait_value;
  op.value_bytes = sizeof effects.wait_value;
  op.value_flags = CU_STREAM_WAIT_VALUE_GEQ;
  op.prompt = op.meets();
  return op;
}

namespace {

// A number that is a parameter of the launch, or stands in the text.
std::uint64_t value_of(const KernelText& text, const Stated& stated, void** params, void** extra) {
  const auto index = static_cast<std::size_t>(stated.param);
  if (stated.param < 0 || index >= text.param_offsets.size()) return stated.literal;
  std::uint64_t value = 0;
  const std::size_t size = std::min<std::size_t>(sizeof value, text.param_sizes[index]);
  if (params != nullptr) {
    std::memcpy(&value, params[index], size);
  } else if (extra != nullptr) {
    const unsigned char* buffer = nullptr;
    std::size_t bytes = 0;
    for (void** at = extra; *at != CU_LAUNCH_PARAM_END; at += 2) {
      if (at[0] == CU_LAUNCH_PARAM_BUFFER_POINTER)
        buffer = static_cast<const unsigned char*>(at[1]);
      if (at[0] == CU_LAUNCH_PARAM_BUFFER_SIZE) bytes = *static_cast<const std::size_t*>(at[1]);
    }
    if (buffer != nullptr && text.param_offsets[index] + size <= bytes)
      std::memcpy(&value, buffer + text.param_offsets[index], size);
  }
  return value;
}

}  // namespace

Effects stated_effects(CUfunction function, void** params, void** extra) {
  const KernelText& text = *function->text;
  const auto value = [&](const Stated& stated) { return value_of(text, stated, params, extra); };
  const Directives& directives = text.directives;
  Effects effects;
  effects.spin_ns = value(directives.spin_ns);
  if (directives.arrive) effects.arrive = value(*directives.arrive);
  if (directives.wait) {
    effects.wait = value(*directives.wait);
    effects.wait_value = static_cast<std::uint32_t>(value(directives.wait_value));
  }
  return effects;
}

}  // namespace vgpu::sim

namespace {

struct Launch {
  CUfunction function;
  LaunchShape shape;
  CUstream stream;
  void** params;
  void** extra;
  bool cooperative = false;
  bool per_thread = false;
  int priority = 0;
};

std::uint64_t resident_blocks(const GpuModel& model, unsigned sm_count, const LaunchShape& shape) {
  const std::uint64_t threads = std::uint64_t{shape.block[0]} * shape.block[1] * shape.block[2];
  return std::min<std::uint64_t>(static_cast<std::uint64_t>(model.threads_per_sm) / threads,
                                 static_cast<std::uint64_t>(model.blocks_per_sm)) *
         sm_count;
}

// A kernel that touches memory which no device can reach would fail when it runs; here at once.
bool can_reach(Driver& driver, const KernelText& text, const Effects& effects) {
  const auto is_word = [&](std::uint64_t address) {
    return address % sizeof(std::uint32_t) == 0 &&
           driver.accessible(address, sizeof(std::uint32_t));
  };
  return (!text.directives.arrive || is_word(effects.arrive)) &&
         (!text.directives.wait || is_word(effects.wait));
}

CUresult launch(const Launch& what) {
  Call call;
  if (!call) return call.result;
  if (what.function == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  CUstream stream = find_stream(call, what.stream, what.per_thread);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  CUcontext context = stream->context;
  CUresult result = CUDA_SUCCESS;
  CUfunction function = launchable(context, what.function, result);
  if (function == nullptr) return result;
  if (what.params == nullptr && what.extra == nullptr && !function->text->param_offsets.empty())
    return CUDA_ERROR_INVALID_VALUE;
  if (what.params != nullptr && what.extra != nullptr) return CUDA_ERROR_INVALID_VALUE;
  result = check_shape(*context->device, function, what.shape);
  if (result != CUDA_SUCCESS) return result;
  const unsigned sms = stream_sms(stream);
  if (what.cooperative) {
    const LaunchShape& shape = what.shape;
    const std::uint64_t blocks = std::uint64_t{shape.grid[0]} * shape.grid[1] * shape.grid[2];
    if (blocks > resident_blocks(context->device->model(), sms, shape))
      return CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
  }
  const Effects effects = stated_effects(function, what.params, what.extra);
  if (!can_reach(call.driver, *function->text, effects)) return CUDA_ERROR_ILLEGAL_ADDRESS;
  bool captured = false;
  result = route(call, stream, captured);
  if (result != CUDA_SUCCESS) return result;
  if (captured) {
    NodeBody body;
    body.type = CU_GRAPH_NODE_TYPE_KERNEL;
    const LaunchShape& shape = what.shape;
    body.kernel.func = function;
    body.kernel.gridDimX = shape.grid[0];
    body.kernel.gridDimY = shape.grid[1];
    body.kernel.gridDimZ = shape.grid[2];
    body.kernel.blockDimX = shape.block[0];
    body.kernel.blockDimY = shape.block[1];
    body.kernel.blockDimZ = shape.block[2];
    body.kernel.sharedMemBytes = shape.shared_bytes;
    body.context = context;
    result = copy_arguments(function, what.params, what.extra, body.arguments);
    if (result != CUDA_SUCCESS) return result;
    return capture_node(stream, std::move(body));
  }
  result = prepare_launch(context, function);
  if (result != CUDA_SUCCESS) return result;
  enqueue(call, stream, kernel_op(*context->device, sms, what.shape, effects));
  return CUDA_SUCCESS;
}

CUresult launch_with_config(const CUlaunchConfig* config, CUfunction function, void** params,
                            void** extra, bool per_thread) {
  if (config == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Launch what{function,
              {{config->gridDimX, config->gridDimY, config->gridDimZ},
               {config->blockDimX, config->blockDimY, config->blockDimZ},
               config->sharedMemBytes},
              config->hStream,
              params,
              extra};
  what.per_thread = per_thread;
  if (config->numAttrs > 0 && config->attrs == nullptr) return CUDA_ERROR_INVALID_VALUE;
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    const CUlaunchAttribute& attribute = config->attrs[i];
    if (attribute.id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE)
      what.cooperative = attribute.value.cooperative != 0;
    if (attribute.id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION) {
      const auto& cluster = attribute.value.clusterDim;
      const unsigned size = cluster.x * cluster.y * cluster.z;
      if (size == 0 || size > 16 || config->gridDimX % std::max(1u, cluster.x) != 0)
        return CUDA_ERROR_INVALID_CLUSTER_SIZE;
    }
  }
  return launch(what);
}

CUresult legacy_launch(CUfunction function, int width, int height, CUstream stream) {
  if (width <= 0 || height <= 0) return CUDA_ERROR_INVALID_VALUE;
  std::vector<unsigned char> params;
  LaunchShape shape{{static_cast<unsigned>(width), static_cast<unsigned>(height), 1}, {1, 1, 1}, 0};
  std::size_t bytes = 0;
  {
    Call call;
    if (!call) return call.result;
    if (!valid(function)) return CUDA_ERROR_INVALID_HANDLE;
    params = function->legacy_params;
    params.resize(std::max<std::size_t>(params.size(), function->text->param_bytes + 8));
    bytes = params.size();
    std::copy(std::begin(function->block), std::end(function->block), std::begin(shape.block));
    shape.shared_bytes = function->dynamic_shared;
  }
  void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, params.data(), CU_LAUNCH_PARAM_BUFFER_SIZE,
                   &bytes, CU_LAUNCH_PARAM_END};
  return launch({function, shape, stream, nullptr, extra});
}

CUresult set_legacy_param(CUfunction function, int offset, const void* from, std::size_t bytes) {
  Call call;
  if (!call) return call.result;
  if (!valid(function)) return CUDA_ERROR_INVALID_HANDLE;
  if (offset < 0 || from == nullptr) return CUDA_ERROR_INVALID_VALUE;
  auto& params = function->legacy_params;
  const std::size_t end = static_cast<std::size_t>(offset) + bytes;
  if (end > 4096) return CUDA_ERROR_INVALID_VALUE;
  if (params.size() < end) params.resize(end);
  std::memcpy(params.data() + offset, from, bytes);
  return CUDA_SUCCESS;
}

CUresult blocks_per_sm(CUfunction handle, int block_size, std::size_t dynamic_shared, int& out) {
  Call call;
  if (!call) return call.result;
  if (block_size <= 0 || block_size > 1024) return CUDA_ERROR_INVALID_VALUE;
  CUresult result = CUDA_SUCCESS;
  const CUfunction function = launchable(call.context, handle, result);
  if (function == nullptr) return result;
  const GpuModel& model = call.device->model();
  const int by_threads =
      model.threads_per_sm / static_cast<int>(round_up(static_cast<std::uint64_t>(block_size), 32));
  int blocks = std::min(by_threads, model.blocks_per_sm);
  const std::uint64_t shared = function->text->shared_bytes + dynamic_shared;
  if (shared > 0) {
    const std::uint64_t each = shared + (model.compute_major >= 8 ? 1024 : 0);
    blocks = std::min(
        blocks, static_cast<int>(static_cast<std::uint64_t>(model.shared_bytes_per_sm) / each));
  }
  out = blocks;
  return CUDA_SUCCESS;
}

CUresult best_block(int* min_grid_size, int* block_size, CUfunction function,
                    CUoccupancyB2DSize to_shared, size_t dynamic_shared, int limit) {
  if (min_grid_size == nullptr || block_size == nullptr) return CUDA_ERROR_INVALID_VALUE;
  int sms = 0;
  {
    Call call;
    if (!call) return call.result;
    sms = call.device->model().sm_count;
  }
  int best_threads = 0;
  int best = 0;
  int best_count = 0;
  for (int size = limit > 0 && limit < 1024 ? limit / 32 * 32 : 1024; size >= 32; size -= 32) {
    int blocks = 0;
    const CUresult result = blocks_per_sm(
        function, size, to_shared != nullptr ? to_shared(size) : dynamic_shared, blocks);
    if (result != CUDA_SUCCESS) return result;
    if (blocks * size > best_threads) {
      best_threads = blocks * size;
      best = size;
      best_count = blocks;
    }
  }
  *min_grid_size = best_count * sms;
  *block_size = best;
  return CUDA_SUCCESS;
}

}  // namespace

CUresult sim_cuLaunchKernel(CUfunction function, unsigned int gx, unsigned int gy, unsigned int gz,
                            unsigned int bx, unsigned int by, unsigned int bz,
                            unsigned int shared_mem_bytes, CUstream stream, void** kernel_params,
                            void** extra) {
  return launch(
      {function, {{gx, gy, gz}, {bx, by, bz}, shared_mem_bytes}, stream, kernel_params, extra});
}
CUresult sim_cuLaunchKernel_ptsz(CUfunction function, unsigned int gx, unsigned int gy,
                                 unsigned int gz, unsigned int bx, unsigned int by, unsigned int bz,
                                 unsigned int shared_mem_bytes, CUstream stream,
                                 void** kernel_params, void** extra) {
  return launch({function,
                 {{gx, gy, gz}, {bx, by, bz}, shared_mem_bytes},
                 stream,
                 kernel_params,
                 extra,
                 false,
                 true});
}
CUresult sim_cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function,
                              void** kernel_params, void** extra) {
  return launch_with_config(config, function, kernel_params, extra, false);
}
CUresult sim_cuLaunchKernelEx_ptsz(const CUlaunchConfig* config, CUfunction function,
                                   void** kernel_params, void** extra) {
  return launch_with_config(config, function, kernel_params, extra, true);
}
CUresult sim_cuLaunchCooperativeKernel(CUfunction function, unsigned int gx, unsigned int gy,
                                       unsigned int gz, unsigned int bx, unsigned int by,
                                       unsigned int bz, unsigned int shared_mem_bytes,
                                       CUstream stream, void** kernel_params) {
  return launch({function,
                 {{gx, gy, gz}, {bx, by, bz}, shared_mem_bytes},
                 stream,
                 kernel_params,
                 nullptr,
                 true,
                 false});
}
CUresult sim_cuLaunchCooperativeKernel_ptsz(CUfunction function, unsigned int gx, unsigned int gy,
                                            unsigned int gz, unsigned int bx, unsigned int by,
                                            unsigned int bz, unsigned int shared_mem_bytes,
                                            CUstream stream, void** kernel_params) {
  return launch({function,
                 {{gx, gy, gz}, {bx, by, bz}, shared_mem_bytes},
                 stream,
                 kernel_params,
                 nullptr,
                 true,
                 true});
}
CUresult sim_cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS* launch_params_list,
                                                  unsigned int num_devices, unsigned int) {
  if (launch_params_list == nullptr || num_devices == 0) return CUDA_ERROR_INVALID_VALUE;
  for (unsigned i = 0; i < num_devices; ++i) {
    const CUDA_LAUNCH_PARAMS& p = launch_params_list[i];
    CUcontext context = nullptr;
    {
      Call call;
      if (!call) return call.result;
      const CUstream stream = find_stream(call, p.hStream, false);
      if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
      context = stream->context;
    }
    context_stack().push_back(context);
    const CUresult result = launch({p.function,
                                    {{p.gridDimX, p.gridDimY, p.gridDimZ},
                                     {p.blockDimX, p.blockDimY, p.blockDimZ},
                                     p.sharedMemBytes},
                                    p.hStream,
                                    p.kernelParams,
                                    nullptr,
                                    true,
                                    false});
    context_stack().pop_back();
    if (result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

CUresult sim_cuLaunch(CUfunction function) { return legacy_launch(function, 1, 1, nullptr); }
CUresult sim_cuLaunchGrid(CUfunction function, int grid_width, int grid_height) {
  return legacy_launch(function, grid_width, grid_height, nullptr);
}
CUresult sim_cuLaunchGridAsync(CUfunction function, int grid_width, int grid_height,
                               CUstream stream) {
  return legacy_launch(function, grid_width, grid_height, stream);
}
CUresult sim_cuFuncSetBlockShape(CUfunction function, int x, int y, int z) {
  Call call;
  if (!call) return call.result;
  if (!valid(function)) return CUDA_ERROR_INVALID_HANDLE;
  if (x <= 0 || y <= 0 || z <= 0) return CUDA_ERROR_INVALID_VALUE;
  function->block[0] = static_cast<unsigned>(x);
  function->block[1] = static_cast<unsigned>(y);
  function->block[2] = static_cast<unsigned>(z);
  return CUDA_SUCCESS;
}
CUresult sim_cuFuncSetSharedSize(CUfunction function, unsigned int bytes) {
  Call call;
  if (!call) return call.result;
  if (!valid(function)) return CUDA_ERROR_INVALID_HANDLE;
  function->dynamic_shared = bytes;
  return CUDA_SUCCESS;
}
CUresult sim_cuParamSetSize(CUfunction function, unsigned int numbytes) {
  Call call;
  if (!call) return call.result;
  if (!valid(function)) return CUDA_ERROR_INVALID_HANDLE;
  if (numbytes > 4096) return CUDA_ERROR_INVALID_VALUE;
  function->legacy_params.resize(numbytes);
  return CUDA_SUCCESS;
}
CUresult sim_cuParamSeti(CUfunction function, int offset, unsigned int value) {
  return set_legacy_param(function, offset, &value, sizeof value);
}
CUresult sim_cuParamSetf(CUfunction function, int offset, float value) {
  return set_legacy_param(function, offset, &value, sizeof value);
}
CUresult sim_cuParamSetv(CUfunction function, int offset, void* ptr, unsigned int numbytes) {
  return set_legacy_param(function, offset, ptr, numbytes);
}

CUresult sim_cuOccupancyMaxActiveBlocksPerMultiprocessor(int* num_blocks, CUfunction function,
                                                         int block_size, size_t dynamic_shared) {
  if (num_blocks == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return blocks_per_sm(function, block_size, dynamic_shared, *num_blocks);
}
CUresult sim_cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    int* num_blocks, CUfunction function, int block_size, size_t dynamic_shared, unsigned int) {
  if (num_blocks == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return blocks_per_sm(function, block_size, dynamic_shared, *num_blocks);
}
CUresult sim_cuOccupancyMaxPotentialBlockSize(int* min_grid_size, int* block_size,
                                              CUfunction function, CUoccupancyB2DSize to_shared,
                                              size_t dynamic_shared, int block_size_limit) {
  return best_block(min_grid_size, block_size, function, to_shared, dynamic_shared,
                    block_size_limit);
}
CUresult sim_cuOccupancyMaxPotentialBlockSizeWithFlags(int* min_grid_size, int* block_size,
                                                       CUfunction function,
                                                       CUoccupancyB2DSize to_shared,
                                                       size_t dynamic_shared, int block_size_limit,
                                                       unsigned int) {
  return best_block(min_grid_size, block_size, function, to_shared, dynamic_shared,
                    block_size_limit);
}
CUresult sim_cuOccupancyAvailableDynamicSMemPerBlock(size_t* bytes, CUfunction handle,
                                                     int num_blocks, int block_size) {
  Call call;
  if (!call) return call.result;
  if (bytes == nullptr || num_blocks <= 0 || block_size <= 0) return CUDA_ERROR_INVALID_VALUE;
  CUresult result = CUDA_SUCCESS;
  const CUfunction function = launchable(call.context, handle, result);
  if (function == nullptr) return result;
  const GpuModel& model = call.device->model();
  const int each = model.shared_bytes_per_sm / num_blocks - 1024;
  const int most = std::min(each, model.shared_bytes_per_block_optin) -
                   static_cast<int>(function->text->shared_bytes);
  *bytes = static_cast<std::size_t>(std::max(0, most));
  return CUDA_SUCCESS;
}
CUresult sim_cuOccupancyMaxActiveClusters(int* num_clusters, CUfunction function,
                                          const CUlaunchConfig* config) {
  if (num_clusters == nullptr || config == nullptr) return CUDA_ERROR_INVALID_VALUE;
  int blocks = 0;
  const CUresult result = blocks_per_sm(
      function, static_cast<int>(config->blockDimX * config->blockDimY * config->blockDimZ),
      config->sharedMemBytes, blocks);
  if (result != CUDA_SUCCESS) return result;
  Call call;
  if (!call) return call.result;
  int size = 1;
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    if (config->attrs[i].id != CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION) continue;
    const auto& cluster = config->attrs[i].value.clusterDim;
    size = static_cast<int>(cluster.x * cluster.y * cluster.z);
  }
  *num_clusters = blocks * call.device->model().sm_count / std::max(1, size);
  return CUDA_SUCCESS;
}
CUresult sim_cuOccupancyMaxPotentialClusterSize(int* cluster_size, CUfunction handle,
                                                const CUlaunchConfig* config) {
  Call call;
  if (!call) return call.result;
  if (cluster_size == nullptr || config == nullptr) return CUDA_ERROR_INVALID_VALUE;
  CUresult result = CUDA_SUCCESS;
  if (launchable(call.context, handle, result) == nullptr) return result;
  *cluster_size = 8;
  return CUDA_SUCCESS;
}

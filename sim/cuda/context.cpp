// SPDX-License-Identifier: Apache-2.0
// Contexts: primary, created and green, which one is current on a thread, their limits and
// settings. A context costs its model's context bytes; what its limits cost falls due at the next
// launch (launch.cpp), as on the device.
#include <algorithm>
#include <cstdlib>

#include "capture.h"
#include "driver.h"
#include "engine.h"
#include "graph.h"
#include "launch.h"
#include "module.h"
#include "pool.h"

using namespace vgpu::sim;

namespace vgpu::sim {

CUresult create_context(Device& device, unsigned flags, unsigned api_version, bool primary,
                        CUcontext& out) {
  Driver& driver = Driver::get();
  if (!driver.state->take(device.index(), device.model().context_bytes))
    return CUDA_ERROR_OUT_OF_MEMORY;
  CUcontext context = primary && device.primary != nullptr ? device.primary : new CUctx_st;
  context->device = &device;
  context->primary = primary;
  context->active = true;
  context->flags = flags;
  context->api_version = api_version;
  context->attached = 1;
  context->sticky = CUDA_SUCCESS;
  context->id = driver.next_id++;
  context->limits = {};
  context->limits[CU_LIMIT_STACK_SIZE] = kDefaultStackBytes;
  context->limits[CU_LIMIT_PRINTF_FIFO_SIZE] = kDefaultPrintfBytes;
  context->limits[CU_LIMIT_MALLOC_HEAP_SIZE] = kDefaultHeapBytes;
  context->limits[CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT] = kDefaultPendingLaunches;
  context->limits[CU_LIMIT_MAX_L2_FETCH_GRANULARITY] = 64;
  context->local_bytes = 0;
  context->printf_bytes = kDefaultPrintfBytes;
  context->heap_bytes = 0;
  context->code_used = 0;
  context->code_charged = 0;
  context->object_bytes = 0;
  context->object_charged = 0;
  context->stream_slots = 0;
  context->green_slots = 0;
  context->greens = 0;
  context->local_high = 0;
  context->has_device_runtime = false;
  driver.contexts.insert(context);
  if (device.contexts++ == 0) driver.state->set_context(device.index(), true);
  out = context;
  return CUDA_SUCCESS;
}

namespace {
// What a context came to hold beyond its first bytes. A low stack limit makes it less than nothing.
std::uint64_t implicit_bytes(CUcontext context) {
  return context->local_bytes + context->code_charged + context->heap_bytes +
         (context->printf_bytes - kDefaultPrintfBytes) + context->object_charged;
}
}  // namespace

// Ends a context: its work is waited for, everything in it goes. A primary one keeps its handle for
// the next retain.
void destroy_context(std::unique_lock<std::mutex>& lock, CUcontext context) {
  Driver& driver = Driver::get();
  Device& device = *context->device;
  Engine& engine = Engine::get();
  for (const CUstream stream : std::set<CUstream>(context->streams)) {
    if (valid(stream) && stream->lane != nullptr) engine.drain(lock, *stream->lane);
  }
  while (!context->streams.empty()) destroy_stream(*context->streams.begin());
  context->legacy = nullptr;
  context->per_thread.clear();
  while (!context->modules.empty()) unload_module(*context->modules.begin());
  release_all(context);
  discharge(device, implicit_bytes(context) + device.model().context_bytes);
  context->small = RangeHeap{kPageBytes};
  context->small_arrays = RangeHeap{kPageBytes};
  context->small_pages.clear();
  context->peers.clear();
  for (const CUcontext other : driver.contexts) other->peers.erase(context);
  driver.contexts.erase(context);
  if (--device.contexts == 0) {
    drop_pools(device);
    drop_graph_memory(device);
    if (device.managed_held > 0) driver.state->give_hidden(device.index(), device.managed_held);
    device.managed_held = 0;
    device.managed_used = 0;
    driver.state->set_context(device.index(), false);
  }
  context->active = false;
  if (!context->primary) delete context;
}

}  // namespace vgpu::sim

namespace {

constexpr unsigned kKnownFlags = CU_CTX_FLAGS_MASK;

CUresult make_context(CUcontext* out, unsigned flags, CUdevice ordinal, unsigned api_version) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (out == nullptr || (flags & ~kKnownFlags) != 0) return CUDA_ERROR_INVALID_VALUE;
  Device* device = call.driver.device(ordinal);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  CUcontext context = nullptr;
  const CUresult result = create_context(*device, flags, api_version, false, context);
  if (result != CUDA_SUCCESS) return result;
  context_stack().push_back(context);
  *out = context;
  return CUDA_SUCCESS;
}

void forget_current(CUcontext context) {
  auto& stack = context_stack();
  if (!stack.empty() && stack.back() == context) stack.pop_back();
}

CUresult end_context(CUcontext context) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(context) || !context->active || context->primary || context->green != nullptr)
    return CUDA_ERROR_INVALID_CONTEXT;
  destroy_context(call.lock, context);
  forget_current(context);
  return CUDA_SUCCESS;
}

CUresult release_primary(CUdevice ordinal, bool all) {
  Call call(Call::kInit);
  if (!call) return call.result;
  Device* device = call.driver.device(ordinal);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (device->primary_refs == 0) return all ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
  if (all) {
    // A reset empties the context; whoever retained it may go on using it.
    destroy_context(call.lock, device->primary);
    device->primary_refs = 0;
    return CUDA_SUCCESS;
  }
  if (--device->primary_refs > 0) return CUDA_SUCCESS;
  destroy_context(call.lock, device->primary);
  return CUDA_SUCCESS;
}

CUresult set_primary_flags(CUdevice ordinal, unsigned flags, bool old_form) {
  Call call(Call::kInit);
  if (!call) return call.result;
  Device* device = call.driver.device(ordinal);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if ((flags & ~kKnownFlags) != 0) return CUDA_ERROR_INVALID_VALUE;
  if (old_form && device->primary_refs > 0) return CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE;
  device->primary_flags = flags;
  if (device->primary_refs > 0) device->primary->flags = flags;
  return CUDA_SUCCESS;
}

CUresult pop_context(CUcontext* out) {
  Call call(Call::kInit);
  if (!call) return call.result;
  auto& stack = context_stack();
  if (stack.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  if (out != nullptr) *out = stack.back();
  stack.pop_back();
  return CUDA_SUCCESS;
}

CUresult push_context(CUcontext context) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(context)) return CUDA_ERROR_INVALID_CONTEXT;
  context_stack().push_back(context);
  return CUDA_SUCCESS;
}

CUdevResource sm_resource(const Device& device, unsigned count) {
  CUdevResource resource{};
  resource.type = CU_DEV_RESOURCE_TYPE_SM;
  resource.sm.smCount = count;
  resource.sm.minSmPartitionSize = device.model().compute_major >= 9 ? 8 : 2;
  resource.sm.smCoscheduledAlignment = resource.sm.minSmPartitionSize;
  return resource;
}

}  // namespace

struct CUdevResourceDesc_st : Handle<CUdevResourceDesc_st> {
  static constexpr std::uint32_t kMagic = 0x44534331;
  unsigned sm_count = 0;
};

CUresult sim_cuCtxCreate(CUcontext* context, unsigned int flags, CUdevice device) {
  // A driver of today gives no contexts with 32-bit addresses, unless it is asked to play the old
  // one.
  const char* wanted = std::getenv("VGPU_SIM_LEGACY");
  if (wanted == nullptr || std::string_view(wanted) != "1") {
    const Call call(Call::kInit);
    return call ? CUDA_ERROR_OUT_OF_MEMORY : call.result;
  }
  return make_context(context, flags, device, 3010);
}
CUresult sim_cuCtxCreate_v2(CUcontext* context, unsigned int flags, CUdevice device) {
  return make_context(context, flags, device, 3020);
}
CUresult sim_cuCtxCreate_v3(CUcontext* context, CUexecAffinityParam* params_array, int num_params,
                            unsigned int flags, CUdevice device) {
  if (num_params < 0 || (num_params > 0 && params_array == nullptr))
    return CUDA_ERROR_INVALID_VALUE;
  if (num_params > 0) return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
  return make_context(context, flags, device, 3020);
}
CUresult sim_cuCtxCreate_v4(CUcontext* context, CUctxCreateParams* create_params,
                            unsigned int flags, CUdevice device) {
  if (create_params != nullptr && create_params->numExecAffinityParams > 0)
    return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
  if (create_params != nullptr && create_params->cigParams != nullptr)
    return CUDA_ERROR_NOT_SUPPORTED;
  return make_context(context, flags, device, 3020);
}
CUresult sim_cuCtxDestroy(CUcontext context) {
  return context == nullptr ? CUDA_ERROR_INVALID_VALUE : end_context(context);
}
CUresult sim_cuCtxDestroy_v2(CUcontext context) { return end_context(context); }

CUresult sim_cuCtxAttach(CUcontext* context, unsigned int flags) {
  Call call;
  if (!call) return call.result;
  if (context == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  ++call.context->attached;
  *context = call.context;
  return CUDA_SUCCESS;
}
CUresult sim_cuCtxDetach(CUcontext context) {
  {
    Call call(Call::kInit);
    if (!call) return call.result;
    if (!valid(context) || !context->active || context->primary) return CUDA_ERROR_INVALID_CONTEXT;
    if (--context->attached > 0) return CUDA_SUCCESS;
  }
  return end_context(context);
}

CUresult sim_cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice ordinal) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (context == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Device* device = call.driver.device(ordinal);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (device->primary_refs == 0) {
    CUcontext made = nullptr;
    const CUresult result = create_context(*device, device->primary_flags, 3020, true, made);
    if (result != CUDA_SUCCESS) return result;
    device->primary = made;
  }
  ++device->primary_refs;
  *context = device->primary;
  return CUDA_SUCCESS;
}
CUresult sim_cuDevicePrimaryCtxRelease(CUdevice device) { return release_primary(device, false); }
CUresult sim_cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  return release_primary(device, false);
}
CUresult sim_cuDevicePrimaryCtxReset(CUdevice device) { return release_primary(device, true); }
CUresult sim_cuDevicePrimaryCtxReset_v2(CUdevice device) { return release_primary(device, true); }
CUresult sim_cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned int flags) {
  return set_primary_flags(device, flags, true);
}
CUresult sim_cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned int flags) {
  return set_primary_flags(device, flags, false);
}
CUresult sim_cuDevicePrimaryCtxGetState(CUdevice ordinal, unsigned int* flags, int* active) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (flags == nullptr || active == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const Device* device = call.driver.device(ordinal);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  *flags = device->primary_flags;
  *active = device->primary_refs > 0 ? 1 : 0;
  return CUDA_SUCCESS;
}

CUresult sim_cuCtxGetCurrent(CUcontext* context) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (context == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *context = current_context();
  return CUDA_SUCCESS;
}
CUresult sim_cuCtxSetCurrent(CUcontext context) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (context != nullptr && !valid(context)) return CUDA_ERROR_INVALID_CONTEXT;
  auto& stack = context_stack();
  if (!stack.empty()) stack.pop_back();
  if (context != nullptr) stack.push_back(context);
  return CUDA_SUCCESS;
}
CUresult sim_cuCtxPopCurrent(CUcontext* context) { return pop_context(context); }
CUresult sim_cuCtxPopCurrent_v2(CUcontext* context) { return pop_context(context); }
CUresult sim_cuCtxPushCurrent(CUcontext context) { return push_context(context); }
CUresult sim_cuCtxPushCurrent_v2(CUcontext context) { return push_context(context); }

CUresult sim_cuCtxGetDevice(CUdevice* device) {
  Call call;
  if (!call) return call.result;
  if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *device = call.device->ordinal;
  return CUDA_SUCCESS;
}
CUresult sim_cuCtxGetDevice_v2(CUdevice* device, CUcontext context) {
  if (context == nullptr) return sim_cuCtxGetDevice(device);
  Call call(Call::kInit);
  if (!call) return call.result;
  if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(context) || !context->active) return CUDA_ERROR_INVALID_CONTEXT;
  *device = context->device->ordinal;
  return CUDA_SUCCESS;
}
CUresult sim_cuCtxGetFlags(unsigned int* flags) {
  Call call;
  if (!call) return call.result;
  if (flags == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *flags = call.context->flags;
  return CUDA_SUCCESS;
}
CUresult sim_cuCtxSetFlags(unsigned int flags) {
  Call call;
  if (!call) return call.result;
  if ((flags & ~kKnownFlags) != 0) return CUDA_ERROR_INVALID_VALUE;
  call.context->flags = flags;
  return CUDA_SUCCESS;
}
CUresult sim_cuCtxGetId(CUcontext context, unsigned long long* ctx_id) {
  Call call(context == nullptr ? Call::kContext : Call::kInit);
  if (!call) return call.result;
  if (ctx_id == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (context == nullptr) context = call.context;
  if (!valid(context) || !context->active) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  *ctx_id = context->id;
  return CUDA_SUCCESS;
}
CUresult sim_cuCtxGetApiVersion(CUcontext context, unsigned int* version) {
  Call call(context == nullptr ? Call::kContext : Call::kInit);
  if (!call) return call.result;
  if (version == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (context == nullptr) context = call.context;
  if (!valid(context)) return CUDA_ERROR_INVALID_CONTEXT;
  *version = context->api_version;
  return CUDA_SUCCESS;
}
CUresult sim_cuCtxGetExecAffinity(CUexecAffinityParam* exec_affinity, CUexecAffinityType type) {
  Call call;
  if (!call) return call.result;
  if (exec_affinity == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (type != CU_EXEC_AFFINITY_TYPE_SM_COUNT) return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
  exec_affinity->type = type;
  exec_affinity->param.smCount.val = static_cast<unsigned>(call.device->model().sm_count);
  return CUDA_SUCCESS;
}
CUresult sim_cuCtxGetStreamPriorityRange(int* least_priority, int* greatest_priority) {
  Call call;
  if (!call) return call.result;
  if (least_priority != nullptr) *least_priority = 0;
  if (greatest_priority != nullptr) *greatest_priority = -5;
  return CUDA_SUCCESS;
}
CUresult sim_cuCtxResetPersistingL2Cache() {
  const Call call;
  return call.result;
}
CUresult sim_cuCtxGetCacheConfig(CUfunc_cache* pconfig) {
  Call call;
  if (!call) return call.result;
  if (pconfig == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *pconfig = call.context->cache_config;
  return CUDA_SUCCESS;
}
CUresult sim_cuCtxSetCacheConfig(CUfunc_cache config) {
  Call call;
  if (!call) return call.result;
  if (config > CU_FUNC_CACHE_PREFER_EQUAL) return CUDA_ERROR_INVALID_VALUE;
  call.context->cache_config = config;
  return CUDA_SUCCESS;
}
CUresult sim_cuCtxGetSharedMemConfig(CUsharedconfig* config) {
  Call call;
  if (!call) return call.result;
  if (config == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *config = CU_SHARED_MEM_CONFIG_FOUR_BYTE_BANK_SIZE;
  return CUDA_SUCCESS;
}
CUresult sim_cuCtxSetSharedMemConfig(CUsharedconfig config) {
  Call call;
  if (!call) return call.result;
  if (config > CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE) return CUDA_ERROR_INVALID_VALUE;
  call.context->shared_config = config;
  return CUDA_SUCCESS;
}

CUresult sim_cuCtxSetLimit(CUlimit limit, size_t value) {
  Call call;
  if (!call) return call.result;
  CUcontext context = call.context;
  if (const CUresult refused = refuse_unsafe_in_capture(call); refused != CUDA_SUCCESS)
    return refused;
  switch (limit) {
    case CU_LIMIT_STACK_SIZE:
      if (value > kMaxStackBytes) return CUDA_ERROR_INVALID_VALUE;
      value = round_up(value, kStackAlignBytes);
      if (!hold_local(context, std::max<std::uint64_t>(value, context->local_high)))
        return CUDA_ERROR_OUT_OF_MEMORY;
      context->limits[limit] = value;
      return CUDA_SUCCESS;
    case CU_LIMIT_MALLOC_HEAP_SIZE:
      if (context->heap_bytes > 0) return CUDA_ERROR_INVALID_VALUE;  // in use
      context->limits[limit] = value;
      return CUDA_SUCCESS;
    case CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH:
      return CUDA_ERROR_UNSUPPORTED_LIMIT;
    case CU_LIMIT_PRINTF_FIFO_SIZE:
    case CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT:
      context->limits[limit] = value;
      return CUDA_SUCCESS;
    case CU_LIMIT_MAX_L2_FETCH_GRANULARITY:
      if (value > 128) return CUDA_ERROR_INVALID_VALUE;
      context->limits[limit] = value;
      return CUDA_SUCCESS;
    case CU_LIMIT_PERSISTING_L2_CACHE_SIZE:
      context->limits[limit] =
          std::min<std::size_t>(value, static_cast<std::size_t>(call.device->model().l2_bytes) / 2);
      return CUDA_SUCCESS;
    case CU_LIMIT_SHMEM_SIZE:
    case CU_LIMIT_CIG_ENABLED:
    case CU_LIMIT_CIG_SHMEM_FALLBACK_ENABLED:
      return CUDA_ERROR_UNSUPPORTED_LIMIT;
  }
  return CUDA_ERROR_INVALID_VALUE;
}
CUresult sim_cuCtxGetLimit(size_t* value, CUlimit limit) {
  Call call;
  if (!call) return call.result;
  if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (limit > CU_LIMIT_CIG_SHMEM_FALLBACK_ENABLED) return CUDA_ERROR_INVALID_VALUE;
  if (limit >= CU_LIMIT_SHMEM_SIZE || limit == CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH)
    return CUDA_ERROR_UNSUPPORTED_LIMIT;
  *value = call.context->limits[limit];
  return CUDA_SUCCESS;
}

CUresult sim_cuCtxEnablePeerAccess(CUcontext peer_context, unsigned int flags) {
  Call call;
  if (!call) return call.result;
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(peer_context) || !peer_context->active || peer_context == call.context)
    return CUDA_ERROR_INVALID_CONTEXT;
  if (peer_context->device == call.device) return CUDA_ERROR_INVALID_CONTEXT;
  if (peer_context->device->info->model != call.device->info->model)
    return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
  if (!call.context->peers.insert(peer_context).second)
    return CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
  return CUDA_SUCCESS;
}
CUresult sim_cuCtxDisablePeerAccess(CUcontext peer_context) {
  Call call;
  if (!call) return call.result;
  if (!valid(peer_context)) return CUDA_ERROR_INVALID_CONTEXT;
  return call.context->peers.erase(peer_context) == 0 ? CUDA_ERROR_PEER_ACCESS_NOT_ENABLED
                                                      : CUDA_SUCCESS;
}
CUresult sim_cuFlushGPUDirectRDMAWrites(CUflushGPUDirectRDMAWritesTarget target,
                                        CUflushGPUDirectRDMAWritesScope) {
  Call call;
  if (!call) return call.result;
  return target == CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TARGET_CURRENT_CTX ? CUDA_SUCCESS
                                                                      : CUDA_ERROR_INVALID_VALUE;
}

// Green contexts: a part of the SMs of the primary context.
CUresult sim_cuDeviceGetDevResource(CUdevice ordinal, CUdevResource* resource,
                                    CUdevResourceType type) {
  Call call(Call::kInit);
  if (!call) return call.result;
  const Device* device = call.driver.device(ordinal);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (resource == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (type != CU_DEV_RESOURCE_TYPE_SM) return CUDA_ERROR_INVALID_RESOURCE_TYPE;
  *resource = sm_resource(*device, static_cast<unsigned>(device->model().sm_count));
  return CUDA_SUCCESS;
}
CUresult sim_cuDevSmResourceSplitByCount(CUdevResource* result, unsigned int* nb_groups,
                                         const CUdevResource* input, CUdevResource* remaining,
                                         unsigned int, unsigned int min_count) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (nb_groups == nullptr || input == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (input->type != CU_DEV_RESOURCE_TYPE_SM) return CUDA_ERROR_INVALID_RESOURCE_TYPE;
  const unsigned step = std::max(1u, input->sm.minSmPartitionSize);
  const auto size = static_cast<unsigned>(round_up(std::max(min_count, step), step));
  if (size > input->sm.smCount) return CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION;
  const unsigned possible = input->sm.smCount / size;
  const unsigned groups = result == nullptr ? possible : std::min(possible, *nb_groups);
  *nb_groups = groups;
  if (result == nullptr) return CUDA_SUCCESS;
  for (unsigned i = 0; i < groups; ++i) {
    result[i] = *input;
    result[i].sm.smCount = size;
  }
  if (remaining != nullptr) {
    *remaining = *input;
    remaining->sm.smCount = input->sm.smCount - groups * size;
    if (remaining->sm.smCount == 0) remaining->type = CU_DEV_RESOURCE_TYPE_INVALID;
  }
  return CUDA_SUCCESS;
}
CUresult sim_cuDevResourceGenerateDesc(CUdevResourceDesc* desc, CUdevResource* resources,
                                       unsigned int nb_resources) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (desc == nullptr || resources == nullptr || nb_resources == 0) return CUDA_ERROR_INVALID_VALUE;
  unsigned count = 0;
  for (unsigned i = 0; i < nb_resources; ++i) {
    if (resources[i].type != CU_DEV_RESOURCE_TYPE_SM) return CUDA_ERROR_INVALID_RESOURCE_TYPE;
    count += resources[i].sm.smCount;
  }
  auto* made = new CUdevResourceDesc_st;
  made->sm_count = count;
  *desc = made;
  return CUDA_SUCCESS;
}
CUresult sim_cuGreenCtxCreate(CUgreenCtx* out, CUdevResourceDesc desc, CUdevice ordinal,
                              unsigned int flags) {
  {
    Call call(Call::kInit);
    if (!call) return call.result;
    if (out == nullptr || !valid(desc) || flags != CU_GREEN_CTX_DEFAULT_STREAM)
      return CUDA_ERROR_INVALID_VALUE;
    const Device* device = call.driver.device(ordinal);
    if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    if (desc->sm_count > static_cast<unsigned>(device->model().sm_count))
      return CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION;
  }
  CUcontext primary = nullptr;  // a green context keeps the primary one alive
  const CUresult result = sim_cuDevicePrimaryCtxRetain(&primary, ordinal);
  if (result != CUDA_SUCCESS) return result;
  Call call(Call::kInit);
  if (!call) return call.result;
  Device& device = *call.driver.device(ordinal);
  if (primary->greens == primary->green_slots) {
    if (!take_object_bytes(primary, kGreenContextBytes)) {
      call.lock.unlock();
      release_primary(ordinal, false);
      return CUDA_ERROR_OUT_OF_MEMORY;
    }
    ++primary->green_slots;
  }
  ++primary->greens;
  auto* green = new CUgreenCtx_st;
  green->device = &device;
  green->sm_count = desc->sm_count;
  green->id = call.driver.next_id++;
  // Its own face as a context; memory and modules are the primary context's, so it costs nothing
  // more.
  auto* face = new CUctx_st;
  face->device = &device;
  face->active = true;
  face->green = green;
  face->id = green->id;
  face->limits = primary->limits;
  face->printf_bytes = kDefaultPrintfBytes;
  green->context = face;
  call.driver.contexts.insert(face);
  *out = green;
  return CUDA_SUCCESS;
}
CUresult sim_cuGreenCtxDestroy(CUgreenCtx green) {
  int ordinal = 0;
  {
    Call call(Call::kInit);
    if (!call) return call.result;
    if (!valid(green)) return CUDA_ERROR_INVALID_CONTEXT;
    CUcontext face = green->context;
    ordinal = green->device->ordinal;
    for (const CUstream stream : std::set<CUstream>(face->streams)) {
      if (stream->lane != nullptr) Engine::get().drain(call.lock, *stream->lane);
    }
    while (!face->streams.empty()) destroy_stream(*face->streams.begin());
    while (!face->modules.empty()) unload_module(*face->modules.begin());
    release_all(face);
    if (static_cast<std::int64_t>(implicit_bytes(face)) > 0)
      discharge(*face->device, implicit_bytes(face));
    --face->device->primary->greens;
    call.driver.contexts.erase(face);
    forget_current(face);
    face->active = false;
    delete face;
    delete green;
  }
  return release_primary(ordinal, false);
}
CUresult sim_cuCtxFromGreenCtx(CUcontext* context, CUgreenCtx green_ctx) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (context == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(green_ctx)) return CUDA_ERROR_INVALID_CONTEXT;
  *context = green_ctx->context;
  return CUDA_SUCCESS;
}
CUresult sim_cuGreenCtxGetDevResource(CUgreenCtx green, CUdevResource* resource,
                                      CUdevResourceType type) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(green)) return CUDA_ERROR_INVALID_CONTEXT;
  if (resource == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (type != CU_DEV_RESOURCE_TYPE_SM) return CUDA_ERROR_INVALID_RESOURCE_TYPE;
  *resource = sm_resource(*green->device, green->sm_count);
  return CUDA_SUCCESS;
}
CUresult sim_cuCtxGetDevResource(CUcontext context, CUdevResource* resource,
                                 CUdevResourceType type) {
  Call call(context == nullptr ? Call::kContext : Call::kInit);
  if (!call) return call.result;
  if (context == nullptr) context = call.context;
  if (!valid(context) || !context->active) return CUDA_ERROR_INVALID_CONTEXT;
  if (resource == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (type != CU_DEV_RESOURCE_TYPE_SM) return CUDA_ERROR_INVALID_RESOURCE_TYPE;
  const unsigned count = context->green != nullptr
                             ? context->green->sm_count
                             : static_cast<unsigned>(context->device->model().sm_count);
  *resource = sm_resource(*context->device, count);
  return CUDA_SUCCESS;
}
CUresult sim_cuGreenCtxGetId(CUgreenCtx green_ctx, unsigned long long* green_ctx_id) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(green_ctx)) return CUDA_ERROR_INVALID_CONTEXT;
  if (green_ctx_id == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *green_ctx_id = green_ctx->id;
  return CUDA_SUCCESS;
}

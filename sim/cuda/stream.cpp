// SPDX-License-Identifier: Apache-2.0
// Streams: creation, order (the legacy default stream included), waiting, host functions, memory
// operations.
#include "stream.h"

#include <algorithm>

#include "capture.h"
#include "pool.h"

using namespace vgpu::sim;

namespace vgpu::sim {

CUstream make_stream(CUcontext context, unsigned flags, int priority) {
  auto* stream = new CUstream_st;
  stream->context = context;
  stream->green = context->green;
  stream->flags = flags;
  stream->priority = std::clamp(priority, -5, 0);
  stream->id = Driver::get().next_id++;
  stream->lane = Engine::get().new_lane(*context->device, stream->priority);
  context->streams.insert(stream);
  return stream;
}

void destroy_stream(CUstream stream) {
  stream->context->streams.erase(stream);
  if (stream->lane->active) {
    stream->lane->orphan = true;  // what it holds still runs
  } else {
    Engine::get().retire_lane(stream->lane);
  }
  delete stream;
}

CUstream find_stream(Call& call, CUstream handle, bool per_thread_default) {
  const auto number = reinterpret_cast<std::uintptr_t>(handle);
  if (number > 2) return valid(handle) && handle->context->active ? handle : nullptr;
  CUcontext context = call.context;
  if (number == 2 || (number == 0 && per_thread_default)) {
    CUstream& stream = context->per_thread[thread_id()];
    if (stream == nullptr) {
      stream = make_stream(context, CU_STREAM_DEFAULT, 0);
      stream->per_thread = true;
    }
    return stream;
  }
  if (context->legacy == nullptr) {
    context->legacy = make_stream(context, CU_STREAM_DEFAULT, 0);
    context->legacy->legacy = true;
  }
  return context->legacy;
}

unsigned stream_sms(CUstream stream) {
  return stream->green != nullptr
             ? stream->green->sm_count
             : static_cast<unsigned>(stream->context->device->model().sm_count);
}

std::uint64_t enqueue(Call& call, CUstream stream, Op&& op) {
  CUcontext context = stream->context;
  if (stream->legacy) {
    for (const CUstream other : context->streams) {
      if (other == stream || (other->flags & CU_STREAM_NON_BLOCKING) != 0 || other->lane->idle())
        continue;
      op.after.push_back({other->lane, other->lane->submitted});
    }
  } else if ((stream->flags & CU_STREAM_NON_BLOCKING) == 0 && context->legacy != nullptr &&
             !context->legacy->lane->idle()) {
    op.after.push_back({context->legacy->lane, context->legacy->lane->submitted});
  }
  Engine& engine = Engine::get();
  if (stream->lane->queue.size() >= kPendingPerStream) {
    // The queue is full: the launch waits until there is room again.
    Lane& lane = *stream->lane;
    engine.wait_for(call.lock, lane, lane.queue[lane.queue.size() - kPendingPerStream].ticket);
  }
  // What has no effect but in this stream's own order is done at once if nothing is before it; on a
  // device that others have work for, in this process's next turn.
  const Lane& own = *stream->lane;
  const bool waits_for_turn =
      own.on_sms && Driver::get().state->is_wanted_by_others(own.device->index());
  if (own.idle() && op.after.empty() && op.type == Op::Type::record && !waits_for_turn) {
    op.event->done = std::max(op.event->done, op.generation);
    op.event->time_ns = std::max(DeviceState::now_ns(), engine.time());
    return stream->lane->completed;
  }
  return engine.submit(*stream->lane, std::move(op));
}

}  // namespace vgpu::sim

namespace {

CUresult create(CUstream* out, unsigned flags, int priority) {
  Call call;
  if (!call) return call.result;
  if (out == nullptr || (flags & ~unsigned{CU_STREAM_NON_BLOCKING}) != 0)
    return CUDA_ERROR_INVALID_VALUE;
  // Streams are created into slots that their context keeps.
  CUcontext context = call.context;
  std::uint64_t own = 0;
  for (const CUstream stream : context->streams)
    own += stream->legacy || stream->per_thread ? 0 : 1;
  if (own == context->stream_slots) {
    if (!take_object_bytes(context, kStreamBytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    ++context->stream_slots;
  }
  *out = make_stream(context, flags, priority);
  return CUDA_SUCCESS;
}

CUresult destroy(CUstream stream) {
  Call call;
  if (!call) return call.result;
  if (reinterpret_cast<std::uintptr_t>(stream) <= 2 || !valid(stream) || stream->legacy ||
      stream->per_thread)
    return CUDA_ERROR_INVALID_HANDLE;
  if (stream->capture != nullptr) {
    stream->capture->invalidated = true;
    stream->capture->streams.erase(stream);
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  destroy_stream(stream);
  return CUDA_SUCCESS;
}

struct InStream {
  InStream(CUstream handle, bool per_thread, bool arguments_good = true) {
    result = call.result;
    if (result != CUDA_SUCCESS) return;
    stream = find_stream(call, handle, per_thread);
    if (stream == nullptr) {
      result = CUDA_ERROR_INVALID_HANDLE;
    } else if (!arguments_good) {
      result = CUDA_ERROR_INVALID_VALUE;
    }
  }
  explicit operator bool() const { return result == CUDA_SUCCESS; }
  Call call;
  CUresult result;
  CUstream stream = nullptr;
};

CUresult synchronize(CUstream handle, bool per_thread) {
  InStream at(handle, per_thread);
  if (!at) return at.result;
  if (const CUresult refused = refuse_if_capturing(at.stream); refused != CUDA_SUCCESS)
    return refused;
  if (const CUresult refused = refuse_unsafe_in_capture(at.call); refused != CUDA_SUCCESS)
    return refused;
  if (at.stream->legacy) {
    if (const CUresult refused = refuse_if_context_captures(at.call); refused != CUDA_SUCCESS)
      return refused;
    // The legacy stream is done when the blocking streams are.
    std::vector<Op::Point> points;
    for (const CUstream other : at.stream->context->streams) {
      if ((other->flags & CU_STREAM_NON_BLOCKING) == 0 && !other->lane->idle())
        points.push_back({other->lane, other->lane->submitted});
    }
    for (const Op::Point& point : points)
      Engine::get().wait_for(at.call.lock, *point.lane, point.ticket);
  } else {
    Engine::get().drain(at.call.lock, *at.stream->lane);
  }
  settle_pools();
  return CUDA_SUCCESS;
}

CUresult query(CUstream handle, bool per_thread) {
  InStream at(handle, per_thread);
  if (!at) return at.result;
  if (const CUresult refused = refuse_if_capturing(at.stream); refused != CUDA_SUCCESS)
    return refused;
  if (const CUresult refused = refuse_unsafe_in_capture(at.call); refused != CUDA_SUCCESS)
    return refused;
  if (at.stream->legacy) {
    if (const CUresult refused = refuse_if_context_captures(at.call); refused != CUDA_SUCCESS)
      return refused;
  }
  Lane& lane = *at.stream->lane;
  if (lane.idle()) return CUDA_SUCCESS;
  Engine::get().advance(at.call.lock);
  return lane.idle() ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUresult host_function(CUstream handle, CUhostFn fn, void* user_data, bool per_thread) {
  InStream at(handle, per_thread, fn != nullptr);
  if (!at) return at.result;
  bool captured = false;
  const CUresult routed = route(at.call, at.stream, captured);
  if (routed != CUDA_SUCCESS) return routed;
  if (captured) {
    NodeBody body;
    body.type = CU_GRAPH_NODE_TYPE_HOST;
    body.host = {fn, user_data};
    return capture_node(at.stream, std::move(body));
  }
  Op op;
  op.type = Op::Type::host;
  op.prompt = true;
  op.work = [fn, user_data] { fn(user_data); };
  enqueue(at.call, at.stream, std::move(op));
  return CUDA_SUCCESS;
}

CUresult callback_function(CUstream handle, CUstreamCallback callback, void* user_data,
                           unsigned flags, bool per_thread) {
  InStream at(handle, per_thread, callback != nullptr && flags == 0);
  if (!at) return at.result;
  if (at.stream->capture != nullptr) {
    at.stream->capture->invalidated = true;
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  bool captured = false;
  const CUresult routed = route(at.call, at.stream, captured);
  if (routed != CUDA_SUCCESS) return routed;
  Op op;
  op.type = Op::Type::host;
  op.prompt = true;
  op.work = [callback, handle, user_data] { callback(handle, CUDA_SUCCESS, user_data); };
  enqueue(at.call, at.stream, std::move(op));
  return CUDA_SUCCESS;
}

// Memory operations: a wait holds the stream until the value is there, a write lands in stream
// order.
bool writable(const Driver& driver, CUdeviceptr address, std::uint64_t bytes) {
  return address % bytes == 0 && const_cast<Driver&>(driver).find(address, bytes) != nullptr;
}

CUresult check_memory_op(const Driver& driver, const CUstreamBatchMemOpParams& params) {
  switch (params.operation) {
    case CU_STREAM_MEM_OP_WAIT_VALUE_32:
    case CU_STREAM_MEM_OP_WAIT_VALUE_64: {
      const std::uint64_t bytes = params.operation == CU_STREAM_MEM_OP_WAIT_VALUE_32 ? 4 : 8;
      if ((params.waitValue.flags & ~3u) != 0) {
        return (params.waitValue.flags & ~3u) == CU_STREAM_WAIT_VALUE_FLUSH
                   ? CUDA_ERROR_NOT_SUPPORTED
                   : CUDA_ERROR_INVALID_VALUE;
      }
      return writable(driver, params.waitValue.address, bytes) ? CUDA_SUCCESS
                                                               : CUDA_ERROR_INVALID_VALUE;
    }
    case CU_STREAM_MEM_OP_WRITE_VALUE_32:
    case CU_STREAM_MEM_OP_WRITE_VALUE_64: {
      const std::uint64_t bytes = params.operation == CU_STREAM_MEM_OP_WRITE_VALUE_32 ? 4 : 8;
      if (params.writeValue.flags != CU_STREAM_WRITE_VALUE_DEFAULT) return CUDA_ERROR_INVALID_VALUE;
      return writable(driver, params.writeValue.address, bytes) ? CUDA_SUCCESS
                                                                : CUDA_ERROR_INVALID_VALUE;
    }
    case CU_STREAM_MEM_OP_BARRIER:
      return CUDA_SUCCESS;
    case CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES:
      return CUDA_ERROR_NOT_SUPPORTED;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult memory_ops(CUstream handle, unsigned count, const CUstreamBatchMemOpParams* params,
                    unsigned flags, bool per_thread) {
  InStream at(handle, per_thread, params != nullptr && count > 0 && count <= 256 && flags == 0);
  if (!at) return at.result;
  for (unsigned i = 0; i < count; ++i) {
    const CUresult checked = check_memory_op(at.call.driver, params[i]);
    if (checked != CUDA_SUCCESS) return checked;
  }
  bool captured = false;
  const CUresult routed = route(at.call, at.stream, captured);
  if (routed != CUDA_SUCCESS) return routed;
  if (captured) {
    NodeBody body;
    body.type = CU_GRAPH_NODE_TYPE_BATCH_MEM_OP;
    body.memory_ops.assign(params, params + count);
    return capture_node(at.stream, std::move(body));
  }
  for (unsigned i = 0; i < count; ++i) {
    if (params[i].operation == CU_STREAM_MEM_OP_BARRIER) continue;
    enqueue(at.call, at.stream, memory_op(params[i]));
  }
  return CUDA_SUCCESS;
}

CUresult one_memory_op(CUstream stream, CUstreamBatchMemOpType type, CUdeviceptr address,
                       cuuint64_t value, unsigned flags, bool per_thread) {
  CUstreamBatchMemOpParams params{};
  params.operation = type;
  params.waitValue.address = address;
  params.waitValue.value64 = value;
  params.waitValue.flags = flags;
  return memory_ops(stream, 1, &params, 0, per_thread);
}

CUresult stream_context(CUstream handle, CUcontext* context, bool per_thread) {
  InStream at(handle, per_thread, context != nullptr);
  if (!at) return at.result;
  if (const CUresult refused = refuse_if_capturing(at.stream);
      refused == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)
    return refused;
  *context = at.stream->context;
  return CUDA_SUCCESS;
}

CUresult stream_attribute(CUstream handle, CUstreamAttrID attr, CUstreamAttrValue* value,
                          bool per_thread) {
  InStream at(handle, per_thread, value != nullptr);
  if (!at) return at.result;
  const auto found = at.stream->attributes.find(static_cast<int>(attr));
  *value = {};
  if (found != at.stream->attributes.end()) {
    *value = found->second;
  } else if (attr == CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY) {
    value->syncPolicy = CU_SYNC_POLICY_AUTO;
  } else if (attr == CU_LAUNCH_ATTRIBUTE_PRIORITY) {
    value->priority = at.stream->priority;
  } else if (attr != CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW &&
             attr != CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN &&
             attr != CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

CUresult set_stream_attribute(CUstream handle, CUstreamAttrID attr, const CUstreamAttrValue* value,
                              bool per_thread) {
  InStream at(handle, per_thread, value != nullptr);
  if (!at) return at.result;
  at.stream->attributes[static_cast<int>(attr)] = *value;
  return CUDA_SUCCESS;
}

CUresult copy_attributes(CUstream dst, CUstream src, bool per_thread) {
  InStream at(dst, per_thread);
  if (!at) return at.result;
  const CUstream from = find_stream(at.call, src, per_thread);
  if (from == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  at.stream->attributes = from->attributes;
  return CUDA_SUCCESS;
}

template <class T, class Get>
CUresult property(CUstream handle, T* out, bool per_thread, Get get) {
  InStream at(handle, per_thread, out != nullptr);
  if (!at) return at.result;
  *out = get(at.stream);
  return CUDA_SUCCESS;
}

unsigned flags_of(CUstream stream) { return stream->flags; }
int priority_of(CUstream stream) { return stream->priority; }
unsigned long long id_of(CUstream stream) { return stream->id; }
CUdevice device_of(CUstream stream) { return stream->context->device->ordinal; }

CUresult contexts_of(CUstream handle, CUcontext* context, CUgreenCtx* green, bool per_thread) {
  InStream at(handle, per_thread, context != nullptr);
  if (!at) return at.result;
  *context = at.stream->green != nullptr ? at.stream->context->device->primary : at.stream->context;
  if (green != nullptr) *green = at.stream->green;
  return CUDA_SUCCESS;
}

}  // namespace

namespace vgpu::sim {

Op memory_op(const CUstreamBatchMemOpParams& params) {
  Op op;
  op.prompt = true;
  const bool wide = params.operation == CU_STREAM_MEM_OP_WAIT_VALUE_64 ||
                    params.operation == CU_STREAM_MEM_OP_WRITE_VALUE_64;
  if (params.operation == CU_STREAM_MEM_OP_WAIT_VALUE_32 ||
      params.operation == CU_STREAM_MEM_OP_WAIT_VALUE_64) {
    op.type = Op::Type::wait_value;
    op.address = params.waitValue.address;
    op.value = wide ? params.waitValue.value64 : params.waitValue.value;
    op.value_bytes = wide ? 8 : 4;
    op.value_flags = params.waitValue.flags;
    return op;
  }
  op.type = Op::Type::marker;
  const CUdeviceptr address = params.writeValue.address;
  const cuuint64_t value = wide ? params.writeValue.value64 : params.writeValue.value;
  op.work = [address, value, wide] {
    note_write(address);
    if (wide) {
      __atomic_store_n(reinterpret_cast<std::uint64_t*>(address), value, __ATOMIC_RELEASE);
    } else {
      __atomic_store_n(reinterpret_cast<std::uint32_t*>(address), static_cast<std::uint32_t>(value),
                       __ATOMIC_RELEASE);
    }
  };
  return op;
}

}  // namespace vgpu::sim

CUresult sim_cuStreamCreate(CUstream* stream, unsigned int flags) {
  return create(stream, flags, 0);
}
CUresult sim_cuStreamCreateWithPriority(CUstream* stream, unsigned int flags, int priority) {
  return create(stream, flags, priority);
}
CUresult sim_cuGreenCtxStreamCreate(CUstream* stream, CUgreenCtx green_ctx, unsigned int flags,
                                    int priority) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (stream == nullptr || flags != CU_STREAM_NON_BLOCKING) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(green_ctx)) return CUDA_ERROR_INVALID_CONTEXT;
  *stream = make_stream(green_ctx->context, flags, priority);
  return CUDA_SUCCESS;
}
CUresult sim_cuStreamDestroy(CUstream stream) { return destroy(stream); }
CUresult sim_cuStreamDestroy_v2(CUstream stream) { return destroy(stream); }
CUresult sim_cuStreamSynchronize(CUstream stream) { return synchronize(stream, false); }
CUresult sim_cuStreamSynchronize_ptsz(CUstream stream) { return synchronize(stream, true); }
CUresult sim_cuStreamQuery(CUstream stream) { return query(stream, false); }
CUresult sim_cuStreamQuery_ptsz(CUstream stream) { return query(stream, true); }
CUresult sim_cuStreamGetFlags(CUstream stream, unsigned int* flags) {
  return property(stream, flags, false, flags_of);
}
CUresult sim_cuStreamGetFlags_ptsz(CUstream stream, unsigned int* flags) {
  return property(stream, flags, true, flags_of);
}
CUresult sim_cuStreamGetPriority(CUstream stream, int* priority) {
  return property(stream, priority, false, priority_of);
}
CUresult sim_cuStreamGetPriority_ptsz(CUstream stream, int* priority) {
  return property(stream, priority, true, priority_of);
}
CUresult sim_cuStreamGetId(CUstream stream, unsigned long long* id) {
  return property(stream, id, false, id_of);
}
CUresult sim_cuStreamGetId_ptsz(CUstream stream, unsigned long long* id) {
  return property(stream, id, true, id_of);
}
CUresult sim_cuStreamGetDevice(CUstream stream, CUdevice* device) {
  return property(stream, device, false, device_of);
}
CUresult sim_cuStreamGetDevice_ptsz(CUstream stream, CUdevice* device) {
  return property(stream, device, true, device_of);
}
CUresult sim_cuStreamGetCtx(CUstream stream, CUcontext* context) {
  return stream_context(stream, context, false);
}
CUresult sim_cuStreamGetCtx_ptsz(CUstream stream, CUcontext* context) {
  return stream_context(stream, context, true);
}
CUresult sim_cuStreamGetCtx_v2(CUstream stream, CUcontext* context, CUgreenCtx* green) {
  return contexts_of(stream, context, green, false);
}
CUresult sim_cuStreamGetCtx_v2_ptsz(CUstream stream, CUcontext* context, CUgreenCtx* green) {
  return contexts_of(stream, context, green, true);
}
CUresult sim_cuStreamGetGreenCtx(CUstream stream, CUgreenCtx* green) {
  return property(stream, green, false, [](CUstream s) { return s->green; });
}
CUresult sim_cuStreamGetAttribute(CUstream stream, CUstreamAttrID attr, CUstreamAttrValue* value) {
  return stream_attribute(stream, attr, value, false);
}
CUresult sim_cuStreamGetAttribute_ptsz(CUstream stream, CUstreamAttrID attr,
                                       CUstreamAttrValue* value) {
  return stream_attribute(stream, attr, value, true);
}
CUresult sim_cuStreamSetAttribute(CUstream stream, CUstreamAttrID attr,
                                  const CUstreamAttrValue* value) {
  return set_stream_attribute(stream, attr, value, false);
}
CUresult sim_cuStreamSetAttribute_ptsz(CUstream stream, CUstreamAttrID attr,
                                       const CUstreamAttrValue* value) {
  return set_stream_attribute(stream, attr, value, true);
}
CUresult sim_cuStreamCopyAttributes(CUstream dst, CUstream src) {
  return copy_attributes(dst, src, false);
}
CUresult sim_cuStreamCopyAttributes_ptsz(CUstream dst, CUstream src) {
  return copy_attributes(dst, src, true);
}

CUresult sim_cuLaunchHostFunc(CUstream stream, CUhostFn fn, void* user_data) {
  return host_function(stream, fn, user_data, false);
}
CUresult sim_cuLaunchHostFunc_ptsz(CUstream stream, CUhostFn fn, void* user_data) {
  return host_function(stream, fn, user_data, true);
}
CUresult sim_cuStreamAddCallback(CUstream stream, CUstreamCallback callback, void* user_data,
                                 unsigned int flags) {
  return callback_function(stream, callback, user_data, flags, false);
}
CUresult sim_cuStreamAddCallback_ptsz(CUstream stream, CUstreamCallback callback, void* user_data,
                                      unsigned int flags) {
  return callback_function(stream, callback, user_data, flags, true);
}

#define VGPU_SIM_VALUE_OPS(name, type, value_type)                                           \
  CUresult sim_cuStream##name(CUstream stream, CUdeviceptr addr, value_type value,           \
                              unsigned int flags) {                                          \
    return one_memory_op(stream, type, addr, value, flags, false);                           \
  }                                                                                          \
  CUresult sim_cuStream##name##_ptsz(CUstream stream, CUdeviceptr addr, value_type value,    \
                                     unsigned int flags) {                                   \
    return one_memory_op(stream, type, addr, value, flags, true);                            \
  }                                                                                          \
  CUresult sim_cuStream##name##_v2(CUstream stream, CUdeviceptr addr, value_type value,      \
                                   unsigned int flags) {                                     \
    return one_memory_op(stream, type, addr, value, flags, false);                           \
  }                                                                                          \
  CUresult sim_cuStream##name##_v2_ptsz(CUstream stream, CUdeviceptr addr, value_type value, \
                                        unsigned int flags) {                                \
    return one_memory_op(stream, type, addr, value, flags, true);                            \
  }
VGPU_SIM_VALUE_OPS(WaitValue32, CU_STREAM_MEM_OP_WAIT_VALUE_32, cuuint32_t)
VGPU_SIM_VALUE_OPS(WaitValue64, CU_STREAM_MEM_OP_WAIT_VALUE_64, cuuint64_t)
VGPU_SIM_VALUE_OPS(WriteValue32, CU_STREAM_MEM_OP_WRITE_VALUE_32, cuuint32_t)
VGPU_SIM_VALUE_OPS(WriteValue64, CU_STREAM_MEM_OP_WRITE_VALUE_64, cuuint64_t)
#undef VGPU_SIM_VALUE_OPS

CUresult sim_cuStreamBatchMemOp(CUstream stream, unsigned int count,
                                CUstreamBatchMemOpParams* params, unsigned int flags) {
  return memory_ops(stream, count, params, flags, false);
}
CUresult sim_cuStreamBatchMemOp_ptsz(CUstream stream, unsigned int count,
                                     CUstreamBatchMemOpParams* params, unsigned int flags) {
  return memory_ops(stream, count, params, flags, true);
}
CUresult sim_cuStreamBatchMemOp_v2(CUstream stream, unsigned int count,
                                   CUstreamBatchMemOpParams* params, unsigned int flags) {
  return memory_ops(stream, count, params, flags, false);
}
CUresult sim_cuStreamBatchMemOp_v2_ptsz(CUstream stream, unsigned int count,
                                        CUstreamBatchMemOpParams* params, unsigned int flags) {
  return memory_ops(stream, count, params, flags, true);
}

namespace {

CUresult synchronize_context(Call& call, CUcontext context) {
  if (const CUresult refused = refuse_if_context_captures(call); refused != CUDA_SUCCESS)
    return refused;
  Engine::get().drain(call.lock, context);
  settle_pools();
  return CUDA_SUCCESS;
}

}  // namespace

CUresult sim_cuCtxSynchronize() {
  Call call;
  if (!call) return call.result;
  return synchronize_context(call, call.context);
}
CUresult sim_cuCtxSynchronize_v2(CUcontext context) {
  if (context == nullptr) return sim_cuCtxSynchronize();
  Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(context) || !context->active) return CUDA_ERROR_INVALID_CONTEXT;
  call.context = context;
  call.device = context->device;
  return synchronize_context(call, context);
}

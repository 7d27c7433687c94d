// SPDX-License-Identifier: Apache-2.0
// Events: points in streams that others wait for, with a time. An event recorded in a capture
// stands for the captured nodes before it, and joins another stream to that capture.
#include <algorithm>

#include "capture.h"
#include "pool.h"
#include "stream.h"

using namespace vgpu::sim;

namespace vgpu::sim {

Op record_op(CUevent event) {
  Op op;
  op.type = Op::Type::record;
  op.event = event->state;
  op.generation = ++event->state->recorded;
  op.remaining_ns = 0;
  return op;
}

Op wait_op(CUevent event) {
  Op op;
  op.type = Op::Type::wait_event;
  op.event = event->state;
  op.generation = event->state->recorded;
  return op;
}

}  // namespace vgpu::sim

namespace {

constexpr unsigned kEventFlags =
    CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS;

CUresult destroy(CUevent event) {
  Call call;
  if (!call) return call.result;
  if (!valid(event)) return CUDA_ERROR_INVALID_HANDLE;
  delete event;
  return CUDA_SUCCESS;
}

CUresult record(CUevent event, CUstream handle, unsigned flags, bool per_thread) {
  Call call;
  if (!call) return call.result;
  if (!valid(event)) return CUDA_ERROR_INVALID_HANDLE;
  if ((flags & ~unsigned{CU_EVENT_RECORD_EXTERNAL}) != 0) return CUDA_ERROR_INVALID_VALUE;
  const CUstream stream = find_stream(call, handle, per_thread);
  if (stream == nullptr || stream->context->device != event->context->device)
    return CUDA_ERROR_INVALID_HANDLE;
  bool captured = false;
  const CUresult routed = route(call, stream, captured);
  if (routed != CUDA_SUCCESS) return routed;
  if (!captured) {
    event->capture_id = 0;
    event->captured.clear();
    enqueue(call, stream, record_op(event));
    return CUDA_SUCCESS;
  }
  if (flags == CU_EVENT_RECORD_EXTERNAL) {
    NodeBody body;
    body.type = CU_GRAPH_NODE_TYPE_EVENT_RECORD;
    body.event = event;
    return capture_node(stream, std::move(body));
  }
  event->capture_id = stream->capture->id;
  event->captured = stream->capture_tail;
  return CUDA_SUCCESS;
}

CUresult wait_for_event(CUstream handle, CUevent event, unsigned flags, bool per_thread) {
  Call call;
  if (!call) return call.result;
  if (!valid(event)) return CUDA_ERROR_INVALID_HANDLE;
  if ((flags & ~unsigned{CU_EVENT_WAIT_EXTERNAL}) != 0) return CUDA_ERROR_INVALID_VALUE;
  const CUstream stream = find_stream(call, handle, per_thread);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (event->capture_id != 0 && flags != CU_EVENT_WAIT_EXTERNAL) {
    Capture* capture = find_capture(event->capture_id);
    if (capture == nullptr || stream->legacy) return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    if (capture->invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (stream->capture != nullptr && stream->capture != capture) {
      stream->capture->invalidated = true;
      capture->invalidated = true;
      return CUDA_ERROR_STREAM_CAPTURE_MERGE;
    }
    if (stream->capture == nullptr) {
      stream->capture = capture;
      stream->capture_tail.clear();
      capture->streams.insert(stream);
    }
    for (const CUgraphNode node : event->captured) {
      if (std::find(stream->capture_tail.begin(), stream->capture_tail.end(), node) ==
          stream->capture_tail.end())
        stream->capture_tail.push_back(node);
    }
    return CUDA_SUCCESS;
  }
  bool captured = false;
  const CUresult routed = route(call, stream, captured);
  if (routed != CUDA_SUCCESS) return routed;
  if (captured) {
    if (flags != CU_EVENT_WAIT_EXTERNAL) {
      // What happened outside of the capture can't be waited for by it.
      stream->capture->invalidated = true;
      return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    }
    NodeBody body;
    body.type = CU_GRAPH_NODE_TYPE_WAIT_EVENT;
    body.event = event;
    return capture_node(stream, std::move(body));
  }
  if (event->state->done >= event->state->recorded) return CUDA_SUCCESS;
  enqueue(call, stream, wait_op(event));
  return CUDA_SUCCESS;
}

// Recorded inside of a capture: it has no state that could be asked for.
CUresult refuse_captured(CUevent event) {
  if (event->capture_id == 0) return CUDA_SUCCESS;
  if (Capture* capture = find_capture(event->capture_id)) capture->invalidated = true;
  return CUDA_ERROR_CAPTURED_EVENT;
}

CUresult elapsed(float* milliseconds, CUevent start, CUevent end) {
  Call call;
  if (!call) return call.result;
  if (milliseconds == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(start) || !valid(end)) return CUDA_ERROR_INVALID_HANDLE;
  if (((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING) != 0)
    return CUDA_ERROR_INVALID_HANDLE;
  if (start->state->recorded == 0 || end->state->recorded == 0) return CUDA_ERROR_INVALID_HANDLE;
  Engine::get().advance(call.lock);
  if (start->state->done < start->state->recorded || end->state->done < end->state->recorded)
    return CUDA_ERROR_NOT_READY;
  *milliseconds = static_cast<float>(
      static_cast<double>(static_cast<std::int64_t>(end->state->time_ns - start->state->time_ns)) /
      1e6);
  return CUDA_SUCCESS;
}

CUresult record_all(CUcontext context, CUevent event) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(context) || !context->active) return CUDA_ERROR_INVALID_CONTEXT;
  if (!valid(event)) return CUDA_ERROR_INVALID_HANDLE;
  call.context = context;
  const CUstream stream = find_stream(call, CU_STREAM_LEGACY, false);
  Op op = record_op(event);
  for (const CUstream other : context->streams) {
    if (other != stream && !other->lane->idle())
      op.after.push_back({other->lane, other->lane->submitted});
  }
  enqueue(call, stream, std::move(op));
  return CUDA_SUCCESS;
}

CUresult wait_all(CUcontext context, CUevent event) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(context) || !context->active) return CUDA_ERROR_INVALID_CONTEXT;
  if (!valid(event)) return CUDA_ERROR_INVALID_HANDLE;
  call.context = context;
  for (const CUstream stream :
       std::vector<CUstream>(context->streams.begin(), context->streams.end()))
    enqueue(call, stream, wait_op(event));
  return CUDA_SUCCESS;
}

}  // namespace

CUresult sim_cuEventCreate(CUevent* event, unsigned int flags) {
  Call call;
  if (!call) return call.result;
  if (event == nullptr || (flags & ~kEventFlags) != 0) return CUDA_ERROR_INVALID_VALUE;
  if ((flags & CU_EVENT_INTERPROCESS) != 0 && (flags & CU_EVENT_DISABLE_TIMING) == 0)
    return CUDA_ERROR_INVALID_VALUE;
  auto* made = new CUevent_st;
  made->context = call.context;
  made->flags = flags;
  made->state = std::make_shared<EventState>();
  *event = made;
  return CUDA_SUCCESS;
}
CUresult sim_cuEventDestroy(CUevent event) { return destroy(event); }
CUresult sim_cuEventDestroy_v2(CUevent event) { return destroy(event); }
CUresult sim_cuEventRecord(CUevent event, CUstream stream) {
  return record(event, stream, 0, false);
}
CUresult sim_cuEventRecord_ptsz(CUevent event, CUstream stream) {
  return record(event, stream, 0, true);
}
CUresult sim_cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned int flags) {
  return record(event, stream, flags, false);
}
CUresult sim_cuEventRecordWithFlags_ptsz(CUevent event, CUstream stream, unsigned int flags) {
  return record(event, stream, flags, true);
}
CUresult sim_cuStreamWaitEvent(CUstream stream, CUevent event, unsigned int flags) {
  return wait_for_event(stream, event, flags, false);
}
CUresult sim_cuStreamWaitEvent_ptsz(CUstream stream, CUevent event, unsigned int flags) {
  return wait_for_event(stream, event, flags, true);
}
CUresult sim_cuEventQuery(CUevent event) {
  Call call;
  if (!call) return call.result;
  if (!valid(event)) return CUDA_ERROR_INVALID_HANDLE;
  if (const CUresult refused = refuse_captured(event); refused != CUDA_SUCCESS) return refused;
  if (const CUresult refused = refuse_unsafe_in_capture(call); refused != CUDA_SUCCESS)
    return refused;
  if (event->state->done >= event->state->recorded) return CUDA_SUCCESS;
  Engine::get().advance(call.lock);
  return event->state->done >= event->state->recorded ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}
CUresult sim_cuEventSynchronize(CUevent event) {
  Call call;
  if (!call) return call.result;
  if (!valid(event)) return CUDA_ERROR_INVALID_HANDLE;
  if (const CUresult refused = refuse_captured(event); refused != CUDA_SUCCESS) return refused;
  if (const CUresult refused = refuse_unsafe_in_capture(call); refused != CUDA_SUCCESS)
    return refused;
  const auto state = event->state;
  Engine::get().wait_for(call.lock, state, state->recorded);
  settle_pools();
  return CUDA_SUCCESS;
}
CUresult sim_cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
  return elapsed(milliseconds, start, end);
}
CUresult sim_cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end) {
  return elapsed(milliseconds, start, end);
}
CUresult sim_cuCtxRecordEvent(CUcontext context, CUevent event) {
  return record_all(context, event);
}
CUresult sim_cuCtxWaitEvent(CUcontext context, CUevent event) { return wait_all(context, event); }
CUresult sim_cuGreenCtxRecordEvent(CUgreenCtx context, CUevent event) {
  return valid(context) ? record_all(context->context, event) : CUDA_ERROR_INVALID_CONTEXT;
}
CUresult sim_cuGreenCtxWaitEvent(CUgreenCtx context, CUevent event) {
  return valid(context) ? wait_all(context->context, event) : CUDA_ERROR_INVALID_CONTEXT;
}

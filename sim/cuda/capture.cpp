// SPDX-License-Identifier: Apache-2.0
// Stream capture: what a stream would execute becomes nodes of a graph. Modes: a global capture
// forbids unsafe calls in every thread, a thread-local one in its own, a relaxed one nowhere; each
// thread may relax its own calls.
#include "capture.h"

#include <algorithm>

#include "stream.h"

using namespace vgpu::sim;

namespace vgpu::sim {
namespace {

std::map<std::uint64_t, Capture*>& captures() {
  static auto* map = new std::map<std::uint64_t, Capture*>;
  return *map;
}

CUstreamCaptureMode& thread_mode() {
  thread_local CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  return mode;
}

}  // namespace

Capture* find_capture(std::uint64_t id) {
  const auto at = captures().find(id);
  return at == captures().end() ? nullptr : at->second;
}

CUresult refuse_unsafe_in_capture(Call&) {
  if (captures().empty()) return CUDA_SUCCESS;
  const CUstreamCaptureMode mode = thread_mode();
  if (mode == CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_SUCCESS;
  CUresult result = CUDA_SUCCESS;
  for (const auto& [id, capture] : captures()) {
    const bool own =
        capture->thread == thread_id() && capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED;
    const bool others =
        mode == CU_STREAM_CAPTURE_MODE_GLOBAL && capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
    if (!own && !others) continue;
    capture->invalidated = true;
    result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  return result;
}

CUresult route(Call&, CUstream stream, bool& captured) {
  captured = false;
  if (stream->capture != nullptr) {
    if (stream->capture->invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    captured = true;
    return CUDA_SUCCESS;
  }
  if (stream->legacy && !captures().empty()) {
    CUresult result = CUDA_SUCCESS;
    for (const auto& [id, capture] : captures()) {
      for (const CUstream other : capture->streams) {
        if (other->context != stream->context || (other->flags & CU_STREAM_NON_BLOCKING) != 0)
          continue;
        capture->invalidated = true;  // the legacy stream would have to wait for it
        result = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
      }
    }
    return result;
  }
  return CUDA_SUCCESS;
}

CUresult refuse_if_capturing(CUstream stream) {
  if (stream->capture == nullptr) return CUDA_SUCCESS;
  if (stream->capture->invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  stream->capture->invalidated = true;
  return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

CUresult refuse_if_context_captures(Call& call) {
  CUresult result = CUDA_SUCCESS;
  for (const auto& [id, capture] : captures()) {
    for (const CUstream stream : capture->streams) {
      if (stream->context != call.context) continue;
      capture->invalidated = true;
      result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
  }
  return result;
}

CUresult capture_node(CUstream stream, NodeBody&& body, CUgraphNode* out) {
  CUgraphNode node = nullptr;
  const CUresult result = add_node(stream->capture->graph, stream->capture_tail.data(),
                                   stream->capture_tail.size(), std::move(body), node);
  if (result != CUDA_SUCCESS) return result;
  stream->capture_tail.assign(1, node);
  if (out != nullptr) *out = node;
  return CUDA_SUCCESS;
}

}  // namespace vgpu::sim

namespace {

CUresult begin(CUstream handle, CUstreamCaptureMode mode, bool per_thread, CUgraph graph,
               const CUgraphNode* dependencies, size_t count) {
  Call call;
  if (!call) return call.result;
  if (mode > CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_ERROR_INVALID_VALUE;
  const CUstream stream = find_stream(call, handle, per_thread);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (stream->legacy) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (stream->capture != nullptr) return CUDA_ERROR_ILLEGAL_STATE;
  if (count > 0 && dependencies == nullptr) return CUDA_ERROR_INVALID_VALUE;
  auto* capture = new Capture;
  capture->to_graph = graph != nullptr;
  capture->graph = graph != nullptr ? graph : new_graph();
  capture->graph->capturing = true;
  capture->id = call.driver.next_id++;
  capture->mode = mode;
  capture->thread = thread_id();
  capture->origin = stream;
  capture->streams.insert(stream);
  stream->capture = capture;
  stream->capture_tail.assign(dependencies, dependencies + count);
  captures().emplace(capture->id, capture);
  return CUDA_SUCCESS;
}

void end(Capture* capture) {
  for (const CUstream stream : capture->streams) {
    stream->capture = nullptr;
    stream->capture_tail.clear();
  }
  capture->graph->capturing = false;
  captures().erase(capture->id);
  delete capture;
}

CUresult finish(CUstream handle, CUgraph* graph, bool per_thread) {
  Call call;
  if (!call) return call.result;
  const CUstream stream = find_stream(call, handle, per_thread);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (graph == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Capture* capture = stream->capture;
  if (capture == nullptr) return CUDA_ERROR_ILLEGAL_STATE;
  if (capture->origin != stream) return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
  if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && capture->thread != thread_id())
    return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
  CUresult result = CUDA_SUCCESS;
  if (capture->invalidated) {
    result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  } else {
    // Whatever other streams captured has to lead back to the one where it began.
    std::set<CUgraphNode> before(stream->capture_tail.begin(), stream->capture_tail.end());
    std::vector<CUgraphNode> open(before.begin(), before.end());
    while (!open.empty()) {
      const CUgraphNode node = open.back();
      open.pop_back();
      for (const CUgraphNode from : node->from) {
        if (before.insert(from).second) open.push_back(from);
      }
    }
    for (const CUstream other : capture->streams) {
      for (const CUgraphNode node : other->capture_tail) {
        if (before.count(node) == 0) result = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
      }
    }
  }
  CUgraph made = capture->graph;
  const bool to_graph = capture->to_graph;
  end(capture);
  if (result != CUDA_SUCCESS) {
    if (!to_graph) destroy_graph(made);
    *graph = nullptr;
    return result;
  }
  *graph = made;
  return CUDA_SUCCESS;
}

CUresult capture_info(CUstream handle, CUstreamCaptureStatus* status, cuuint64_t* id,
                      CUgraph* graph, const CUgraphNode** dependencies,
                      const CUgraphEdgeData** edges, size_t* count, bool per_thread) {
  Call call;
  if (!call) return call.result;
  if (status == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const CUstream stream = find_stream(call, handle, per_thread);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (stream->legacy) {
    // Asking is not using: the capture goes on.
    for (const auto& [number, other] : captures()) {
      for (const CUstream candidate : other->streams) {
        const bool blocking = (candidate->flags & CU_STREAM_NON_BLOCKING) == 0;
        if (candidate->context == stream->context && blocking)
          return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
      }
    }
  }
  const Capture* capture = stream->capture;
  if (capture == nullptr) {
    *status = CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
  }
  if (capture->invalidated) {
    *status = CU_STREAM_CAPTURE_STATUS_INVALIDATED;
    return CUDA_SUCCESS;
  }
  *status = CU_STREAM_CAPTURE_STATUS_ACTIVE;
  if (id != nullptr) *id = capture->id;
  if (graph != nullptr) *graph = capture->graph;
  if (dependencies != nullptr) *dependencies = stream->capture_tail.data();
  if (edges != nullptr) *edges = nullptr;
  if (count != nullptr) *count = stream->capture_tail.size();
  return CUDA_SUCCESS;
}

CUresult is_capturing(CUstream handle, CUstreamCaptureStatus* status, bool per_thread) {
  return capture_info(handle, status, nullptr, nullptr, nullptr, nullptr, nullptr, per_thread);
}

CUresult update_dependencies(CUstream handle, const CUgraphNode* dependencies, size_t count,
                             unsigned flags, bool per_thread) {
  Call call;
  if (!call) return call.result;
  const CUstream stream = find_stream(call, handle, per_thread);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (stream->capture == nullptr) return CUDA_ERROR_ILLEGAL_STATE;
  if (flags > CU_STREAM_SET_CAPTURE_DEPENDENCIES || (count > 0 && dependencies == nullptr))
    return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; ++i) {
    if (!valid(dependencies[i]) || dependencies[i]->graph != stream->capture->graph)
      return CUDA_ERROR_INVALID_VALUE;
  }
  if (flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES) stream->capture_tail.clear();
  for (size_t i = 0; i < count; ++i) {
    if (std::find(stream->capture_tail.begin(), stream->capture_tail.end(), dependencies[i]) ==
        stream->capture_tail.end()) {
      stream->capture_tail.push_back(dependencies[i]);
    }
  }
  return CUDA_SUCCESS;
}

CUresult begin_to_graph(CUstream stream, CUgraph graph, const CUgraphNode* dependencies,
                        size_t count, CUstreamCaptureMode mode, bool per_thread) {
  if (!valid(graph)) return CUDA_ERROR_INVALID_VALUE;
  return begin(stream, mode, per_thread, graph, dependencies, count);
}

}  // namespace

CUresult sim_cuStreamBeginCapture(CUstream stream) {
  return begin(stream, CU_STREAM_CAPTURE_MODE_GLOBAL, false, nullptr, nullptr, 0);
}
CUresult sim_cuStreamBeginCapture_ptsz(CUstream stream) {
  return begin(stream, CU_STREAM_CAPTURE_MODE_GLOBAL, true, nullptr, nullptr, 0);
}
CUresult sim_cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
  return begin(stream, mode, false, nullptr, nullptr, 0);
}
CUresult sim_cuStreamBeginCapture_v2_ptsz(CUstream stream, CUstreamCaptureMode mode) {
  return begin(stream, mode, true, nullptr, nullptr, 0);
}
CUresult sim_cuStreamBeginCaptureToGraph(CUstream stream, CUgraph graph,
                                         const CUgraphNode* dependencies, const CUgraphEdgeData*,
                                         size_t count, CUstreamCaptureMode mode) {
  return begin_to_graph(stream, graph, dependencies, count, mode, false);
}
CUresult sim_cuStreamBeginCaptureToGraph_ptsz(CUstream stream, CUgraph graph,
                                              const CUgraphNode* dependencies,
                                              const CUgraphEdgeData*, size_t count,
                                              CUstreamCaptureMode mode) {
  return begin_to_graph(stream, graph, dependencies, count, mode, true);
}
CUresult sim_cuStreamEndCapture(CUstream stream, CUgraph* graph) {
  return finish(stream, graph, false);
}
CUresult sim_cuStreamEndCapture_ptsz(CUstream stream, CUgraph* graph) {
  return finish(stream, graph, true);
}
CUresult sim_cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus* status) {
  return is_capturing(stream, status, false);
}
CUresult sim_cuStreamIsCapturing_ptsz(CUstream stream, CUstreamCaptureStatus* status) {
  return is_capturing(stream, status, true);
}
CUresult sim_cuStreamGetCaptureInfo(CUstream stream, CUstreamCaptureStatus* status,
                                    cuuint64_t* id) {
  return capture_info(stream, status, id, nullptr, nullptr, nullptr, nullptr, false);
}
CUresult sim_cuStreamGetCaptureInfo_ptsz(CUstream stream, CUstreamCaptureStatus* status,
                                         cuuint64_t* id) {
  return capture_info(stream, status, id, nullptr, nullptr, nullptr, nullptr, true);
}
CUresult sim_cuStreamGetCaptureInfo_v2(CUstream stream, CUstreamCaptureStatus* status,
                                       cuuint64_t* id, CUgraph* graph,
                                       const CUgraphNode** dependencies, size_t* count) {
  return capture_info(stream, status, id, graph, dependencies, nullptr, count, false);
}
CUresult sim_cuStreamGetCaptureInfo_v2_ptsz(CUstream stream, CUstreamCaptureStatus* status,
                                            cuuint64_t* id, CUgraph* graph,
                                            const CUgraphNode** dependencies, size_t* count) {
  return capture_info(stream, status, id, graph, dependencies, nullptr, count, true);
}
CUresult sim_cuStreamGetCaptureInfo_v3(CUstream stream, CUstreamCaptureStatus* status,
                                       cuuint64_t* id, CUgraph* graph,
                                       const CUgraphNode** dependencies,
                                       const CUgraphEdgeData** edges, size_t* count) {
  return capture_info(stream, status, id, graph, dependencies, edges, count, false);
}
CUresult sim_cuStreamGetCaptureInfo_v3_ptsz(CUstream stream, CUstreamCaptureStatus* status,
                                            cuuint64_t* id, CUgraph* graph,
                                            const CUgraphNode** dependencies,
                                            const CUgraphEdgeData** edges, size_t* count) {
  return capture_info(stream, status, id, graph, dependencies, edges, count, true);
}
CUresult sim_cuStreamUpdateCaptureDependencies(CUstream stream, CUgraphNode* dependencies,
                                               size_t count, unsigned int flags) {
  return update_dependencies(stream, dependencies, count, flags, false);
}
CUresult sim_cuStreamUpdateCaptureDependencies_ptsz(CUstream stream, CUgraphNode* dependencies,
                                                    size_t count, unsigned int flags) {
  return update_dependencies(stream, dependencies, count, flags, true);
}
CUresult sim_cuStreamUpdateCaptureDependencies_v2(CUstream stream, CUgraphNode* dependencies,
                                                  const CUgraphEdgeData*, size_t count,
                                                  unsigned int flags) {
  return update_dependencies(stream, dependencies, count, flags, false);
}
CUresult sim_cuStreamUpdateCaptureDependencies_v2_ptsz(CUstream stream, CUgraphNode* dependencies,
                                                       const CUgraphEdgeData*, size_t count,
                                                       unsigned int flags) {
  return update_dependencies(stream, dependencies, count, flags, true);
}
CUresult sim_cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) {
  if (mode == nullptr || *mode > CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_ERROR_INVALID_VALUE;
  std::swap(*mode, thread_mode());
  return CUDA_SUCCESS;
}

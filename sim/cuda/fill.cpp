// SPDX-License-Identifier: Apache-2.0
// memset in all its forms.
#include <algorithm>
#include <cstring>

#include "capture.h"
#include "copy.h"
#include "graph.h"
#include "stream.h"

using namespace vgpu::sim;

namespace vgpu::sim {
namespace {

template <class T>
void fill_rows(const Fill& fill) {
  for (std::uint64_t y = 0; y < fill.height; ++y) {
    auto* row = reinterpret_cast<T*>(fill.address + y * fill.pitch);
    std::fill(row, row + fill.width, static_cast<T>(fill.value));
  }
}

void run(const Fill& fill) {
  switch (fill.element) {
    case 1:
      fill_rows<std::uint8_t>(fill);
      break;
    case 2:
      fill_rows<std::uint16_t>(fill);
      break;
    default:
      fill_rows<std::uint32_t>(fill);
      break;
  }
}

}  // namespace

CUresult check_fill(const Fill& fill) {
  if (fill.address % fill.element != 0) return CUDA_ERROR_INVALID_VALUE;
  if (fill.bytes() == 0) return CUDA_SUCCESS;
  if (fill.height > 1 && (fill.pitch < fill.width * fill.element || fill.pitch % fill.element != 0))
    return CUDA_ERROR_INVALID_VALUE;
  const std::uint64_t extent = (fill.height - 1) * fill.pitch + fill.width * fill.element;
  return Driver::get().accessible(fill.address, extent) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

Op fill_op(const Fill& fill) {
  Op op;
  op.type = Op::Type::transfer;
  op.on_sms = true;
  op.heavy = fill.bytes() > 64 * kKiB;
  op.remaining_ns = fill.bytes() * 1000 / kMemsetBytesPerUs;
  note_write(fill.address);
  op.work = [fill] { run(fill); };
  return op;
}

}  // namespace vgpu::sim

namespace {

CUresult put(const Fill& fill, CUstream handle, bool per_thread) {
  Call call;
  if (!call) return call.result;
  const CUstream stream = find_stream(call, handle, per_thread);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  const CUresult checked = check_fill(fill);
  if (checked != CUDA_SUCCESS) return checked;
  bool captured = false;
  const CUresult routed = route(call, stream, captured);
  if (routed != CUDA_SUCCESS) return routed;
  if (captured) {
    NodeBody body;
    body.type = CU_GRAPH_NODE_TYPE_MEMSET;
    body.set = {fill.address, fill.pitch, fill.value, fill.element, fill.width, fill.height};
    body.context = stream->context;
    return capture_node(stream, std::move(body));
  }
  if (fill.bytes() == 0) return CUDA_SUCCESS;
  Op op = fill_op(fill);
  if (!op.heavy && std::all_of(stream->context->streams.begin(), stream->context->streams.end(),
                               [](CUstream s) { return s->lane->idle(); })) {
    op.work();  // nothing is before it and it is over in no time
    return CUDA_SUCCESS;
  }
  enqueue(call, stream, std::move(op));
  return CUDA_SUCCESS;
}

CUresult put_legacy(const Fill& fill) {
  {
    const Call call;
    if (!call) return call.result;
    if (!takes_legacy(call)) return CUDA_ERROR_INVALID_CONTEXT;
  }
  return put(fill, nullptr, false);
}

Fill line(std::uint64_t address, std::uint32_t value, unsigned element, std::uint64_t count) {
  return {address, count * element, value, element, count, 1};
}

Fill plane(std::uint64_t address, std::uint64_t pitch, std::uint32_t value, unsigned element,
           std::uint64_t width, std::uint64_t height) {
  return {address, pitch, value, element, width, height};
}

}  // namespace

#define VGPU_SIM_MEMSET(suffix, type, element)                                                 \
  CUresult sim_cuMemsetD##suffix(CUdeviceptr_v1 d, type v, unsigned int n) {                   \
    return put_legacy(line(d, v, element, n));                                                 \
  }                                                                                            \
  CUresult sim_cuMemsetD##suffix##_v2(CUdeviceptr d, type v, size_t n) {                       \
    return put(line(d, v, element, n), nullptr, false);                                        \
  }                                                                                            \
  CUresult sim_cuMemsetD##suffix##_v2_ptds(CUdeviceptr d, type v, size_t n) {                  \
    return put(line(d, v, element, n), nullptr, true);                                         \
  }                                                                                            \
  CUresult sim_cuMemsetD##suffix##Async(CUdeviceptr d, type v, size_t n, CUstream s) {         \
    return put(line(d, v, element, n), s, false);                                              \
  }                                                                                            \
  CUresult sim_cuMemsetD##suffix##Async_ptsz(CUdeviceptr d, type v, size_t n, CUstream s) {    \
    return put(line(d, v, element, n), s, true);                                               \
  }                                                                                            \
  CUresult sim_cuMemsetD2D##suffix(CUdeviceptr_v1 d, unsigned int p, type v, unsigned int w,   \
                                   unsigned int h) {                                           \
    return put_legacy(plane(d, p, v, element, w, h));                                          \
  }                                                                                            \
  CUresult sim_cuMemsetD2D##suffix##_v2(CUdeviceptr d, size_t p, type v, size_t w, size_t h) { \
    return put(plane(d, p, v, element, w, h), nullptr, false);                                 \
  }                                                                                            \
  CUresult sim_cuMemsetD2D##suffix##_v2_ptds(CUdeviceptr d, size_t p, type v, size_t w,        \
                                             size_t h) {                                       \
    return put(plane(d, p, v, element, w, h), nullptr, true);                                  \
  }                                                                                            \
  CUresult sim_cuMemsetD2D##suffix##Async(CUdeviceptr d, size_t p, type v, size_t w, size_t h, \
                                          CUstream s) {                                        \
    return put(plane(d, p, v, element, w, h), s, false);                                       \
  }                                                                                            \
  CUresult sim_cuMemsetD2D##suffix##Async_ptsz(CUdeviceptr d, size_t p, type v, size_t w,      \
                                               size_t h, CUstream s) {                         \
    return put(plane(d, p, v, element, w, h), s, true);                                        \
  }
VGPU_SIM_MEMSET(8, unsigned char, 1)
VGPU_SIM_MEMSET(16, unsigned short, 2)
VGPU_SIM_MEMSET(32, unsigned int, 4)
#undef VGPU_SIM_MEMSET

// SPDX-License-Identifier: Apache-2.0
// memcpy in all its forms. The bytes really move, in stream order; between host and device at the
// speed of the bus, within the device in the process's turns. Pageable host memory is staged: the
// call returns when the host side is free.
#include "copy.h"

#include <algorithm>
#include <cstring>

#include "array.h"
#include "capture.h"
#include "graph.h"
#include "stream.h"

using namespace vgpu::sim;

namespace vgpu::sim {
namespace {

constexpr std::uint64_t kHeavyBytes = 64 * kKiB;

void run(const Box& box) {
  for (std::uint64_t z = 0; z < box.depth; ++z) {
    const std::uint64_t from = box.from.address + z * box.from.slice;
    const std::uint64_t to = box.to.address + z * box.to.slice;
    if (box.from.pitch == box.width && box.to.pitch == box.width) {
      std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from),
                   box.width * box.height);
      continue;
    }
    for (std::uint64_t y = 0; y < box.height; ++y) {
      std::memmove(reinterpret_cast<void*>(to + y * box.to.pitch),
                   reinterpret_cast<const void*>(from + y * box.from.pitch), box.width);
    }
  }
}

std::uint64_t extent(const Side& side, const Box& box) {
  return (box.depth - 1) * side.slice + (box.height - 1) * side.pitch + box.width;
}

// What kind of memory an address of the unified space is.
void classify(Side& side) {
  const Allocation* allocation = Driver::get().find(side.address);
  side.pinned = allocation != nullptr &&
                (allocation->kind == Kind::host || allocation->kind == Kind::registered);
  side.device = allocation != nullptr && !side.pinned;
}

CUresult make_side(CUmemorytype type, const void* host, CUdeviceptr device, CUarray array,
                   std::uint64_t x, std::uint64_t y, std::uint64_t z, std::uint64_t pitch,
                   std::uint64_t height, const Box& box, Side& side) {
  switch (type) {
    case CU_MEMORYTYPE_HOST:
      side.address = reinterpret_cast<std::uint64_t>(host);
      break;
    case CU_MEMORYTYPE_DEVICE:
    case CU_MEMORYTYPE_UNIFIED:
      side.address = device;
      break;
    case CU_MEMORYTYPE_ARRAY: {
      if (!valid(array)) return CUDA_ERROR_INVALID_HANDLE;
      if (array->address == 0) return CUDA_ERROR_INVALID_VALUE;
      side.pitch = array->row_bytes();
      side.slice = side.pitch * array->rows();
      if (x + box.width > side.pitch || y + box.height > array->rows() ||
          z + box.depth > array->slices())
        return CUDA_ERROR_INVALID_VALUE;
      side.address = array->address + z * side.slice + y * side.pitch + x;
      side.device = true;
      return CUDA_SUCCESS;
    }
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
  if (side.address == 0) return CUDA_ERROR_INVALID_VALUE;
  side.pitch = pitch == 0 ? box.width + x : pitch;
  if (box.height > 1 && side.pitch < box.width + x) return CUDA_ERROR_INVALID_VALUE;
  side.slice = side.pitch * (height == 0 ? box.height + y : height);
  if (box.depth > 1 && height != 0 && height < box.height + y) return CUDA_ERROR_INVALID_VALUE;
  side.address += z * side.slice + y * side.pitch + x;
  if (type == CU_MEMORYTYPE_HOST) {
    const Allocation* allocation = Driver::get().find(side.address);
    side.pinned = allocation != nullptr &&
                  (allocation->kind == Kind::host || allocation->kind == Kind::registered);
    return CUDA_SUCCESS;
  }
  classify(side);
  if (type == CU_MEMORYTYPE_DEVICE && !side.device && !side.pinned) return CUDA_ERROR_INVALID_VALUE;
  if (side.device && !Driver::get().accessible(side.address, extent(side, box)))
    return CUDA_ERROR_INVALID_VALUE;
  return CUDA_SUCCESS;
}

}  // namespace

CUresult make_box(const CUDA_MEMCPY3D& copy, Box& out) {
  out = {};
  out.width = copy.WidthInBytes;
  out.height = copy.Height;
  out.depth = copy.Depth;
  if (out.bytes() == 0) return CUDA_SUCCESS;
  if (copy.srcLOD != 0 || copy.dstLOD != 0) return CUDA_ERROR_INVALID_VALUE;
  const CUresult from =
      make_side(copy.srcMemoryType, copy.srcHost, copy.srcDevice, copy.srcArray, copy.srcXInBytes,
                copy.srcY, copy.srcZ, copy.srcPitch, copy.srcHeight, out, out.from);
  if (from != CUDA_SUCCESS) return from;
  return make_side(copy.dstMemoryType, copy.dstHost, copy.dstDevice, copy.dstArray,
                   copy.dstXInBytes, copy.dstY, copy.dstZ, copy.dstPitch, copy.dstHeight, out,
                   out.to);
}

CUDA_MEMCPY3D describe_linear(CUdeviceptr to, CUdeviceptr from, std::uint64_t bytes) {
  CUDA_MEMCPY3D copy{};
  copy.srcMemoryType = CU_MEMORYTYPE_UNIFIED;
  copy.srcDevice = from;
  copy.dstMemoryType = CU_MEMORYTYPE_UNIFIED;
  copy.dstDevice = to;
  copy.WidthInBytes = bytes;
  copy.Height = 1;
  copy.Depth = 1;
  return copy;
}

CUresult make_linear(CUdeviceptr to, CUdeviceptr from, std::uint64_t bytes, Box& out) {
  return make_box(describe_linear(to, from, bytes), out);
}

Op copy_op(const Box& box) {
  Op op;
  op.type = Op::Type::transfer;
  const std::uint64_t bytes = box.bytes();
  op.on_sms = box.from.device && box.to.device;
  op.heavy = bytes > kHeavyBytes;
  op.prompt = !box.to.device;
  op.remaining_ns = bytes * 1000 / (op.on_sms ? kDeviceCopyBytesPerUs : kHostCopyBytesPerUs);
  if (box.to.device) note_write(box.to.address);
  op.work = [box] { run(box); };
  return op;
}

}  // namespace vgpu::sim

namespace {

enum class Wait { never, always, as_needed };

bool context_idle(CUcontext context) {
  return std::all_of(context->streams.begin(), context->streams.end(),
                     [](CUstream stream) { return stream->lane->idle(); });
}

// Puts a checked copy into its stream and waits as the entry has to.
CUresult submit(Call& call, CUstream stream, const Box& box, const CUDA_MEMCPY3D& as_described,
                Wait wait) {
  bool captured = false;
  const CUresult routed = route(call, stream, captured);
  if (routed != CUDA_SUCCESS) return routed;
  if (captured) {
    if (wait == Wait::always) {
      stream->capture->invalidated = true;
      return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    NodeBody body;
    body.type = CU_GRAPH_NODE_TYPE_MEMCPY;
    body.copy = as_described;
    body.context = stream->context;
    return capture_node(stream, std::move(body));
  }
  if (box.bytes() == 0) return CUDA_SUCCESS;
  const bool pageable =
      (!box.from.device && !box.from.pinned) || (!box.to.device && !box.to.pinned);
  if (wait == Wait::always && context_idle(stream->context) && box.bytes() <= kPageBytes) {
    if (box.to.device) note_write(box.to.address);
    Op op = copy_op(box);
    op.work();
    return CUDA_SUCCESS;
  }
  Op op = copy_op(box);
  if (wait == Wait::as_needed && pageable && box.to.device && box.bytes() <= 64 * kKiB &&
      box.height == 1 && box.depth == 1) {
    // Staged: the caller may change its memory as soon as this returns.
    const auto* bytes = reinterpret_cast<const unsigned char*>(box.from.address);
    auto staged = std::make_shared<std::vector<unsigned char>>(bytes, bytes + box.width);
    const std::uint64_t to = box.to.address;
    op.work = [staged, to] {
      std::memcpy(reinterpret_cast<void*>(to), staged->data(), staged->size());
    };
    enqueue(call, stream, std::move(op));
    return CUDA_SUCCESS;
  }
  const std::uint64_t ticket = enqueue(call, stream, std::move(op));
  const bool device_only = box.from.device && box.to.device;
  const bool waits = wait == Wait::always ? !device_only : (wait == Wait::as_needed && pageable);
  if (waits) Engine::get().wait_for(call.lock, *stream->lane, ticket);
  return CUDA_SUCCESS;
}

CUresult copy_3d(const CUDA_MEMCPY3D& copy, CUstream handle, bool per_thread, bool async) {
  Call call;
  if (!call) return call.result;
  const CUstream stream = find_stream(call, handle, per_thread);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  Box box;
  const CUresult made = make_box(copy, box);
  if (made != CUDA_SUCCESS) return made;
  return submit(call, stream, box, copy, async ? Wait::as_needed : Wait::always);
}

CUresult copy_linear(CUdeviceptr to, CUdeviceptr from, std::uint64_t bytes, CUstream handle,
                     bool per_thread, bool async) {
  if (bytes == 0) {
    const Call call;
    return call.result;
  }
  return copy_3d(describe_linear(to, from, bytes), handle, per_thread, async);
}

CUdeviceptr as_pointer(const void* host) { return reinterpret_cast<CUdeviceptr>(host); }

// Host pointers and device pointers are told apart by the entry, so a host pointer where a device
// pointer belongs is an error.
CUDA_MEMCPY3D typed(CUmemorytype to_type, CUdeviceptr to, CUmemorytype from_type, CUdeviceptr from,
                    std::uint64_t bytes) {
  CUDA_MEMCPY3D copy = describe_linear(to, from, bytes);
  copy.srcMemoryType = from_type;
  copy.srcHost = reinterpret_cast<const void*>(from);
  copy.dstMemoryType = to_type;
  copy.dstHost = reinterpret_cast<void*>(to);
  return copy;
}

CUresult copy_typed(CUmemorytype to_type, CUdeviceptr to, CUmemorytype from_type, CUdeviceptr from,
                    std::uint64_t bytes, CUstream stream, bool per_thread, bool async) {
  if (bytes == 0) {
    const Call call;
    return call.result;
  }
  return copy_3d(typed(to_type, to, from_type, from, bytes), stream, per_thread, async);
}

// The 32-bit entries, in the contexts where they work.
template <class Copy>
CUresult in_legacy(Copy copy) {
  {
    const Call call;
    if (!call) return call.result;
    if (!takes_legacy(call)) return CUDA_ERROR_INVALID_CONTEXT;
  }
  return copy();
}

constexpr CUmemorytype kHost = CU_MEMORYTYPE_HOST;
constexpr CUmemorytype kDevice = CU_MEMORYTYPE_DEVICE;

// One-dimensional copies from and to arrays, by an offset in bytes.
CUresult copy_array(CUarray to_array, std::uint64_t to_offset, CUdeviceptr to, CUmemorytype to_type,
                    CUarray from_array, std::uint64_t from_offset, CUdeviceptr from,
                    CUmemorytype from_type, std::uint64_t bytes, CUstream stream, bool per_thread,
                    bool async) {
  CUDA_MEMCPY3D copy = typed(to_type, to, from_type, from, bytes);
  if (to_array != nullptr) {
    copy.dstMemoryType = CU_MEMORYTYPE_ARRAY;
    copy.dstArray = to_array;
    copy.dstXInBytes = to_offset;
  }
  if (from_array != nullptr) {
    copy.srcMemoryType = CU_MEMORYTYPE_ARRAY;
    copy.srcArray = from_array;
    copy.srcXInBytes = from_offset;
  }
  return copy_3d(copy, stream, per_thread, async);
}

CUDA_MEMCPY3D widen(const CUDA_MEMCPY2D& c) {
  CUDA_MEMCPY3D copy{};
  copy.srcXInBytes = c.srcXInBytes;
  copy.srcY = c.srcY;
  copy.srcMemoryType = c.srcMemoryType;
  copy.srcHost = c.srcHost;
  copy.srcDevice = c.srcDevice;
  copy.srcArray = c.srcArray;
  copy.srcPitch = c.srcPitch;
  copy.dstXInBytes = c.dstXInBytes;
  copy.dstY = c.dstY;
  copy.dstMemoryType = c.dstMemoryType;
  copy.dstHost = c.dstHost;
  copy.dstDevice = c.dstDevice;
  copy.dstArray = c.dstArray;
  copy.dstPitch = c.dstPitch;
  copy.WidthInBytes = c.WidthInBytes;
  copy.Height = c.Height;
  copy.Depth = 1;
  return copy;
}

CUDA_MEMCPY3D widen(const CUDA_MEMCPY2D_v1& c) {
  return widen(CUDA_MEMCPY2D{c.srcXInBytes, c.srcY, c.srcMemoryType, c.srcHost, c.srcDevice,
                             c.srcArray, c.srcPitch, c.dstXInBytes, c.dstY, c.dstMemoryType,
                             c.dstHost, c.dstDevice, c.dstArray, c.dstPitch, c.WidthInBytes,
                             c.Height});
}

CUDA_MEMCPY3D widen(const CUDA_MEMCPY3D_v1& c) {
  return {c.srcXInBytes,   c.srcY,        c.srcZ,         c.srcLOD,    c.srcMemoryType,
          c.srcHost,       c.srcDevice,   c.srcArray,     c.reserved0, c.srcPitch,
          c.srcHeight,     c.dstXInBytes, c.dstY,         c.dstZ,      c.dstLOD,
          c.dstMemoryType, c.dstHost,     c.dstDevice,    c.dstArray,  c.reserved1,
          c.dstPitch,      c.dstHeight,   c.WidthInBytes, c.Height,    c.Depth};
}

CUDA_MEMCPY3D widen(const CUDA_MEMCPY3D_PEER& c) {
  return {c.srcXInBytes,   c.srcY,        c.srcZ,         c.srcLOD,   c.srcMemoryType,
          c.srcHost,       c.srcDevice,   c.srcArray,     nullptr,    c.srcPitch,
          c.srcHeight,     c.dstXInBytes, c.dstY,         c.dstZ,     c.dstLOD,
          c.dstMemoryType, c.dstHost,     c.dstDevice,    c.dstArray, nullptr,
          c.dstPitch,      c.dstHeight,   c.WidthInBytes, c.Height,   c.Depth};
}

const CUDA_MEMCPY3D& widen(const CUDA_MEMCPY3D& c) { return c; }

template <class Copy>
CUresult shaped(const Copy* copy, CUstream stream, bool per_thread, bool async) {
  if (copy == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return copy_3d(widen(*copy), stream, per_thread, async);
}

CUresult peer(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
              std::uint64_t bytes, CUstream stream, bool per_thread, bool async) {
  if (!valid(to_context) || !valid(from_context)) return CUDA_ERROR_INVALID_CONTEXT;
  return copy_typed(kDevice, to, kDevice, from, bytes, stream, per_thread, async);
}

CUresult batch(const CUdeviceptr* to, const CUdeviceptr* from, const size_t* sizes, size_t count,
               const CUmemcpyAttributes* attributes, const size_t* indices, size_t attribute_count,
               size_t* failed, CUstream stream, bool per_thread) {
  if (to == nullptr || from == nullptr || sizes == nullptr || count == 0 || attributes == nullptr ||
      indices == nullptr || attribute_count == 0 || indices[0] != 0 ||
      reinterpret_cast<std::uintptr_t>(stream) <= (per_thread ? 1u : 1u)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (size_t i = 0; i < count; ++i) {
    const CUresult result = copy_linear(to[i], from[i], sizes[i], stream, per_thread, true);
    if (result == CUDA_SUCCESS) continue;
    if (failed != nullptr) *failed = i;
    return result;
  }
  return CUDA_SUCCESS;
}

void put_operand(const CUmemcpy3DOperand& operand, const CUextent3D& extent, bool destination,
                 CUDA_MEMCPY3D& copy) {
  const bool array = operand.type == CU_MEMCPY_OPERAND_TYPE_ARRAY;
  const std::uint64_t element =
      array && valid(operand.op.array.array) ? operand.op.array.array->element_bytes() : 1;
  const std::uint64_t pitch =
      array ? 0 : (operand.op.ptr.rowLength != 0 ? operand.op.ptr.rowLength : extent.width);
  const std::uint64_t rows =
      array ? 0 : (operand.op.ptr.layerHeight != 0 ? operand.op.ptr.layerHeight : extent.height);
  const CUmemorytype type = array ? CU_MEMORYTYPE_ARRAY : CU_MEMORYTYPE_UNIFIED;
  if (destination) {
    copy.dstMemoryType = type;
    copy.dstArray = array ? operand.op.array.array : nullptr;
    copy.dstDevice = array ? 0 : operand.op.ptr.ptr;
    copy.dstPitch = pitch;
    copy.dstHeight = rows;
    if (array) {
      copy.dstXInBytes = operand.op.array.offset.x * element;
      copy.dstY = operand.op.array.offset.y;
      copy.dstZ = operand.op.array.offset.z;
    }
  } else {
    copy.srcMemoryType = type;
    copy.srcArray = array ? operand.op.array.array : nullptr;
    copy.srcDevice = array ? 0 : operand.op.ptr.ptr;
    copy.srcPitch = pitch;
    copy.srcHeight = rows;
    if (array) {
      copy.srcXInBytes = operand.op.array.offset.x * element;
      copy.srcY = operand.op.array.offset.y;
      copy.srcZ = operand.op.array.offset.z;
    }
  }
}

CUresult batch_3d(size_t count, const CUDA_MEMCPY3D_BATCH_OP* ops, size_t* failed,
                  unsigned long long flags, CUstream stream, bool per_thread) {
  if (ops == nullptr || count == 0 || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; ++i) {
    CUDA_MEMCPY3D copy{};
    put_operand(ops[i].src, ops[i].extent, false, copy);
    put_operand(ops[i].dst, ops[i].extent, true, copy);
    copy.WidthInBytes = ops[i].extent.width;
    copy.Height = ops[i].extent.height;
    copy.Depth = ops[i].extent.depth;
    const CUresult result = copy_3d(copy, stream, per_thread, true);
    if (result == CUDA_SUCCESS) continue;
    if (failed != nullptr) *failed = i;
    return result;
  }
  return CUDA_SUCCESS;
}

}  // namespace

// Linear copies. Entries for the legacy default stream and those of per-thread streams (_ptds,
// _ptsz) differ in the stream that a null handle names; the unversioned ones take 32-bit device
// pointers.
CUresult sim_cuMemcpy(CUdeviceptr dst, CUdeviceptr src, size_t bytes) {
  return copy_linear(dst, src, bytes, nullptr, false, false);
}
CUresult sim_cuMemcpy_ptds(CUdeviceptr dst, CUdeviceptr src, size_t bytes) {
  return copy_linear(dst, src, bytes, nullptr, true, false);
}
CUresult sim_cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUstream s) {
  return copy_linear(dst, src, bytes, s, false, true);
}
CUresult sim_cuMemcpyAsync_ptsz(CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUstream s) {
  return copy_linear(dst, src, bytes, s, true, true);
}

CUresult sim_cuMemcpyHtoD(CUdeviceptr_v1 d, const void* h, unsigned int n) {
  return in_legacy(
      [&] { return copy_typed(kDevice, d, kHost, as_pointer(h), n, nullptr, false, false); });
}
CUresult sim_cuMemcpyHtoD_v2(CUdeviceptr d, const void* h, size_t n) {
  return copy_typed(kDevice, d, kHost, as_pointer(h), n, nullptr, false, false);
}
CUresult sim_cuMemcpyHtoD_v2_ptds(CUdeviceptr d, const void* h, size_t n) {
  return copy_typed(kDevice, d, kHost, as_pointer(h), n, nullptr, true, false);
}
CUresult sim_cuMemcpyHtoDAsync(CUdeviceptr_v1 d, const void* h, unsigned int n, CUstream s) {
  return in_legacy([&] { return copy_typed(kDevice, d, kHost, as_pointer(h), n, s, false, true); });
}
CUresult sim_cuMemcpyHtoDAsync_v2(CUdeviceptr d, const void* h, size_t n, CUstream s) {
  return copy_typed(kDevice, d, kHost, as_pointer(h), n, s, false, true);
}
CUresult sim_cuMemcpyHtoDAsync_v2_ptsz(CUdeviceptr d, const void* h, size_t n, CUstream s) {
  return copy_typed(kDevice, d, kHost, as_pointer(h), n, s, true, true);
}

CUresult sim_cuMemcpyDtoH(void* h, CUdeviceptr_v1 d, unsigned int n) {
  return in_legacy(
      [&] { return copy_typed(kHost, as_pointer(h), kDevice, d, n, nullptr, false, false); });
}
CUresult sim_cuMemcpyDtoH_v2(void* h, CUdeviceptr d, size_t n) {
  return copy_typed(kHost, as_pointer(h), kDevice, d, n, nullptr, false, false);
}
CUresult sim_cuMemcpyDtoH_v2_ptds(void* h, CUdeviceptr d, size_t n) {
  return copy_typed(kHost, as_pointer(h), kDevice, d, n, nullptr, true, false);
}
CUresult sim_cuMemcpyDtoHAsync(void* h, CUdeviceptr_v1 d, unsigned int n, CUstream s) {
  return in_legacy([&] { return copy_typed(kHost, as_pointer(h), kDevice, d, n, s, false, true); });
}
CUresult sim_cuMemcpyDtoHAsync_v2(void* h, CUdeviceptr d, size_t n, CUstream s) {
  return copy_typed(kHost, as_pointer(h), kDevice, d, n, s, false, true);
}
CUresult sim_cuMemcpyDtoHAsync_v2_ptsz(void* h, CUdeviceptr d, size_t n, CUstream s) {
  return copy_typed(kHost, as_pointer(h), kDevice, d, n, s, true, true);
}

CUresult sim_cuMemcpyDtoD(CUdeviceptr_v1 d, CUdeviceptr_v1 f, unsigned int n) {
  return in_legacy([&] { return copy_typed(kDevice, d, kDevice, f, n, nullptr, false, false); });
}
CUresult sim_cuMemcpyDtoD_v2(CUdeviceptr d, CUdeviceptr f, size_t n) {
  return copy_typed(kDevice, d, kDevice, f, n, nullptr, false, false);
}
CUresult sim_cuMemcpyDtoD_v2_ptds(CUdeviceptr d, CUdeviceptr f, size_t n) {
  return copy_typed(kDevice, d, kDevice, f, n, nullptr, true, false);
}
CUresult sim_cuMemcpyDtoDAsync(CUdeviceptr_v1 d, CUdeviceptr_v1 f, unsigned int n, CUstream s) {
  return in_legacy([&] { return copy_typed(kDevice, d, kDevice, f, n, s, false, true); });
}
CUresult sim_cuMemcpyDtoDAsync_v2(CUdeviceptr d, CUdeviceptr f, size_t n, CUstream s) {
  return copy_typed(kDevice, d, kDevice, f, n, s, false, true);
}
CUresult sim_cuMemcpyDtoDAsync_v2_ptsz(CUdeviceptr d, CUdeviceptr f, size_t n, CUstream s) {
  return copy_typed(kDevice, d, kDevice, f, n, s, true, true);
}

CUresult sim_cuMemcpyPeer(CUdeviceptr d, CUcontext dc, CUdeviceptr f, CUcontext fc, size_t n) {
  return peer(d, dc, f, fc, n, nullptr, false, false);
}
CUresult sim_cuMemcpyPeer_ptds(CUdeviceptr d, CUcontext dc, CUdeviceptr f, CUcontext fc, size_t n) {
  return peer(d, dc, f, fc, n, nullptr, true, false);
}
CUresult sim_cuMemcpyPeerAsync(CUdeviceptr d, CUcontext dc, CUdeviceptr f, CUcontext fc, size_t n,
                               CUstream s) {
  return peer(d, dc, f, fc, n, s, false, true);
}
CUresult sim_cuMemcpyPeerAsync_ptsz(CUdeviceptr d, CUcontext dc, CUdeviceptr f, CUcontext fc,
                                    size_t n, CUstream s) {
  return peer(d, dc, f, fc, n, s, true, true);
}

// Arrays.
#define VGPU_SIM_ATOA(name, size, per_thread)                                               \
  CUresult sim_##name(CUarray d, size d_at, CUarray f, size f_at, size n) {                 \
    return copy_array(d, d_at, 0, kHost, f, f_at, 0, kHost, n, nullptr, per_thread, false); \
  }
VGPU_SIM_ATOA(cuMemcpyAtoA, unsigned int, false)
VGPU_SIM_ATOA(cuMemcpyAtoA_v2, size_t, false)
VGPU_SIM_ATOA(cuMemcpyAtoA_v2_ptds, size_t, true)
#undef VGPU_SIM_ATOA
#define VGPU_SIM_ATOD(name, pointer, size, per_thread)                                           \
  CUresult sim_##name(pointer d, CUarray f, size f_at, size n) {                                 \
    return copy_array(nullptr, 0, d, kDevice, f, f_at, 0, kHost, n, nullptr, per_thread, false); \
  }
VGPU_SIM_ATOD(cuMemcpyAtoD, CUdeviceptr_v1, unsigned int, false)
VGPU_SIM_ATOD(cuMemcpyAtoD_v2, CUdeviceptr, size_t, false)
VGPU_SIM_ATOD(cuMemcpyAtoD_v2_ptds, CUdeviceptr, size_t, true)
#undef VGPU_SIM_ATOD
#define VGPU_SIM_DTOA(name, pointer, size, per_thread)                                           \
  CUresult sim_##name(CUarray d, size d_at, pointer f, size n) {                                 \
    return copy_array(d, d_at, 0, kHost, nullptr, 0, f, kDevice, n, nullptr, per_thread, false); \
  }
VGPU_SIM_DTOA(cuMemcpyDtoA, CUdeviceptr_v1, unsigned int, false)
VGPU_SIM_DTOA(cuMemcpyDtoA_v2, CUdeviceptr, size_t, false)
VGPU_SIM_DTOA(cuMemcpyDtoA_v2_ptds, CUdeviceptr, size_t, true)
#undef VGPU_SIM_DTOA
#define VGPU_SIM_ATOH(name, size, per_thread)                                                      \
  CUresult sim_##name(void* h, CUarray f, size f_at, size n) {                                     \
    return copy_array(nullptr, 0, as_pointer(h), kHost, f, f_at, 0, kHost, n, nullptr, per_thread, \
                      false);                                                                      \
  }
VGPU_SIM_ATOH(cuMemcpyAtoH, unsigned int, false)
VGPU_SIM_ATOH(cuMemcpyAtoH_v2, size_t, false)
VGPU_SIM_ATOH(cuMemcpyAtoH_v2_ptds, size_t, true)
#undef VGPU_SIM_ATOH
#define VGPU_SIM_ATOH_ASYNC(name, size, per_thread)                                          \
  CUresult sim_##name(void* h, CUarray f, size f_at, size n, CUstream s) {                   \
    return copy_array(nullptr, 0, as_pointer(h), kHost, f, f_at, 0, kHost, n, s, per_thread, \
                      true);                                                                 \
  }
VGPU_SIM_ATOH_ASYNC(cuMemcpyAtoHAsync, unsigned int, false)
VGPU_SIM_ATOH_ASYNC(cuMemcpyAtoHAsync_v2, size_t, false)
VGPU_SIM_ATOH_ASYNC(cuMemcpyAtoHAsync_v2_ptsz, size_t, true)
#undef VGPU_SIM_ATOH_ASYNC
#define VGPU_SIM_HTOA(name, size, per_thread)                                                      \
  CUresult sim_##name(CUarray d, size d_at, const void* h, size n) {                               \
    return copy_array(d, d_at, 0, kHost, nullptr, 0, as_pointer(h), kHost, n, nullptr, per_thread, \
                      false);                                                                      \
  }
VGPU_SIM_HTOA(cuMemcpyHtoA, unsigned int, false)
VGPU_SIM_HTOA(cuMemcpyHtoA_v2, size_t, false)
VGPU_SIM_HTOA(cuMemcpyHtoA_v2_ptds, size_t, true)
#undef VGPU_SIM_HTOA
#define VGPU_SIM_HTOA_ASYNC(name, size, per_thread)                                          \
  CUresult sim_##name(CUarray d, size d_at, const void* h, size n, CUstream s) {             \
    return copy_array(d, d_at, 0, kHost, nullptr, 0, as_pointer(h), kHost, n, s, per_thread, \
                      true);                                                                 \
  }
VGPU_SIM_HTOA_ASYNC(cuMemcpyHtoAAsync, unsigned int, false)
VGPU_SIM_HTOA_ASYNC(cuMemcpyHtoAAsync_v2, size_t, false)
VGPU_SIM_HTOA_ASYNC(cuMemcpyHtoAAsync_v2_ptsz, size_t, true)
#undef VGPU_SIM_HTOA_ASYNC

// Boxes.
CUresult sim_cuMemcpy2D(const CUDA_MEMCPY2D_v1* c) {
  return in_legacy([&] { return shaped(c, nullptr, false, false); });
}
CUresult sim_cuMemcpy2D_v2(const CUDA_MEMCPY2D* c) { return shaped(c, nullptr, false, false); }
CUresult sim_cuMemcpy2D_v2_ptds(const CUDA_MEMCPY2D* c) { return shaped(c, nullptr, true, false); }
CUresult sim_cuMemcpy2DUnaligned(const CUDA_MEMCPY2D_v1* c) {
  return in_legacy([&] { return shaped(c, nullptr, false, false); });
}
CUresult sim_cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D* c) {
  return shaped(c, nullptr, false, false);
}
CUresult sim_cuMemcpy2DUnaligned_v2_ptds(const CUDA_MEMCPY2D* c) {
  return shaped(c, nullptr, true, false);
}
CUresult sim_cuMemcpy2DAsync(const CUDA_MEMCPY2D_v1* c, CUstream s) {
  return in_legacy([&] { return shaped(c, s, false, true); });
}
CUresult sim_cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D* c, CUstream s) {
  return shaped(c, s, false, true);
}
CUresult sim_cuMemcpy2DAsync_v2_ptsz(const CUDA_MEMCPY2D* c, CUstream s) {
  return shaped(c, s, true, true);
}
CUresult sim_cuMemcpy3D(const CUDA_MEMCPY3D_v1* c) {
  return in_legacy([&] { return shaped(c, nullptr, false, false); });
}
CUresult sim_cuMemcpy3D_v2(const CUDA_MEMCPY3D* c) { return shaped(c, nullptr, false, false); }
CUresult sim_cuMemcpy3D_v2_ptds(const CUDA_MEMCPY3D* c) { return shaped(c, nullptr, true, false); }
CUresult sim_cuMemcpy3DAsync(const CUDA_MEMCPY3D_v1* c, CUstream s) {
  return in_legacy([&] { return shaped(c, s, false, true); });
}
CUresult sim_cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D* c, CUstream s) {
  return shaped(c, s, false, true);
}
CUresult sim_cuMemcpy3DAsync_v2_ptsz(const CUDA_MEMCPY3D* c, CUstream s) {
  return shaped(c, s, true, true);
}
CUresult sim_cuMemcpy3DPeer(const CUDA_MEMCPY3D_PEER* c) {
  return shaped(c, nullptr, false, false);
}
CUresult sim_cuMemcpy3DPeer_ptds(const CUDA_MEMCPY3D_PEER* c) {
  return shaped(c, nullptr, true, false);
}
CUresult sim_cuMemcpy3DPeerAsync(const CUDA_MEMCPY3D_PEER* c, CUstream s) {
  return shaped(c, s, false, true);
}
CUresult sim_cuMemcpy3DPeerAsync_ptsz(const CUDA_MEMCPY3D_PEER* c, CUstream s) {
  return shaped(c, s, true, true);
}

// Batches.
CUresult sim_cuMemcpyBatchAsync(CUdeviceptr* d, CUdeviceptr* f, size_t* n, size_t count,
                                CUmemcpyAttributes* a, size_t* i, size_t na, size_t* fail,
                                CUstream s) {
  return batch(d, f, n, count, a, i, na, fail, s, false);
}
CUresult sim_cuMemcpyBatchAsync_ptsz(CUdeviceptr* d, CUdeviceptr* f, size_t* n, size_t count,
                                     CUmemcpyAttributes* a, size_t* i, size_t na, size_t* fail,
                                     CUstream s) {
  return batch(d, f, n, count, a, i, na, fail, s, true);
}
CUresult sim_cuMemcpyBatchAsync_v2(CUdeviceptr* d, CUdeviceptr* f, size_t* n, size_t count,
                                   CUmemcpyAttributes* a, size_t* i, size_t na, CUstream s) {
  return batch(d, f, n, count, a, i, na, nullptr, s, false);
}
CUresult sim_cuMemcpyBatchAsync_v2_ptsz(CUdeviceptr* d, CUdeviceptr* f, size_t* n, size_t count,
                                        CUmemcpyAttributes* a, size_t* i, size_t na, CUstream s) {
  return batch(d, f, n, count, a, i, na, nullptr, s, true);
}
CUresult sim_cuMemcpy3DBatchAsync(size_t n, CUDA_MEMCPY3D_BATCH_OP* ops, size_t* fail,
                                  unsigned long long flags, CUstream s) {
  return batch_3d(n, ops, fail, flags, s, false);
}
CUresult sim_cuMemcpy3DBatchAsync_ptsz(size_t n, CUDA_MEMCPY3D_BATCH_OP* ops, size_t* fail,
                                       unsigned long long flags, CUstream s) {
  return batch_3d(n, ops, fail, flags, s, true);
}
CUresult sim_cuMemcpy3DBatchAsync_v2(size_t n, CUDA_MEMCPY3D_BATCH_OP* ops,
                                     unsigned long long flags, CUstream s) {
  return batch_3d(n, ops, nullptr, flags, s, false);
}
CUresult sim_cuMemcpy3DBatchAsync_v2_ptsz(size_t n, CUDA_MEMCPY3D_BATCH_OP* ops,
                                          unsigned long long flags, CUstream s) {
  return batch_3d(n, ops, nullptr, flags, s, true);
}

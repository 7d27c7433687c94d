// SPDX-License-Identifier: Apache-2.0
// Copies from device to device: work of the GPU, gated by their size. Copies from and to the host
// run free: they keep their speed beside kernels, and kernels theirs.
#include "../compute/submit.h"
#include "../hooks.h"
#include "vgpu/driver/dispatch.h"

namespace vgpu::hooks {

using namespace limiter;

namespace {

// `bytes()`: how many go from device to device; asked only where somebody needs to know.
template <class Bytes, class Call>
CUresult copy_within(Bytes bytes, CUstream stream, bool per_thread, Call call) {
  return submit([&] { return copy_work(bytes()); }, stream, per_thread, call);
}

// Below that, asking where both ends are costs more than the copy takes.
constexpr std::uint64_t kLeastBytesToAsk = 64 * 1024;

bool is_on_device(CUdeviceptr address) {
  unsigned type = 0;
  return real().cuPointerGetAttribute != nullptr &&
         real().cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address) ==
             CUDA_SUCCESS &&
         type == CU_MEMORYTYPE_DEVICE;
}

std::uint64_t unified_bytes(CUdeviceptr dst, CUdeviceptr src, std::uint64_t bytes) {
  if (bytes < kLeastBytesToAsk) return 0;
  return is_on_device(dst) && is_on_device(src) ? bytes : 0;
}

bool is_on_device(CUmemorytype type, CUdeviceptr address) {
  return type == CU_MEMORYTYPE_DEVICE || type == CU_MEMORYTYPE_ARRAY ||
         (type == CU_MEMORYTYPE_UNIFIED && is_on_device(address));
}

template <class Copy>
std::uint64_t planes_of(const Copy& copy) {
  if constexpr (requires { copy.Depth; }) {
    return copy.Depth;
  } else {
    return 1;
  }
}

template <class Copy>
std::uint64_t bytes_of(const Copy* copy) {
  if (copy == nullptr) return 0;
  const std::uint64_t bytes = std::uint64_t{copy->WidthInBytes} * copy->Height * planes_of(*copy);
  if (bytes < kLeastBytesToAsk) return 0;
  const bool within = is_on_device(copy->srcMemoryType, copy->srcDevice) &&
                      is_on_device(copy->dstMemoryType, copy->dstDevice);
  return within ? bytes : 0;
}

std::uint64_t batch_bytes(const CUdeviceptr* dsts, const CUdeviceptr* srcs, const size_t* sizes,
                          size_t count) {
  std::uint64_t bytes = 0;
  if (dsts == nullptr || srcs == nullptr || sizes == nullptr) return 0;
  for (size_t i = 0; i < count; ++i) bytes += unified_bytes(dsts[i], srcs[i], sizes[i]);
  return bytes;
}

bool is_on_device(const CUmemcpy3DOperand& operand) {
  return operand.type == CU_MEMCPY_OPERAND_TYPE_ARRAY || is_on_device(operand.op.ptr.ptr);
}

std::uint64_t batch_bytes(const CUDA_MEMCPY3D_BATCH_OP* copies, size_t count) {
  std::uint64_t bytes = 0;
  if (copies == nullptr) return 0;
  for (size_t i = 0; i < count; ++i) {
    const CUextent3D& extent = copies[i].extent;
    if (is_on_device(copies[i].src) && is_on_device(copies[i].dst))
      bytes += std::uint64_t{extent.width} * extent.height * extent.depth;
  }
  return bytes;
}

}  // namespace

CUresult cuMemcpy(CUdeviceptr dst, CUdeviceptr src, size_t bytes) {
  return copy_within([&] { return unified_bytes(dst, src, bytes); }, nullptr, false,
                     [&] { return real().cuMemcpy(dst, src, bytes); });
}

CUresult cuMemcpy2D(const CUDA_MEMCPY2D_v1* copy) {
  return copy_within([&] { return bytes_of(copy); }, nullptr, false,
                     [&] { return real().cuMemcpy2D(copy); });
}

CUresult cuMemcpy2DAsync(const CUDA_MEMCPY2D_v1* copy, CUstream stream) {
  return copy_within([&] { return bytes_of(copy); }, stream, false,
                     [&] { return real().cuMemcpy2DAsync(copy, stream); });
}

CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D* copy, CUstream stream) {
  return copy_within([&] { return bytes_of(copy); }, stream, false,
                     [&] { return real().cuMemcpy2DAsync_v2(copy, stream); });
}

CUresult cuMemcpy2DAsync_v2_ptsz(const CUDA_MEMCPY2D* copy, CUstream stream) {
  return copy_within([&] { return bytes_of(copy); }, stream, true,
                     [&] { return real().cuMemcpy2DAsync_v2_ptsz(copy, stream); });
}

CUresult cuMemcpy2DUnaligned(const CUDA_MEMCPY2D_v1* copy) {
  return copy_within([&] { return bytes_of(copy); }, nullptr, false,
                     [&] { return real().cuMemcpy2DUnaligned(copy); });
}

CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D* copy) {
  return copy_within([&] { return bytes_of(copy); }, nullptr, false,
                     [&] { return real().cuMemcpy2DUnaligned_v2(copy); });
}

CUresult cuMemcpy2DUnaligned_v2_ptds(const CUDA_MEMCPY2D* copy) {
  return copy_within([&] { return bytes_of(copy); }, nullptr, true,
                     [&] { return real().cuMemcpy2DUnaligned_v2_ptds(copy); });
}

CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D* copy) {
  return copy_within([&] { return bytes_of(copy); }, nullptr, false,
                     [&] { return real().cuMemcpy2D_v2(copy); });
}

CUresult cuMemcpy2D_v2_ptds(const CUDA_MEMCPY2D* copy) {
  return copy_within([&] { return bytes_of(copy); }, nullptr, true,
                     [&] { return real().cuMemcpy2D_v2_ptds(copy); });
}

CUresult cuMemcpy3D(const CUDA_MEMCPY3D_v1* copy) {
  return copy_within([&] { return bytes_of(copy); }, nullptr, false,
                     [&] { return real().cuMemcpy3D(copy); });
}

CUresult cuMemcpy3DAsync(const CUDA_MEMCPY3D_v1* copy, CUstream stream) {
  return copy_within([&] { return bytes_of(copy); }, stream, false,
                     [&] { return real().cuMemcpy3DAsync(copy, stream); });
}

CUresult cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D* copy, CUstream stream) {
  return copy_within([&] { return bytes_of(copy); }, stream, false,
                     [&] { return real().cuMemcpy3DAsync_v2(copy, stream); });
}

CUresult cuMemcpy3DAsync_v2_ptsz(const CUDA_MEMCPY3D* copy, CUstream stream) {
  return copy_within([&] { return bytes_of(copy); }, stream, true,
                     [&] { return real().cuMemcpy3DAsync_v2_ptsz(copy, stream); });
}

CUresult cuMemcpy3DBatchAsync(size_t num_ops, CUDA_MEMCPY3D_BATCH_OP* op_list, size_t* fail_idx,
                              unsigned long long flags, CUstream stream) {
  return copy_within(
      [&] { return batch_bytes(op_list, num_ops); }, stream, false,
      [&] { return real().cuMemcpy3DBatchAsync(num_ops, op_list, fail_idx, flags, stream); });
}

CUresult cuMemcpy3DBatchAsync_ptsz(size_t num_ops, CUDA_MEMCPY3D_BATCH_OP* op_list,
                                   size_t* fail_idx, unsigned long long flags, CUstream stream) {
  return copy_within(
      [&] { return batch_bytes(op_list, num_ops); }, stream, true,
      [&] { return real().cuMemcpy3DBatchAsync_ptsz(num_ops, op_list, fail_idx, flags, stream); });
}

CUresult cuMemcpy3DBatchAsync_v2(size_t num_ops, CUDA_MEMCPY3D_BATCH_OP* op_list,
                                 unsigned long long flags, CUstream stream) {
  return copy_within(
      [&] { return batch_bytes(op_list, num_ops); }, stream, false,
      [&] { return real().cuMemcpy3DBatchAsync_v2(num_ops, op_list, flags, stream); });
}

CUresult cuMemcpy3DBatchAsync_v2_ptsz(size_t num_ops, CUDA_MEMCPY3D_BATCH_OP* op_list,
                                      unsigned long long flags, CUstream stream) {
  return copy_within(
      [&] { return batch_bytes(op_list, num_ops); }, stream, true,
      [&] { return real().cuMemcpy3DBatchAsync_v2_ptsz(num_ops, op_list, flags, stream); });
}

CUresult cuMemcpy3DPeer(const CUDA_MEMCPY3D_PEER* copy) {
  return copy_within([&] { return bytes_of(copy); }, nullptr, false,
                     [&] { return real().cuMemcpy3DPeer(copy); });
}

CUresult cuMemcpy3DPeerAsync(const CUDA_MEMCPY3D_PEER* copy, CUstream stream) {
  return copy_within([&] { return bytes_of(copy); }, stream, false,
                     [&] { return real().cuMemcpy3DPeerAsync(copy, stream); });
}

CUresult cuMemcpy3DPeerAsync_ptsz(const CUDA_MEMCPY3D_PEER* copy, CUstream stream) {
  return copy_within([&] { return bytes_of(copy); }, stream, true,
                     [&] { return real().cuMemcpy3DPeerAsync_ptsz(copy, stream); });
}

CUresult cuMemcpy3DPeer_ptds(const CUDA_MEMCPY3D_PEER* copy) {
  return copy_within([&] { return bytes_of(copy); }, nullptr, true,
                     [&] { return real().cuMemcpy3DPeer_ptds(copy); });
}

CUresult cuMemcpy3D_v2(const CUDA_MEMCPY3D* copy) {
  return copy_within([&] { return bytes_of(copy); }, nullptr, false,
                     [&] { return real().cuMemcpy3D_v2(copy); });
}

CUresult cuMemcpy3D_v2_ptds(const CUDA_MEMCPY3D* copy) {
  return copy_within([&] { return bytes_of(copy); }, nullptr, true,
                     [&] { return real().cuMemcpy3D_v2_ptds(copy); });
}

CUresult cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUstream stream) {
  return copy_within([&] { return unified_bytes(dst, src, bytes); }, stream, false,
                     [&] { return real().cuMemcpyAsync(dst, src, bytes, stream); });
}

CUresult cuMemcpyAsync_ptsz(CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUstream stream) {
  return copy_within([&] { return unified_bytes(dst, src, bytes); }, stream, true,
                     [&] { return real().cuMemcpyAsync_ptsz(dst, src, bytes, stream); });
}

CUresult cuMemcpyAtoA(CUarray dst_array, unsigned int dst_offset, CUarray src_array,
                      unsigned int src_offset, unsigned int bytes) {
  return copy_within(
      [&] { return bytes; }, nullptr, false,
      [&] { return real().cuMemcpyAtoA(dst_array, dst_offset, src_array, src_offset, bytes); });
}

CUresult cuMemcpyAtoA_v2(CUarray dst_array, size_t dst_offset, CUarray src_array, size_t src_offset,
                         size_t bytes) {
  return copy_within(
      [&] { return bytes; }, nullptr, false,
      [&] { return real().cuMemcpyAtoA_v2(dst_array, dst_offset, src_array, src_offset, bytes); });
}

CUresult cuMemcpyAtoA_v2_ptds(CUarray dst_array, size_t dst_offset, CUarray src_array,
                              size_t src_offset, size_t bytes) {
  return copy_within([&] { return bytes; }, nullptr, true,
                     [&] {
                       return real().cuMemcpyAtoA_v2_ptds(dst_array, dst_offset, src_array,
                                                          src_offset, bytes);
                     });
}

CUresult cuMemcpyAtoD(CUdeviceptr_v1 dst_device, CUarray src_array, unsigned int src_offset,
                      unsigned int bytes) {
  return copy_within([&] { return bytes; }, nullptr, false,
                     [&] { return real().cuMemcpyAtoD(dst_device, src_array, src_offset, bytes); });
}

CUresult cuMemcpyAtoD_v2(CUdeviceptr dst_device, CUarray src_array, size_t src_offset,
                         size_t bytes) {
  return copy_within(
      [&] { return bytes; }, nullptr, false,
      [&] { return real().cuMemcpyAtoD_v2(dst_device, src_array, src_offset, bytes); });
}

CUresult cuMemcpyAtoD_v2_ptds(CUdeviceptr dst_device, CUarray src_array, size_t src_offset,
                              size_t bytes) {
  return copy_within(
      [&] { return bytes; }, nullptr, true,
      [&] { return real().cuMemcpyAtoD_v2_ptds(dst_device, src_array, src_offset, bytes); });
}

CUresult cuMemcpyBatchAsync(CUdeviceptr* dsts, CUdeviceptr* srcs, size_t* sizes, size_t count,
                            CUmemcpyAttributes* attrs, size_t* attrs_idxs, size_t num_attrs,
                            size_t* fail_idx, CUstream stream) {
  return copy_within([&] { return batch_bytes(dsts, srcs, sizes, count); }, stream, false,
                     [&] {
                       return real().cuMemcpyBatchAsync(dsts, srcs, sizes, count, attrs, attrs_idxs,
                                                        num_attrs, fail_idx, stream);
                     });
}

CUresult cuMemcpyBatchAsync_ptsz(CUdeviceptr* dsts, CUdeviceptr* srcs, size_t* sizes, size_t count,
                                 CUmemcpyAttributes* attrs, size_t* attrs_idxs, size_t num_attrs,
                                 size_t* fail_idx, CUstream stream) {
  return copy_within([&] { return batch_bytes(dsts, srcs, sizes, count); }, stream, true,
                     [&] {
                       return real().cuMemcpyBatchAsync_ptsz(dsts, srcs, sizes, count, attrs,
                                                             attrs_idxs, num_attrs, fail_idx,
                                                             stream);
                     });
}

CUresult cuMemcpyBatchAsync_v2(CUdeviceptr* dsts, CUdeviceptr* srcs, size_t* sizes, size_t count,
                               CUmemcpyAttributes* attrs, size_t* attrs_idxs, size_t num_attrs,
                               CUstream stream) {
  return copy_within([&] { return batch_bytes(dsts, srcs, sizes, count); }, stream, false,
                     [&] {
                       return real().cuMemcpyBatchAsync_v2(dsts, srcs, sizes, count, attrs,
                                                           attrs_idxs, num_attrs, stream);
                     });
}

CUresult cuMemcpyBatchAsync_v2_ptsz(CUdeviceptr* dsts, CUdeviceptr* srcs, size_t* sizes,
                                    size_t count, CUmemcpyAttributes* attrs, size_t* attrs_idxs,
                                    size_t num_attrs, CUstream stream) {
  return copy_within([&] { return batch_bytes(dsts, srcs, sizes, count); }, stream, true,
                     [&] {
                       return real().cuMemcpyBatchAsync_v2_ptsz(dsts, srcs, sizes, count, attrs,
                                                                attrs_idxs, num_attrs, stream);
                     });
}

CUresult cuMemcpyDtoA(CUarray dst_array, unsigned int dst_offset, CUdeviceptr_v1 src_device,
                      unsigned int bytes) {
  return copy_within([&] { return bytes; }, nullptr, false,
                     [&] { return real().cuMemcpyDtoA(dst_array, dst_offset, src_device, bytes); });
}

CUresult cuMemcpyDtoA_v2(CUarray dst_array, size_t dst_offset, CUdeviceptr src_device,
                         size_t bytes) {
  return copy_within(
      [&] { return bytes; }, nullptr, false,
      [&] { return real().cuMemcpyDtoA_v2(dst_array, dst_offset, src_device, bytes); });
}

CUresult cuMemcpyDtoA_v2_ptds(CUarray dst_array, size_t dst_offset, CUdeviceptr src_device,
                              size_t bytes) {
  return copy_within(
      [&] { return bytes; }, nullptr, true,
      [&] { return real().cuMemcpyDtoA_v2_ptds(dst_array, dst_offset, src_device, bytes); });
}

CUresult cuMemcpyDtoD(CUdeviceptr_v1 dst_device, CUdeviceptr_v1 src_device, unsigned int bytes) {
  return copy_within([&] { return bytes; }, nullptr, false,
                     [&] { return real().cuMemcpyDtoD(dst_device, src_device, bytes); });
}

CUresult cuMemcpyDtoDAsync(CUdeviceptr_v1 dst_device, CUdeviceptr_v1 src_device, unsigned int bytes,
                           CUstream stream) {
  return copy_within(
      [&] { return bytes; }, stream, false,
      [&] { return real().cuMemcpyDtoDAsync(dst_device, src_device, bytes, stream); });
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr dst_device, CUdeviceptr src_device, size_t bytes,
                              CUstream stream) {
  return copy_within(
      [&] { return bytes; }, stream, false,
      [&] { return real().cuMemcpyDtoDAsync_v2(dst_device, src_device, bytes, stream); });
}

CUresult cuMemcpyDtoDAsync_v2_ptsz(CUdeviceptr dst_device, CUdeviceptr src_device, size_t bytes,
                                   CUstream stream) {
  return copy_within(
      [&] { return bytes; }, stream, true,
      [&] { return real().cuMemcpyDtoDAsync_v2_ptsz(dst_device, src_device, bytes, stream); });
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr dst_device, CUdeviceptr src_device, size_t bytes) {
  return copy_within([&] { return bytes; }, nullptr, false,
                     [&] { return real().cuMemcpyDtoD_v2(dst_device, src_device, bytes); });
}

CUresult cuMemcpyDtoD_v2_ptds(CUdeviceptr dst_device, CUdeviceptr src_device, size_t bytes) {
  return copy_within([&] { return bytes; }, nullptr, true,
                     [&] { return real().cuMemcpyDtoD_v2_ptds(dst_device, src_device, bytes); });
}

CUresult cuMemcpyPeer(CUdeviceptr dst_device, CUcontext dst_context, CUdeviceptr src_device,
                      CUcontext src_context, size_t bytes) {
  return copy_within(
      [&] { return bytes; }, nullptr, false,
      [&] { return real().cuMemcpyPeer(dst_device, dst_context, src_device, src_context, bytes); });
}

CUresult cuMemcpyPeerAsync(CUdeviceptr dst_device, CUcontext dst_context, CUdeviceptr src_device,
                           CUcontext src_context, size_t bytes, CUstream stream) {
  return copy_within([&] { return bytes; }, stream, false,
                     [&] {
                       return real().cuMemcpyPeerAsync(dst_device, dst_context, src_device,
                                                       src_context, bytes, stream);
                     });
}

CUresult cuMemcpyPeerAsync_ptsz(CUdeviceptr dst_device, CUcontext dst_context,
                                CUdeviceptr src_device, CUcontext src_context, size_t bytes,
                                CUstream stream) {
  return copy_within([&] { return bytes; }, stream, true,
                     [&] {
                       return real().cuMemcpyPeerAsync_ptsz(dst_device, dst_context, src_device,
                                                            src_context, bytes, stream);
                     });
}

CUresult cuMemcpyPeer_ptds(CUdeviceptr dst_device, CUcontext dst_context, CUdeviceptr src_device,
                           CUcontext src_context, size_t bytes) {
  return copy_within([&] { return bytes; }, nullptr, true,
                     [&] {
                       return real().cuMemcpyPeer_ptds(dst_device, dst_context, src_device,
                                                       src_context, bytes);
                     });
}

CUresult cuMemcpy_ptds(CUdeviceptr dst, CUdeviceptr src, size_t bytes) {
  return copy_within([&] { return unified_bytes(dst, src, bytes); }, nullptr, true,
                     [&] { return real().cuMemcpy_ptds(dst, src, bytes); });
}

}  // namespace vgpu::hooks

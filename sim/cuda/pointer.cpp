// SPDX-License-Identifier: Apache-2.0
// What the driver knows of an address, and of the managed memory behind it.
#include <algorithm>
#include <cstring>

#include "capture.h"
#include "driver.h"
#include "stream.h"

using namespace vgpu::sim;

namespace {

bool is_host(const Allocation& allocation) {
  return allocation.kind == Kind::host || allocation.kind == Kind::registered;
}

template <class T>
CUresult put(void* data, T value) {
  std::memcpy(data, &value, sizeof value);
  return CUDA_SUCCESS;
}

CUresult attribute(void* data, CUpointer_attribute what, CUdeviceptr ptr,
                   const Allocation* allocation) {
  if (allocation == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const bool managed = allocation->kind == Kind::managed;
  switch (what) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
      return put(data, allocation->context);
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      return put(data, static_cast<unsigned>(is_host(*allocation) || allocation->device == nullptr
                                                 ? CU_MEMORYTYPE_HOST
                                                 : CU_MEMORYTYPE_DEVICE));
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
      return put(data, ptr);
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
      if (!is_host(*allocation) && !managed) return CUDA_ERROR_INVALID_VALUE;
      return put(data, ptr);
    case CU_POINTER_ATTRIBUTE_P2P_TOKENS:
      return CUDA_ERROR_NOT_SUPPORTED;
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
      return put(data, static_cast<int>(allocation->sync_memops));
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
      return put(data, static_cast<unsigned long long>(allocation->id));
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
      return put(data, static_cast<int>(managed));
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      return put(data, allocation->device == nullptr ? 0 : allocation->device->ordinal);
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
      return put(data, static_cast<int>(allocation->kind == Kind::plain ||
                                        allocation->kind == Kind::pitch));
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
      return put(data, allocation->base);
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
      return put(data, static_cast<std::size_t>(allocation->bytes));
    case CU_POINTER_ATTRIBUTE_MAPPED:
      return put(data, 1);
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
      return put(data, cuuint64_t{0});
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
      return put(data, 0);
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
      return put(data, static_cast<unsigned>(CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE));
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
      return put(data, allocation->pool);
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
      return put(data, static_cast<std::size_t>(std::max(allocation->extent, allocation->bytes)));
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
      return put(data, allocation->base);
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
      return put(data, static_cast<unsigned long long>(allocation->id));
    case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
      return put(data, 0);
  }
  return CUDA_ERROR_INVALID_VALUE;
}

// Managed memory.
Allocation* managed_range(Call& call, CUdeviceptr ptr, std::uint64_t bytes) {
  Allocation* allocation = call.driver.find(ptr, bytes);
  return allocation != nullptr && allocation->kind == Kind::managed ? allocation : nullptr;
}

CUresult prefetch(CUdeviceptr ptr, size_t bytes, const CUmemLocation& location, CUstream handle,
                  bool per_thread) {
  Call call;
  if (!call) return call.result;
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  const CUstream stream = find_stream(call, handle, per_thread);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  Allocation* allocation = managed_range(call, ptr, bytes);
  if (allocation == nullptr) return CUDA_ERROR_INVALID_VALUE;
  Device* device = nullptr;
  if (location.type == CU_MEM_LOCATION_TYPE_DEVICE && location.id != CU_DEVICE_CPU) {
    device = call.driver.device(location.id);
    if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  }
  bool captured = false;
  const CUresult routed = route(call, stream, captured);
  if (routed != CUDA_SUCCESS) return routed;
  if (captured) return CUDA_SUCCESS;
  const std::uint64_t base = allocation->base;
  Op op;
  op.type = Op::Type::marker;
  op.work = [base, bytes, device] {
    Allocation* there = Driver::get().find(base);
    if (there == nullptr || there->kind != Kind::managed) return;
    if (device != nullptr && device != there->device) {
      lose_residence(*there, there->resident);
      there->device = device;
    }
    if (device != nullptr) {
      make_resident(*there, std::min(there->extent, there->resident + round_up(bytes, kPageBytes)));
    } else {
      lose_residence(*there, std::min(there->resident, round_up(bytes, kPageBytes)));
    }
  };
  enqueue(call, stream, std::move(op));
  return CUDA_SUCCESS;
}

CUresult advise(CUdeviceptr ptr, size_t bytes, CUmem_advise advice) {
  Call call;
  if (!call) return call.result;
  if (advice < CU_MEM_ADVISE_SET_READ_MOSTLY || advice > CU_MEM_ADVISE_UNSET_ACCESSED_BY)
    return CUDA_ERROR_INVALID_VALUE;
  return managed_range(call, ptr, bytes) == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult attach(CUstream handle, CUdeviceptr ptr, size_t, unsigned flags, bool per_thread) {
  Call call;
  if (!call) return call.result;
  if (find_stream(call, handle, per_thread) == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST && flags != CU_MEM_ATTACH_SINGLE)
    return CUDA_ERROR_INVALID_VALUE;
  const Allocation* allocation = call.driver.find(ptr);
  return allocation == nullptr || allocation->kind != Kind::managed ? CUDA_ERROR_INVALID_VALUE
                                                                    : CUDA_SUCCESS;
}

CUresult range_attribute(void* data, size_t size, CUmem_range_attribute what, CUdeviceptr ptr,
                         size_t bytes) {
  Call call;
  if (!call) return call.result;
  if (data == nullptr || size < 4) return CUDA_ERROR_INVALID_VALUE;
  const Allocation* allocation = managed_range(call, ptr, bytes);
  if (allocation == nullptr) return CUDA_ERROR_INVALID_VALUE;
  int value = 0;
  if (what == CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION ||
      what == CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY)
    value = CU_DEVICE_INVALID;
  if (what == CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION)
    value = allocation->resident > 0 ? allocation->device->ordinal : CU_DEVICE_INVALID;
  for (size_t at = 0; at + sizeof value <= size; at += sizeof value)
    std::memcpy(static_cast<char*>(data) + at, &value, sizeof value);
  return CUDA_SUCCESS;
}

}  // namespace

CUresult sim_cuPointerGetAttribute(void* data, CUpointer_attribute what, CUdeviceptr ptr) {
  Call call;
  if (!call) return call.result;
  if (data == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return attribute(data, what, ptr, call.driver.find(ptr));
}
CUresult sim_cuPointerGetAttributes(unsigned int count, CUpointer_attribute* attributes,
                                    void** data, CUdeviceptr ptr) {
  Call call;
  if (!call) return call.result;
  if (attributes == nullptr || data == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
  const Allocation* allocation = call.driver.find(ptr);
  for (unsigned i = 0; i < count; ++i) {
    if (data[i] == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (attribute(data[i], attributes[i], ptr, allocation) == CUDA_SUCCESS) continue;
    // Unknown memory is no error here: pointers read as null, numbers as zero.
    switch (attributes[i]) {
      case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        put(data[i], CU_DEVICE_INVALID);
        break;
      case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
      case CU_POINTER_ATTRIBUTE_IS_MANAGED:
      case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
      case CU_POINTER_ATTRIBUTE_MAPPED:
      case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
      case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
      case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
        put(data[i], 0);
        break;
      case CU_POINTER_ATTRIBUTE_CONTEXT:
      case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
      case CU_POINTER_ATTRIBUTE_HOST_POINTER:
      case CU_POINTER_ATTRIBUTE_BUFFER_ID:
      case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
      case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
      case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
      case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
      case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
      case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
      case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
        put(data[i], std::uint64_t{0});
        break;
      case CU_POINTER_ATTRIBUTE_P2P_TOKENS:
        break;
    }
  }
  return CUDA_SUCCESS;
}
CUresult sim_cuPointerSetAttribute(const void* value, CUpointer_attribute what, CUdeviceptr ptr) {
  Call call;
  if (!call) return call.result;
  Allocation* allocation = call.driver.find(ptr);
  if (value == nullptr || what != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS || allocation == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  allocation->sync_memops = *static_cast<const int*>(value) != 0;
  return CUDA_SUCCESS;
}

CUresult sim_cuMemPrefetchAsync(CUdeviceptr ptr, size_t count, CUdevice device, CUstream stream) {
  return prefetch(ptr, count, {CU_MEM_LOCATION_TYPE_DEVICE, device}, stream, false);
}
CUresult sim_cuMemPrefetchAsync_ptsz(CUdeviceptr ptr, size_t count, CUdevice device,
                                     CUstream stream) {
  return prefetch(ptr, count, {CU_MEM_LOCATION_TYPE_DEVICE, device}, stream, true);
}
CUresult sim_cuMemPrefetchAsync_v2(CUdeviceptr ptr, size_t count, CUmemLocation location,
                                   unsigned int flags, CUstream stream) {
  return flags != 0 ? CUDA_ERROR_INVALID_VALUE : prefetch(ptr, count, location, stream, false);
}
CUresult sim_cuMemPrefetchAsync_v2_ptsz(CUdeviceptr ptr, size_t count, CUmemLocation location,
                                        unsigned int flags, CUstream stream) {
  return flags != 0 ? CUDA_ERROR_INVALID_VALUE : prefetch(ptr, count, location, stream, true);
}
CUresult sim_cuMemAdvise(CUdeviceptr ptr, size_t count, CUmem_advise advice, CUdevice) {
  return advise(ptr, count, advice);
}
CUresult sim_cuMemAdvise_v2(CUdeviceptr ptr, size_t count, CUmem_advise advice, CUmemLocation) {
  return advise(ptr, count, advice);
}
CUresult sim_cuStreamAttachMemAsync(CUstream stream, CUdeviceptr ptr, size_t length,
                                    unsigned int flags) {
  return attach(stream, ptr, length, flags, false);
}
CUresult sim_cuStreamAttachMemAsync_ptsz(CUstream stream, CUdeviceptr ptr, size_t length,
                                         unsigned int flags) {
  return attach(stream, ptr, length, flags, true);
}
CUresult sim_cuMemRangeGetAttribute(void* data, size_t size, CUmem_range_attribute attribute_id,
                                    CUdeviceptr ptr, size_t count) {
  return range_attribute(data, size, attribute_id, ptr, count);
}
CUresult sim_cuMemRangeGetAttributes(void** data, size_t* sizes, CUmem_range_attribute* attributes,
                                     size_t num, CUdeviceptr ptr, size_t count) {
  if (data == nullptr || sizes == nullptr || attributes == nullptr || num == 0)
    return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < num; ++i) {
    const CUresult result = range_attribute(data[i], sizes[i], attributes[i], ptr, count);
    if (result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

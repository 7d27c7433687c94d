// SPDX-License-Identifier: Apache-2.0
// Devices: names, attributes, PCI places, peers. Everything comes from the model and the shared
// configuration.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "driver.h"

using namespace vgpu::sim;

namespace {

int attribute(const Device& device, CUdevice_attribute attrib, bool& known) {
  const GpuModel& model = device.model();
  const bool modern = model.compute_major >= 9;
  known = true;
  switch (static_cast<unsigned>(attrib)) {
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      return 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
      return 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y:
      return 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z:
      return 64;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X:
      return 2147483647;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
      return 65535;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z:
      return 65535;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK:
      return 49152;
    case CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY:
      return 65536;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE:
      return 32;
    case CU_DEVICE_ATTRIBUTE_MAX_PITCH:
      return 2147483647;
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
      return 65536;
    case CU_DEVICE_ATTRIBUTE_CLOCK_RATE:
      return model.sm_clock_mhz * 1000;
    case CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT:
      return static_cast<int>(kTextureAlignBytes);
    case CU_DEVICE_ATTRIBUTE_GPU_OVERLAP:
      return 1;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
      return model.sm_count;
    case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY:
      return 1;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_WIDTH:
      return 131072;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_WIDTH:
      return 131072;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_HEIGHT:
      return 65536;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_WIDTH:
      return 16384;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_HEIGHT:
      return 16384;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_DEPTH:
      return 16384;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LAYERED_WIDTH:
      return 32768;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LAYERED_HEIGHT:
      return 32768;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LAYERED_LAYERS:
      return 2048;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_LAYERED_WIDTH:
      return 32768;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_LAYERED_LAYERS:
      return 2048;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_GATHER_WIDTH:
      return 32768;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_GATHER_HEIGHT:
      return 32768;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_WIDTH_ALTERNATE:
      return 8192;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_HEIGHT_ALTERNATE:
      return 8192;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_DEPTH_ALTERNATE:
      return 32768;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURECUBEMAP_WIDTH:
      return 32768;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURECUBEMAP_LAYERED_WIDTH:
      return 32768;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURECUBEMAP_LAYERED_LAYERS:
      return 2046;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE1D_WIDTH:
      return 32768;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE2D_WIDTH:
      return 131072;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE2D_HEIGHT:
      return 65536;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE3D_WIDTH:
      return 16384;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE3D_HEIGHT:
      return 16384;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE3D_DEPTH:
      return 16384;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE1D_LAYERED_WIDTH:
      return 32768;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE1D_LAYERED_LAYERS:
      return 2048;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE2D_LAYERED_WIDTH:
      return 32768;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE2D_LAYERED_HEIGHT:
      return 32768;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE2D_LAYERED_LAYERS:
      return 2048;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACECUBEMAP_WIDTH:
      return 32768;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACECUBEMAP_LAYERED_WIDTH:
      return 32768;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACECUBEMAP_LAYERED_LAYERS:
      return 2046;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_LINEAR_WIDTH:
      return 268435456;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LINEAR_WIDTH:
      return 131072;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LINEAR_HEIGHT:
      return 65000;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LINEAR_PITCH:
      return 2097120;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_MIPMAPPED_WIDTH:
      return 32768;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_MIPMAPPED_HEIGHT:
      return 32768;
    case CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_MIPMAPPED_WIDTH:
      return 32768;
    case CU_DEVICE_ATTRIBUTE_SURFACE_ALIGNMENT:
      return 512;
    case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS:
      return 1;
    case CU_DEVICE_ATTRIBUTE_ECC_ENABLED:
      return model.compute_major >= 8 ? 1 : 0;
    case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID:
      return static_cast<int>(device.info->pci_bus);
    case CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID:
      return static_cast<int>(device.info->pci_device);
    case CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID:
      return static_cast<int>(device.info->pci_domain);
    case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE:
      return model.memory_clock_mhz * 1000;
    case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH:
      return model.bus_width_bits;
    case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE:
      return model.l2_bytes;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR:
      return model.threads_per_sm;
    case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT:
      return 3;
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
      return 1;
    case CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT:
      return 32;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
      return model.compute_major;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
      return model.compute_minor;
    case CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED:
      return 1;
    case CU_DEVICE_ATTRIBUTE_GLOBAL_L1_CACHE_SUPPORTED:
      return 1;
    case CU_DEVICE_ATTRIBUTE_LOCAL_L1_CACHE_SUPPORTED:
      return 1;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR:
      return model.shared_bytes_per_sm;
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR:
      return 65536;
    case CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY:
      return 1;
    case CU_DEVICE_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED:
      return 0;
    case CU_DEVICE_ATTRIBUTE_SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO:
      return modern ? 2 : 32;
    case CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS:
      return 1;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_PREEMPTION_SUPPORTED:
      return 1;
    case CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM:
      return 1;
    case CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_MEM_OPS_V1:
      return 0;
    case CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS_V1:
      return 0;
    case CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH:
      return 1;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
      return model.shared_bytes_per_block_optin;
    case CU_DEVICE_ATTRIBUTE_CAN_FLUSH_REMOTE_WRITES:
      return 0;
    case CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED:
      return 1;
    case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
      return 1;
    case CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED:
      return 1;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR:
      return model.blocks_per_sm;
    case CU_DEVICE_ATTRIBUTE_MAX_PERSISTING_L2_CACHE_SIZE:
      return model.l2_bytes / 8 * 5;
    case CU_DEVICE_ATTRIBUTE_MAX_ACCESS_POLICY_WINDOW_SIZE:
      return 134217728;
    case CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK:
      return model.compute_major >= 8 ? 1024 : 0;
    case CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED:
      return 1;
    case CU_DEVICE_ATTRIBUTE_TIMELINE_SEMAPHORE_INTEROP_SUPPORTED:
      return 0;
    case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED:
      return 1;
    case CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES:
      return CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    case CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH:
      return modern ? 1 : 0;
    case CU_DEVICE_ATTRIBUTE_DEFERRED_MAPPING_CUDA_ARRAY_SUPPORTED:
      return 1;
    case CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS:
      return 1;
    case CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_WAIT_VALUE_NOR:
      return 1;
    case CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED:
      return 1;
    case CU_DEVICE_ATTRIBUTE_MEM_SYNC_DOMAIN_COUNT:
      return modern ? 4 : 1;
    case CU_DEVICE_ATTRIBUTE_UNIFIED_FUNCTION_POINTERS:
      return 1;
    case CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED:
      return modern ? 1 : 0;
    case CU_DEVICE_ATTRIBUTE_NUMA_ID:
      return -1;
    case CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID:
      return 0;
    case CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
      return 1;
    case CU_DEVICE_ATTRIBUTE_HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
      return 1;
    default:
      break;
  }
  known = static_cast<unsigned>(attrib) >= 1 &&
          attrib <= CU_DEVICE_ATTRIBUTE_ONLY_PARTIAL_HOST_NATIVE_ATOMIC_SUPPORTED;
  return 0;
}

struct AtDevice {
  AtDevice(CUdevice ordinal, bool arguments_good) : call(Call::kInit) {
    result = call.result;
    if (result != CUDA_SUCCESS) return;
    if (!arguments_good) {
      result = CUDA_ERROR_INVALID_VALUE;
      return;
    }
    device = call.driver.device(ordinal);
    if (device == nullptr) result = CUDA_ERROR_INVALID_DEVICE;
  }
  explicit operator bool() const { return result == CUDA_SUCCESS; }
  Call call;
  CUresult result;
  Device* device = nullptr;
};

CUresult put_uuid(CUuuid* uuid, CUdevice ordinal, bool of_mig_device) {
  const AtDevice at(ordinal, uuid != nullptr);
  if (!at) return at.result;
  const vgpu::GpuUuid& found =
      of_mig_device && at.device->mig ? *at.device->mig : at.device->info->uuid;
  std::memcpy(uuid->bytes, found.bytes.data(), sizeof uuid->bytes);
  return CUDA_SUCCESS;
}

bool peers(const Device& a, const Device& b) { return &a != &b && a.info->model == b.info->model; }

}  // namespace

CUresult sim_cuDeviceGetCount(int* count) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *count = static_cast<int>(call.driver.devices.size());
  return CUDA_SUCCESS;
}
CUresult sim_cuDeviceGet(CUdevice* device, int ordinal) {
  const AtDevice at(ordinal, device != nullptr);
  if (!at) return at.result;
  *device = ordinal;
  return CUDA_SUCCESS;
}
CUresult sim_cuDeviceGetName(char* name, int len, CUdevice ordinal) {
  const AtDevice at(ordinal, name != nullptr && len > 0);
  if (!at) return at.result;
  const std::string_view text = at.device->model().name;
  const std::size_t size = std::min(text.size(), static_cast<std::size_t>(len) - 1);
  std::memcpy(name, text.data(), size);
  name[size] = 0;
  return CUDA_SUCCESS;
}
CUresult sim_cuDeviceGetUuid(CUuuid* uuid, CUdevice device) {
  return put_uuid(uuid, device, false);
}
// This form names the MIG device, the first the GPU that it is a part of.
CUresult sim_cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
  return put_uuid(uuid, device, true);
}
CUresult sim_cuDeviceGetLuid(char*, unsigned int*, CUdevice) { return CUDA_ERROR_NOT_SUPPORTED; }
CUresult sim_cuDeviceTotalMem(unsigned int* bytes, CUdevice ordinal) {
  const AtDevice at(ordinal, bytes != nullptr);
  if (!at) return at.result;
  *bytes = static_cast<unsigned>(
      std::min<std::uint64_t>(at.device->info->cuda_total_bytes, 0xffffffffu));
  return CUDA_SUCCESS;
}
CUresult sim_cuDeviceTotalMem_v2(size_t* bytes, CUdevice ordinal) {
  const AtDevice at(ordinal, bytes != nullptr);
  if (!at) return at.result;
  *bytes = at.device->info->cuda_total_bytes;
  return CUDA_SUCCESS;
}
CUresult sim_cuDeviceGetAttribute(int* value, CUdevice_attribute attrib, CUdevice ordinal) {
  const AtDevice at(ordinal, value != nullptr);
  if (!at) return at.result;
  bool known = false;
  const int found = attribute(*at.device, attrib, known);
  if (!known) return CUDA_ERROR_INVALID_VALUE;
  *value = found;
  return CUDA_SUCCESS;
}
CUresult sim_cuDeviceComputeCapability(int* major, int* minor, CUdevice ordinal) {
  const AtDevice at(ordinal, major != nullptr && minor != nullptr);
  if (!at) return at.result;
  *major = at.device->model().compute_major;
  *minor = at.device->model().compute_minor;
  return CUDA_SUCCESS;
}
CUresult sim_cuDeviceGetProperties(CUdevprop* properties, CUdevice ordinal) {
  const AtDevice at(ordinal, properties != nullptr);
  if (!at) return at.result;
  *properties = {1024,
                 {1024, 1024, 64},
                 {2147483647, 65535, 65535},
                 49152,
                 65536,
                 32,
                 2147483647,
                 65536,
                 at.device->model().sm_clock_mhz * 1000,
                 static_cast<int>(kTextureAlignBytes)};
  return CUDA_SUCCESS;
}
CUresult sim_cuDeviceGetPCIBusId(char* pci_bus_id, int len, CUdevice ordinal) {
  const AtDevice at(ordinal, pci_bus_id != nullptr && len > 0);
  if (!at) return at.result;
  std::snprintf(pci_bus_id, static_cast<std::size_t>(len), "%04X:%02X:%02X.0",
                at.device->info->pci_domain, at.device->info->pci_bus, at.device->info->pci_device);
  return CUDA_SUCCESS;
}
CUresult sim_cuDeviceGetByPCIBusId(CUdevice* device, const char* pci_bus_id) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  if (device == nullptr || pci_bus_id == nullptr) return CUDA_ERROR_INVALID_VALUE;
  unsigned domain = 0;
  unsigned bus = 0;
  unsigned slot = 0;
  if (std::sscanf(pci_bus_id, "%x:%x:%x", &domain, &bus, &slot) != 3) {
    domain = 0;
    if (std::sscanf(pci_bus_id, "%x:%x", &bus, &slot) != 2) return CUDA_ERROR_INVALID_VALUE;
  }
  for (const auto& candidate : call.driver.devices) {
    const DeviceInfo& info = *candidate->info;
    if (info.pci_domain != domain || info.pci_bus != bus || info.pci_device != slot) continue;
    *device = candidate->ordinal;
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_DEVICE;
}
CUresult sim_cuDeviceGetExecAffinitySupport(int* value, CUexecAffinityType type, CUdevice ordinal) {
  const AtDevice at(ordinal, value != nullptr && type == CU_EXEC_AFFINITY_TYPE_SM_COUNT);
  if (!at) return at.result;
  *value = 0;
  return CUDA_SUCCESS;
}
CUresult sim_cuDeviceGetTexture1DLinearMaxWidth(size_t* max_width_in_elements, CUarray_format,
                                                unsigned int, CUdevice ordinal) {
  const AtDevice at(ordinal, max_width_in_elements != nullptr);
  if (!at) return at.result;
  *max_width_in_elements = 268435456;
  return CUDA_SUCCESS;
}
CUresult sim_cuDeviceCanAccessPeer(int* can_access_peer, CUdevice ordinal, CUdevice peer_dev) {
  const AtDevice at(ordinal, can_access_peer != nullptr);
  if (!at) return at.result;
  const Device* peer = at.call.driver.device(peer_dev);
  if (peer == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  *can_access_peer = peers(*at.device, *peer) ? 1 : 0;
  return CUDA_SUCCESS;
}
CUresult sim_cuDeviceGetP2PAttribute(int* value, CUdevice_P2PAttribute attrib, CUdevice src_device,
                                     CUdevice dst_device) {
  const AtDevice at(src_device, value != nullptr && attrib >= 1 && attrib <= 5);
  if (!at) return at.result;
  const Device* other = at.call.driver.device(dst_device);
  if (other == nullptr || other == at.device) return CUDA_ERROR_INVALID_DEVICE;
  const bool linked = peers(*at.device, *other);
  *value = attrib == CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK ? 0 : (linked ? 1 : 0);
  if (attrib == CU_DEVICE_P2P_ATTRIBUTE_ONLY_PARTIAL_NATIVE_ATOMIC_SUPPORTED) *value = 0;
  return CUDA_SUCCESS;
}

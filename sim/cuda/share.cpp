// SPDX-License-Identifier: Apache-2.0
// Sharing between processes: IPC handles for memory and events, exported pools and their pointers,
// memory of other APIs. The bytes live in the exporter's file, which the importer opens through
// /proc; so they outlive the exporter for as long as somebody has them mapped, and the device state
// charges whoever still does.
#include "share.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "array.h"
#include "capture.h"
#include "engine.h"
#include "pool.h"
#include "stream.h"

using namespace vgpu::sim;

struct CUextMemory_st : Handle<CUextMemory_st> {
  static constexpr std::uint32_t kMagic = 0x45584d31;
  Device* device = nullptr;
  int fd = -1;
  std::uint64_t bytes = 0;
  bool dedicated = false;
};

namespace vgpu::sim {
namespace {

constexpr std::uint32_t kMemoryMagic = 0x4d504956;
constexpr std::uint32_t kPoolPointerMagic = 0x50504956;
constexpr std::uint32_t kEventMagic = 0x45504956;

std::uint64_t start_time(pid_t pid) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%d/stat", static_cast<int>(pid));
  std::FILE* file = std::fopen(path, "re");
  if (file == nullptr) return 0;
  char text[1024];
  const std::size_t size = std::fread(text, 1, sizeof text - 1, file);
  std::fclose(file);
  text[size] = 0;
  const char* at = std::strrchr(text, ')');
  unsigned long long value = 0;
  if (at == nullptr ||
      std::sscanf(
          at + 2,
          "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
          &value) != 1) {
    return 0;
  }
  return value;
}

std::uint32_t checksum(const SharedName& name) {
  SharedName copy = name;
  copy.check = 0;
  unsigned char bytes[sizeof copy];
  std::memcpy(bytes, &copy, sizeof copy);
  std::uint32_t sum = 2166136261u;
  for (const unsigned char byte : bytes) sum = (sum ^ byte) * 16777619u;
  return sum;
}

// What this process exported (base -> share) and imported (address -> count).
std::map<std::uint64_t, std::uint64_t>& exports() {
  static auto* map = new std::map<std::uint64_t, std::uint64_t>;
  return *map;
}

struct Import {
  std::uint64_t mapping = 0;
  std::uint64_t extent = 0;
  std::uint64_t number = 0;
  int device = 0;
  int references = 0;
};

std::map<std::uint64_t, Import>& imports() {
  static auto* map = new std::map<std::uint64_t, Import>;
  return *map;
}

}  // namespace

std::uint64_t new_share_number() {
  std::uint64_t number = 0;
  while (number == 0) {
    if (getrandom(&number, sizeof number, 0) != sizeof number) number = DeviceState::now_ns();
  }
  return number;
}

bool name_memory(const Allocation& allocation, std::uint32_t magic, std::uint64_t number,
                 SharedName& out) {
  const auto page = allocation.base / kPageBytes * kPageBytes;
  const auto where = allocation.device->arena.backing(page);
  if (!where) return false;
  out = {};
  out.magic = magic;
  out.pid = getpid();
  out.start_time = start_time(getpid());
  out.number = number;
  out.offset = where->offset;
  out.inner = static_cast<std::uint32_t>(allocation.base - page);
  out.extent = round_up(allocation.base - page + allocation.bytes, kPageBytes);
  out.fd = where->fd;
  out.bytes = allocation.bytes;
  out.device = allocation.device->index();
  out.check = checksum(out);
  return true;
}

bool own_name(const SharedName& name) {
  return name.pid == getpid() && name.start_time == start_time(getpid());
}

std::uint64_t map_named(const SharedName& name) {
  if (start_time(name.pid) != name.start_time) return 0;
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%d/fd/%d", name.pid, name.fd);
  const int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return 0;
  // Aligned as device memory is.
  void* room = mmap(nullptr, name.extent + kPageBytes, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  std::uint64_t result = 0;
  if (room != MAP_FAILED) {
    const auto from = reinterpret_cast<std::uint64_t>(room);
    const std::uint64_t start = round_up(from, kPageBytes);
    if (start > from) munmap(room, start - from);
    munmap(reinterpret_cast<void*>(start + name.extent), from + kPageBytes - start);
    void* place = mmap(reinterpret_cast<void*>(start), name.extent, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_FIXED, fd, static_cast<off_t>(name.offset));
    if (place == MAP_FAILED) {
      munmap(reinterpret_cast<void*>(start), name.extent);
    } else {
      result = start;
    }
  }
  close(fd);
  return result;
}

// Before exported memory is given back: whether this process still has it to give.
bool end_export(std::uint64_t base, int device) {
  const auto at = exports().find(base);
  if (at == exports().end()) return true;
  const std::uint64_t number = at->second;
  exports().erase(at);
  return Driver::get().state->leave(device, number);
}

}  // namespace vgpu::sim

namespace {

CUresult open_memory(CUdeviceptr* ptr, const CUipcMemHandle& handle, unsigned flags) {
  Call call;
  if (!call) return call.result;
  if (ptr == nullptr || flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)
    return CUDA_ERROR_INVALID_VALUE;
  SharedName name;
  std::memcpy(&name, &handle, sizeof name);
  if (name.magic != kMemoryMagic || name.check != checksum(name)) return CUDA_ERROR_INVALID_VALUE;
  if (own_name(name)) return CUDA_ERROR_INVALID_CONTEXT;
  for (auto& [address, import] : imports()) {
    if (import.number != name.number) continue;
    ++import.references;
    *ptr = address;
    return CUDA_SUCCESS;
  }
  const auto device = std::find_if(call.driver.devices.begin(), call.driver.devices.end(),
                                   [&](const auto& d) { return d->index() == name.device; });
  if (device == call.driver.devices.end()) return CUDA_ERROR_INVALID_DEVICE;
  if (!call.driver.state->join(name.device, name.number)) return CUDA_ERROR_INVALID_VALUE;
  const std::uint64_t mapping = map_named(name);
  if (mapping == 0) {
    if (call.driver.state->leave(name.device, name.number)) return CUDA_ERROR_INVALID_VALUE;
    return CUDA_ERROR_MAP_FAILED;
  }
  record_allocation(mapping + name.inner, name.bytes, Kind::ipc, call.context, device->get())
      .extent = name.extent;
  imports()[mapping + name.inner] = {mapping, name.extent, name.number, name.device, 1};
  *ptr = mapping + name.inner;
  return CUDA_SUCCESS;
}

}  // namespace

CUresult sim_cuIpcGetMemHandle(CUipcMemHandle* handle, CUdeviceptr ptr) {
  Call call;
  if (!call) return call.result;
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const Allocation* allocation = call.driver.find(ptr);
  if (allocation == nullptr ||
      (allocation->kind != Kind::plain && allocation->kind != Kind::pitch) || allocation->low)
    return CUDA_ERROR_INVALID_VALUE;
  auto at = exports().find(allocation->base);
  if (at == exports().end()) {
    const std::uint64_t number = new_share_number();
    if (!call.driver.state->share(call.device->index(), number, allocation->charged))
      return CUDA_ERROR_OUT_OF_MEMORY;
    at = exports().emplace(allocation->base, number).first;
  }
  note_write(allocation->base);
  SharedName name;
  if (!name_memory(*allocation, kMemoryMagic, at->second, name)) return CUDA_ERROR_INVALID_VALUE;
  std::memcpy(handle, &name, sizeof name);
  return CUDA_SUCCESS;
}
CUresult sim_cuIpcOpenMemHandle(CUdeviceptr* ptr, CUipcMemHandle handle, unsigned int flags) {
  return open_memory(ptr, handle, flags);
}
CUresult sim_cuIpcOpenMemHandle_v2(CUdeviceptr* ptr, CUipcMemHandle handle, unsigned int flags) {
  return open_memory(ptr, handle, flags);
}
CUresult sim_cuIpcCloseMemHandle(CUdeviceptr ptr) {
  Call call;
  if (!call) return call.result;
  if (imports().count(ptr) == 0) return CUDA_ERROR_INVALID_VALUE;
  Engine::get().drain(call.lock, call.context);
  const auto at = imports().find(ptr);
  if (at == imports().end()) return CUDA_ERROR_INVALID_VALUE;
  if (--at->second.references > 0) return CUDA_SUCCESS;
  const Import import = at->second;
  const Allocation* allocation = call.driver.find(ptr);
  // Last to let go of memory whose maker is gone: it was charged to this process by then.
  std::uint64_t charged = 0;
  if (allocation != nullptr && import.number != 0)
    charged = round_up(allocation->bytes, kPageBytes);
  if (import.number != 0 && call.driver.state->leave(import.device, import.number) &&
      allocation->bytes > kSmallLimitBytes) {
    call.driver.state->give(import.device, charged);
  }
  munmap(reinterpret_cast<void*>(import.mapping), import.extent);
  call.driver.allocations.erase(ptr);
  imports().erase(at);
  return CUDA_SUCCESS;
}

CUresult sim_cuIpcGetEventHandle(CUipcEventHandle* handle, CUevent event) {
  Call call;
  if (!call) return call.result;
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(event) || (event->flags & CU_EVENT_INTERPROCESS) == 0)
    return CUDA_ERROR_INVALID_HANDLE;
  SharedName name{};
  name.magic = kEventMagic;
  name.pid = getpid();
  name.start_time = start_time(getpid());
  name.check = checksum(name);
  std::memcpy(handle, &name, sizeof name);
  return CUDA_SUCCESS;
}
CUresult sim_cuIpcOpenEventHandle(CUevent* event, CUipcEventHandle handle) {
  const Call call;
  if (!call) return call.result;
  SharedName name;
  std::memcpy(&name, &handle, sizeof name);
  if (event == nullptr || name.magic != kEventMagic || name.check != checksum(name))
    return CUDA_ERROR_INVALID_VALUE;
  return own_name(name) ? CUDA_ERROR_INVALID_CONTEXT : CUDA_ERROR_NOT_SUPPORTED;
}

// Exported pools: the descriptor stands for the pool, pointers into it carry their own names.
CUresult sim_cuMemPoolExportToShareableHandle(void* handle_out, CUmemoryPool pool,
                                              CUmemAllocationHandleType handle_type,
                                              unsigned long long flags) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  if (handle_out == nullptr || !valid(pool) || flags != 0 ||
      handle_type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR ||
      (pool->props.handleTypes & handle_type) == 0 || pool->device == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const int fd = memfd_create("vgpu-sim-pool", MFD_CLOEXEC);
  if (fd < 0) return CUDA_ERROR_OPERATING_SYSTEM;
  SharedName name{};
  name.magic = kPoolPointerMagic;
  name.pid = getpid();
  name.start_time = start_time(getpid());
  name.device = pool->device->index();
  name.check = checksum(name);
  if (write(fd, &name, sizeof name) != sizeof name) {
    close(fd);
    return CUDA_ERROR_OPERATING_SYSTEM;
  }
  *static_cast<int*>(handle_out) = fd;
  return CUDA_SUCCESS;
}
CUresult sim_cuMemPoolImportFromShareableHandle(CUmemoryPool* pool_out, void* handle,
                                                CUmemAllocationHandleType handle_type,
                                                unsigned long long flags) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  if (pool_out == nullptr || flags != 0 || handle_type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
    return CUDA_ERROR_INVALID_VALUE;
  SharedName name{};
  if (pread(static_cast<int>(reinterpret_cast<std::intptr_t>(handle)), &name, sizeof name, 0) !=
          sizeof name ||
      name.magic != kPoolPointerMagic || name.check != checksum(name)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (const auto& device : call.driver.devices) {
    if (device->index() != name.device) continue;
    CUmemPoolProps props{};
    props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    props.handleTypes = handle_type;
    props.location = {CU_MEM_LOCATION_TYPE_DEVICE, device->ordinal};
    *pool_out = make_pool(device.get(), props);
    (*pool_out)->imported = true;
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_DEVICE;
}
CUresult sim_cuMemPoolExportPointer(CUmemPoolPtrExportData* share_data_out, CUdeviceptr ptr) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  if (share_data_out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const Allocation* allocation = call.driver.find(ptr);
  if (allocation == nullptr || allocation->kind != Kind::pool || allocation->base != ptr ||
      allocation->pool->device == nullptr ||
      (allocation->pool->props.handleTypes & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) == 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  note_write(ptr);
  SharedName name;
  if (!name_memory(*allocation, kPoolPointerMagic, 0, name)) return CUDA_ERROR_INVALID_VALUE;
  std::memcpy(share_data_out, &name, sizeof name);
  return CUDA_SUCCESS;
}
CUresult sim_cuMemPoolImportPointer(CUdeviceptr* ptr_out, CUmemoryPool pool,
                                    CUmemPoolPtrExportData* share_data) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  if (ptr_out == nullptr || !valid(pool) || !pool->imported || share_data == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  SharedName name;
  std::memcpy(&name, share_data, sizeof name);
  if (name.magic != kPoolPointerMagic || name.check != checksum(name))
    return CUDA_ERROR_INVALID_VALUE;
  const std::uint64_t mapping = map_named(name);
  if (mapping == 0) return CUDA_ERROR_INVALID_VALUE;
  Allocation& made = record_allocation(mapping + name.inner, name.bytes, Kind::pool,
                                       current_context(), pool->device);
  made.pool = pool;
  *ptr_out = made.base;
  return CUDA_SUCCESS;
}

// Memory of another API, by its descriptor. The driver takes the descriptor over.
CUresult sim_cuImportExternalMemory(CUexternalMemory* ext_mem_out,
                                    const CUDA_EXTERNAL_MEMORY_HANDLE_DESC* desc) {
  Call call;
  if (!call) return call.result;
  if (ext_mem_out == nullptr || desc == nullptr || desc->size == 0) return CUDA_ERROR_INVALID_VALUE;
  if (desc->type != CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD &&
      desc->type != CU_EXTERNAL_MEMORY_HANDLE_TYPE_DMABUF_FD)
    return CUDA_ERROR_NOT_SUPPORTED;
  struct stat file {};
  if (fstat(desc->handle.fd, &file) != 0) return CUDA_ERROR_INVALID_HANDLE;
  if (static_cast<std::uint64_t>(file.st_size) < desc->size) return CUDA_ERROR_INVALID_VALUE;
  auto* memory = new CUextMemory_st;
  memory->device = call.device;
  memory->fd = desc->handle.fd;
  memory->bytes = desc->size;
  *ext_mem_out = memory;
  return CUDA_SUCCESS;
}
CUresult sim_cuExternalMemoryGetMappedBuffer(CUdeviceptr* dev_ptr, CUexternalMemory ext_mem,
                                             const CUDA_EXTERNAL_MEMORY_BUFFER_DESC* desc) {
  Call call;
  if (!call) return call.result;
  if (dev_ptr == nullptr || desc == nullptr || desc->flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(ext_mem)) return CUDA_ERROR_INVALID_HANDLE;
  if (desc->size == 0 || desc->offset > ext_mem->bytes ||
      desc->size > ext_mem->bytes - desc->offset)
    return CUDA_ERROR_INVALID_VALUE;
  const std::uint64_t page = 4096;
  const std::uint64_t from = desc->offset / page * page;
  void* place = mmap(nullptr, desc->offset - from + desc->size, PROT_READ | PROT_WRITE, MAP_SHARED,
                     ext_mem->fd, static_cast<off_t>(from));
  if (place == MAP_FAILED) return CUDA_ERROR_MAP_FAILED;
  Allocation& made = record_allocation(reinterpret_cast<std::uint64_t>(place) + desc->offset - from,
                                       desc->size, Kind::external, call.context, ext_mem->device);
  made.extent = desc->offset - from + desc->size;
  *dev_ptr = made.base;
  return CUDA_SUCCESS;
}
CUresult sim_cuExternalMemoryGetMappedMipmappedArray(
    CUmipmappedArray* mipmap, CUexternalMemory ext_mem,
    const CUDA_EXTERNAL_MEMORY_MIPMAPPED_ARRAY_DESC* desc) {
  Call call;
  if (!call) return call.result;
  if (mipmap == nullptr || desc == nullptr || desc->numLevels == 0) return CUDA_ERROR_INVALID_VALUE;
  if (!valid(ext_mem)) return CUDA_ERROR_INVALID_HANDLE;
  return make_mipmap(call.context, desc->arrayDesc, desc->numLevels, 0, *mipmap);
}
CUresult sim_cuDestroyExternalMemory(CUexternalMemory ext_mem) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  if (!valid(ext_mem)) return CUDA_ERROR_INVALID_HANDLE;
  close(ext_mem->fd);
  delete ext_mem;
  return CUDA_SUCCESS;
}

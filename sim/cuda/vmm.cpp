// SPDX-License-Identifier: Apache-2.0
// Virtual memory management: physical memory by its location, addresses, mappings between them,
// export by descriptor, multicast objects. Physical memory lives until its last handle, mapping,
// multicast binding or importer is gone.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "capture.h"
#include "driver.h"
#include "engine.h"
#include "share.h"

using namespace vgpu::sim;

namespace {

// Memory with a file of its own: all handles of this process for it, its maker's and imported ones,
// point here. While a descriptor that was handed out is open somewhere, the memory lives on without
// any handle.
struct Block {
  Device* device = nullptr;  // null: costs the device nothing
  std::uint64_t bytes = 0;
  int fd = -1;
  std::uint64_t share = 0;  // number, once exported or imported
  int references = 0;
  bool exported = false;
};

struct Physical : Handle<Physical> {
  static constexpr std::uint32_t kMagic = 0x50485931;
  Device* device = nullptr;  // null: host memory, which costs the device nothing
  CUmemAllocationProp prop{};
  std::uint64_t bytes = 0;
  std::uint64_t address = 0;  // in the device's arena; 0: a block of its own
  Backing backing;
  Block* block = nullptr;
  int handles = 1;
  int uses = 0;  // mappings and multicast bindings
  bool multicast = false;
  unsigned multicast_devices = 0;
  std::vector<Device*> members;
  struct Binding {
    Device* device;
    std::uint64_t offset;
    std::uint64_t bytes;
    Physical* memory;
  };
  std::vector<Binding> bindings;
};

std::set<Block*>& shared_blocks() {
  static auto* set = new std::set<Block*>;
  return *set;
}

// A descriptor that was handed out holds a lock on this byte of the file, until its last copy is
// closed.
constexpr off_t kExportByte = off_t{1} << 50;

bool set_export_lock(int fd) {
  struct flock lock {};
  lock.l_type = F_RDLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = kExportByte;
  lock.l_len = 1;
  return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

bool export_is_open(int fd) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = kExportByte;
  lock.l_len = 1;
  return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

// The end of a block, unless a descriptor keeps it.
bool end_block(Block* block) {
  if (block->references > 0 || (block->exported && export_is_open(block->fd))) return false;
  shared_blocks().erase(block);
  if (block->device != nullptr &&
      (block->share == 0 || Driver::get().state->leave(block->device->index(), block->share))) {
    discharge(*block->device, block->bytes);
  }
  close(block->fd);
  delete block;
  return true;
}

std::map<std::uint64_t, std::uint64_t>& reservations() {  // address -> bytes
  static auto* map = new std::map<std::uint64_t, std::uint64_t>;
  return *map;
}

Physical* physical(CUmemGenericAllocationHandle handle) {
  auto* memory = reinterpret_cast<Physical*>(handle);
  return valid(memory) ? memory : nullptr;
}

CUmemGenericAllocationHandle handle_of(Physical* memory) {
  return reinterpret_cast<CUmemGenericAllocationHandle>(memory);
}

void drop_if_unused(Physical* memory) {
  if (memory->handles > 0 || memory->uses > 0) return;
  for (const Physical::Binding& binding : memory->bindings) {
    --binding.memory->uses;
    drop_if_unused(binding.memory);
  }
  if (memory->address != 0) {
    give_pages(*memory->device, memory->address, memory->bytes, false, true);
  } else {
    --memory->block->references;
    end_block(memory->block);
  }
  delete memory;
}

// A descriptor's file says what it is: a name in front of the memory would be seen by the device,
// so it is the file's own.
struct Label {
  std::uint64_t magic;
  std::uint64_t share;
  std::uint64_t bytes;
  std::int32_t device;
  std::uint32_t handle_types;
  CUmemAllocationProp prop;
};
constexpr std::uint64_t kLabelMagic = 0x6c6162656c766d6d;

int new_file(std::uint64_t bytes) {
  const int fd = memfd_create("vgpu-sim-physical", MFD_CLOEXEC);
  if (fd < 0) return -1;
  if (ftruncate(fd, static_cast<off_t>(bytes + kPageBytes)) !=
      0) {  // the label is behind the memory
    close(fd);
    return -1;
  }
  return fd;
}

CUresult check_prop(const CUmemAllocationProp* prop, Call& call, Device*& device) {
  device = nullptr;
  if (prop == nullptr || prop->type != CU_MEM_ALLOCATION_TYPE_PINNED)
    return CUDA_ERROR_INVALID_VALUE;
  if ((prop->requestedHandleTypes & CU_MEM_HANDLE_TYPE_FABRIC) != 0)
    return CUDA_ERROR_NOT_PERMITTED;
  if ((prop->requestedHandleTypes & ~unsigned{CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR}) != 0)
    return CUDA_ERROR_INVALID_VALUE;
  switch (prop->location.type) {
    case CU_MEM_LOCATION_TYPE_DEVICE:
      device = call.driver.device(prop->location.id);
      return device == nullptr ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
    case CU_MEM_LOCATION_TYPE_HOST:
    case CU_MEM_LOCATION_TYPE_HOST_NUMA:
    case CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT:
      return CUDA_SUCCESS;
    case CU_MEM_LOCATION_TYPE_INVALID:
      break;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

// The reservation that holds all of a range.
bool reserved(std::uint64_t address, std::uint64_t bytes) {
  auto at = reservations().upper_bound(address);
  if (at == reservations().begin()) return false;
  --at;
  return address + bytes <= at->first + at->second;
}

bool mapped_anywhere(const Driver& driver, std::uint64_t address, std::uint64_t bytes) {
  auto at = driver.allocations.lower_bound(address);
  if (at != driver.allocations.end() && at->first < address + bytes) return true;
  if (at == driver.allocations.begin()) return false;
  --at;
  return at->second.base + at->second.bytes > address;
}

// The mappings in a range, which has to hold each of them whole. With `gaps`, what lies between
// them need not be mapped.
std::vector<Allocation*> mappings_of(Driver& driver, std::uint64_t address, std::uint64_t bytes,
                                     bool gaps) {
  std::vector<Allocation*> found;
  const Allocation* first = driver.find(address);
  if (first != nullptr && first->base != address) return {};
  std::uint64_t at = address;
  for (auto next = driver.allocations.lower_bound(address);
       next != driver.allocations.end() && next->first < address + bytes; ++next) {
    Allocation& mapping = next->second;
    if (mapping.kind != Kind::mapping || mapping.bytes > address + bytes - mapping.base ||
        (!gaps && mapping.base != at))
      return {};
    at = mapping.base + mapping.bytes;
    found.push_back(&mapping);
  }
  if (!gaps && at != address + bytes) return {};
  return found;
}

}  // namespace

namespace vgpu::sim {

bool reap_exported() {
  bool any = false;
  for (Block* block : std::vector<Block*>(shared_blocks().begin(), shared_blocks().end())) {
    if (block->references == 0) any = end_block(block) || any;
  }
  return any;
}

}  // namespace vgpu::sim

CUresult sim_cuMemGetAllocationGranularity(size_t* granularity, const CUmemAllocationProp* prop,
                                           CUmemAllocationGranularity_flags option) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (granularity == nullptr || option > CU_MEM_ALLOC_GRANULARITY_RECOMMENDED)
    return CUDA_ERROR_INVALID_VALUE;
  Device* device = nullptr;
  const CUresult result = check_prop(prop, call, device);
  if (result != CUDA_SUCCESS) return result;
  *granularity = kVmmGranularityBytes;
  return CUDA_SUCCESS;
}

CUresult sim_cuMemCreate(CUmemGenericAllocationHandle* handle, size_t size,
                         const CUmemAllocationProp* prop, unsigned long long flags) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (handle == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  Device* device = nullptr;
  CUresult result = check_prop(prop, call, device);
  if (result != CUDA_SUCCESS) return result;
  if (size == 0 || size % kVmmGranularityBytes != 0) return CUDA_ERROR_INVALID_VALUE;
  auto* memory = new Physical;
  memory->device = device;
  memory->prop = *prop;
  memory->bytes = size;
  const bool own_file = device == nullptr || prop->requestedHandleTypes != 0;
  if (own_file) {
    if (device != nullptr && !charge(*device, size)) {
      result = CUDA_ERROR_OUT_OF_MEMORY;
    } else if (const int fd = new_file(size); fd >= 0) {
      memory->backing.fd = fd;
      memory->block = new Block{device, size, fd, 0, 1, false};
    } else {
      if (device != nullptr) discharge(*device, size);
      result = CUDA_ERROR_OUT_OF_MEMORY;
    }
  } else {
    result = take_pages(*device, size, kVmmGranularityBytes, false, memory->address);
    if (result == CUDA_SUCCESS) memory->backing = *device->arena.backing(memory->address);
  }
  if (result != CUDA_SUCCESS) {
    delete memory;
    return result;
  }
  *handle = handle_of(memory);
  return CUDA_SUCCESS;
}

CUresult sim_cuMemRelease(CUmemGenericAllocationHandle handle) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  Physical* memory = physical(handle);
  if (memory == nullptr || memory->handles == 0) return CUDA_ERROR_INVALID_VALUE;
  --memory->handles;
  drop_if_unused(memory);
  return CUDA_SUCCESS;
}

CUresult sim_cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp* prop,
                                                    CUmemGenericAllocationHandle handle) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  const Physical* memory = physical(handle);
  if (prop == nullptr || memory == nullptr || memory->multicast) return CUDA_ERROR_INVALID_VALUE;
  *prop = memory->prop;
  return CUDA_SUCCESS;
}

CUresult sim_cuMemAddressReserve(CUdeviceptr* ptr, size_t size, size_t alignment, CUdeviceptr addr,
                                 unsigned long long flags) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  if (ptr == nullptr || size == 0 || size % kVmmGranularityBytes != 0 || flags != 0 ||
      (alignment & (alignment - 1)) != 0)
    return CUDA_ERROR_INVALID_VALUE;
  const std::uint64_t align = std::max<std::uint64_t>(alignment, kVmmGranularityBytes);
  if (size > (std::uint64_t{1} << 46) || align > (std::uint64_t{1} << 40))
    return CUDA_ERROR_OUT_OF_MEMORY;
  // The wish for an address is only a wish.
  if (addr != 0 && addr % align == 0) {
    void* wished = mmap(reinterpret_cast<void*>(addr), size, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (wished == reinterpret_cast<void*>(addr)) {
      reservations()[addr] = size;
      *ptr = addr;
      return CUDA_SUCCESS;
    }
    if (wished != MAP_FAILED) munmap(wished, size);
  }
  void* room =
      mmap(nullptr, size + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  const auto from = reinterpret_cast<std::uint64_t>(room);
  const std::uint64_t start = round_up(from, align);
  if (start > from) munmap(room, start - from);
  munmap(reinterpret_cast<void*>(start + size), from + align - start);
  madvise(reinterpret_cast<void*>(start), size, MADV_DONTDUMP);
  reservations()[start] = size;
  *ptr = start;
  return CUDA_SUCCESS;
}

CUresult sim_cuMemAddressFree(CUdeviceptr ptr, size_t size) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  const auto at = reservations().find(ptr);
  if (at == reservations().end() || at->second != size || mapped_anywhere(call.driver, ptr, size))
    return CUDA_ERROR_INVALID_VALUE;
  munmap(reinterpret_cast<void*>(ptr), size);
  reservations().erase(at);
  return CUDA_SUCCESS;
}

CUresult sim_cuMemMap(CUdeviceptr ptr, size_t size, size_t offset,
                      CUmemGenericAllocationHandle handle, unsigned long long flags) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  Physical* memory = physical(handle);
  if (memory == nullptr || flags != 0 || size == 0 || size % kVmmGranularityBytes != 0 ||
      ptr % kVmmGranularityBytes != 0)
    return CUDA_ERROR_INVALID_VALUE;
  if (offset % kVmmGranularityBytes != 0 || offset > memory->bytes || size > memory->bytes - offset)
    return CUDA_ERROR_INVALID_VALUE;
  if (offset != 0 && !memory->multicast) return CUDA_ERROR_NOT_SUPPORTED;
  if (!reserved(ptr, size) || mapped_anywhere(call.driver, ptr, size))
    return CUDA_ERROR_INVALID_VALUE;
  if (memory->multicast && memory->members.size() < memory->multicast_devices)
    return CUDA_ERROR_INVALID_VALUE;
  void* place = mmap(reinterpret_cast<void*>(ptr), size, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_FIXED | MAP_NORESERVE, memory->backing.fd,
                     static_cast<off_t>(memory->backing.offset + offset));
  if (place == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  madvise(place, size, MADV_DONTDUMP);
  ++memory->uses;
  Allocation& made = record_allocation(ptr, size, Kind::mapping, nullptr, memory->device);
  made.link = handle;
  made.flags = CU_MEM_ACCESS_FLAGS_PROT_NONE;
  return CUDA_SUCCESS;
}

CUresult sim_cuMemUnmap(CUdeviceptr ptr, size_t size) {
  Call call(Call::kInit);
  if (!call) return call.result;
  auto mappings = mappings_of(call.driver, ptr, size, true);
  if (mappings.empty() || !reserved(ptr, size)) return CUDA_ERROR_INVALID_VALUE;
  // What is in flight may use it.
  for (const CUcontext context :
       std::vector<CUcontext>(call.driver.contexts.begin(), call.driver.contexts.end())) {
    if (valid(context)) Engine::get().drain(call.lock, context);
  }
  mappings = mappings_of(call.driver, ptr, size, true);
  if (mappings.empty()) return CUDA_ERROR_INVALID_VALUE;
  mmap(reinterpret_cast<void*>(ptr), size, PROT_NONE,
       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  for (Allocation* mapping : mappings) {
    auto* memory = reinterpret_cast<Physical*>(mapping->link);
    call.driver.allocations.erase(mapping->base);
    --memory->uses;
    drop_if_unused(memory);
  }
  return CUDA_SUCCESS;
}

CUresult sim_cuMemSetAccess(CUdeviceptr ptr, size_t size, const CUmemAccessDesc* desc,
                            size_t count) {
  Call call(Call::kInit);
  if (!call) return call.result;
  if (desc == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
  const auto mappings = mappings_of(call.driver, ptr, size, false);
  if (mappings.empty()) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; ++i) {
    const bool known = desc[i].flags == CU_MEM_ACCESS_FLAGS_PROT_NONE ||
                       desc[i].flags == CU_MEM_ACCESS_FLAGS_PROT_READ ||
                       desc[i].flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    if (!known) return CUDA_ERROR_INVALID_VALUE;
    if (desc[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE) continue;
    const Device* device = call.driver.device(desc[i].location.id);
    if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    for (Allocation* mapping : mappings) {
      // One set of rights a mapping: its own device's, or whoever may use it where that has none.
      if (mapping->device == nullptr || mapping->device == device ||
          desc[i].flags != CU_MEM_ACCESS_FLAGS_PROT_NONE)
        mapping->flags = desc[i].flags;
    }
  }
  return CUDA_SUCCESS;
}

CUresult sim_cuMemGetAccess(unsigned long long* flags, const CUmemLocation* location,
                            CUdeviceptr ptr) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  const Allocation* mapping = call.driver.find(ptr);
  if (flags == nullptr || location == nullptr || mapping == nullptr ||
      mapping->kind != Kind::mapping)
    return CUDA_ERROR_INVALID_VALUE;
  *flags = mapping->flags;
  return CUDA_SUCCESS;
}

CUresult sim_cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* handle, void* addr) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  const Allocation* mapping = call.driver.find(reinterpret_cast<std::uint64_t>(addr));
  if (handle == nullptr || mapping == nullptr || mapping->kind != Kind::mapping)
    return CUDA_ERROR_INVALID_VALUE;
  auto* memory = reinterpret_cast<Physical*>(mapping->link);
  ++memory->handles;
  *handle = mapping->link;
  return CUDA_SUCCESS;
}

CUresult sim_cuMemExportToShareableHandle(void* out, CUmemGenericAllocationHandle handle,
                                          CUmemAllocationHandleType type,
                                          unsigned long long flags) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  Physical* memory = physical(handle);
  if (out == nullptr || memory == nullptr || flags != 0 ||
      type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR ||
      (memory->prop.requestedHandleTypes & type) == 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Block& block = *memory->block;
  if (block.share == 0) {
    const std::uint64_t number = new_share_number();
    if (block.device != nullptr &&
        !call.driver.state->share(block.device->index(), number, block.bytes))
      return CUDA_ERROR_OUT_OF_MEMORY;
    block.share = number;
    Label label{};
    label.magic = kLabelMagic;
    label.share = number;
    label.bytes = block.bytes;
    label.device = block.device == nullptr ? -1 : block.device->index();
    label.prop = memory->prop;
    if (pwrite(block.fd, &label, sizeof label, static_cast<off_t>(block.bytes)) != sizeof label)
      return CUDA_ERROR_OPERATING_SYSTEM;
    shared_blocks().insert(&block);
  }
  // A description of its own, so that its lock ends with it.
  char path[64];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", block.fd);
  const int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0 || !set_export_lock(fd)) {
    if (fd >= 0) close(fd);
    return CUDA_ERROR_OPERATING_SYSTEM;
  }
  block.exported = true;
  *static_cast<int*>(out) = fd;
  return CUDA_SUCCESS;
}

CUresult sim_cuMemImportFromShareableHandle(CUmemGenericAllocationHandle* handle, void* os_handle,
                                            CUmemAllocationHandleType type) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  if (handle == nullptr || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
    return CUDA_ERROR_INVALID_VALUE;
  const int fd = static_cast<int>(reinterpret_cast<std::intptr_t>(os_handle));
  struct stat file {};
  if (fstat(fd, &file) != 0 || static_cast<std::uint64_t>(file.st_size) <= kPageBytes)
    return CUDA_ERROR_INVALID_VALUE;
  const std::uint64_t bytes = static_cast<std::uint64_t>(file.st_size) - kPageBytes;
  Label label{};
  if (pread(fd, &label, sizeof label, static_cast<off_t>(bytes)) != sizeof label ||
      label.magic != kLabelMagic || label.bytes != bytes) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Device* device = nullptr;
  for (const auto& candidate : call.driver.devices) {
    if (candidate->index() == label.device) device = candidate.get();
  }
  if (label.device >= 0 && device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  const auto known = std::find_if(shared_blocks().begin(), shared_blocks().end(),
                                  [&](const Block* block) { return block->share == label.share; });
  Block* block = known == shared_blocks().end() ? nullptr : *known;
  if (block == nullptr) {
    if (device != nullptr && !call.driver.state->join(label.device, label.share))
      return CUDA_ERROR_INVALID_VALUE;
    block = new Block{device, bytes, fcntl(fd, F_DUPFD_CLOEXEC, 3), label.share, 0, false};
    shared_blocks().insert(block);
  }
  ++block->references;
  auto* memory = new Physical;
  memory->device = device;
  memory->prop = label.prop;
  memory->bytes = bytes;
  memory->block = block;
  memory->backing.fd = block->fd;
  *handle = handle_of(memory);
  return CUDA_SUCCESS;
}

CUresult sim_cuMemMapArrayAsync(CUarrayMapInfo*, unsigned int, CUstream) {
  return CUDA_ERROR_NOT_SUPPORTED;
}
CUresult sim_cuMemMapArrayAsync_ptsz(CUarrayMapInfo*, unsigned int, CUstream) {
  return CUDA_ERROR_NOT_SUPPORTED;
}
CUresult sim_cuMemGetHandleForAddressRange(void*, CUdeviceptr, size_t, CUmemRangeHandleType,
                                           unsigned long long) {
  return CUDA_ERROR_NOT_SUPPORTED;
}

// Multicast objects: they cost nothing themselves; what is bound to them lives as long as the
// binding.
CUresult sim_cuMulticastGetGranularity(size_t* granularity, const CUmulticastObjectProp* prop,
                                       CUmulticastGranularity_flags) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  if (granularity == nullptr || prop == nullptr || prop->numDevices == 0)
    return CUDA_ERROR_INVALID_VALUE;
  *granularity = kMulticastGranularityBytes;
  return CUDA_SUCCESS;
}
CUresult sim_cuMulticastCreate(CUmemGenericAllocationHandle* mc_handle,
                               const CUmulticastObjectProp* prop) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  if (mc_handle == nullptr || prop == nullptr || prop->numDevices < 1 || prop->size == 0 ||
      prop->size % kMulticastGranularityBytes != 0 || prop->flags != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (prop->numDevices > call.driver.devices.size()) return CUDA_ERROR_INVALID_VALUE;
  const int fd = new_file(prop->size);
  if (fd < 0) return CUDA_ERROR_OUT_OF_MEMORY;
  auto* object = new Physical;
  object->multicast = true;
  object->multicast_devices = prop->numDevices;
  object->bytes = prop->size;
  object->prop.requestedHandleTypes = static_cast<CUmemAllocationHandleType>(prop->handleTypes);
  object->backing.fd = fd;
  object->block = new Block{nullptr, prop->size, fd, 0, 1, false};
  *mc_handle = handle_of(object);
  return CUDA_SUCCESS;
}
CUresult sim_cuMulticastAddDevice(CUmemGenericAllocationHandle mc_handle, CUdevice ordinal) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  Physical* object = physical(mc_handle);
  if (object == nullptr || !object->multicast) return CUDA_ERROR_INVALID_VALUE;
  Device* device = call.driver.device(ordinal);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (device->model().compute_major < 9) return CUDA_ERROR_NOT_SUPPORTED;
  if (object->members.size() >= object->multicast_devices ||
      std::count(object->members.begin(), object->members.end(), device) > 0)
    return CUDA_ERROR_INVALID_VALUE;
  object->members.push_back(device);
  return CUDA_SUCCESS;
}

namespace {

CUresult bind(Physical* object, std::uint64_t offset, Physical* memory, std::uint64_t memory_offset,
              std::uint64_t bytes, unsigned long long flags) {
  if (object == nullptr || !object->multicast || memory == nullptr || memory->multicast ||
      memory->device == nullptr || flags != 0)
    return CUDA_ERROR_INVALID_VALUE;
  if (bytes == 0 || bytes % kMulticastGranularityBytes != 0 ||
      offset % kMulticastGranularityBytes != 0 || memory_offset % kMulticastGranularityBytes != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (offset + bytes > object->bytes || memory_offset + bytes > memory->bytes)
    return CUDA_ERROR_INVALID_VALUE;
  if (std::count(object->members.begin(), object->members.end(), memory->device) == 0)
    return CUDA_ERROR_INVALID_DEVICE;
  for (const Physical::Binding& binding : object->bindings) {
    if (binding.device == memory->device && binding.offset < offset + bytes &&
        offset < binding.offset + binding.bytes)
      return CUDA_ERROR_INVALID_VALUE;
  }
  object->bindings.push_back({memory->device, offset, bytes, memory});
  ++memory->uses;
  return CUDA_SUCCESS;
}

}  // namespace

CUresult sim_cuMulticastBindMem(CUmemGenericAllocationHandle mc_handle, size_t mc_offset,
                                CUmemGenericAllocationHandle mem_handle, size_t mem_offset,
                                size_t size, unsigned long long flags) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  return bind(physical(mc_handle), mc_offset, physical(mem_handle), mem_offset, size, flags);
}
CUresult sim_cuMulticastBindAddr(CUmemGenericAllocationHandle mc_handle, size_t mc_offset,
                                 CUdeviceptr memptr, size_t size, unsigned long long flags) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  const Allocation* mapping = call.driver.find(memptr, size);
  if (mapping == nullptr || mapping->kind != Kind::mapping) return CUDA_ERROR_INVALID_VALUE;
  return bind(physical(mc_handle), mc_offset, physical(mapping->link), memptr - mapping->base, size,
              flags);
}
CUresult sim_cuMulticastUnbind(CUmemGenericAllocationHandle mc_handle, CUdevice ordinal,
                               size_t mc_offset, size_t size) {
  const Call call(Call::kInit);
  if (!call) return call.result;
  Physical* object = physical(mc_handle);
  if (object == nullptr || !object->multicast) return CUDA_ERROR_INVALID_VALUE;
  const Device* device = call.driver.device(ordinal);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  const auto at = std::find_if(
      object->bindings.begin(), object->bindings.end(), [&](const Physical::Binding& binding) {
        return binding.device == device && binding.offset == mc_offset && binding.bytes == size;
      });
  if (at == object->bindings.end()) return CUDA_ERROR_INVALID_VALUE;
  Physical* memory = at->memory;
  object->bindings.erase(at);
  --memory->uses;
  drop_if_unused(memory);
  return CUDA_SUCCESS;
}

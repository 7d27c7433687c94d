// SPDX-License-Identifier: Apache-2.0
// What the files of the simulated driver share: the objects behind its handles, the one driver per
// process, and the way into a call. Entries (sim_NAME) take the driver's mutex through `Call`,
// everything else here expects it to be held. Handles point at objects whose memory is never given
// back, so that a stale one is recognised by its empty magic.
#pragma once

#include <pthread.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "functions.h"
#include "memory.h"
#include "vgpu/sim/device_state.h"
#include "vgpu/sim/model.h"

namespace vgpu::sim {

struct Device;
struct Lane;
struct Capture;
struct Function;

// Base of what a handle points at.
template <class Self>
struct Handle {
  std::atomic<std::uint32_t> magic{Self::kMagic};
  ~Handle() { magic.store(0, std::memory_order_relaxed); }
  static void* operator new(std::size_t size) {
    if (void* place = spare()) {
      spare() = *static_cast<void**>(place_of_next(place));
      return place;
    }
    return ::operator new(size < 64 ? 64 : size);
  }
  static void operator delete(void* place) {
    *static_cast<void**>(place_of_next(place)) = spare();
    spare() = place;
  }

 private:
  static void*& spare() {
    static void* first = nullptr;
    return first;
  }
  static void* place_of_next(void* place) {
    return static_cast<char*>(place) + 16;
  }  // behind the magic
};

template <class T>
bool valid(const T* handle) {
  return reinterpret_cast<std::uintptr_t>(handle) > 4096 &&
         reinterpret_cast<std::uintptr_t>(handle) % alignof(T) == 0 &&
         handle->magic.load(std::memory_order_relaxed) == T::kMagic;
}

enum class Kind : std::uint8_t {
  plain,
  pitch,
  managed,
  host,
  registered,
  pool,
  mapping,
  ipc,
  graph,
  external,
  global,
  array
};

// What lies at a range of addresses that the driver handed out.
struct Allocation {
  std::uint64_t base = 0;
  std::uint64_t bytes = 0;    // as asked for
  std::uint64_t extent = 0;   // as taken from the arena
  std::uint64_t charged = 0;  // as taken from the device, in pages of its own
  std::uint64_t id = 0;
  std::uint64_t resident = 0;  // managed: bytes on the device
  Device* device = nullptr;
  CUcontext context = nullptr;
  CUmemoryPool pool = nullptr;
  Kind kind = Kind::plain;
  bool small = false;    // lives in a shared page
  bool low = false;      // below 4 GiB
  bool written = false;  // may hold bytes other than zero
  bool sync_memops = false;
  bool freed_in_order = false;  // pool: cuMemFreeAsync was called
  unsigned flags = 0;
  std::uint64_t link = 0;  // graph: node; ipc: handle
};

struct Device {
  const DeviceInfo* info = nullptr;
  std::optional<GpuUuid> mig;  // the MIG device of it under whose name it is used
  int ordinal = 0;
  int index() const { return info->index; }
  const GpuModel& model() const { return *info->model; }
  CUcontext primary = nullptr;
  int primary_refs = 0;
  unsigned primary_flags = 0;
  int contexts = 0;
  Arena arena;
  Arena low_arena{true};
  CUmemoryPool default_pool = nullptr;
  CUmemoryPool current_pool = nullptr;
  std::uint64_t managed_used = 0;  // resident managed memory
  std::uint64_t managed_held = 0;  // what the device holds for it
};

}  // namespace vgpu::sim

struct CUctx_st : vgpu::sim::Handle<CUctx_st> {
  static constexpr std::uint32_t kMagic = 0x43545831;
  vgpu::sim::Device* device = nullptr;
  bool primary = false;
  bool active = false;
  unsigned flags = 0;
  unsigned api_version = 3020;
  int attached = 1;
  std::uint64_t id = 0;
  CUresult sticky = CUDA_SUCCESS;
  CUgreenCtx green = nullptr;
  CUfunc_cache cache_config = CU_FUNC_CACHE_PREFER_NONE;
  CUsharedconfig shared_config = CU_SHARED_MEM_CONFIG_DEFAULT_BANK_SIZE;
  std::array<std::size_t, 10> limits{};
  std::uint64_t local_bytes = 0;  // charged for it
  std::uint64_t printf_bytes = 0;
  std::uint64_t heap_bytes = 0;
  std::uint64_t code_used = 0;
  std::uint64_t code_charged = 0;
  CUstream legacy = nullptr;
  std::map<std::uint64_t, CUstream> per_thread;
  std::set<CUstream> streams;
  std::set<CUmodule> modules;
  std::uint64_t object_bytes = 0;    // streams, graphs, green contexts
  std::uint64_t object_charged = 0;  // in pages
  std::uint64_t stream_slots = 0;    // most streams at a time: their memory stays
  std::uint64_t green_slots = 0;
  std::uint64_t greens = 0;
  std::uint64_t local_high = 0;  // largest local memory of a function that ran
  bool has_device_runtime = false;
  vgpu::sim::RangeHeap small{vgpu::sim::kPageBytes};
  vgpu::sim::RangeHeap small_arrays{vgpu::sim::kPageBytes};
  struct SmallPage {
    std::uint64_t used = 0;
    bool written = false;
  };
  std::unordered_map<std::uint64_t, SmallPage> small_pages;
  std::set<CUcontext> peers;
};

struct CUgreenCtx_st : vgpu::sim::Handle<CUgreenCtx_st> {
  static constexpr std::uint32_t kMagic = 0x47524e31;
  vgpu::sim::Device* device = nullptr;
  unsigned sm_count = 0;
  std::uint64_t id = 0;
  CUcontext context = nullptr;  // what cuCtxFromGreenCtx answers
};

struct CUstream_st : vgpu::sim::Handle<CUstream_st> {
  static constexpr std::uint32_t kMagic = 0x53545231;
  CUcontext context = nullptr;
  CUgreenCtx green = nullptr;
  unsigned flags = 0;
  int priority = 0;
  bool legacy = false;
  bool per_thread = false;
  std::uint64_t id = 0;
  vgpu::sim::Lane* lane = nullptr;
  vgpu::sim::Capture* capture = nullptr;
  std::vector<CUgraphNode> capture_tail;  // what the next captured node depends on
  std::map<int, CUstreamAttrValue> attributes;
};

namespace vgpu::sim {

// The driver of this process. Its parts live until the process ends.
class Driver {
 public:
  static Driver& get();
  std::mutex mutex;
  std::atomic<bool> ready{false};
  std::atomic<bool> forked{false};  // a child: nothing works here, as with the real driver
  DeviceState* state = nullptr;
  std::vector<std::unique_ptr<Device>> devices;  // in CUDA's order, visible ones only
  std::map<std::uint64_t, Allocation> allocations;
  std::set<CUcontext> contexts;
  std::uint64_t next_id = 1;

  CUresult initialise();
  Device* device(CUdevice ordinal);
  Allocation* find(std::uint64_t address);
  // Whether the device may read and write the whole range; it may span mappings that lie side by
  // side.
  bool accessible(std::uint64_t address, std::uint64_t bytes);
  // The allocation that holds all of a range, or null.
  Allocation* find(std::uint64_t address, std::uint64_t bytes);
};

// The way into a call: takes the mutex, refuses before cuInit and after fork. With a context
// required, it is the current one, alive and without a sticky error.
class Call {
 public:
  enum Needs { kInit, kContext };
  explicit Call(Needs needs = kContext);
  explicit operator bool() const { return result == CUDA_SUCCESS; }
  Driver& driver;
  std::unique_lock<std::mutex> lock;
  CUresult result = CUDA_SUCCESS;
  CUcontext context = nullptr;
  Device* device = nullptr;
};

// The stack of current contexts of the calling thread.
std::vector<CUcontext>& context_stack();
CUcontext current_context();  // null without one

// Contexts (context.cpp).
CUresult create_context(Device& device, unsigned flags, unsigned api_version, bool primary,
                        CUcontext& out);
void destroy_context(std::unique_lock<std::mutex>& lock, CUcontext context);

// Memory of a context (allocate.cpp). All or nothing; the error is the one to answer with.
CUresult allocate(CUcontext context, std::uint64_t bytes, Kind kind, bool low, Allocation*& out);
void release(Allocation& allocation);
bool charge(Device& device, std::uint64_t bytes);
void discharge(Device& device, std::uint64_t bytes);
// Somebody writes there: the bytes have to be given back to the system with the allocation.
void note_write(std::uint64_t address);
void make_resident(Allocation& allocation, std::uint64_t bytes);
void lose_residence(Allocation& allocation, std::uint64_t bytes);
// The 32-bit entries work in contexts that their own cuCtxCreate made, and nowhere else.
bool takes_legacy(const Call& call);
// Memory whose last holder was an exported descriptor that is closed by now. True if some came
// back.
bool reap_exported();
// A context's small change: bytes that add up to pages. False if the device has no room for
// another.
bool take_object_bytes(CUcontext context, std::uint64_t bytes);
void give_object_bytes(CUcontext context, std::uint64_t bytes);
void release_all(CUcontext context);

// A name among allocations: makes the record, with an id of its own.
Allocation& record_allocation(std::uint64_t base, std::uint64_t bytes, Kind kind, CUcontext context,
                              Device* device);
// Memory below the level of allocations: pages that were charged, at an address.
CUresult take_pages(Device& device, std::uint64_t bytes, std::uint64_t align, bool low,
                    std::uint64_t& address);
void give_pages(Device& device, std::uint64_t address, std::uint64_t bytes, bool low, bool written);

// Streams (stream.cpp). A handle as the caller passed it -> the stream; null if it is none.
CUstream find_stream(Call& call, CUstream handle, bool per_thread_default);
CUstream make_stream(CUcontext context, unsigned flags, int priority);
void destroy_stream(CUstream stream);  // idle ones
std::uint64_t thread_id();

}  // namespace vgpu::sim

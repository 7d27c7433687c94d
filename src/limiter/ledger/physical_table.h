// SPDX-License-Identifier: Apache-2.0
// Physical memory of the VMM API (cuMemCreate and imports): it lives until its last handle
// reference, mapped byte, pin and multicast bind is gone, whichever goes last. A handle's value may
// be used again by the driver once it is released, so memory is known by an id of its own, and the
// handle maps to it.
//
// `release` arguments are called as release(Freed, exported): exported memory may live on behind a
// descriptor.
//
// Around driver calls: a release takes its handle reference away before the call and is finished or
// undone after it; map, bind and export pin the memory during the call, so that a release in
// another thread can't end it meanwhile.
#pragma once

#include <atomic>
#include <cstdint>

#include "allocation_table.h"
#include "handle_map.h"
#include "vgpu/core/driver_model.h"

namespace vgpu::limiter {

struct PhysicalMemory {
  std::uint64_t bytes =
      0;  // the charge; 0: host memory, or charged to another process of the tenant
  std::uint64_t mapped_bytes = 0;  // all mappings together
  ShareKey key{};
  std::uint32_t gpu = 0;
  std::uint32_t handle_refs = 0;
  std::uint32_t pins = 0;  // calls in flight, multicast binds, sparse arrays
  AllocationKind kind = AllocationKind::linear;
  bool multicast = false;  // owns binds, which end with it
  bool unsized = false;    // imported: its size shows at the first mapping
  bool exported = false;   // a descriptor may keep it alive after everything here let go

  bool is_held() const { return handle_refs != 0 || pins != 0 || mapped_bytes != 0; }
};

class PhysicalTable {
 public:
  // New memory with one handle reference; returns its id, 0 when it can't be recorded.
  std::uint64_t add(std::uint64_t handle, PhysicalMemory memory) {
    const std::uint64_t id =
        next_id_.fetch_add(1, std::memory_order_relaxed) + 1;  // unique is all it must be
    memory.handle_refs = 1;
    if (!memory_.insert(id, memory)) return 0;
    handles_.insert(handle, id);
    return id;
  }
  // One more reference to a handle that is known (retained, or imported twice). False: it isn't
  // known.
  bool add_handle_ref(std::uint64_t handle) {
    std::uint64_t id = 0;
    return handles_.find(handle, id) &&
           edit(id, [](PhysicalMemory& memory) { ++memory.handle_refs; });
  }

  // A handle to the memory mapped at an address: its own may have been released before.
  bool retain(std::uint64_t handle, std::uint64_t address) {
    if (add_handle_ref(handle)) return true;
    const std::uint64_t id = mapped_at(address);
    return id != 0 && edit(id, [](PhysicalMemory& memory) { ++memory.handle_refs; }) &&
           handles_.insert(handle, id);
  }

  std::uint64_t id_of(std::uint64_t handle) {
    std::uint64_t id = 0;
    return handles_.find(handle, id) ? id : 0;
  }
  bool find(std::uint64_t id, PhysicalMemory& out) { return memory_.find(id, out); }
  template <class Edit>
  bool edit(std::uint64_t id, Edit change) {
    return memory_.update(id, [&](PhysicalMemory& memory) {
      change(memory);
      return true;
    });
  }

  // Takes one handle reference. The memory itself goes in end_release.
  std::uint64_t begin_release(std::uint64_t handle) {
    const std::uint64_t id = id_of(handle);
    bool last = false;
    const bool known = id != 0 && edit(id, [&](PhysicalMemory& memory) {
                         last = memory.handle_refs == 1;
                         --memory.handle_refs;
                         ++memory.pins;  // until end_release or undo_release
                       });
    std::uint64_t taken = 0;
    if (last) handles_.take(handle, taken);
    return known ? id : 0;
  }
  void undo_release(std::uint64_t handle, std::uint64_t id) {
    edit(id, [](PhysicalMemory& memory) {
      ++memory.handle_refs;
      --memory.pins;
    });
    handles_.insert(handle, id);
  }
  template <class Release>
  void end_release(std::uint64_t id, Release release) {
    unpin(id, release);
  }

  bool pin(std::uint64_t id) {
    return id != 0 && edit(id, [](PhysicalMemory& memory) { ++memory.pins; });
  }
  template <class Release>
  void unpin(std::uint64_t id, Release release) {
    drop(id, release, [](PhysicalMemory& memory) { --memory.pins; });
  }

  // After the driver mapped; the caller still holds its pin.
  void add_mapping(std::uint64_t address, std::uint64_t size, std::uint64_t id) {
    if (!mappings_.insert(address, {.size = size, .id = id})) return;
    edit(id, [&](PhysicalMemory& memory) { memory.mapped_bytes += size; });
  }
  // The memory mapped at an address that is the start of a mapping, or anywhere in one (slower).
  std::uint64_t mapped_at(std::uint64_t address) {
    Mapping mapping;
    if (mappings_.find(address, mapping)) return mapping.id;
    std::uint64_t id = 0;
    mappings_.sweep([&](std::uint64_t start, Mapping& each) {
      if (address - start < each.size) id = each.id;
      return true;
    });
    return id;
  }

  // After the driver unmapped [address, address + size): whole mappings, several of them, or parts.
  template <class Release>
  void remove_mappings(std::uint64_t address, std::uint64_t size, Release release) {
    std::uint64_t at = address;
    const std::uint64_t end = address + size;
    // Nearly always the range is a run of whole mappings: hop along it.
    while (at < end) {
      Mapping mapping;
      bool whole = false;
      mappings_.update(at, [&](Mapping& each) {
        mapping = each;
        whole = each.size <= end - at;
        return !whole;
      });
      if (!whole) break;
      drop_mapped(mapping.id, mapping.size, release);
      at += mapping.size;
    }
    if (at < end) remove_parts(at, end, release);
  }

  // A multicast object holds what is bound to it until it is unbound or the object ends.
  void add_bind(std::uint64_t multicast_id, std::uint64_t memory_id, std::uint32_t device,
                std::uint64_t offset, std::uint64_t size) {
    edit(memory_id, [](PhysicalMemory& memory) { ++memory.pins; });
    binds_.insert(next_id_.fetch_add(1, std::memory_order_relaxed) + 1,
                  {.multicast_id = multicast_id,
                   .memory_id = memory_id,
                   .offset = offset,
                   .size = size,
                   .device = device});
  }
  template <class Release>
  void remove_binds(std::uint64_t multicast_id, std::uint32_t device, std::uint64_t offset,
                    std::uint64_t size, Release release) {
    unbind_if(
        [&](const Bind& bind) {
          return bind.multicast_id == multicast_id && bind.device == device &&
                 bind.offset < offset + size && offset < bind.offset + bind.size;
        },
        release);
  }

  template <class Release>
  void remove_all_binds(std::uint64_t owner, Release release) {
    unbind_if([&](const Bind& bind) { return bind.multicast_id == owner; }, release);
  }

  // Calls visit(id) for each mapping that starts in [address, address + size).
  template <class Visit>
  void for_each_mapped(std::uint64_t address, std::uint64_t size, Visit visit) {
    Mapping mapping;
    for (std::uint64_t at = address; at < address + size && mappings_.find(at, mapping);
         at += mapping.size) {
      visit(mapping.id, mapping.size);
    }
  }

  std::size_t size() { return memory_.size(); }
  std::size_t mapping_count() { return mappings_.size(); }
  void reset_after_fork() {
    memory_.reset_after_fork();
    handles_.reset_after_fork();
    mappings_.reset_after_fork();
    binds_.reset_after_fork();
  }

 private:
  struct Mapping {
    std::uint64_t size = 0;
    std::uint64_t id = 0;
  };
  struct Bind {
    std::uint64_t multicast_id = 0;
    std::uint64_t memory_id = 0;
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
    std::uint32_t device = 0;
  };

  // Applies `change`; when nothing holds the memory any more it ends here, and its charge is
  // released.
  template <class Release, class Change>
  void drop(std::uint64_t id, Release release, Change change) {
    PhysicalMemory ended;
    bool is_end = false;
    memory_.update(id, [&](PhysicalMemory& memory) {
      change(memory);
      ended = memory;
      is_end = !memory.is_held();
      return !is_end;
    });
    if (!is_end) return;
    const Freed freed{.bytes = ended.bytes, .key = ended.key, .gpu = ended.gpu, .kind = ended.kind};
    if (!freed.nothing() || ended.exported) release(freed, ended.exported);
    if (ended.multicast) {
      unbind_if([&](const Bind& bind) { return bind.multicast_id == id; }, release);
    }
  }

  template <class Release>
  void drop_mapped(std::uint64_t id, std::uint64_t bytes, Release release) {
    drop(id, release, [&](PhysicalMemory& memory) {
      memory.mapped_bytes -= bytes < memory.mapped_bytes ? bytes : memory.mapped_bytes;
    });
  }

  // Parts of mappings, or gaps between them: look at every mapping once. Cuts are collected first,
  // because no two shard locks are ever held together.
  template <class Release>
  void remove_parts(std::uint64_t begin, std::uint64_t end, Release release) {
    for (;;) {
      std::uint64_t start = 0;
      Mapping found;
      mappings_.sweep([&](std::uint64_t address, Mapping& mapping) {
        if (start == 0 && address < end && begin < address + mapping.size) {
          start = address;
          found = mapping;
          return false;
        }
        return true;
      });
      if (start == 0) return;
      const std::uint64_t stop = start + found.size;
      const std::uint64_t cut_begin = start > begin ? start : begin;
      const std::uint64_t cut_end = stop < end ? stop : end;
      if (start < cut_begin) mappings_.insert(start, {.size = cut_begin - start, .id = found.id});
      if (cut_end < stop) mappings_.insert(cut_end, {.size = stop - cut_end, .id = found.id});
      drop_mapped(found.id, cut_end - cut_begin, release);
    }
  }

  template <class Matches, class Release>
  void unbind_if(Matches matches, Release release) {
    for (;;) {
      std::uint64_t memory_id = 0;
      binds_.sweep([&](std::uint64_t, Bind& bind) {
        if (memory_id != 0 || !matches(bind)) return true;
        memory_id = bind.memory_id;
        return false;
      });
      if (memory_id == 0) return;
      unpin(memory_id, release);
    }
  }

  std::atomic<std::uint64_t> next_id_{0};
  HandleMap<PhysicalMemory> memory_;
  HandleMap<std::uint64_t> handles_;
  HandleMap<Mapping> mappings_;
  HandleMap<Bind> binds_;
};

}  // namespace vgpu::limiter

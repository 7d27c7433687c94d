// SPDX-License-Identifier: Apache-2.0
// The wire format of a tenant's segment file. Written by processes of other builds and, as far as
// we know, by anyone with the user's rights: whoever reads bounds every index and trusts no total.
//
// Parts, in file order, each at an offset that follows from the number of GPUs alone (segment.h):
//   Header | GpuRecord[gpus] | owner words[slots] | SlotIdentity[slots] | HeldObjects[slots] |
//   ChargeLine[gpus][slots] | SharedObject[objects] | acknowledgements
// Most of it is never touched: the file is sparse.
//
// Slot life: free -(lock the slot's byte; CAS owner)-> claimed -(identity, zeroed lines; CAS
// owner)-> live
//            -(CAS owner, by its process or by whoever found it dead)-> free.
// Only live slots count, so that one CAS ends everything that a slot is charged. The claimant
// clears what its predecessor left; nobody else writes to a slot's lines but to revoke an ask.
//
// A new major version means another layout; a minor one may name reserved bytes, which are zero
// until then.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "vgpu/core/ledger.h"
#include "vgpu/shm/tenant.h"

namespace vgpu::shm {

inline constexpr std::size_t kCacheLine = 64;
inline constexpr std::uint64_t kMagic = 0x31544e4554555047;  // "GPUTENT1"
inline constexpr std::uint32_t kMajor = 1;
inline constexpr std::uint32_t kMinor =
    3;  // 1: GpuRecord::paid_until_ns; 2: its held_ns; 3: asked_ns
inline constexpr std::uint32_t kMaxObjects = 4096;
inline constexpr std::uint32_t kAcknowledgementWays = 8;
inline constexpr std::uint32_t kAcknowledgementRows = 4096;

// Bytes that are locked, far behind the file's end: one per slot, held while its process lives; one
// for whoever removes the segment's name.
inline constexpr std::uint64_t kRemovalByte = std::uint64_t{1} << 40;
inline constexpr std::uint64_t kLockBase = kRemovalByte + 1;

using Word = std::atomic<std::uint64_t>;
using HalfWord = std::atomic<std::uint32_t>;
static_assert(Word::is_always_lock_free && sizeof(Word) == 8 && sizeof(HalfWord) == 4);

struct alignas(kCacheLine) Header {
  std::uint64_t magic;  // this line: written before the segment is published, never changed
  std::uint32_t major;
  std::uint32_t minor;
  std::uint64_t byte_size;
  HalfWord ready;  // 1, stored last (release); a segment without it is not one
  std::uint32_t gpu_count;
  std::uint32_t slot_count;
  std::uint32_t object_count;
  std::uint32_t made_by_run;
  std::uint8_t reserved0[20];
  HalfWord slot_high_water;    // slots at and above it were never taken; only rises
  HalfWord object_high_water;  // the same for shared objects
  HalfWord removed;            // 1: the name goes away, nobody may join
  std::uint8_t reserved1[52];
  Word anomalies;        // times that a process released more than it was charged, or the like
  HalfWord quota_pages;  // counts the quota pages of this tenant; 0: there never was one
  std::uint8_t reserved2[4];
  Word asked_ns;  // when a process last asked the pod's daemon for all of them; by CAS
  std::uint8_t reserved3[40];
  char id[kMaxName + 1];
  char name[kMaxName + 1];
  std::uint8_t reserved4[3776];
};
static_assert(sizeof(Header) == 4096 && std::is_standard_layout_v<Header>);
static_assert(offsetof(Header, ready) == 24 && offsetof(Header, slot_high_water) == 64);
static_assert(offsetof(Header, anomalies) == 128 && offsetof(Header, id) == 192);
static_assert(offsetof(Header, asked_ns) == 144);

// Quotas may change while processes run: the limit is one word; the rest is another (see
// pack_terms).
struct alignas(kCacheLine) GpuRecord {
  std::uint8_t uuid[16];  // this and the next three: never changed
  std::uint64_t total_bytes;
  std::uint32_t nvml_index;
  std::uint32_t in_set;
  Word memory_limit_bytes;
  Word terms;
  Word paid_until_ns;  // core/pace.h; any process of the tenant, by CAS
  Word held_ns;        // how long launches were held back here, ever; by any process of the tenant
  Word denied;         // refusals
  std::uint8_t reserved1[56];
};
static_assert(sizeof(GpuRecord) == 128 && std::is_standard_layout_v<GpuRecord>);
static_assert(offsetof(GpuRecord, memory_limit_bytes) == 32 && offsetof(GpuRecord, denied) == 64);

struct alignas(kCacheLine) SlotIdentity {  // writer: the claimant, before it goes live
  Word pid_namespace;
  Word start_ticks;
  Word program[(kMaxName + 1) / 8];  // text, zero-filled
  std::uint8_t reserved[48];
};
static_assert(sizeof(SlotIdentity) == 128 && offsetof(SlotIdentity, program) == 16);

struct alignas(kCacheLine)
    HeldObjects {  // bit: the slot's process holds that shared object. Writer: owner
  Word bits[kMaxObjects / 64];
};
static_assert(sizeof(HeldObjects) == 512);

struct alignas(kCacheLine) ChargeLine {  // one slot on one GPU; core/ledger.h says how it is read
  Word charge;                           // writer: owner
  Word ask[core::kAskCells];             // writer: owner, and anyone by CAS asked -> revoked
  HalfWord moving_object;                // writer: owner; meant while the charge word says "moving"
  std::uint32_t reserved;
};
static_assert(sizeof(ChargeLine) == kCacheLine && offsetof(ChargeLine, moving_object) == 56);

struct alignas(kCacheLine) SharedObject {  // core/shared_objects.h
  Word word;                               // any process, by CAS
  Word key_high;                           // the next four: writer: the builder, before `live`
  Word key_low;
  Word bytes;
  HalfWord gpu;
  std::uint8_t reserved[28];
};
static_assert(sizeof(SharedObject) == kCacheLine && offsetof(SharedObject, gpu) == 32);

// Acknowledgement: pid in bits 0-21, start time (low 26 bits) in 22-47, program fingerprint (15
// bits) in 48-62, 1 in 63.
struct alignas(kCacheLine) AcknowledgementRow {
  Word entries[kAcknowledgementWays];
};
static_assert(sizeof(AcknowledgementRow) == kCacheLine);

// Owner word. A process is its pid, its start time (the whole of it in SlotIdentity) and its
// namespace; the generation tells two tenancies of one slot apart even where all of these repeat.
enum class SlotState : std::uint8_t { free = 0, claimed = 1, live = 2 };

struct Owner {
  SlotState state = SlotState::free;
  bool lockless = false;  // this system has no locks on bytes: the pid alone decides
  std::uint32_t generation = 0;
  std::uint32_t start_ticks_low = 0;
  std::int32_t pid = 0;

  static constexpr std::uint32_t kStartMask = (1u << 30) - 1;

  static constexpr Owner unpack(std::uint64_t word) {
    Owner owner;
    owner.state = static_cast<SlotState>(word & 3);
    owner.lockless = (word & 4) != 0;
    owner.generation = static_cast<std::uint32_t>((word >> 3) & 0x1ff);
    owner.start_ticks_low = static_cast<std::uint32_t>((word >> 12) & kStartMask);
    owner.pid = static_cast<std::int32_t>(word >> 42);
    return owner;
  }
  constexpr std::uint64_t pack() const {
    return static_cast<std::uint64_t>(state) | (lockless ? 4u : 0u) |
           (static_cast<std::uint64_t>(generation & 0x1ff) << 3) |
           (static_cast<std::uint64_t>(start_ticks_low & kStartMask) << 12) |
           (static_cast<std::uint64_t>(pid) << 42);
  }
  constexpr std::uint64_t freed() const {
    Owner owner;
    owner.generation = generation;
    return owner.pack();
  }
};

}  // namespace vgpu::shm

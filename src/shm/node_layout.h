// SPDX-License-Identifier: Apache-2.0
// The wire format of the node segment: one file for all GPUs and all tenants of a state directory,
// by which their processes share the GPUs' time. Header, then a record for each seat; a seat is one
// process on one GPU. One writer a line: the seat's process, or the host of the arbiter. What is
// read is bounded by whoever reads it.
//
// Seat life: as a slot's (layout.h), with the same owner word and a lock on its byte of the file.
#pragma once

#include "layout.h"
#include "segment.h"
#include "vgpu/core/arbiter.h"
#include "vgpu/core/hosting.h"
#include "vgpu/shm/node.h"

namespace vgpu::shm {

inline constexpr std::uint64_t kNodeMagic = 0x3145444f4e555047;  // "GPUNODE1"
inline constexpr std::uint32_t kNodeMajor = 1;
inline constexpr std::uint32_t kNodeMinor = 3;

struct alignas(kCacheLine) NodeHeader {
  std::uint64_t magic;  // this line: written before the segment is published, never changed
  std::uint32_t major;
  std::uint32_t minor;
  std::uint64_t byte_size;
  HalfWord ready;  // 1, stored last (release)
  std::uint32_t seat_count;
  std::uint8_t reserved0[32];
  Word host;  // core/hosting.h: Hosting; any process, by CAS
  std::uint8_t reserved1[56];
  HalfWord doorbell;         // futex: counts up when a seat needs the host
  HalfWord seat_high_water;  // seats at and above it were never taken; only rises
  std::uint8_t reserved2[56];
  Word on_loss;    // OnDaemonLoss; this line: writer: the daemon (since minor 2)
  Word period_ns;  // LossPlan's window, by CLOCK_MONOTONIC
  Word begin_ns;
  Word end_ns;
  Word is_daemons;  // 1: a daemon hosts, or was the last that did (since minor 3); writer: the host
  std::uint8_t reserved3[24];
  std::uint8_t reserved4[3840];
};
static_assert(sizeof(NodeHeader) == 4096 && std::is_standard_layout_v<NodeHeader>);
static_assert(offsetof(NodeHeader, host) == 64 && offsetof(NodeHeader, doorbell) == 128);

struct alignas(kCacheLine) HistoryRow {  // one second of a seat; writer: its process
  Word second;   // of CLOCK_MONOTONIC; the rest counts if it is the reader's
  Word work_ns;  // GPU time submitted
  Word launches;
  Word waited_limit_ns;
  Word waited_turn_ns;
  Word waited_in_flight_ns;
  Word delayed;  // launches that had to wait
  Word behind;   // seat + 1 of who had the GPU when a turn was last waited for
};
static_assert(sizeof(HistoryRow) == kCacheLine);

struct alignas(kCacheLine) SeatRecord {
  Word owner;  // layout.h: Owner; this and the next: writer: the claimant, before it goes live
  Word start_ticks;
  Word pid_namespace;
  Word gpu[2];  // UUID
  Word birth;   // when the seat was taken; tells two tenancies of a seat apart
  std::uint8_t reserved0[16];
  Word tenant[(kMaxName + 1) / 8];  // its id; text, zero-filled
  Word program[(kMaxName + 1) / 8];

  Word want_since_ns;  // this line: writer: the seat's process
  Word busy_until_ns;
  Word last_launch_ns;
  Word usual_gap_ns;
  Word work_ns;  // GPU time submitted so far
  Word terms;    // as in GpuRecord; also by who changes the tenant's quota
  Word done_ns;  // of work_ns, known to be done
  Word place;    // core::SeatView::place and, in the top bit, counts_collectives (since minor 1)

  Word grant;  // core/hosting.h: GrantWord; this line: writer: the host
  Word in_flight_ns;
  HalfWord turn;       // futex: counts up when the grant is opened
  HalfWord announces;  // 1: ring when launching after being idle
  Word rates;          // owed now (low half) and entitled (high half), millionths
  Word lag_ns;         // signed
  Word held_ns;
  HalfWord behind;  // seat + 1 of who has the GPU
  std::uint8_t reserved2[4];
  Word last_place;  // core::Grant::last_place (since minor 1)

  HistoryRow history[kHistorySeconds];
  std::uint8_t reserved3[704];
};
static_assert(sizeof(SeatRecord) == 2048 && std::is_standard_layout_v<SeatRecord>);
static_assert(offsetof(SeatRecord, want_since_ns) == 192 && offsetof(SeatRecord, grant) == 256);
static_assert(offsetof(SeatRecord, history) == 320);

inline constexpr std::size_t kNodeBytes =
    sizeof(NodeHeader) + std::size_t{kSeats} * sizeof(SeatRecord);

SegmentPath node_path(const StateDir& dir);
// Checks a mapping, or a copy, whose size is known to be real.
Status check_node(const void* base, std::size_t size);
std::uint64_t tenant_number(const SeatRecord& record);
// Of a seat that isn't free; `fd`: of the node's file.
bool seat_is_dead(const SeatRecord& record, std::uint32_t seat, const Owner& owner, int fd,
                  std::uint64_t own_namespace);

}  // namespace vgpu::shm

// SPDX-License-Identifier: Apache-2.0
// The node segment as limiter, host and CLI use it: seats, their grants, what they did lately.
// node_layout.h is the wire format behind it. Without a daemon it lies in the user's state
// directory, so shares bind the processes of one user.
//
// Thread-safe unless a member says otherwise. Nothing throws or allocates.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "vgpu/base/fixed_string.h"
#include "vgpu/base/gpu_uuid.h"
#include "vgpu/base/quota.h"
#include "vgpu/core/arbiter.h"
#include "vgpu/shm/tenant.h"

namespace vgpu::shm {

inline constexpr std::uint32_t kSeats = 1024;
inline constexpr std::uint32_t kNoSeat = UINT32_MAX;
inline constexpr std::uint32_t kHistorySeconds = 16;

struct SeatRecord;

struct SeatSecond {
  std::uint64_t work_ns = 0;
  std::uint64_t launches = 0;
  std::uint64_t waited_limit_ns = 0;
  std::uint64_t waited_turn_ns = 0;
  std::uint64_t waited_in_flight_ns = 0;
  std::uint64_t delayed = 0;
  std::uint32_t behind = kNoSeat;
};

// One live seat, as people are shown it.
struct SeatFacts {
  std::uint32_t seat = 0;
  std::int32_t pid = 0;  // in its own PID namespace
  std::uint64_t pid_namespace = 0;
  std::uint64_t start_time_ticks = 0;
  GpuUuid gpu;
  FixedString<kMaxName> tenant;
  FixedString<kMaxName> program;
  Quota terms;         // compute quota and priority; no memory limit
  bool waits = false;  // a launch waits for its turn
  std::uint64_t waits_since_ns = 0;
  std::uint64_t busy_until_ns = 0;
  std::uint64_t last_launch_ns = 0;
  std::uint64_t work_ns = 0;
  std::uint32_t owed_ppm = 0;  // at present, in millionths of the GPU
  std::uint32_t entitled_ppm = 0;
  std::int64_t lag_ns = 0;  // below zero: debt
  std::uint64_t held_ns = 0;
  std::uint32_t behind = kNoSeat;  // who has the GPU
  bool is_open = false;            // its grant lets launches through
  bool is_alone = false;           // on its GPU, and without a compute limit: it counts nothing
  // seconds[0] is the last whole second, seconds[1] the one before, ...
  SeatSecond seconds[kHistorySeconds - 1];
};

// What a process says of itself on a GPU; core::SeatView has the meanings.
struct SeatReport {
  std::uint64_t want_since_ns = 0;
  std::uint64_t busy_until_ns = 0;
  std::uint64_t last_launch_ns = 0;
  std::uint64_t usual_gap_ns = 0;
  std::uint64_t work_ns = 0;
  std::uint64_t done_ns = 0;
  std::uint64_t place = 0;
  bool counts_collectives = false;
};

// The calling process's own seat. Its node stays open as long as this is used. Reports and notes
// come from one thread at a time.
class Seat {
 public:
  Seat() = default;
  explicit Seat(SeatRecord& record) : record_(&record) {}
  bool is_taken() const { return record_ != nullptr; }

  const std::atomic<std::uint64_t>& grant() const;  // core/hosting.h: GrantWord
  std::uint64_t in_flight_ns() const;
  std::uint64_t last_place() const;  // core::Grant::last_place
  bool announces() const;
  std::uint32_t behind() const;              // who has the GPU; kNoSeat: nobody in particular
  std::atomic<std::uint32_t>& turn() const;  // futex: counts up when the grant is opened
  void report(const SeatReport& report) const;
  void set_terms(const Quota& quota) const;
  // Adds to the row of that second.
  void note(std::uint64_t now_ns, const SeatSecond& more) const;

 private:
  SeatRecord* record_ = nullptr;
};

// What holds in a segment while no daemon hosts that one did before.
enum class OnDaemonLoss : std::uint8_t {
  hold = 0,  // one of the processes hosts, and shares hold
  open = 1,  // launches go free: no shares, no compute limits
  stop = 2,  // launches wait until a daemon is there
};
struct LossPlan {
  OnDaemonLoss policy = OnDaemonLoss::hold;
  // For `hold`, where other segments share the GPUs: launches go in from begin to end of each
  // period. 0: at any time.
  std::uint64_t period_ns = 0;
  std::uint64_t begin_ns = 0;
  std::uint64_t end_ns = 0;
  friend bool operator==(const LossPlan&, const LossPlan&) = default;
};

class Node {
 public:
  Node() = default;
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  ~Node();

  // Opens the directory's node segment, making it where there is none.
  static Status open(const StateDir& dir, Node& out);
  // The same, but not_found where there is none: for who only looks.
  static Status look(const StateDir& dir, Node& out);
  bool is_open() const { return base_ != nullptr; }

  // A seat for the calling process on a GPU. ledger_full: all are taken by live processes.
  Status take_seat(const GpuUuid& gpu, std::string_view tenant, std::uint64_t now_ns,
                   std::uint32_t& seat);
  // Gives it back; its work must be done or lost.
  void leave_seat(std::uint32_t seat);
  // Frees the seats of processes that are gone; returns how many.
  std::uint32_t reap();

  SeatRecord& seat(std::uint32_t seat) const;  // below kSeats

  // For the host. What a live seat says, with its times bounded; false: it isn't one.
  bool view(std::uint32_t seat, std::uint64_t now_ns, GpuUuid& gpu, core::SeatView& out) const;
  // Its grant and what people are shown of it. Wakes it where it waits and the grant is open.
  // `has_limit`: it has to keep a compute limit though it is alone.
  void answer(std::uint32_t seat, std::uint64_t now_ns, std::uint16_t epoch,
              const core::Grant& grant, const core::Standing& standing, std::uint32_t behind,
              bool has_limit) const;

  // Bounded and in order, whatever is in the file. The daemon sets it, and takes it back where it
  // ends for good.
  LossPlan plan() const;
  void set_plan(const LossPlan& plan) const;
  // A daemon hosts it, or was the last that did.
  bool is_daemons() const;
  // What it was, for who becomes the host: of those that find a daemon gone one learns it.
  bool exchange_daemons(bool is_daemons) const;

  // New terms for the live seats of a tenant on a GPU.
  void set_terms(std::string_view tenant, const GpuUuid& gpu, const Quota& quota) const;
  // A live seat of that tenant has a compute limit by now and goes as if it had none: only a host
  // changes that, and one that is gone is missed by nobody who asks for nothing.
  bool goes_past_its_limit(std::string_view tenant) const;
  // Such seats have to ask again, and find out.
  void withdraw_free_grants(std::string_view tenant) const;

  std::uint32_t seats() const;  // none at or above this was ever taken
  bool is_live(std::uint32_t seat) const;
  std::atomic<std::uint64_t>& host() const;
  std::atomic<std::uint32_t>& doorbell() const;
  void ring() const;

  // What people are shown of a live seat; false: it isn't one.
  bool facts(std::uint32_t seat, std::uint64_t now_ns, SeatFacts& out) const;

 private:
  static Status map(const StateDir& dir, bool may_make, Node& out);
  void* base_ = nullptr;
  int fd_ = -1;
};

// core::SeatView::tenant of the seats of that tenant.
std::uint64_t tenant_number(std::string_view id);

std::uint64_t pack_terms(const Quota& quota);
void unpack_terms(std::uint64_t terms, Quota& quota);
std::uint32_t limit_percent_of(std::uint64_t terms);

}  // namespace vgpu::shm

// SPDX-License-Identifier: Apache-2.0
// The node segment's file, and the life of a seat in it. Any process may be stopped or killed
// between any two steps; nobody waits for it.
#include "vgpu/shm/node.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstring>

#include "atomic_memory.h"
#include "liveness.h"
#include "node_layout.h"
#include "segment.h"
#include "vgpu/platform/file.h"
#include "vgpu/platform/futex.h"
#include "vgpu/platform/process.h"
#include "vgpu/shm/step.h"

namespace vgpu::shm {

SegmentPath node_path(const StateDir& dir) {
  SegmentPath path(dir.path.view());
  return path.append("/node.seats");
}

Status check_node(const void* base, std::size_t size) {
  if (size < sizeof(NodeHeader)) return Status::corrupt;
  const auto& header = *static_cast<const NodeHeader*>(base);
  if (header.magic != kNodeMagic) return Status::corrupt;
  if (header.major != kNodeMajor) return Status::bad_version;
  if (header.ready.load(std::memory_order_acquire) != 1 || header.seat_count != kSeats ||
      header.byte_size != size || size < kNodeBytes)
    return Status::corrupt;
  return Status::ok;
}

// A fingerprint of the tenant's id: seats of one tenant have the same.
std::uint64_t tenant_number(const SeatRecord& record) {
  std::uint64_t hash = 0;
  for (const Word& word : record.tenant)
    hash = (hash ^ word.load(std::memory_order_relaxed)) * 0x9e3779b97f4a7c15 + (hash >> 29);
  return hash;
}

// A seat means nothing once its process is gone, whoever holds its files.
bool seat_is_dead(const SeatRecord& record, std::uint32_t seat, const Owner& owner, int fd,
                  std::uint64_t own_namespace) {
  const bool is_named = owner.state == SlotState::live;
  if (is_named && own_namespace != 0 && record.pid_namespace.load() == own_namespace &&
      platform::life_of(owner.pid, record.start_ticks.load()) == platform::Life::gone)
    return true;
  return owner_is_dead(owner, fd, kLockBase + seat, record.start_ticks.load(),
                       record.pid_namespace.load(), own_namespace);
}

namespace {

static_assert(kSeats == core::kMaxSeats && kNoSeat == core::kNoSeat);

NodeHeader& header_of(void* base) { return *static_cast<NodeHeader*>(base); }

// Relaxed: text is published by the owner word.
template <std::size_t Words>
void store_text(Word (&to)[Words], std::string_view from) {
  char text[Words * 8] = {};
  std::memcpy(text, from.data(), std::min(from.size(), sizeof text - 1));
  for (std::size_t i = 0; i < Words; ++i) {
    std::uint64_t word = 0;
    std::memcpy(&word, text + i * 8, 8);
    to[i].store(word, std::memory_order_relaxed);
  }
}

template <std::size_t Words>
FixedString<kMaxName> load_text(const Word (&from)[Words]) {
  char text[Words * 8];
  for (std::size_t i = 0; i < Words; ++i) {
    const std::uint64_t word = from[i].load(std::memory_order_relaxed);
    std::memcpy(text + i * 8, &word, 8);
  }
  return FixedString<kMaxName>(std::string_view(text, ::strnlen(text, kMaxName)));
}

Status make_node(const StateDir& dir, const SegmentPath& path) {
  SegmentPath temporary;
  platform::File file = new_file(dir, temporary);
  if (!file.is_open()) return Status::unavailable;
  void* base = nullptr;
  if (::ftruncate(file.fd(), static_cast<off_t>(kNodeBytes)) == 0)
    base = platform::map_shared(file.fd(), sizeof(NodeHeader));
  int linked = -1;
  if (base != nullptr) {
    NodeHeader& header = header_of(base);
    header.magic = kNodeMagic;
    header.major = kNodeMajor;
    header.minor = kNodeMinor;
    header.byte_size = kNodeBytes;
    header.seat_count = kSeats;
    step(core::Step::node_built);
    header.ready.store(1, std::memory_order_release);
    step(core::Step::node_ready);
    platform::unmap(base, sizeof(NodeHeader));
    linked = link_name(file, temporary, path);
    if (linked != 0 && errno == EEXIST) linked = 0;  // another process was first
  }
  if (!temporary.empty()) ::unlink(temporary.c_str());
  return linked == 0 ? Status::ok : Status::unavailable;
}

void clear_record(SeatRecord& record) {
  // Relaxed: published by the owner word's change to live.
  for (Word* word :
       {&record.want_since_ns, &record.busy_until_ns, &record.last_launch_ns, &record.usual_gap_ns,
        &record.work_ns, &record.done_ns, &record.place, &record.last_place, &record.terms,
        &record.grant, &record.in_flight_ns, &record.rates, &record.lag_ns, &record.held_ns})
    word->store(0, std::memory_order_relaxed);
  record.announces.store(0, std::memory_order_relaxed);
  record.behind.store(0, std::memory_order_relaxed);
  for (HistoryRow& row : record.history) row.second.store(0, std::memory_order_relaxed);
}

SeatSecond read_second(const HistoryRow& row, std::uint64_t second) {
  SeatSecond out;
  if (row.second.load(std::memory_order_acquire) != second) return out;
  out.work_ns = row.work_ns.load(std::memory_order_relaxed);
  out.launches = row.launches.load(std::memory_order_relaxed);
  out.waited_limit_ns = row.waited_limit_ns.load(std::memory_order_relaxed);
  out.waited_turn_ns = row.waited_turn_ns.load(std::memory_order_relaxed);
  out.waited_in_flight_ns = row.waited_in_flight_ns.load(std::memory_order_relaxed);
  out.delayed = row.delayed.load(std::memory_order_relaxed);
  const std::uint64_t behind = row.behind.load(std::memory_order_relaxed);
  out.behind = behind == 0 || behind > kSeats ? kNoSeat : static_cast<std::uint32_t>(behind - 1);
  return out;
}

GpuUuid gpu_of(const SeatRecord& record) {
  const std::uint64_t words[2] = {record.gpu[0].load(std::memory_order_relaxed),
                                  record.gpu[1].load(std::memory_order_relaxed)};
  GpuUuid gpu;
  std::memcpy(gpu.bytes.data(), words, sizeof words);
  return gpu;
}

// Work that is said to take longer is looked at again when that has passed.
constexpr std::uint64_t kLongestPredictionNs = 60'000'000'000;
constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr std::uint64_t kCountsCollectives = std::uint64_t{1} << 63;  // in SeatRecord::place

void add(Word& word, std::uint64_t more) {
  // One writer.
  word.store(word.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
}

}  // namespace

const Word& Seat::grant() const { return record_->grant; }
std::uint64_t Seat::in_flight_ns() const {
  return record_->in_flight_ns.load(std::memory_order_relaxed);
}
std::uint64_t Seat::last_place() const {
  return record_->last_place.load(std::memory_order_relaxed);
}
bool Seat::announces() const { return record_->announces.load(std::memory_order_relaxed) != 0; }
HalfWord& Seat::turn() const { return record_->turn; }

std::uint32_t Seat::behind() const {
  const std::uint32_t behind = record_->behind.load(std::memory_order_relaxed);
  return behind == 0 || behind > kSeats ? kNoSeat : behind - 1;
}

void Seat::report(const SeatReport& report) const {
  record_->busy_until_ns.store(report.busy_until_ns, std::memory_order_relaxed);
  record_->last_launch_ns.store(report.last_launch_ns, std::memory_order_relaxed);
  record_->usual_gap_ns.store(report.usual_gap_ns, std::memory_order_relaxed);
  record_->work_ns.store(report.work_ns, std::memory_order_relaxed);
  record_->done_ns.store(report.done_ns, std::memory_order_relaxed);
  // Release: who sees the place sees the work that came with it.
  record_->place.store(report.place | (report.counts_collectives ? kCountsCollectives : 0),
                       std::memory_order_release);
  step(core::Step::seat_reported);
  // Release: who sees the want sees what is in flight.
  record_->want_since_ns.store(report.want_since_ns, std::memory_order_release);
  step(core::Step::seat_wanted);
}

void Seat::set_terms(const Quota& quota) const {
  record_->terms.store(pack_terms(quota), std::memory_order_relaxed);
}

void Seat::note(std::uint64_t now_ns, const SeatSecond& more) const {
  const std::uint64_t second = now_ns / kSecondNs;
  HistoryRow& row = record_->history[second % kHistorySeconds];
  if (row.second.load(std::memory_order_relaxed) != second) {
    row.second.store(0, std::memory_order_relaxed);
    for (Word* word : {&row.work_ns, &row.launches, &row.waited_limit_ns, &row.waited_turn_ns,
                       &row.waited_in_flight_ns, &row.delayed, &row.behind})
      word->store(0, std::memory_order_relaxed);
    row.second.store(second, std::memory_order_release);
  }
  add(row.work_ns, more.work_ns);
  add(row.launches, more.launches);
  add(row.waited_limit_ns, more.waited_limit_ns);
  add(row.waited_turn_ns, more.waited_turn_ns);
  add(row.waited_in_flight_ns, more.waited_in_flight_ns);
  add(row.delayed, more.delayed);
  if (more.behind != kNoSeat) row.behind.store(more.behind + 1, std::memory_order_relaxed);
}

std::uint64_t tenant_number(std::string_view id) {
  SeatRecord record{};
  store_text(record.tenant, id);
  return tenant_number(record);
}

Node::~Node() {
  platform::unmap(base_, kNodeBytes);
  if (fd_ >= 0) ::close(fd_);
}

Status Node::map(const StateDir& dir, bool may_make, Node& out) {
  if (dir.error != 0) return Status::unavailable;
  const SegmentPath path = node_path(dir);
  if (path.truncated()) return Status::unavailable;
  for (int tries = 0; tries < 3; ++tries) {
    std::size_t size = 0;
    Status status = Status::ok;
    platform::File file = open_own_regular_file(dir, path, size, status);
    if (status == Status::not_found && may_make) {
      status = make_node(dir, path);
      if (status != Status::ok) return status;
      continue;
    }
    if (status != Status::ok) return status;
    if (size < kNodeBytes) return Status::corrupt;
    void* const base = platform::map_shared(file.fd(), kNodeBytes);
    if (base == nullptr) return Status::unavailable;
    status = check_node(base, size);
    if (status != Status::ok) {
      platform::unmap(base, kNodeBytes);
      return status;
    }
    out.base_ = base;
    out.fd_ = file.take();
    return Status::ok;
  }
  return Status::unavailable;
}

Status Node::open(const StateDir& dir, Node& out) { return map(dir, true, out); }
Status Node::look(const StateDir& dir, Node& out) { return map(dir, false, out); }

SeatRecord& Node::seat(std::uint32_t seat) const {
  return *reinterpret_cast<SeatRecord*>(static_cast<std::byte*>(base_) + sizeof(NodeHeader) +
                                        std::size_t{seat} * sizeof(SeatRecord));
}

std::uint32_t Node::seats() const {
  return std::min(header_of(base_).seat_high_water.load(), kSeats);
}

bool Node::is_live(std::uint32_t seat) const {
  return Owner::unpack(this->seat(seat).owner.load(std::memory_order_acquire)).state ==
         SlotState::live;
}

Word& Node::host() const { return header_of(base_).host; }
HalfWord& Node::doorbell() const { return header_of(base_).doorbell; }

void Node::ring() const {
  // Release: what the seat says is seen by the host that this wakes.
  doorbell().fetch_add(1, std::memory_order_release);
  step(core::Step::seat_rung);
  platform::futex_wake_all(doorbell());
}

Status Node::take_seat(const GpuUuid& gpu, std::string_view tenant, std::uint64_t now_ns,
                       std::uint32_t& seat) {
  const Self self;
  for (int pass = 0; pass < 2; ++pass) {
    for (std::uint32_t i = 0; i < kSeats; ++i) {
      SeatRecord& record = this->seat(i);
      Owner owner;
      if (!claim_owner(record.owner, fd_, kLockBase + i, self, owner,
                       [&] { AtomicMemory::raise(header_of(base_).seat_high_water, i + 1); }))
        continue;
      step(core::Step::seat_claimed);
      record.start_ticks.store(self.start_ticks, std::memory_order_relaxed);
      record.pid_namespace.store(self.pid_namespace, std::memory_order_relaxed);
      std::uint64_t uuid[2];
      std::memcpy(uuid, gpu.bytes.data(), sizeof uuid);
      record.gpu[0].store(uuid[0], std::memory_order_relaxed);
      record.gpu[1].store(uuid[1], std::memory_order_relaxed);
      record.birth.store(now_ns | 1, std::memory_order_relaxed);
      store_text(record.tenant, tenant);
      store_text(record.program, platform::program_name().view());
      clear_record(record);
      step(core::Step::seat_named);
      std::uint64_t claimed = owner.pack();
      owner.state = SlotState::live;
      if (!record.owner.compare_exchange_strong(claimed, owner.pack())) continue;
      step(core::Step::seat_live);
      seat = i;
      return Status::ok;
    }
    if (pass == 0 && reap() == 0) break;
  }
  return Status::ledger_full;
}

void Node::leave_seat(std::uint32_t seat) {
  Word& owner = this->seat(seat).owner;
  owner.store(Owner::unpack(owner.load()).freed());
  step(core::Step::seat_freed);
  if (fd_ >= 0) platform::unlock_byte(fd_, kLockBase + seat);
}

std::uint32_t Node::reap() {
  const std::uint64_t own_namespace = platform::pid_namespace();
  const std::int32_t self = platform::self_pid();
  std::uint32_t count = 0;
  for (std::uint32_t i = 0; i < seats(); ++i) {
    SeatRecord& record = seat(i);
    std::uint64_t seen = record.owner.load();
    const Owner owner = Owner::unpack(seen);
    if (owner.state == SlotState::free) continue;
    // Its own description holds the locks of its own seats, so they look free to itself.
    if (owner.pid == self && record.pid_namespace.load() == own_namespace) continue;
    if (!seat_is_dead(record, i, owner, fd_, own_namespace)) continue;
    if (record.owner.compare_exchange_strong(seen, owner.freed())) ++count;
  }
  return count;
}

bool Node::view(std::uint32_t seat, std::uint64_t now_ns, GpuUuid& gpu, core::SeatView& out) const {
  const SeatRecord& record = this->seat(seat);
  const std::uint64_t seen = record.owner.load(std::memory_order_acquire);
  if (Owner::unpack(seen).state != SlotState::live) return false;
  const auto past = [now_ns](const Word& word) {
    return std::min(word.load(std::memory_order_relaxed), now_ns);
  };
  gpu = gpu_of(record);
  out = core::SeatView();
  out.seat = seat;
  out.birth = record.birth.load(std::memory_order_relaxed);
  out.tenant = tenant_number(record);
  Quota terms;
  unpack_terms(record.terms.load(std::memory_order_relaxed), terms);
  out.share_percent = terms.compute_share_percent;
  out.limit_percent = terms.compute_limit_percent;
  out.priority = terms.priority;
  // Acquire: what was submitted and is done is as of that place, or later.
  const std::uint64_t place = record.place.load(std::memory_order_acquire);
  out.place = place & ~kCountsCollectives;
  out.counts_collectives = (place & kCountsCollectives) != 0;
  // Acquire: what is in flight is as of that want, or later.
  out.want_since_ns = std::min(record.want_since_ns.load(std::memory_order_acquire), now_ns);
  out.busy_until_ns =
      std::min(record.busy_until_ns.load(std::memory_order_relaxed), now_ns + kLongestPredictionNs);
  out.last_launch_ns = past(record.last_launch_ns);
  out.usual_gap_ns = std::min(record.usual_gap_ns.load(std::memory_order_relaxed), kSecondNs);
  out.work_ns = record.work_ns.load(std::memory_order_relaxed);
  out.done_ns = std::min(record.done_ns.load(std::memory_order_relaxed), out.work_ns);
  return record.owner.load() == seen;
}

void Node::answer(std::uint32_t seat, std::uint64_t now_ns, std::uint16_t epoch,
                  const core::Grant& grant, const core::Standing& standing, std::uint32_t behind,
                  bool has_limit) const {
  SeatRecord& record = this->seat(seat);
  const std::uint64_t room_before = record.in_flight_ns.load(std::memory_order_relaxed);
  record.in_flight_ns.store(grant.in_flight_ns, std::memory_order_relaxed);
  record.announces.store(grant.announces ? 1 : 0, std::memory_order_relaxed);
  const std::uint64_t last_before = record.last_place.load(std::memory_order_relaxed);
  record.last_place.store(grant.last_place, std::memory_order_relaxed);
  const bool is_loosened =
      last_before != 0 && (grant.last_place == 0 || grant.last_place > last_before);
  record.rates.store(std::uint64_t{static_cast<std::uint32_t>(standing.entitled)} << 32 |
                         static_cast<std::uint32_t>(standing.rate),
                     std::memory_order_relaxed);
  record.lag_ns.store(static_cast<std::uint64_t>(standing.lag_ns), std::memory_order_relaxed);
  record.held_ns.store(standing.held_ns, std::memory_order_relaxed);
  record.behind.store(behind == kNoSeat ? 0 : behind + 1, std::memory_order_relaxed);
  step(core::Step::host_described);
  const std::uint64_t word = core::GrantWord::pack(epoch, grant, has_limit);
  const std::uint64_t before = record.grant.load(std::memory_order_relaxed);
  // Also where another host, late, has overwritten it.
  if (before != word) record.grant.store(word, std::memory_order_release);
  step(core::Step::host_granted);
  const bool opens = now_ns < core::GrantWord::end_ns(word);
  // A launch that waits for room doesn't want a turn, and would look again in its own time.
  const bool has_room =
      room_before != core::kForever && grant.in_flight_ns == core::kForever && grant.counted;
  if (!opens || (before == word && !is_loosened && !has_room)) return;
  if (record.want_since_ns.load(std::memory_order_relaxed) == 0 && !has_room) return;
  record.turn.fetch_add(1, std::memory_order_release);
  step(core::Step::host_counted);
  platform::futex_wake_all(record.turn);
  step(core::Step::host_woken);
}

LossPlan Node::plan() const {
  const NodeHeader& header = header_of(base_);
  LossPlan plan;
  // Relaxed: a plan that changes meanwhile is read anew at the next step.
  const std::uint64_t policy = header.on_loss.load(std::memory_order_relaxed);
  if (policy <= static_cast<std::uint64_t>(OnDaemonLoss::stop))
    plan.policy = static_cast<OnDaemonLoss>(policy);
  plan.period_ns = header.period_ns.load(std::memory_order_relaxed);
  plan.begin_ns = header.begin_ns.load(std::memory_order_relaxed);
  plan.end_ns = header.end_ns.load(std::memory_order_relaxed);
  const bool is_sound =
      plan.period_ns <= kSecondNs && plan.begin_ns < plan.end_ns && plan.end_ns <= plan.period_ns;
  if (!is_sound) plan.period_ns = plan.begin_ns = plan.end_ns = 0;
  return plan;
}

void Node::set_plan(const LossPlan& plan) const {
  NodeHeader& header = header_of(base_);
  header.on_loss.store(static_cast<std::uint64_t>(plan.policy), std::memory_order_relaxed);
  header.period_ns.store(plan.period_ns, std::memory_order_relaxed);
  header.begin_ns.store(plan.begin_ns, std::memory_order_relaxed);
  header.end_ns.store(plan.end_ns, std::memory_order_relaxed);
}

bool Node::is_daemons() const {
  return header_of(base_).is_daemons.load(std::memory_order_relaxed) != 0;
}

bool Node::exchange_daemons(bool is_daemons) const {
  return header_of(base_).is_daemons.exchange(is_daemons ? 1 : 0, std::memory_order_relaxed) != 0;
}

void Node::set_terms(std::string_view tenant, const GpuUuid& gpu, const Quota& quota) const {
  for (std::uint32_t i = 0; i < seats(); ++i) {
    SeatRecord& record = seat(i);
    if (is_live(i) && gpu_of(record) == gpu && load_text(record.tenant).view() == tenant)
      record.terms.store(pack_terms(quota), std::memory_order_relaxed);
  }
}

namespace {

bool has_limit(const SeatRecord& record) {
  Quota terms;
  unpack_terms(record.terms.load(std::memory_order_relaxed), terms);
  return terms.compute_limit_percent != 0;
}

}  // namespace

bool Node::goes_past_its_limit(std::string_view tenant) const {
  for (std::uint32_t i = 0; i < seats(); ++i) {
    const SeatRecord& record = seat(i);
    if (core::GrantWord::is_alone(record.grant.load(std::memory_order_acquire)) &&
        has_limit(record) && is_live(i) && load_text(record.tenant).view() == tenant)
      return true;
  }
  return false;
}

void Node::withdraw_free_grants(std::string_view tenant) const {
  for (std::uint32_t i = 0; i < seats(); ++i) {
    SeatRecord& record = seat(i);
    std::uint64_t grant = record.grant.load(std::memory_order_acquire);
    if (!core::GrantWord::is_alone(grant) || !has_limit(record) || !is_live(i) ||
        load_text(record.tenant).view() != tenant)
      continue;
    // A host that comes just now has the last word.
    record.grant.compare_exchange_strong(
        grant, core::GrantWord::pack(core::GrantWord::epoch(grant), core::Grant()));
  }
}

bool Node::facts(std::uint32_t seat, std::uint64_t now_ns, SeatFacts& out) const {
  const SeatRecord& record = this->seat(seat);
  const std::uint64_t seen = record.owner.load(std::memory_order_acquire);
  const Owner owner = Owner::unpack(seen);
  if (owner.state != SlotState::live) return false;
  out = SeatFacts();
  out.seat = seat;
  out.pid = owner.pid;
  out.pid_namespace = record.pid_namespace.load(std::memory_order_relaxed);
  out.start_time_ticks = record.start_ticks.load(std::memory_order_relaxed);
  out.gpu = gpu_of(record);
  out.tenant = load_text(record.tenant);
  out.program = load_text(record.program);
  unpack_terms(record.terms.load(std::memory_order_relaxed), out.terms);
  out.waits_since_ns = record.want_since_ns.load(std::memory_order_relaxed);
  out.waits = out.waits_since_ns != 0;
  out.busy_until_ns = record.busy_until_ns.load(std::memory_order_relaxed);
  out.last_launch_ns = record.last_launch_ns.load(std::memory_order_relaxed);
  out.work_ns = record.work_ns.load(std::memory_order_relaxed);
  const std::uint64_t rates = record.rates.load(std::memory_order_relaxed);
  out.owed_ppm = static_cast<std::uint32_t>(rates);
  out.entitled_ppm = static_cast<std::uint32_t>(rates >> 32);
  out.lag_ns = static_cast<std::int64_t>(record.lag_ns.load(std::memory_order_relaxed));
  out.held_ns = record.held_ns.load(std::memory_order_relaxed);
  out.behind = Seat(this->seat(seat)).behind();
  const std::uint64_t grant = record.grant.load(std::memory_order_relaxed);
  out.is_open = now_ns < core::GrantWord::end_ns(grant);
  out.is_alone = core::GrantWord::is_alone(grant);
  const std::uint64_t second = now_ns / kSecondNs;
  for (std::uint32_t i = 0; i + 1 < kHistorySeconds && i + 1 <= second; ++i) {
    const std::uint64_t wanted = second - 1 - i;
    out.seconds[i] = read_second(record.history[wanted % kHistorySeconds], wanted);
  }
  return record.owner.load() == seen;  // all of it is of one process, or of none that we show
}

}  // namespace vgpu::shm

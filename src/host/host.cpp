// SPDX-License-Identifier: Apache-2.0
#include "vgpu/host/host.h"

#include <algorithm>
#include <new>

#include "vgpu/platform/file.h"
#include "vgpu/shm/step.h"

namespace vgpu::host {

static_assert(core::kMostGpus == shm::kMaxGpus);

// Mapped, zeroed; arbiters are made when a seat on their GPU is seen first.
struct Host::Workspace {
  std::array<core::SeatView, shm::kSeats> found;
  std::array<std::uint8_t, shm::kSeats> gpu_of_found;
  std::uint32_t found_count;

  // The same by GPU, those of one GPU beside each other.
  std::array<core::SeatView, shm::kSeats> seats;
  std::array<core::Grant, shm::kSeats> grants;
  std::array<std::uint32_t, core::kMostGpus + 1> begins;

  std::array<GpuUuid, core::kMostGpus> gpus;
  std::uint32_t gpu_count;
  alignas(core::Node) std::byte node[sizeof(core::Node)];
  alignas(core::Arbiter) std::byte arbiters[core::kMostGpus][sizeof(core::Arbiter)];

  core::Arbiter& arbiter(std::uint32_t gpu) {
    return *std::launder(reinterpret_cast<core::Arbiter*>(arbiters[gpu]));
  }
  core::Node& arbiter_of_all() { return *std::launder(reinterpret_cast<core::Node*>(node)); }

  // As if nothing had been seen yet.
  void begin() {
    gpu_count = 0;
    new (node)
        core::Node(std::span(reinterpret_cast<core::Arbiter*>(arbiters[0]), core::kMostGpus));
  }
};

Host::~Host() { platform::unmap(work_, sizeof(Workspace)); }

bool Host::take_over(std::uint64_t now_ns, std::uint64_t waiting_since_ns) {
  const std::uint64_t word = node_.host().load(std::memory_order_acquire);
  return core::Hosting::unpack(word).may_be_taken_over(now_ns, waiting_since_ns) &&
         begin(now_ns, word);
}

bool Host::replace(std::uint64_t now_ns) {
  return begin(now_ns, node_.host().load(std::memory_order_acquire));
}

// `word`: the lease that is to be followed.
bool Host::begin(std::uint64_t now_ns, std::uint64_t word) {
  if (work_ == nullptr)
    work_ = static_cast<Workspace*>(platform::map_private_zeroed(sizeof(Workspace)));
  if (work_ == nullptr) return false;
  const core::Hosting after = core::Hosting::unpack(word).taken_over(now_ns);
  if (!node_.host().compare_exchange_strong(word, after.pack(), std::memory_order_acq_rel))
    return false;
  shm::step(core::Step::host_taken_over);
  work_->begin();
  epoch_.store(after.epoch + 1u, std::memory_order_release);
  return true;
}

// False: the lease is another's by now.
bool Host::renew(std::uint64_t now_ns, std::uint32_t epoch) {
  std::uint64_t word = node_.host().load(std::memory_order_acquire);
  const core::Hosting lease = core::Hosting::unpack(word);
  if (epoch == 0 || lease.epoch + 1u != epoch || lease.deadline_ns == 0) return false;
  const core::Hosting next{lease.epoch, now_ns + core::kHostBeatNs};
  return node_.host().compare_exchange_strong(word, next.pack(), std::memory_order_acq_rel);
}

std::uint32_t Host::index_of(const GpuUuid& gpu) {
  const auto end = work_->gpus.begin() + work_->gpu_count;
  const auto at = std::find(work_->gpus.begin(), end, gpu);
  if (at != end) return static_cast<std::uint32_t>(at - work_->gpus.begin());
  if (work_->gpu_count == core::kMostGpus) return core::kMostGpus;
  new (work_->arbiters[work_->gpu_count]) core::Arbiter;
  work_->gpus[work_->gpu_count] = gpu;
  return work_->gpu_count++;
}

void Host::read_seats(std::uint64_t now_ns) {
  work_->found_count = 0;
  std::array<std::uint32_t, core::kMostGpus + 1> counts{};
  const std::uint32_t seats = node_.seats();
  for (std::uint32_t seat = 0; seat < seats; ++seat) {
    core::SeatView& view = work_->found[work_->found_count];
    GpuUuid gpu;
    if (!node_.view(seat, now_ns, gpu, view)) continue;
    const std::uint32_t index = index_of(gpu);
    if (index == core::kMostGpus) continue;  // more GPUs than any tenant can have
    work_->gpu_of_found[work_->found_count++] = static_cast<std::uint8_t>(index);
    ++counts[index];
  }
  std::uint32_t begin = 0;
  for (std::uint32_t gpu = 0; gpu < core::kMostGpus; ++gpu) {
    work_->begins[gpu] = begin;
    begin += counts[gpu];
    counts[gpu] = work_->begins[gpu];  // from here on: where its next seat goes
  }
  work_->begins[core::kMostGpus] = begin;
  for (std::uint32_t i = 0; i < work_->found_count; ++i)
    work_->seats[counts[work_->gpu_of_found[i]]++] = work_->found[i];
}

// True if anybody waits or has rivals, so that the host has to be there.
bool Host::write_grants(std::uint64_t now_ns, std::uint16_t epoch) {
  bool is_needed = false;
  for (std::uint32_t gpu = 0; gpu < work_->gpu_count; ++gpu) {
    const core::Arbiter& arbiter = work_->arbiter(gpu);
    for (std::uint32_t i = work_->begins[gpu]; i < work_->begins[gpu + 1]; ++i) {
      const core::SeatView& seat = work_->seats[i];
      const core::Grant& grant = work_->grants[i];
      const std::uint32_t holder = arbiter.holder();
      node_.answer(seat.seat, now_ns, epoch, grant, arbiter.standing(seat.seat),
                   holder == seat.seat ? shm::kNoSeat : holder);
      is_needed = is_needed || grant.counted || seat.want_since_ns != 0;
    }
  }
  return is_needed;
}

std::uint64_t Host::step(std::uint64_t now_ns) {
  const std::uint32_t epoch = epoch_.load(std::memory_order_acquire);
  if (!renew(now_ns, epoch)) {
    epoch_.store(0, std::memory_order_release);
    return 0;
  }
  shm::step(core::Step::host_renewed);
  if (now_ns > reaped_ns_ + kReapEveryNs) {
    node_.reap();
    reaped_ns_ = now_ns;
    shm::step(core::Step::host_reaped);
  }
  read_seats(now_ns);
  std::array<core::Node::Gpu, core::kMostGpus> gpus;
  for (std::uint32_t gpu = 0; gpu < work_->gpu_count; ++gpu) {
    const std::uint32_t begin = work_->begins[gpu];
    const std::uint32_t count = work_->begins[gpu + 1] - begin;
    std::fill_n(work_->grants.begin() + begin, count, core::Grant());
    gpus[gpu] = {std::span(work_->seats.data() + begin, count),
                 std::span(work_->grants.data() + begin, count)};
  }
  const std::uint64_t wake =
      work_->arbiter_of_all().step(now_ns, std::span(gpus.data(), work_->gpu_count));
  shm::step(core::Step::host_decided);
  // Another host may have come while this one was stopped: then these grants are worth nothing.
  if (core::Hosting::unpack(node_.host().load(std::memory_order_acquire)).epoch + 1u != epoch) {
    epoch_.store(0, std::memory_order_release);
    return 0;
  }
  const bool is_needed = write_grants(now_ns, static_cast<std::uint16_t>(epoch - 1));
  return is_needed ? std::min(wake, now_ns + core::kHostBeatNs) : wake;
}

void Host::release() {
  const std::uint32_t epoch = epoch_.exchange(0, std::memory_order_acq_rel);
  if (epoch == 0) return;
  std::uint64_t word = node_.host().load(std::memory_order_acquire);
  while (core::Hosting::unpack(word).epoch + 1u == epoch) {
    const core::Hosting free{static_cast<std::uint16_t>(epoch - 1), 0};
    if (node_.host().compare_exchange_weak(word, free.pack(), std::memory_order_acq_rel)) break;
  }
  shm::step(core::Step::host_released);
  node_.ring();
}

}  // namespace vgpu::host

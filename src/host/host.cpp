// SPDX-License-Identifier: Apache-2.0
#include "vgpu/host/host.h"

#include <algorithm>
#include <new>

#include "vgpu/platform/file.h"
#include "vgpu/shm/step.h"

namespace vgpu::host {

static_assert(core::kMostGpus == shm::kMaxGpus && core::kMaxSeats == shm::kSeats);

// Mapped, zeroed; arbiters are made when a seat on their GPU is seen first.
struct Host::Workspace {
  std::array<core::SeatView, shm::kSeats> found;
  std::array<std::uint8_t, shm::kSeats> gpu_of_found;
  std::uint32_t found_count;

  // The same by GPU, those of one GPU beside each other.
  std::array<core::SeatView, shm::kSeats> seats;
  std::array<core::Grant, shm::kSeats> grants;
  std::array<std::uint32_t, core::kMostGpus + 1> begins;

  // The arbiter's seats are those of all segments: which is which, and back. A number stays with
  // its seat for as long as that is taken, and is the lowest that was free: a step looks at all
  // that were ever used together.
  struct Origin {
    std::uint16_t place;
    std::uint16_t seat;
    std::uint16_t is_used;
    std::uint16_t is_seen;  // in this step
  };
  std::array<Origin, shm::kSeats> origins;
  std::uint16_t number_of[kMostSegments][shm::kSeats];  // + 1; 0: none
  std::array<std::uint16_t, kMostSegments> count_of;
  std::uint32_t numbers;  // none at or above it is used

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

  // kNoSeat: there is none left.
  std::uint32_t number(std::uint32_t place, std::uint32_t seat, std::uint32_t most) {
    std::uint16_t& known = number_of[place][seat];
    if (known == 0) {
      if (count_of[place] >= most) return core::kNoSeat;
      std::uint32_t free = 0;
      while (free < numbers && origins[free].is_used != 0) ++free;
      if (free == core::kMaxSeats) return core::kNoSeat;
      numbers = std::max(numbers, free + 1);
      origins[free] = {static_cast<std::uint16_t>(place), static_cast<std::uint16_t>(seat), 1, 0};
      known = static_cast<std::uint16_t>(free + 1);
      ++count_of[place];
    }
    origins[known - 1u].is_seen = 1;
    return known - 1u;
  }

  void forget(Origin& origin) {
    number_of[origin.place][origin.seat] = 0;
    --count_of[origin.place];
    origin = {};
    while (numbers > 0 && origins[numbers - 1].is_used == 0) --numbers;
  }
  std::span<Origin> in_use() { return std::span(origins).first(numbers); }
};

Host::~Host() { platform::unmap(work_, sizeof(Workspace)); }

bool Host::add(shm::Node& node, const SeatTerms* terms) {
  if (place_count_ == kMostSegments) return false;
  Place& place = places_[place_count_++];
  place.node = &node;
  place.terms = terms;
  place.epoch.store(0, std::memory_order_relaxed);
  return true;
}

// The last one takes its place, and its seats their numbers with it: theirs begin anew.
void Host::remove(shm::Node& node) {
  for (std::uint32_t i = 0; i < place_count_; ++i) {
    if (places_[i].node != &node) continue;
    release(places_[i]);
    const std::uint32_t last = place_count_ - 1;
    if (work_ != nullptr) {
      for (auto& origin : work_->in_use()) {
        if (origin.is_used != 0 && (origin.place == i || origin.place == last))
          work_->forget(origin);
      }
    }
    places_[i].node = places_[last].node;
    places_[i].terms = places_[last].terms;
    places_[i].epoch.store(places_[last].epoch.load());
    places_[last].node = nullptr;
    places_[last].epoch.store(0);
    --place_count_;
    return;
  }
}

bool Host::hosts() const {
  return std::any_of(places_.begin(), places_.begin() + place_count_,
                     [](const Place& place) { return place.epoch != 0; });
}

bool Host::hosts_all() const {
  return std::all_of(places_.begin(), places_.begin() + place_count_,
                     [](const Place& place) { return place.epoch != 0; });
}

bool Host::take_over(std::uint64_t now_ns, std::uint64_t waiting_since_ns) {
  Place& place = places_[0];
  const std::uint64_t word = place.node->host().load(std::memory_order_acquire);
  return core::Hosting::unpack(word).may_be_taken_over(now_ns, waiting_since_ns) &&
         begin(place, now_ns, word);
}

std::uint32_t Host::replace(std::uint64_t now_ns) {
  std::uint32_t taken = 0;
  for (std::uint32_t i = 0; i < place_count_; ++i) {
    Place& place = places_[i];
    if (place.epoch.load(std::memory_order_acquire) != 0) continue;
    taken += begin(place, now_ns, place.node->host().load(std::memory_order_acquire)) ? 1 : 0;
  }
  return taken;
}

// `word`: the lease that is to be followed.
bool Host::begin(Place& place, std::uint64_t now_ns, std::uint64_t word) {
  if (work_ == nullptr)
    work_ = static_cast<Workspace*>(platform::map_private_zeroed(sizeof(Workspace)));
  if (work_ == nullptr) return false;
  const core::Hosting after = core::Hosting::unpack(word).taken_over(now_ns);
  if (!place.node->host().compare_exchange_strong(word, after.pack(), std::memory_order_acq_rel))
    return false;
  shm::step(core::Step::host_taken_over);
  const bool was_daemons = place.node->exchange_daemons(is_daemon_);
  follows_daemon_ = follows_daemon_ || (was_daemons && !is_daemon_);
  if (!hosts()) work_->begin();
  place.epoch.store(after.epoch + 1u, std::memory_order_release);
  return true;
}

// False: the lease is another's by now.
bool Host::renew(Place& place, std::uint64_t now_ns) {
  const std::uint32_t epoch = place.epoch.load(std::memory_order_acquire);
  std::uint64_t word = place.node->host().load(std::memory_order_acquire);
  const core::Hosting lease = core::Hosting::unpack(word);
  if (epoch == 0 || lease.epoch + 1u != epoch || lease.deadline_ns == 0) return false;
  const core::Hosting next{lease.epoch, now_ns + core::kHostBeatNs};
  return place.node->host().compare_exchange_strong(word, next.pack(), std::memory_order_acq_rel);
}

// False: it hosts nothing any more.
bool Host::renew_all(std::uint64_t now_ns) {
  bool any = false;
  for (std::uint32_t i = 0; i < place_count_; ++i) {
    if (renew(places_[i], now_ns)) {
      any = true;
    } else {
      places_[i].epoch.store(0, std::memory_order_release);
    }
  }
  return any;
}

bool Host::still_hosts(const Place& place) const {
  const std::uint32_t epoch = place.epoch.load(std::memory_order_acquire);
  return epoch != 0 &&
         core::Hosting::unpack(place.node->host().load(std::memory_order_acquire)).epoch + 1u ==
             epoch;
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

void Host::read_seats(std::uint32_t place, std::uint64_t now_ns) {
  const shm::Node& node = *places_[place].node;
  const std::uint32_t most = place_count_ > 1 ? kMostSeatsOfMany : core::kMaxSeats;
  const std::uint32_t seats = node.seats();
  for (std::uint32_t seat = 0; seat < seats && work_->found_count < shm::kSeats; ++seat) {
    core::SeatView& view = work_->found[work_->found_count];
    GpuUuid gpu;
    if (!node.view(seat, now_ns, gpu, view)) continue;
    const std::uint32_t index = index_of(gpu);
    const std::uint32_t number =
        index == core::kMostGpus ? core::kNoSeat : work_->number(place, seat, most);
    if (number == core::kNoSeat) {
      // More than can be arbitrated: it runs beside the others.
      core::Grant alone;
      alone.end_ns = alone.in_flight_ns = core::kForever;
      node.answer(seat, now_ns, static_cast<std::uint16_t>(places_[place].epoch.load() - 1), alone,
                  {}, shm::kNoSeat, view.limit_percent != 0);
      continue;
    }
    if (const SeatTerms* const terms = places_[place].terms) {
      Quota held;
      if (!terms->find(view.tenant, gpu, held)) held = Quota();
      view.share_percent = held.compute_share_percent;
      view.limit_percent = held.compute_limit_percent;
      view.priority = held.priority;
    }
    // Users can't be in each other's tenants, whatever these are called.
    view.tenant ^= std::uint64_t{place} * 0x9e3779b97f4a7c15;
    view.seat = number;
    work_->gpu_of_found[work_->found_count++] = static_cast<std::uint8_t>(index);
  }
}

void Host::read_seats(std::uint64_t now_ns) {
  work_->found_count = 0;
  for (auto& origin : work_->in_use()) origin.is_seen = 0;
  for (std::uint32_t place = 0; place < place_count_; ++place) {
    if (places_[place].epoch.load(std::memory_order_acquire) != 0) read_seats(place, now_ns);
  }
  for (auto& origin : work_->in_use()) {
    if (origin.is_used != 0 && origin.is_seen == 0) work_->forget(origin);
  }
  std::array<std::uint32_t, core::kMostGpus + 1> counts{};
  for (std::uint32_t i = 0; i < work_->found_count; ++i) ++counts[work_->gpu_of_found[i]];
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

// What the plan of a daemon that is gone makes of the grants. Gives when it says something else.
std::uint64_t Host::keep_plan(std::uint64_t now_ns) {
  if (is_daemon_) {
    if (policy_ == shm::OnDaemonLoss::hold) return core::kForever;
    // An end, so that it is noticed when nobody gives the next one.
    for (std::uint32_t i = 0; i < work_->begins[core::kMostGpus]; ++i) {
      core::Grant& grant = work_->grants[i];
      if (grant.end_ns == core::kForever) grant.end_ns = now_ns + 4 * core::kHostBeatNs;
      grant.counted = true;
    }
    return now_ns + core::kHostBeatNs;
  }
  const shm::LossPlan plan = places_[0].node->plan();
  const auto each = [this](const auto& change) {
    std::for_each_n(work_->grants.begin(), work_->begins[core::kMostGpus], change);
  };
  if (plan.policy == shm::OnDaemonLoss::open) {
    each([](core::Grant& grant) {
      grant = core::Grant();
      grant.end_ns = grant.in_flight_ns = core::kForever;
    });
    return core::kForever;
  }
  if (plan.policy == shm::OnDaemonLoss::stop) {
    each([](core::Grant& grant) { grant.end_ns = 0, grant.counted = true; });
    return now_ns + core::kHostBeatNs;
  }
  if (plan.period_ns == 0) return core::kForever;
  const std::uint64_t at = now_ns % plan.period_ns;
  const std::uint64_t period = now_ns - at;
  const bool is_ours = at >= plan.begin_ns && at < plan.end_ns;
  const std::uint64_t end = is_ours ? period + plan.end_ns : 0;
  each([end](core::Grant& grant) {
    grant.end_ns = std::min(grant.end_ns, end);
    grant.in_flight_ns = std::min(grant.in_flight_ns, core::kInFlightNs);  // so that it does end
    grant.counted = true;
  });
  if (is_ours) return end;
  return period + plan.begin_ns + (at >= plan.end_ns ? plan.period_ns : 0);
}

// True if anybody waits or has rivals, so that the host has to be there.
bool Host::write_grants(std::uint64_t now_ns) {
  const bool is_unlimited =
      !is_daemon_ && places_[0].node->plan().policy == shm::OnDaemonLoss::open;
  bool is_needed = false;
  for (std::uint32_t gpu = 0; gpu < work_->gpu_count; ++gpu) {
    const core::Arbiter& arbiter = work_->arbiter(gpu);
    const std::uint32_t holder = arbiter.holder();
    for (std::uint32_t i = work_->begins[gpu]; i < work_->begins[gpu + 1]; ++i) {
      const core::SeatView& view = work_->seats[i];
      const core::Grant& grant = work_->grants[i];
      const Workspace::Origin& origin = work_->origins[view.seat];
      Place& place = places_[origin.place];
      const std::uint32_t epoch = place.epoch.load(std::memory_order_relaxed);
      if (epoch == 0) continue;
      // Whoever has the GPU, if the reader can know it.
      std::uint32_t behind = shm::kNoSeat;
      if (holder != core::kNoSeat && holder != view.seat && work_->origins[holder].is_used != 0 &&
          work_->origins[holder].place == origin.place)
        behind = work_->origins[holder].seat;
      place.node->answer(origin.seat, now_ns, static_cast<std::uint16_t>(epoch - 1), grant,
                         arbiter.standing(view.seat), behind,
                         !is_unlimited && view.limit_percent != 0);
      is_needed = is_needed || grant.counted || view.want_since_ns != 0;
    }
  }
  return is_needed;
}

std::uint64_t Host::step(std::uint64_t now_ns) {
  if (!renew_all(now_ns)) return 0;
  shm::step(core::Step::host_renewed);
  if (now_ns > reaped_ns_ + kReapEveryNs) {
    for (std::uint32_t i = 0; i < place_count_; ++i) places_[i].node->reap();
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
  std::uint64_t wake =
      work_->arbiter_of_all().step(now_ns, std::span(gpus.data(), work_->gpu_count));
  wake = std::min(wake, keep_plan(now_ns));
  shm::step(core::Step::host_decided);
  // Another host may have come while this one was stopped: then these grants are worth nothing.
  for (std::uint32_t i = 0; i < place_count_; ++i) {
    if (!still_hosts(places_[i])) places_[i].epoch.store(0, std::memory_order_release);
  }
  if (!hosts()) return 0;
  const bool is_needed = write_grants(now_ns);
  return is_needed ? std::min(wake, now_ns + core::kHostBeatNs) : wake;
}

void Host::release(Place& place) {
  const std::uint32_t epoch = place.epoch.exchange(0, std::memory_order_acq_rel);
  if (epoch == 0) return;
  std::uint64_t word = place.node->host().load(std::memory_order_acquire);
  while (core::Hosting::unpack(word).epoch + 1u == epoch) {
    const core::Hosting free{static_cast<std::uint16_t>(epoch - 1), 0};
    if (place.node->host().compare_exchange_weak(word, free.pack(), std::memory_order_acq_rel))
      break;
  }
  shm::step(core::Step::host_released);
  place.node->ring();
}

void Host::release() {
  for (std::uint32_t i = 0; i < place_count_; ++i) release(places_[i]);
}

}  // namespace vgpu::host

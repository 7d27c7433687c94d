// SPDX-License-Identifier: Apache-2.0
// A machine as tests want it: one GPU, tenants in plain values, and a node segment whose seats are
// written by hand, at a time that doesn't pass.
#pragma once

#include <cstdlib>
#include <deque>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "node_layout.h"
#include "vgpu/shm/node.h"
#include "vgpu/survey/snapshot.h"

namespace vgpu::survey {

inline constexpr std::uint64_t kMs = 1'000'000;
inline constexpr std::uint64_t kSecond = 1'000 * kMs;
inline constexpr std::uint64_t kNow = 1'000 * kSecond + 500 * kMs;

struct Staged {  // one whole second of a seat
  std::uint64_t work_ms = 0;
  std::uint64_t limit_ms = 0;
  std::uint64_t turn_ms = 0;
  std::uint64_t in_flight_ms = 0;
  std::uint32_t behind = shm::kNoSeat;
};

class Stage {
 public:
  Stage() {
    std::string name = (std::filesystem::temp_directory_path() / "vgpu-stage-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no folder");
    dir_.path.append(name);
    gpu_.bytes[0] = 0x5a;
    if (shm::Node::open(dir_, node_) != shm::Status::ok) throw std::runtime_error("no node");
  }
  ~Stage() {
    std::error_code ignored;
    std::filesystem::remove_all(dir_.path.c_str(), ignored);
  }
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  const GpuUuid& gpu() const { return gpu_; }
  shm::SeatRecord& seat(std::uint32_t seat) { return node_.seat(seat); }

  // Its id is NAME-1.
  ListedTenant& tenant(const std::string& name, unsigned share = 0, unsigned limit = 0) {
    ListedTenant tenant;
    tenant.spec.id = FixedString<shm::kMaxName>(name + "-1");
    tenant.spec.name = FixedString<shm::kMaxName>(name);
    shm::TenantGpu gpu{gpu_, 0, std::uint64_t{140} << 30, {}, true};
    gpu.quota.compute_share_percent = static_cast<std::uint8_t>(share);
    gpu.quota.compute_limit_percent = static_cast<std::uint8_t>(limit);
    tenant.spec.gpus.push_back(gpu);
    tenant.charged_bytes = {0};
    tenant.denied = {0};
    tenants_.push_back(tenant);
    return tenants_.back();
  }

  // A seat of this very process.
  std::uint32_t sit(const std::string& name) {
    std::uint32_t seat = shm::kNoSeat;
    if (node_.take_seat(gpu_, name + "-1", kNow - 60 * kSecond, seat) != shm::Status::ok)
      throw std::runtime_error("no seat");
    node_.seat(seat).last_launch_ns = kNow - 10 * kMs;
    return seat;
  }

  // The same for each of the last `count` whole seconds.
  void history(std::uint32_t seat, std::size_t count, const Staged& each) {
    for (std::size_t i = 0; i < count; ++i) second(seat, i, each);
  }
  // back 0: the last whole second.
  void second(std::uint32_t seat, std::size_t back, const Staged& what) {
    const std::uint64_t second = kNow / kSecond - 1 - back;
    shm::HistoryRow& row = node_.seat(seat).history[second % shm::kHistorySeconds];
    row.second = second;
    row.work_ns = what.work_ms * kMs;
    row.launches = what.work_ms == 0 ? 0 : 100;
    row.waited_limit_ns = what.limit_ms * kMs;
    row.waited_turn_ns = what.turn_ms * kMs;
    row.waited_in_flight_ns = what.in_flight_ms * kMs;
    row.behind = what.behind == shm::kNoSeat ? 0 : what.behind + 1;
  }

  Snapshot snapshot(std::uint64_t now_ns = kNow) const {
    Snapshot snapshot;
    snapshot.now_ns = now_ns;
    Gpu gpu;
    gpu.uuid = gpu_;
    gpu.name = "NVIDIA H200";
    gpu.total_bytes = std::uint64_t{140} << 30;
    gpu.used_bytes = std::uint64_t{12} << 30;
    snapshot.driver.available = true;
    snapshot.driver.gpus.push_back(gpu);
    snapshot.tenants.assign(tenants_.begin(), tenants_.end());
    snapshot.outsiders = outsiders_;
    snapshot.seats_unreadable = read_seats(dir_, now_ns, snapshot);
    return snapshot;
  }

  void outsider(const std::string& program, std::uint32_t pid, Limiter limiter) {
    outsiders_[gpu_].push_back({pid, program, std::uint64_t{1} << 30, limiter});
  }

 private:
  shm::StateDir dir_;
  shm::Node node_;
  GpuUuid gpu_;
  std::deque<ListedTenant> tenants_;  // references stay good
  std::map<GpuUuid, std::vector<Outsider>> outsiders_;
};

}  // namespace vgpu::survey

// SPDX-License-Identifier: Apache-2.0
// The shell of the arbiter: reads what the seats of node segments say, lets core::Node decide,
// writes the grants. Any process with a seat may be the host of its segment, one at a time, by a
// lease (core/hosting.h): one that is killed, stopped or debugged is replaced by the first process
// that has waited in vain, and can't harm when it comes back, because each step begins and ends
// with a look at the lease and the host in office writes its grants anew where they differ.
//
// A daemon hosts the segments of several users together: one arbiter, and nobody sees or can write
// what is another's. When it is gone each segment is hosted by its own processes again, by the plan
// that the daemon left there (shm/node.h: LossPlan).
//
// One thread at a time. Nothing throws; memory is mapped when hosting begins and kept.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <utility>

#include "vgpu/core/arbiter.h"
#include "vgpu/core/hosting.h"
#include "vgpu/core/node.h"
#include "vgpu/shm/node.h"

namespace vgpu::host {

// How often seats of processes that are gone are looked for, while anybody waits or takes turns.
inline constexpr std::uint64_t kReapEveryNs = 50'000'000;
// Segments that one host looks after. Of the seats that it can know, those of one segment take half
// at most; those beyond run as if they were alone.
inline constexpr std::uint32_t kMostSegments = 120;
inline constexpr std::uint32_t kMostSeatsOfMany = core::kMaxSeats / 2;

// Says what holds for a seat where its own word isn't to be believed. `tenant` is
// shm::tenant_number() of its id.
class SeatTerms {
 public:
  // False: no such tenant; then it is owed nothing.
  virtual bool find(std::uint64_t tenant, const GpuUuid& gpu, Quota& terms) const = 0;

 protected:
  ~SeatTerms() = default;
};

class Host {
 public:
  Host() = default;
  explicit Host(shm::Node& node) { (void)add(node); }
  ~Host();
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  // A segment to host; it and `terms` outlive the host, or are removed before. `terms`: null
  // believes the seats. False: there are too many.
  bool add(shm::Node& node, const SeatTerms* terms = nullptr);
  // Nobody hosts it any more, unless another does already.
  void remove(shm::Node& node);
  // The host is a daemon: the segments' plans are for when it is gone, and what they say of that is
  // made possible (a launch that nobody has to allow couldn't be stopped).
  void set_daemon(shm::OnDaemonLoss policy) {
    is_daemon_ = true;
    policy_ = policy;
  }

  // Becomes the host if there is none, or none that answers somebody who has waited since then.
  // False: there is one, or no memory.
  bool take_over(std::uint64_t now_ns, std::uint64_t waiting_since_ns);
  // Becomes the host of all its segments whoever it is now, for who is to stay it: the one before
  // finds that at its next step. What it had counted (credit, debt) begins anew, as at every
  // change. Gives how many segments it got.
  std::uint32_t replace(std::uint64_t now_ns);
  // Once after a daemon was found gone: true for one of the processes that might say so.
  bool take_daemon_lost() { return std::exchange(follows_daemon_, false); }
  bool hosts() const;      // any
  bool hosts_all() const;  // and no segment is another's
  // Decides as of now. Gives the time to be called again at the latest; sooner when a node's
  // doorbell rings. 0: it hosts nothing any more.
  std::uint64_t step(std::uint64_t now_ns);
  // Nobody hosts any more, unless another does already. Any thread: the one that steps notices.
  void release();

 private:
  struct Workspace;
  struct Place {
    shm::Node* node = nullptr;
    const SeatTerms* terms = nullptr;
    std::atomic<std::uint32_t> epoch{0};  // of our lease, + 1; 0: not the host
  };
  bool begin(Place& place, std::uint64_t now_ns, std::uint64_t word);
  bool renew(Place& place, std::uint64_t now_ns);
  bool renew_all(std::uint64_t now_ns);
  static void release(Place& place);
  void read_seats(std::uint64_t now_ns);
  void read_seats(std::uint32_t place, std::uint64_t now_ns);
  std::uint32_t index_of(const GpuUuid& gpu);
  bool write_grants(std::uint64_t now_ns);
  bool still_hosts(const Place& place) const;
  std::uint64_t keep_plan(std::uint64_t now_ns);

  std::array<Place, kMostSegments> places_;
  std::uint32_t place_count_ = 0;
  bool is_daemon_ = false;
  bool follows_daemon_ = false;
  shm::OnDaemonLoss policy_ = shm::OnDaemonLoss::hold;
  Workspace* work_ = nullptr;
  std::uint64_t reaped_ns_ = 0;
};

}  // namespace vgpu::host

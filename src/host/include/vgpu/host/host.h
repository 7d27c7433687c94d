// SPDX-License-Identifier: Apache-2.0
// The shell of the arbiter: reads what the seats of a node segment say, lets core::Node decide,
// writes the grants. Any process with a seat may be the host, one at a time, by a lease
// (core/hosting.h): one that is killed, stopped or debugged is replaced by the first process that
// has waited in vain, and can't harm when it comes back, because each step begins and ends with a
// look at the lease and the host in office writes its grants anew where they differ.
//
// One thread at a time. Nothing throws; memory is mapped when hosting begins and kept.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "vgpu/core/arbiter.h"
#include "vgpu/core/hosting.h"
#include "vgpu/core/node.h"
#include "vgpu/shm/node.h"

namespace vgpu::host {

// How often seats of processes that are gone are looked for, while anybody waits or takes turns.
inline constexpr std::uint64_t kReapEveryNs = 50'000'000;

class Host {
 public:
  explicit Host(shm::Node& node) : node_(node) {}
  ~Host();
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  // Becomes the host if there is none, or none that answers somebody who has waited since then.
  // False: there is one, or no memory.
  bool take_over(std::uint64_t now_ns, std::uint64_t waiting_since_ns);
  // Becomes the host whoever it is now, for who is to stay it: the one before finds that at its
  // next step. What it had counted (credit, debt) begins anew, as at every change. False: somebody
  // else was quicker, or no memory.
  bool replace(std::uint64_t now_ns);
  bool hosts() const { return epoch_ != 0; }
  // Decides as of now. Gives the time to be called again at the latest; sooner when the node's
  // doorbell rings. 0: somebody else is the host by now.
  std::uint64_t step(std::uint64_t now_ns);
  // Nobody hosts any more, unless another does already. Any thread: the one that steps notices.
  void release();

 private:
  struct Workspace;
  bool begin(std::uint64_t now_ns, std::uint64_t word);
  bool renew(std::uint64_t now_ns, std::uint32_t epoch);
  void read_seats(std::uint64_t now_ns);
  std::uint32_t index_of(const GpuUuid& gpu);
  bool write_grants(std::uint64_t now_ns, std::uint16_t epoch);

  shm::Node& node_;
  Workspace* work_ = nullptr;
  std::atomic<std::uint32_t> epoch_{0};  // of our lease, + 1; 0: not the host
  std::uint64_t reaped_ns_ = 0;
};

}  // namespace vgpu::host
